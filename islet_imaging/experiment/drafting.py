"""What is in a file or folder, in words; and first drafts of its protocol and sample sheet.

The idea: `init` writes files that are ready to edit, so each choice stands beside the reason for
it and a guess is marked ``CHECK``.  Stains are recognised by their names only; pixels are not
looked at.  A pixel size that no file states is left open, never filled in.
It fails, with an `IsletImagingError`, when a folder holds no readable image.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from islet_imaging.errors import ImageReadError, IsletImagingError, ProtocolError
from islet_imaging.experiment.sample_sheet import ImageFiles, image_paths, images_in_folder
from islet_imaging.protocol import FORMAT, Protocol, Reading
from islet_imaging.reading.multifile import join, split_name
from islet_imaging.reading.names import known_stain, split_token, words
from islet_imaging.reading.read import open_source
from islet_imaging.reading.source import Source

#: look into this many images for a draft; more say nothing new
_MAX_LOOKED_AT = 50


@dataclass(frozen=True)
class Draft:
    """A drafted protocol: its YAML text, the protocol it makes, and what it had to guess."""

    text: str
    protocol: Protocol
    questions: tuple[str, ...]


def inspect_path(path: str | Path) -> str:
    """Say in plain words what was understood of an image file or a folder.

    Parameters
    ----------
    path : str or Path
        A file or folder.

    Returns
    -------
    str
        Several lines; problems are part of the description of a folder.

    Raises
    ------
    ImageReadError
        If a single file cannot be read.
    """
    target = Path(path)
    if not target.is_dir():
        return "\n".join(_lines(target.name, open_source(target)))
    pattern = find_pattern(image_paths(target))
    images = _images(target, pattern)
    out = [f"{target}: {len(images)} image{'s' if len(images) != 1 else ''}"]
    if pattern:
        out.append(f"one file per channel, by the pattern {pattern}")
    for image in images[:_MAX_LOOKED_AT]:
        try:
            out += ["", *_lines(image.name, _source(image, pattern))]
        except IsletImagingError as error:
            out += ["", image.name, f"  cannot be read: {error}"]
    if len(images) > _MAX_LOOKED_AT:
        out += ["", f"and {len(images) - _MAX_LOOKED_AT} more"]
    return "\n".join(out)


def _lines(name: str, source: Source) -> list[str]:
    meta = source.metadata
    size = source.pixel_size_um
    scale = "not stated; give it in protocol.yaml or with --pixel-size-um"
    if size is not None:
        scale = f"{size[1]:.4g} um ({source.pixel_size_source})"
        if abs(size[0] - size[1]) > 0.01 * max(size):
            scale = f"{size[1]:.4g} x {size[0]:.4g} um, not square ({source.pixel_size_source})"
    out = [
        name,
        f"  format       {meta.get('format', '?')}{', lossy' if meta.get('lossy') else ''}",
        f"  size         {source.shape[1]} x {source.shape[0]} px (width x height), {source.dtype}",
        f"  pixel size   {scale}",
        f"  planes       {source.n_planes}"
        + ("; a projection must be stated" if source.n_planes > 1 else ""),
        f"  channels     {len(source.channels)}, "
        + (f"named by {source.names_source}" if source.named else "not named by the file"),
    ]
    for label, channel in zip(source.labels, source.channels, strict=True):
        known = known_stain(label)
        facts = ", ".join(f"{k} {v:g}" for k, v in channel.facts.items() if isinstance(v, float))
        what = f"looks like {known[0]} ({known[1]})" if known else ""
        out.append("    " + "; ".join(t for t in (label, what, facts) if t))
    if source.bare_pages and not source.named:
        out.append("  the pages are not explained: channels only if the protocol names that many")
    keys = ("significant_bits", "objective", "objective_magnification", "objective_na", "acquired")
    out += [f"  {k.replace('_', ' ')}: {meta[k]}" for k in keys if meta.get(k)]
    return out


def find_pattern(paths: Sequence[Path]) -> str | None:
    """A ``file_pattern`` for one file per channel, or None where files are whole images.

    Parameters
    ----------
    paths : sequence of Path
        The files of a folder.

    Returns
    -------
    str or None
        Regular expression with the groups ``image`` and ``channel``.

    Examples
    --------
    >>> find_pattern([Path("x_d0.tif"), Path("x_d1.tif")])
    '(?P<image>.+?)[ _.-]*(?P<channel>d0|d1)[.]tif'
    """
    stems: dict[Path, list[str]] = {}
    for path in paths:
        stems.setdefault(path.parent, []).append(path.stem)
    sets: dict[tuple[Path, str], list[tuple[str, str, bool]]] = {}
    for path in paths:
        split = split_token(path.stem, stems[path.parent])
        if split is not None:
            leads = path.stem.startswith(split[1])
            sets.setdefault((path.parent, split[0]), []).append((split[1], path.suffix, leads))
    whole = [s for s in sets.values() if len({t for t, _, _ in s}) > 1]
    files = [f for s in whole for f in s]
    # a folder is of this kind when most of its files belong to a set
    if not whole or len(files) * 2 <= len(paths) or len({leads for _, _, leads in files}) > 1:
        return None
    tokens = sorted({t for t, _, _ in files}, key=lambda t: (-len(t), t))
    suffixes = sorted({s for _, s, _ in files}, key=lambda s: (len(s), s))
    channel = f"(?P<channel>{'|'.join(_literal(t) for t in tokens)})"
    end = "|".join(_literal(s[1:]) for s in suffixes)
    end = f"[.](?:{end})" if len(suffixes) > 1 else f"[.]{end}"
    if files[0][2]:
        return f"{channel}[ _.-]*(?P<image>.+){end}"
    return f"(?P<image>.+?)[ _.-]*{channel}{end}"


def _literal(text: str) -> str:
    """Text for a pattern that stays readable in YAML: no backslashes."""
    return "".join(c if c.isalnum() or c in "_- " else f"[{c}]" for c in text).replace("[^]", r"\^")


def _images(folder: Path, pattern: str | None) -> list[ImageFiles]:
    if pattern is None:
        return images_in_folder(folder)
    return images_in_folder(folder, _carrier(pattern))


def _carrier(pattern: str) -> Protocol:
    """A protocol that only carries a file pattern."""
    from islet_imaging.protocol import Channel

    return Protocol(channels=(Channel("DNA", "dna"),), reading=Reading(file_pattern=pattern))


def _source(image: ImageFiles, pattern: str | None) -> Source:
    sources = [open_source(p) for p in image.paths]
    if len(sources) > 1 or (pattern and split_name(image.paths[0].name, pattern)):
        return join(sources, pattern)
    return sources[0]


def draft_protocol(folder: str | Path) -> Draft:
    """Draft a protocol from the names and metadata of a folder's images.

    Parameters
    ----------
    folder : str or Path
        Folder of images, with subfolders.

    Returns
    -------
    Draft
        ``questions`` lists what the names did not settle; scoring without a look at the draft is
        safe only where it is empty.

    Raises
    ------
    ProtocolError
        If the folder holds no image.
    ImageReadError
        If none of its images can be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ProtocolError(f"{root}: there is no such folder; give the folder of the images")
    pattern = find_pattern(image_paths(root))
    images = _images(root, pattern)
    if not images:
        raise ProtocolError(
            f"{root}: no images here (TIFF, SVS, NDPI, QPTIFF, PNG, JPEG, CZI, LIF or ND2)"
        )
    sources: list[Source] = []
    failed: list[str] = []
    for image in images[:_MAX_LOOKED_AT]:
        try:
            sources.append(_source(image, pattern))
        except IsletImagingError as error:
            failed.append(str(error))
    if not sources:
        raise ImageReadError(f"{root}: none of its images can be read. The first: {failed[0]}")
    # the commonest set of channels is the experiment's; others are named in a comment
    kinds = Counter(s.labels for s in sources)
    labels = kinds.most_common(1)[0][0]
    first = next(s for s in sources if s.labels == labels)
    questions: list[str] = []
    out = [
        "# Drafted by `islet-imaging init` from the names and metadata of the files. Edit it:",
        "# lines marked CHECK are guesses. Everything not listed here has its default value; a",
        "# finished run writes the complete protocol.",
        f"format: {FORMAT}",
        "",
        "# name: in tables and figures. role: dna, marker, autofluorescence or ignore.",
        "# compartment: where the marker lies. source: what the files call the channel.",
        "channels:",
        *_title(first),
        *_channels(labels, questions),
        "",
        *_reading(sources, pattern, questions),
        "",
        *_nuclei(labels),
        "",
        "# for the warnings and the methods text; files seldom say",
        "acquisition:",
        "  modality: unknown  # widefield, confocal, light_sheet or scanner",
        "  section_um: null  # thickness of the section, um",
        f"  objective: {_quoted(str(first.metadata.get('objective', '')))}",
    ]
    if len(kinds) > 1:
        other = [list(k) for k in kinds if k != labels]
        out.insert(3, f"# CHECK: some images have other channels: {_comment(str(other[:3]))}")
    for text in failed[:5]:
        out.insert(3, f"# cannot be read: {_comment(text)}")
    text = "\n".join(out) + "\n"
    return Draft(text, _parsed(text), tuple(questions))


