"""What is in a file or folder, in words; and first drafts of its protocol and sample sheet.

The idea: `init` writes files that are ready to edit, so each choice stands beside the reason for
it and a guess is marked ``CHECK``.  Stains are recognised by their names only; pixels are not
looked at.  A pixel size that no file states is left open, never filled in.
It fails, with an `IsletImagingError`, when a folder holds no readable image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from islet_imaging.errors import ImageReadError, IsletImagingError, ProtocolError
from islet_imaging.experiment.planes import ALIKE, most_alike
from islet_imaging.experiment.sample_sheet import listing_of
from islet_imaging.experiment.sheet_draft import sheet_text
from islet_imaging.protocol import FORMAT, Protocol
from islet_imaging.reading.listing import ImageFiles, Listing, list_files, list_images
from islet_imaging.reading.multifile import join, part_of
from islet_imaging.reading.name_fields import planes_are_left
from islet_imaging.reading.names import known_stain, marks_condensed
from islet_imaging.reading.naming import find_pattern
from islet_imaging.reading.read import open_address, open_source
from islet_imaging.reading.remote import is_address
from islet_imaging.reading.source import Source
from islet_imaging.reading.zarr_image import is_zarr, zarr_images

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
        A file or folder, or the address of one image.

    Returns
    -------
    str
        Several lines; problems are part of the description of a folder.

    Raises
    ------
    ImageReadError
        If a file cannot be read, or no image of a folder; the message holds the description.
    """
    if isinstance(path, str) and is_address(path):
        source, name = open_address(path)
        return "\n".join(_lines(name, source))
    target = Path(path)
    inside = zarr_images(target) if target.is_dir() and is_zarr(target) else None
    if not target.is_dir() or inside == ():
        return "\n".join(_lines(target.name, open_source(target)))
    if inside:
        fields = [ImageFiles(f"{target.name}/{field}", (target / field,)) for field in inside]
        listing, pattern = Listing(fields), None
    else:
        listing, pattern = folder_of_images(target)
    images = listing.images
    out = [f"{target}: {len(images)} image{'s' if len(images) != 1 else ''}"]
    if pattern:
        out.append(f"several files per image, by the pattern {pattern}")
    failed = 0
    for image in images[:_MAX_LOOKED_AT]:
        try:
            out += ["", *_lines(image.name, _source(image, pattern))]
        except IsletImagingError as error:
            failed += 1
            out += ["", image.name, f"  cannot be read: {error}"]
    if len(images) > _MAX_LOOKED_AT:
        out += ["", f"and {len(images) - _MAX_LOOKED_AT} more"]
    if listing.skipped:
        out += ["", f"{len(listing.skipped)} left out:"]
        out += [f"  {s}" for s in listing.skipped[:_MAX_LOOKED_AT]]
        if len(listing.skipped) > _MAX_LOOKED_AT:
            out.append(f"  and {len(listing.skipped) - _MAX_LOOKED_AT} more")
    if failed and failed == len(images[:_MAX_LOOKED_AT]):
        raise ImageReadError("\n".join(out))
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


def folder_of_images(
    folder: Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    waiting: Collection[Path] = (),
) -> tuple[Listing, str | None]:
    """The images of a folder by the way of naming that it follows, and that way.

    Files that are named like focal planes of one image and do not look alike are images each.
    """
    files = list_files(folder, include, exclude, waiting)[0]
    pattern = find_pattern(files, folder)
    listing = list_images(folder, pattern, include, exclude, waiting)
    if pattern is not None and _are_other_fields(listing, pattern):
        pattern = find_pattern(files, folder, planes=False)
        listing = list_images(folder, pattern, include, exclude, waiting)
    return listing, pattern


def _are_other_fields(listing: Listing, pattern: str) -> bool:
    """Whether the files of the first image of several planes show different fields."""
    if "(?P<plane>" not in pattern:
        return False
    for image in listing.images:
        if len(image.paths) > 1:
            try:
                source = _source(image, pattern)
                return source.n_planes > 1 and most_alike(source) < ALIKE
            except IsletImagingError:  # the fault is named when the image is read
                return False
    return False


