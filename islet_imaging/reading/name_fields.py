r"""A pattern for file names of an unknown instrument, from what varies and what repeats in them.

The idea: names that are built alike are cut into fields, at separators and where letters turn into
digits.  One field, or one folder, takes the same few values for every image, and these are stains,
dyes or numbered channels: that is the channel.  A number behind ``z`` is the focal plane.  What
changes with the channel only (its number, an exposure, a filter), over several images, says nothing
of the image, and so does a serial number of the files; the rest is the image's name.
It fails, and then says nothing, where names are built in several ways.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from islet_imaging.reading.names import known_dye, known_stain

_SEPARATORS = re.compile(r"([\W_]+)")
_PLANE = re.compile(r"(?i)(z|zs|zstep|zplane|slice|plane)(\d{1,4})")
_PLANE_WORDS = frozenset({"z", "zs", "zstep", "zplane", "slice", "plane"})
_CHANNEL_WORDS = frozenset({"c", "ch", "channel", "w", "wv", "wavelength", "d", "o"})
_NUMBERED = re.compile(r"(?i)(?:c|ch|channel|w|wv)\d{1,3}")
#: a focal plane's number that an image's name still holds
_LEFT = re.compile(r"(?i)(?<![a-z])(?:z|zs|zstep|zplane|slice|plane)[ _-]?\d{1,4}(?!\d)")
#: groups for what identifies the image, in their order in the name
_GROUPS = ("image", "well", "field", "time", "rest")


@dataclass
class _Column:
    """One field of all names, and what stands before it."""

    values: list[str]
    before: str
    #: letters that all values begin with and that are no part of what they say
    prefix: str = ""
    role: str = "image"
    distinct: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.distinct = set(self.values)

    @property
    def inner(self) -> list[str]:
        """The values without their common prefix."""
        return [v[len(self.prefix) :] for v in self.values]


def planes_are_left(images: Sequence[str]) -> bool:
    """Whether names of images differ in the number of a focal plane, so that planes are counted.

    Examples
    --------
    >>> planes_are_left(["a_Z00_t1", "a_Z01_t1", "b_Z00_t1", "b_Z01_t1"])
    True
    >>> planes_are_left(["a_z00", "b_z00"]), planes_are_left(["donor z1", "islet"])
    (False, False)
    """
    of: dict[str, set[str]] = {}
    for image in images:
        of.setdefault(_LEFT.sub("", image), set()).add(image)
    stacks = [names for names in of.values() if len(names) > 1]
    return 2 * sum(map(len, stacks)) > len(set(images))


def field_patterns(relatives: Sequence[str]) -> Iterator[str]:
    r"""Patterns that names built alike suggest, the surest first.

    Parameters
    ----------
    relatives : sequence of str
        Paths relative to the folder, with forward slashes, of files of one channel each.

    Yields
    ------
    str
        A regular expression with groups as `naming.split_path` takes them.

    Examples
    --------
    >>> names = [f"A_01_f{f}_c{c}_m{m}.tif" for f in (1, 2) for c, m in ((1, "DAPI"), (2, "FITC"))]
    >>> next(field_patterns(names))
    '(?P<image>A_\\d+_[^\\W_]+)_[^\\W_]+_m(?P<channel>DAPI|FITC)[.]tif'
    """
    for on_path in (False, True):
        if on_path and not any("/" in r for r in relatives):
            return
        stems = [str(PurePosixPath(r).with_suffix("")) if on_path else PurePosixPath(r).stem
                 for r in relatives]  # fmt: skip
        columns, of = _columns(stems)
        kept = [relatives[i] for i in of]
        end = ending([PurePosixPath(r).suffix for r in kept])
        in_folders = not on_path and all("/" in r for r in kept)
        for at in _channels(columns):
            for serial in (False, True):
                found = _pattern(columns, at, end, in_folders, serial)
                if found is not None:
                    yield found


def _columns(stems: Sequence[str]) -> tuple[list[_Column], list[int]]:
    """The fields of the names that are built as most are, and which names these are."""
    split = [_SEPARATORS.split(s) for s in stems]
    shapes = Counter(tuple(p[1::2]) for p in split)
    if not shapes:
        return [], []
    usual, _ = shapes.most_common(1)[0]
    of = [i for i, p in enumerate(split) if tuple(p[1::2]) == usual]
    out: list[_Column] = []
    for n in range(len(usual) + 1):
        values = [split[i][2 * n] for i in of]
        before = usual[n - 1] if n else ""
        out += _finer(values, before)
    return out, of


def _finer(values: list[str], before: str) -> list[_Column]:
    """A field that is built of letters and digits in turn, as its parts: ``W1F001Z01C2``."""
    parts = [re.findall(r"\d+|\D+", v) for v in values]
    kinds = {tuple(p[:1].isdigit() for p in ps) for ps in parts}
    if len(kinds) != 1 or len(parts[0]) < 3:
        return [_Column(values, before)]
    out = [_Column([p[0] for p in parts], before)]
    out += [_Column([p[n] for p in parts], "") for n in range(1, len(parts[0]))]
    return out


def _channels(columns: Sequence[_Column]) -> list[int]:
    """Columns that may be the channel: stains first, then dyes, then numbers."""
    found: list[tuple[int, int, int]] = []
    for n, column in enumerate(columns):
        if not 2 <= len(column.distinct) <= 60:
            continue
        for prefix in dict.fromkeys(("", _letters_in_common(column.distinct))):
            rest = {v[len(prefix) :] for v in column.distinct}
            stains = sum(known_stain(r) is not None for r in rest)
            dyes = sum(known_dye(r) for r in rest)
            if 2 * (stains + dyes) >= len(rest) and not all(map(str.isdigit, rest)):
                column.prefix = prefix
                found.append((-stains, -dyes, n))
                break
        else:
            column.prefix = ""
            word = columns[n - 1] if n else None
            behind = (
                word is not None
                and len(word.distinct) == 1
                and all(map(str.isdigit, column.distinct))
                and _counts_channels(word.values[0], column, n + 1 == len(columns))
            )
            if behind or all(_NUMBERED.fullmatch(v) for v in column.distinct):
                found.append((0, 0, n))
    return [n for _, _, n in sorted(found)]


def _letters_in_common(words: Collection[str]) -> str:
    """The letters that all words begin with."""
    first, last = min(words), max(words)
    same = next((i for i, c in enumerate(first) if last[i : i + 1] != c), len(first))
    return re.sub(r"[^A-Za-z].*", "", first[:same])


def _counts_channels(word: str, column: _Column, last: bool) -> bool:
    """Whether numbers behind a word are those of channels; of one letter, not wells and days."""
    if word.casefold() not in _CHANNEL_WORDS:
        return False
    numbers = sorted(map(int, column.distinct))
    return len(word) > 1 or (numbers[0] <= 1 and numbers[-1] <= 9 and (last or word.islower()))


def _pattern(
    columns: Sequence[_Column], at: int, end: str, in_folders: bool, serial: bool
) -> str | None:
    """The pattern in which column ``at`` is the channel; None where nothing names the image."""
    channel = columns[at].values
    dropped = False
    for n, column in enumerate(columns):
        column.role = "image"
        word = columns[n - 1] if n else None
        if n == at:
            column.role = "channel"
        elif len(column.distinct) == 1:
            column.role = "same"
        elif all(_PLANE.fullmatch(v) for v in column.distinct):
            column.role = "plane"
        elif (
            word is not None
            and word.role == "same"
            and word.values[0].casefold() in _PLANE_WORDS
            and all(map(str.isdigit, column.distinct))
        ):
            column.role = "number of plane"
        elif len(set(zip(channel, column.values, strict=True))) == len(set(channel)):
            column.role = "of the channel"
        elif serial and len(column.distinct) == len(channel) and re.search(r"\d", column.values[0]):
            column.role, dropped = "serial", True
    if serial and not dropped:
        return None
    # in one image alone, what changes with the channel may be the image
    once = len(channel) < 2 * len(set(channel))
    if once and any(c.role in ("of the channel", "serial") for c in columns):
        return None
    if sum(c.role in ("plane", "number of plane") for c in columns) > 1:
        return None
    return _written(columns, end, in_folders)


def _written(columns: Sequence[_Column], end: str, in_folders: bool) -> str | None:
    """The pattern of columns whose roles are known."""
    varies = any(c.role == "image" for c in columns)
    groups = iter(_GROUPS)
    out: list[str] = []
    if in_folders and not varies:
        out.append(f"(?P<{next(groups)}>.+)/")
        varies = True
    n = 0
    while n < len(columns):
        column = columns[n]
        if column.role not in ("image", "same"):
            out.append(literal(column.before) + _one(column))
            n += 1
            continue
        stop = n
        while stop < len(columns) and columns[stop].role in ("image", "same"):
            stop += 1
        run = list(columns[n:stop])
        text = "".join((literal(c.before) if i else "") + _word(c) for i, c in enumerate(run))
        named = any(c.role == "image" for c in run) or not varies
        if named:
            group = next(groups, None)
            if group is None:
                return None
            text, varies = f"(?P<{group}>{text})", True
        out.append(literal(run[0].before) + text)
        n = stop
    return "".join(out) + end if varies else None


def _one(column: _Column) -> str:
    """A field that is not part of the image's name."""
    if column.role == "channel":
        inner = sorted(set(column.inner), key=lambda w: (-len(w), w))
        return f"{literal(column.prefix)}(?P<channel>{'|'.join(map(literal, inner))})"
    if column.role == "plane":
        return r"(?i:z|zs|zstep|zplane|slice|plane)(?P<plane>\d+)"
    return r"(?P<plane>\d+)" if column.role == "number of plane" else _any(column)