def _parsed(text: str) -> Protocol:
    import yaml

    return Protocol.from_dict(yaml.safe_load(text))


def _comment(text: str) -> str:
    return " ".join(text.split())[:300]


def _quoted(text: str) -> str:
    """A YAML scalar for any text."""
    import yaml

    dumped: str = yaml.safe_dump(text, allow_unicode=True, width=10_000)
    return dumped.removesuffix("\n").removesuffix("\n...")


def _channels(labels: tuple[str, ...], questions: list[str]) -> list[str]:
    """YAML lines of the channels."""
    rows: list[dict[str, Any]] = []
    for label in labels:
        known = known_stain(label)
        name, role, compartment = known or (label, "marker", "cytoplasm")
        why = (
            f"{label!r} is known"
            if known
            else "CHECK: not a known stain; rename it, and say where it lies"
        )
        rows.append({"name": name, "role": role, "compartment": compartment, "label": label,
                     "why": why, "known": known is not None})  # fmt: skip
    names = [r["name"] for r in rows]
    for row in rows:
        if names.count(row["name"]) > 1:
            row["name"] = row["label"]
    dna = [r for r in rows if r["role"] == "dna"]
    for extra in dna[1:]:
        extra |= {"role": "ignore", "why": "CHECK: a second DNA stain; only one is used"}
    if not dna:
        blue = [r for r in rows if r["label"] == "blue"]
        guess = (blue or rows)[0]
        guess |= {
            "role": "dna",
            "name": "DAPI" if blue else guess["name"],
            "why": "CHECK: taken for DNA because it is "
            + ("blue" if blue else "the first; the names do not say"),
        }
        questions.append(f"which channel is DNA (the draft takes {guess['label']!r})")
    unknown = [r["label"] for r in rows if not r["known"] and r["role"] == "marker"]
    if unknown:
        questions.append(f"what these channels are: {', '.join(unknown)}")
    out = []
    for row in rows:
        out.append(f"  - name: {_quoted(row['name'])}  # {_comment(row['why'])}")
        out.append(f"    role: {row['role']}")
        if row["role"] == "marker":
            out.append(f"    compartment: {row['compartment']}")
        if row["name"] != row["label"] or not row["known"]:  # stays right when renamed
            out.append(f"    source: {_quoted(row['label'])}")
    return out