def _source(image: ImageFiles, pattern: str | None) -> Source:
    sources = [open_source(p) for p in image.paths]
    if len(sources) > 1 or part_of(image.paths[0], pattern):
        return join(sources, pattern)
    return sources[0]


def draft_protocol(
    folder: str | Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    waiting: Collection[Path] = (),
) -> Draft:
    """Draft a protocol from the names and metadata of a folder's images.

    Parameters
    ----------
    folder : str or Path
        Folder of images, with subfolders.
    include, exclude : sequence of str
        Patterns of the images that count; they stand in the draft.
    waiting : collection of Path
        Files that are still being written and are not looked at.

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
    listing, pattern = folder_of_images(root, include, exclude, waiting)
    images = listing.images
    if not images:
        left = f"; left out: {'; '.join(map(str, listing.skipped[:3]))}" if listing.skipped else ""
        raise ProtocolError(
            f"{root}: no images here (TIFF, SVS, NDPI, QPTIFF, PNG, JPEG, CZI, LIF, ND2 or "
            f"OME-Zarr){left}"
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
    grouped = pattern is not None and "(?P<channel>" in pattern
    if not grouped and len(sources) > 1 and all(len(s.channels) == 1 for s in sources):
        shown = ", ".join(i.name for i in images[:4])
        raise ProtocolError(
            f"{root}: {len(images)} files of one channel each, and their names do not say which "
            f"belong together ({shown}...). Say it: `reading: {{file_pattern: ...}}` in a "
            "protocol.yaml, with the groups (?P<image>...) and (?P<channel>...) (docs/images.md)"
        )
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
        *_channels(first, questions),
        "",
        *_reading(sources, pattern, questions),
        *_planes(images, questions),
        *_patterns(include, exclude),
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
    for item in listing.skipped[:20]:
        out.insert(3, f"# left out: {_comment(str(item))}")
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


#: emission of dyes of DNA, nm
_BLUE_NM = (430, 480)


def _channels(source: Source, questions: list[str]) -> list[str]:
    """YAML lines of the channels."""
    labels = source.labels
    rows: list[dict[str, Any]] = []
    for label, channel in zip(labels, source.channels, strict=True):
        known = known_stain(label)
        if known is None:  # a name such as Ch1-T1, and a dye beside it
            known = next(filter(None, map(known_stain, channel.words)), None)
        name, role, compartment = known or (_as_name(label), "marker", "cytoplasm")
        why = (
            f"{label!r} is known"
            if known
            else "CHECK: not a known stain; rename it, and say where it lies"
        )
        row: dict[str, Any] = {
            "name": name, "role": role, "compartment": compartment, "label": label, "why": why,
            "known": known is not None,
        }  # fmt: skip
        if known is None and "autofluorescen" in label.casefold():
            row |= {"role": "autofluorescence", "why": "by its name", "known": True}
        rows.append(row)
    names = [r["name"] for r in rows]
    for row in rows:
        if names.count(row["name"]) > 1:
            row["name"] = _as_name(row["label"])
    for n, row in enumerate(rows, start=1):
        if row["name"].casefold() in {r["name"].casefold() for r in rows if r is not row}:
            row["name"] = f"{row['name']} {n}"
    dna = [r for r in rows if r["role"] == "dna"]
    for extra in dna[1:]:
        extra |= {"role": "ignore", "why": "CHECK: a second DNA stain; only one is used"}
    if not dna:
        blue = [r for r in rows if r["label"] == "blue"]
        emits = [
            r
            for r, c in zip(rows, source.channels, strict=True)
            if _BLUE_NM[0] <= float(c.facts.get("emission_nm", 0)) <= _BLUE_NM[1]
        ]
        # what is known to be another stain is not the DNA
        unknown = [r for r in rows if not r["known"]]
        guess = (blue or emits or unknown or rows)[0]
        why = "blue" if blue else "the one that emits blue light" if emits else ""
        guess |= {
            "role": "dna",
            "name": "DAPI" if blue else guess["name"],
            "why": f"CHECK: taken for DNA because it is {why or 'the first of unknown name'}; the "
            "names do not say",
        }
        questions.append(f"which channel is DNA (the draft takes {guess['label']!r})")
    open_ones = [str(r["label"]) for r in rows if not r["known"] and r["role"] == "marker"]
    if open_ones:
        questions.append(f"what these channels are: {', '.join(open_ones)}")
    out = []
    for row in rows:
        out.append(f"  - name: {_quoted(row['name'])}  # {_comment(row['why'])}")
        out.append(f"    role: {row['role']}")
        if row["role"] == "marker":
            out.append(f"    compartment: {row['compartment']}")
        if row["name"] != row["label"] or not row["known"]:  # stays right when renamed
            out.append(f"    source: {_quoted(row['label'])}")
    return out


def _as_name(label: str) -> str:
    """A file's word for a channel as the name of one: without what would break a table."""
    text = "".join(c if c.isprintable() and c not in ',;"' else " " for c in label)
    return " ".join(text.split())[:100] or "channel"


