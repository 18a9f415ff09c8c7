r"""How instruments name the files of one image, and which of these ways a folder follows.

The idea: a way of naming is a regular expression with the groups ``channel`` and ``plane`` and, for
what identifies the image, ``image``, ``well``, ``field``, ``time`` and ``rest``.  Those of common
instruments are tried first, then what repeats: the part of the names, or the folder, that takes the
same few values for every image, where one of them is a stain or looks like a channel's number, and
at last what varies and what repeats in names that are built alike (`name_fields`).  A way is taken
only when it sorts more than half of the files into sets without a contradiction, and leaves no
focal plane to be counted as an image.
It fails, and then says nothing, on names that follow no rule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from islet_imaging.errors import ProtocolError
from islet_imaging.reading.headers import read_header
from islet_imaging.reading.name_fields import ending, field_patterns, literal, planes_are_left
from islet_imaging.reading.names import known_dye, known_stain, split_token

_EXT = "[.](?i:tiff?|png|jpe?g|stk)"
_GUID = "(?:[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12})?"
#: files that are enough to tell a folder of whole images
_LOOKED_AT = 200
#: more values than this of one part of the names are no channels
MOST_CHANNELS = 60
#: groups that together say which image a file belongs to, in their order in the name
IDENTITY = ("image", "well", "field", "time", "rest")
#: by instrument; where two stand for one, the second tells time points apart
PRESETS: dict[str, str] = {
    "Operetta or Phenix": r"(?P<image>r\d+c\d+f\d+)p(?P<plane>\d+)-(?P<channel>ch\d+)sk\d+"
    r"(?:fk\d+)?(?:fl\d+)?" + _EXT,
    "Operetta or Phenix, time points": r"(?P<image>r\d+c\d+f\d+)p(?P<plane>\d+)-(?P<channel>ch\d+)"
    r"(?P<time>sk\d+)(?:fk\d+)?(?:fl\d+)?" + _EXT,
    "Operetta or Phenix, Harmony 5": r"(?P<image>r\d+c\d+f\d+)p(?P<plane>\d+)-(?P<channel>ch\d+)"
    r"t\d+" + _EXT,
    "Operetta or Phenix, Harmony 5, time points": r"(?P<image>r\d+c\d+f\d+)p(?P<plane>\d+)-"
    r"(?P<channel>ch\d+)(?P<time>t\d+)" + _EXT,
    "IN Cell": r"(?P<well>[A-P] ?- ?\d+)[(]fld (?P<field>\d+) wv (?P<channel>[^)]+?)"
    r"(?: z (?P<plane>\d+))?(?: time (?P<time>\d+))?(?: - \d+ms)?[)]" + _EXT,
    "IN Cell 7": r"(?P<well>[A-P]_\d+)_f(?P<field>\d+)_c\d+_x[^_/]+_m(?P<channel>[^_/]+)"
    r"_z(?P<plane>\d+)_(?P<time>t\d+)" + _EXT,
    "scanR": r"(?P<image>.+--W\d+--P\d+)--Z(?P<plane>\d+)--(?P<time>T\d+)--(?P<channel>[^/]+)"
    + _EXT,
    "Gen5": r"(?P<well>[A-P]\d{1,2}(?:ROI\d+)?)_-?\d+_\d+_(?P<field>\d+)(?:Z(?P<plane>\d+))?_"
    r"(?:[A-Za-z]+\[)?(?P<channel>[\w .+-]+?)(?: \d+,\d+)?\]?_(?P<time>\d+)" + _EXT,
    "Squid": r"(?P<image>[^_/]+_\d+)_(?P<plane>\d+)_(?P<channel>(?:Fluorescence|BF)[_ ][^/]+)"
    + _EXT,
    "CellVoyager": r"(?P<image>.+_[A-P]\d+_T\d+F\d+)L\d+A\d+Z(?P<plane>\d+)(?P<channel>C\d+)"
    + _EXT,
    "CQ1": r"(?P<image>W\d+F\d+T\d+)Z(?P<plane>\d+)(?P<channel>C\d+)" + _EXT,
    "ImageXpress, folders of planes": r"(?:(?P<image>.+)/)?ZStep_(?P<plane>\d+)/"
    r"(?P<rest>[^/]+_[A-P]\d\d(?:_s\d+)?)_(?P<channel>w\d)" + _GUID + _EXT,
    "ImageXpress": r"(?P<image>.+_[A-P]\d\d(?:_s\d+)?)_(?P<channel>w\d)" + _GUID + _EXT,
    "MetaMorph": r"(?P<image>.+?)_(?P<channel>w\d[^_/]*)(?P<rest>(?:_s\d+)?(?:_t\d+)?)" + _EXT,
    "Keyence": r"(?P<image>.+?)(?:_Z(?P<plane>\d+))?_(?P<channel>CH\d)" + _EXT,
    "LAS X": r"(?P<image>.+?)(?:_z(?P<plane>\d+))?_(?P<channel>ch\d+)(?:_SV)?" + _EXT,
    "Micro-Manager 2": r"img_(?P<channel>channel\d+)_(?P<image>position\d+)_time\d+_"
    r"z(?P<plane>\d+)" + _EXT,
    "Micro-Manager": r"(?P<image>[^/]+(?:/[^/]+)*)/img_\d+_(?P<channel>[^/]+?)_(?P<plane>\d+)"
    + _EXT,
    "Micro-Manager, one position": r"(?P<image>img_\d+)_(?P<channel>[^/]+?)_(?P<plane>\d+)" + _EXT,
    "EVOS": r"(?P<image>.+f\d+)(?P<channel>d\d)" + _EXT,
    "NIS-Elements": r"(?P<image>.*?(?:xy\d+)?)(?:z(?P<plane>\d+))?(?P<channel>c\d+)"
    r"(?P<rest>(?:t\d+)?)" + _EXT,
    "ZEN": r"(?P<image>.+?)_(?P<rest>(?:[sbtm]\d+)*)(?:z(?P<plane>\d+))?(?P<channel>c\d+)(?:_ORG)?"
    + _EXT,
    "Incucyte": r"(?P<image>.*?[A-P]\d+-\d+)-(?P<channel>C\d|P|Ph)" + _EXT,
}  # fmt: skip


#: focal planes that are files
_PLANES = (
    r"(?P<image>.+?)[ _.-]*(?i:z|zs|slice|plane)[ _-]?(?P<plane>\d+)(?P<rest>.*?)(?:[.]ome)?" + _EXT
)


@dataclass(frozen=True)
class Part:
    """What a file is of its image."""

    image: str
    channel: str
    plane: str


@lru_cache(maxsize=64)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A protocol's ``file_pattern``, checked for its groups."""
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ProtocolError(f"reading.file_pattern {pattern[:200]!r}: {error}") from None
    groups = set(compiled.groupindex)
    if not groups & set(IDENTITY) or not groups & {"channel", "plane"}:
        raise ProtocolError(
            f"reading.file_pattern {pattern[:200]!r} needs the groups (?P<image>...) and "
            "(?P<channel>...); it may have plane, well, field, time and rest"
        )
    return compiled