#: markers of dividing or dying cells, whose condensed nuclei must be counted
_CONDENSED = {"Ki67", "H3", "EdU", "CASP3", "TUNEL"}


def _nuclei(labels: tuple[str, ...]) -> list[str]:
    """YAML lines of the nuclei section: whether condensed nuclei count."""
    stains = {known[0] for label in labels if (known := known_stain(label))}
    condensed = bool(stains & _CONDENSED)
    return [
        "nuclei:",
        "  # small bright nuclei (dying cells) count in no fraction and are counted beside;",
        "  # false for markers of dividing or dying cells (Ki67, PH3, cleaved caspase 3)",
        f"  exclude_pyknotic: {'false' if condensed else 'true'}",
    ]


def _title(source: Source) -> list[str]:
    """A comment on stains that the image's title lists, where the channels have no names."""
    title = str(source.metadata.get("title", ""))
    stains = [w for w in re.split(r"[\s_]+", title) if known_stain(w)]
    if source.named or len(stains) < 2:
        return []
    return [f"  # the title {_comment(title)!r} names {', '.join(stains)}: perhaps in this order"]


def _reading(sources: Sequence[Source], pattern: str | None, questions: list[str]) -> list[str]:
    """YAML lines of the reading section."""
    out = ["reading:"]
    sizes = {None if s.pixel_size_um is None else round(s.pixel_size_um[1], 4) for s in sources}
    if sizes == {None}:
        questions.append("the pixel size, which no file states")
        out.append(
            "  pixel_size_um: null  # CHECK: no file states it; look it up at the microscope (um)"
        )
    else:
        listed = ", ".join(f"{s:g}" for s in sorted(s for s in sizes if s is not None))
        out.append(f"  pixel_size_um: null  # the files state {listed} um; a number overrides them")
        if None in sizes:
            questions.append("the pixel size of some files, which do not state it")
            out.append("  # CHECK: some files do not state it and will fail")
    depth = max(s.n_planes for s in sources)
    if depth > 1:
        out.append(f"  projection: max  # z-stacks of up to {depth} planes; or mean, or plane")
    else:
        out.append("  projection: none  # there are no z-stacks")
    if pattern:
        out.append("  # one file per channel: an image's name is the group `image`")
        out.append(f"  file_pattern: {_quoted(pattern)}")
    return out