def _word(column: _Column) -> str:
    """A field of the image's name: itself where it is the same words in all, else any such."""
    same = len(column.distinct) == 1 and not re.search(r"\d", column.values[0])
    return literal(column.values[0]) if same else _any(column)


def _any(column: _Column) -> str:
    if all(map(str.isdigit, column.distinct)):
        return r"\d+"
    if not any(re.search(r"\d", v) for v in column.distinct):
        return r"[^\W\d_]+"
    return r"[^\W_]+"


def literal(text: str) -> str:
    """Text for a pattern that stays readable in YAML: few backslashes.

    Examples
    --------
    >>> literal("a_b (1).c")
    'a_b [(]1[)][.]c'
    """
    alone = {"^": r"\^", "[": r"\[", "\\": r"\\"}
    return "".join(c if c.isalnum() or c in "_- /" else alone.get(c, f"[{c}]") for c in text)


def ending(suffixes: Sequence[str]) -> str:
    """A pattern for the suffixes of files.

    Examples
    --------
    >>> ending([".tif", ".png", ".tif"])
    '[.](?:png|tif)'
    """
    plain = sorted({s[1:] for s in suffixes}, key=lambda s: (len(s), s))
    listed = "|".join(map(literal, plain))
    return f"[.](?:{listed})" if len(plain) > 1 else f"[.]{listed}"