def is_on_path(pattern: str) -> bool:
    """Whether a pattern speaks of the path in the folder: it holds a slash, not in brackets.

    Examples
    --------
    >>> is_on_path("(?P<channel>DAPI|INS)/(?P<image>.+)"), is_on_path("[^/]+")
    (True, False)
    """
    return "/" in re.sub(r"\[[^\]]*\]", "", re.sub(r"\\.", "", pattern))


def split_path(relative: str, pattern: str) -> Part | None:
    """What a file is, by a pattern; None where it does not match.

    Parameters
    ----------
    relative : str
        Path relative to the scored folder, with forward slashes.
    pattern : str
        Regular expression on the whole file name; on the whole relative path where it holds a
        slash.

    Returns
    -------
    Part or None
        ``image`` is the image's name, with its folder.

    Examples
    --------
    >>> split_path("plate/a_z1_ch00.tif", PRESETS["LAS X"])
    Part(image='plate/a', channel='ch00', plane='1')
    >>> split_path("DAPI/a.tif", "(?P<channel>DAPI|INS)/(?P<image>.+)[.]tif")
    Part(image='a', channel='DAPI', plane='')
    """
    path = PurePosixPath(relative)
    on_path = is_on_path(pattern)
    found = compile_pattern(pattern).fullmatch(relative if on_path else path.name)
    if found is None:
        return None
    named = compile_pattern(pattern).groupindex
    parts = [(found.start(g), found[g]) for g in IDENTITY if g in named and found[g]]
    name = ""
    for _, text in sorted(parts):
        text = text.strip(" _-.") if not on_path else text.strip(" _-./")
        if text:
            between = "/" if on_path and name else "_"
            name = f"{name}{between}{text}" if name else text
    if not name:
        return None
    if not on_path:
        name = str(path.with_name(name.replace("/", "_")))
    get = {g: found[g] or "" for g in ("channel", "plane") if g in named}
    return Part(name, get.get("channel", ""), get.get("plane", ""))