def protocol_of_folder(folder: str | Path) -> Protocol:
    """The protocol that `draft_protocol` makes, where names alone settle the channels.

    Raises
    ------
    ProtocolError
        If the DNA channel would be a guess; run ``init`` and edit the draft.
    """
    draft = draft_protocol(folder)
    guessed = [q for q in draft.questions if q.startswith("which channel is DNA")]
    if guessed:
        raise ProtocolError(
            f"{folder}: the files do not say {guessed[0]}. Run `islet-imaging init {folder}`, edit "
            "protocol.yaml and give it with --protocol"
        )
    return draft.protocol


_BATCH = re.compile(
    r"^(?:batch|diff(?:erentiation)?|rep(?:licate)?|exp(?:eriment)?|run|donor|prep|n|b|r|d)"
    r"[ _\-]?\d+$|^\d{6,8}$|^\d{4}-\d\d-\d\d$",
    re.IGNORECASE,
)
_NEGATIVE = {"secondary", "secondaryonly", "2nd", "2ndonly", "noprimary", "unstained", "isotype",
             "negative", "neg", "negcontrol", "negctrl", "negativecontrol"}  # fmt: skip
_POSITIVE = {"positivecontrol", "poscontrol", "posctrl", "positivectrl"}


def draft_samples(folder: str | Path, protocol: Protocol | None = None) -> str:
    """Draft the sample sheet of a folder as CSV text.

    Folders that look like batches (``batch1``, ``diff2``, a date) give the batch, others the
    condition; words such as "secondary only" or "single" give the role.  The column ``note`` says
    what is a guess.  The word "control" alone does not make a negative control: it is as often the
    name of a condition.

    Parameters
    ----------
    folder : str or Path
        Folder of images.
    protocol : Protocol, optional
        Its file pattern groups files, its channels are looked for in names of single stains; the
        folder's own pattern by default.

    Returns
    -------
    str
        CSV with file, condition, batch, role, note.
    """
    root = Path(folder)
    if protocol is None:
        pattern = find_pattern(image_paths(root)) if root.is_dir() else None
        images = _images(root, pattern)
    else:
        images = images_in_folder(root, protocol)
    names = [c.name for c in protocol.channels if c.role == "marker"] if protocol else []
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file", "condition", "batch", "role", "note"])
    for image in images:
        folders = list(PurePosixPath(image.name).parts[:-1])
        batches = [f for f in folders if _BATCH.match(f)]
        conditions = [f for f in folders if not _BATCH.match(f)]
        notes = []
        if not batches:
            notes.append("CHECK batch: all are taken for one")
        if not conditions:
            notes.append("CHECK condition")
        role = _role(image.name, names, notes)
        writer.writerow(
            [image.name, "/".join(conditions) or "all", "/".join(batches) or "1", role,
             "; ".join(notes)]
        )  # fmt: skip
    return buffer.getvalue()


def _role(name: str, channels: Sequence[str], notes: list[str]) -> str:
    found = {w for part in PurePosixPath(name).parts for w in words(part)}
    if found & _POSITIVE:
        return "positive_control"
    if found & {"single", "singlestain", "singlestained"}:
        stains = {known[0] for part in PurePosixPath(name).parts
                  for w in re.split(r"[\s_\-]+", part) if (known := known_stain(w))}  # fmt: skip
        hits = [c for c in channels if c.casefold() in found or c in stains]
        if len(hits) == 1:
            return f"single_stain:{hits[0]}"
        notes.append("CHECK role: a single stain? then single_stain:<channel>")
        return "sample"
    if found & _NEGATIVE:
        return "negative_control"
    if found & {"control", "ctrl", "ctl"}:
        notes.append("CHECK role: negative_control if this is a staining control")
    return "sample"