def _nuclei(labels: tuple[str, ...]) -> list[str]:
    """YAML lines of the nuclei section: whether condensed nuclei count."""
    condensed = marks_condensed(labels)
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
        doubts = sorted({s.pixel_size_source for s in sources if s.pixel_size_source})
        said = f" (they say {_comment(doubts[0])})" if doubts else ""
        out.append(
            f"  pixel_size_um: null  # CHECK: no file states it{said}; look it up at the "
            "microscope (um)"
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
        out.append("  # several files per image: what the groups stand for is in docs/images.md")
        out.append(f"  file_pattern: {_quoted(pattern)}")
    return out


def _planes(images: Sequence[ImageFiles], questions: list[str]) -> list[str]:
    """A YAML comment where images are named like focal planes of one."""
    names = [i.name for i in images]
    if not planes_are_left(names):
        return []
    questions.append(
        f"{_ARE_PLANES}: {', '.join(names[:3])}... are named like focal planes of one image, and "
        "are taken for images of their own"
    )
    return ["  # CHECK: images are named like focal planes of one; each counts as an image"]


_ARE_PLANES = "what the files are"


def _patterns(include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """YAML lines of which files are images of the experiment."""
    import yaml

    return [
        f"  {name}: {yaml.safe_dump(list(patterns), default_flow_style=True, width=10_000).strip()}"
        for name, patterns in (("include", include), ("exclude", exclude))
        if patterns
    ]


def protocol_of_folder(
    folder: str | Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    waiting: Collection[Path] = (),
) -> Protocol:
    """The protocol that `draft_protocol` makes, where names alone settle the channels.

    Raises
    ------
    ProtocolError
        If the DNA channel, or what files of a set are, would be a guess; run ``init`` and edit
        the draft.
    """
    draft = draft_protocol(folder, include, exclude, waiting)
    guessed = [q for q in draft.questions if q.startswith(("which channel is DNA", _ARE_PLANES))]
    if guessed:
        raise ProtocolError(
            f"{folder}: the files do not say {guessed[0]}. Run `islet-imaging init {folder}`, edit "
            "protocol.yaml and give it with --protocol"
        )
    return draft.protocol


def draft_samples(folder: str | Path, protocol: Protocol | None = None) -> str:
    """Draft the sample sheet of a folder as CSV text.

    Folders that look like batches (``batch1``, ``diff2``, a date) give the batch, wells and
    positions are repeats within one, days and others the condition; words such as "secondary only"
    or "single" give the role.  The column ``note`` says what is a guess.  The word "control" alone
    does not make a negative control: it is as often the name of a condition.

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
        CSV with file, condition, batch, role, well and day where names show them, note.
    """
    root = Path(folder)
    listing = folder_of_images(root)[0] if protocol is None else listing_of(root, protocol)
    return sheet_text(listing.images, protocol)