def find_pattern(
    paths: Sequence[Path], root: Path | None = None, *, planes: bool = True
) -> str | None:
    """A ``file_pattern`` for the files of a folder, or None where each is an image of its own.

    Parameters
    ----------
    paths : sequence of Path
        The image files of a folder and its subfolders.
    root : Path, optional
        The folder; the one above all files by default.
    planes : bool
        Whether files may be focal planes of an image.

    Returns
    -------
    str or None
        Regular expression with groups as in `split_path`.

    Examples
    --------
    >>> find_pattern([Path("x_d0.tif"), Path("x_d1.tif")])
    '(?P<image>.+?)[ _.-]*(?P<channel>d0|d1)[.]tif'
    """
    some = paths[:: max(1, len(paths) // _LOOKED_AT)]
    if 3 * sum(map(may_be_part, some)) < len(some):  # whole images, by a look at a few
        return _of_stacks(paths, root, planes)
    single = [p for p in paths if may_be_part(p)]
    if len(single) < 2 or 2 * len(single) <= len(paths):
        return None
    relatives = _relatives(single, root)
    # projections that lie beside the folders of their focal planes are taken, or the planes
    flat = [r for r in relatives if not re.search(r"(?:^|/)ZStep_\d+/", r)]
    for subset in [flat, relatives] if 0 < len(flat) < len(relatives) else [relatives]:
        for pattern in _candidates(subset):
            if _sorts(pattern, subset, planes):
                return pattern
    return None


def _relatives(paths: Sequence[Path], root: Path | None) -> list[str]:
    """Paths in the folder, or in the one above all of them."""
    if root is None:
        root = paths[0].parent.parent  # the folder's name may be the image's
        while not all(p.is_relative_to(root) for p in paths):
            root = root.parent
    return [p.relative_to(root).as_posix() for p in paths]


def _of_stacks(paths: Sequence[Path], root: Path | None, planes: bool) -> str | None:
    """A pattern for files that hold several pages each, and are parts of an image all the same.

    A stack for each channel, which only names tell from channels; or a file of all channels for
    each focal plane.
    """
    some = paths[:: max(1, len(paths) // _LOOKED_AT)]
    headers = [h for p in some if (h := read_header(p)) is not None]
    if 2 * sum(h.is_bare_stack for h in headers) > len(some):
        bare = [p for p in paths if (h := read_header(p)) is not None and h.is_bare_stack]
        relatives = _relatives(bare, root)
        for pattern in _candidates(relatives):
            parts = [p for r in relatives if (p := split_path(r, pattern))]
            channels = {p.channel for p in parts}
            known = sum(map(_is_stain, channels)) * 2 >= max(2, len(channels))
            if known and not any(p.plane for p in parts) and _sorts(pattern, relatives):
                return pattern
        return None
    # names first: the files of a large folder are not all opened for this
    near = [p.stem for p in paths[: 10 * _LOOKED_AT]]
    whole = 2 * sum(h.is_one_plane for h in headers) > len(some)
    if not planes or not whole or not planes_are_left(near):
        return None
    relatives = _relatives(paths, root)
    sets: dict[str, set[int]] = {}
    for relative in relatives:
        part = split_path(relative, _PLANES)
        if part is not None:
            sets.setdefault(part.image, set()).add(int(part.plane))
    # a number behind z may be another thing than a plane: planes are counted from 0 or 1
    counted = all(numbers in ({*range(len(numbers))}, {*range(1, 1 + len(numbers))})
                  for numbers in sets.values())  # fmt: skip
    return _PLANES if counted and _sorts(_PLANES, relatives) else None


def _is_stain(token: str) -> bool:
    return known_stain(token) is not None or known_dye(re.sub(r"^w\d", "", token))


def may_be_part(path: Path) -> bool:
    """Whether a file's content allows that it is one channel of an image: it holds one channel."""
    if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".stk"):
        return True
    header = read_header(path)
    if header is None:  # not there, or no TIFF: its name alone speaks
        return path.suffix.lower() in (".tif", ".tiff") and not path.is_dir()
    channels = header.channels
    return channels == 1


def _candidates(relatives: Sequence[str]) -> Iterator[str]:
    """Patterns worth a try, the surest first."""
    yield from (p for name, p in PRESETS.items() if name not in ("NIS-Elements", "ZEN", "EVOS"))
    trailing = _trailing(relatives)
    if trailing:
        yield trailing
    yield from (PRESETS[n] for n in ("NIS-Elements", "ZEN", "EVOS"))
    yield from _folders(relatives)
    yield from _anywhere(relatives)
    yield from field_patterns(relatives)
    yield _PLANES


def _sorts(pattern: str, relatives: Sequence[str], may_be_planes: bool = True) -> bool:
    """Whether a pattern sorts more than half of the files into sets, without a contradiction."""
    sets: dict[str, list[Part]] = {}
    for relative in relatives:
        part = split_path(relative, pattern)
        if part is not None:
            sets.setdefault(part.image, []).append(part)
    matched = sum(map(len, sets.values()))
    if 2 * matched <= len(relatives):
        return False
    for parts in sets.values():
        if len({(p.channel, p.plane) for p in parts}) < len(parts):
            return False  # two files would be the same plane
    channels = Counter(frozenset(p.channel for p in parts) for parts in sets.values())
    usual, often = max(channels.items(), key=lambda item: (len(item[0]), item[1]))
    in_sets = sum(len(p) for p in sets.values() if len({q.channel for q in p}) > 1)
    if len(usual) > MOST_CHANNELS or (may_be_planes and planes_are_left(list(sets))):
        return False
    if not may_be_planes and any(p.plane for parts in sets.values() for p in parts):
        return False
    if len(usual) > 1:
        return in_sets * 2 > len(relatives) and often * 2 >= len(sets) / 2
    # one channel only: focal planes must make sets
    planes = [len(p) for p in sets.values()]
    alike = min(planes) > 1 and len(set(planes)) == 1
    return may_be_planes and "(?P<plane>" in pattern and alike and len(channels) == 1


def _either(words: Sequence[str]) -> str:
    return "|".join(literal(w) for w in sorted(set(words), key=lambda w: (-len(w), w)))


def _trailing(relatives: Sequence[str]) -> str | None:
    """A token right before the extension, or ImageJ's ``C1-`` before the name."""
    paths = [PurePosixPath(r) for r in relatives]
    # only names that differ in their last word can tell what that word is
    stems: dict[tuple[PurePosixPath, str], list[str]] = {}
    for path in paths:
        stems.setdefault((path.parent, _head(path.stem)), []).append(path.stem)
    sets: dict[tuple[PurePosixPath, str], list[tuple[str, str, bool]]] = {}
    for path in paths:
        split = split_token(path.stem, stems[path.parent, _head(path.stem)])
        if split is not None:
            leads = path.stem.startswith(split[1])
            sets.setdefault((path.parent, split[0]), []).append((split[1], path.suffix, leads))
    files = [f for s in sets.values() if len({t for t, _, _ in s}) > 1 for f in s]
    if not files or len({leads for _, _, leads in files}) > 1:
        return None
    channel = f"(?P<channel>{_either([t for t, _, _ in files])})"
    end = ending([s for _, s, _ in files])
    if files[0][2]:
        return f"{channel}[ _.-]*(?P<image>.+){end}"
    return f"(?P<image>.+?)[ _.-]*{channel}{end}"


def _head(stem: str) -> str:
    """A name without its last word."""
    return re.sub(r"[ _\-][^ _\-]*$", "", stem)


def _like_a_channel(word: str) -> bool:
    return (
        known_stain(word) is not None
        or known_dye(word)
        or re.fullmatch(r"(?i)(?:ch|channel|c|w)[ _-]?\d{1,2}", word) is not None
    )


def _folders(relatives: Sequence[str]) -> Iterator[str]:
    """A folder for each channel, anywhere above files that repeat in each."""
    split = [PurePosixPath(r).parts for r in relatives]
    for back in range(2, 1 + max(map(len, split))):
        names = {p[-back] for p in split if len(p) >= back}
        if len(names) > 1 and sum(map(_like_a_channel, names)) * 2 >= len(names):
            end = ending([PurePosixPath(r).suffix for r in relatives])
            # the channel may stand in the file's name again
            yield (
                f"(?:(?P<image>.+)/)?(?P<channel>{_either(list(names))})/"
                f"(?P<rest>{'[^/]+/' * (back - 2)}[^/]+?)(?:[ _.-]*(?P=channel))?{end}"
            )


def _anywhere(relatives: Sequence[str]) -> Iterator[str]:
    """A word between separators that stands for a channel, wherever it is in the name."""
    stems = [PurePosixPath(r).stem for r in relatives]
    end = ending([PurePosixPath(r).suffix for r in relatives])
    words = {w for s in stems for w in re.split(r"[ _.\-()\[\]]+", s) if w}
    stains = [w for w in words if known_stain(w) or known_dye(w)]
    numbers = [w for w in words if re.fullmatch(r"(?i)(?:ch|channel|c|w)\d{1,2}", w)]
    plane = r"(?:[ _.-]*(?i:z|zs|slice)(?P<plane>\d+))?"
    for tokens in ([*stains, *_beside(stems, stains)], stains, numbers):
        if not 2 <= len(set(tokens)) <= MOST_CHANNELS:
            continue
        channel = f"(?<![A-Za-z0-9])(?P<channel>{_either(tokens)})(?![A-Za-z0-9])"
        yield f"(?P<image>.*?){plane}[ _.-]*{channel}(?P<rest>.*?){end}"
        yield f"(?P<image>.*?)[ _.-]*{channel}{plane}(?P<rest>.*?){end}"


def _beside(stems: Sequence[str], stains: Sequence[str]) -> list[str]:
    """Words that stand where a stain stands in other names that are otherwise the same."""
    frames: dict[tuple[str, ...], set[str]] = {}
    for stem in stems:
        fields = re.split(r"[ _.\-()\[\]]+", stem)
        for i, word in enumerate(fields):
            frames.setdefault((str(i), *fields[:i], "", *fields[i + 1 :]), set()).add(word)
    known = set(stains)
    # a serial number may be that of a laser line: most must be stains for the others to be
    alike = (ws for ws in frames.values() if 2 * len(ws & known) >= len(ws))
    return [w for ws in alike for w in ws - known if w]
