"""One file per channel or focal plane: the union of the files of one image as one `Source`.

The idea: file names of one image differ only in the tokens of channel and plane; a protocol's
``reading.file_pattern`` says which these are (`naming`).  A tinted picture of one channel, as some
microscopes export it, is taken for the one colour that it uses.
It fails, with an `ImageReadError`, when the files differ in size, two hold the same plane, or a
channel has planes that another lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ImageReadError
from islet_imaging.reading.names import split_token
from islet_imaging.reading.naming import Part, compile_pattern, find_pattern, is_on_path, split_path
from islet_imaging.reading.source import FileChannel, PlaneReader, Source

#: what a folder's images are called
SUFFIXES = (
    *(".tif", ".tiff", ".tf2", ".tf8", ".btf", ".lsm", ".stk", ".flex"),
    *(".svs", ".ndpi", ".qptiff", ".scn", ".bif"),
    *(".png", ".jpg", ".jpeg", ".czi", ".lif", ".nd2"),
)
#: a colour that is this much of the strongest is not used; more where compression mixes colours
_UNUSED, _UNUSED_LOSSY = 0.02, 0.15


def split_name(name: str, pattern: str | None) -> tuple[str, str] | None:
    """Image and channel of a file name by the protocol's pattern; None where it does not match.

    Examples
    --------
    >>> split_name("a_d0.tif", r"(?P<image>.+)_(?P<channel>d[0-9])[.]tif")
    ('a', 'd0')
    """
    part = split_path(name, pattern) if pattern is not None else None
    return None if part is None else (part.image, part.channel)


def part_of(path: Path, pattern: str | None) -> tuple[Part, Path] | None:
    """What a file is of its image, and the folder that the image's name is relative to."""
    if pattern is None:
        return None
    if not is_on_path(pattern):
        part = split_path(path.name, pattern)
        return None if part is None else (part, path.parent)
    for parent in path.parents:
        part = split_path(path.relative_to(parent).as_posix(), pattern)
        if part is not None:
            return part, parent
    return None


def siblings(path: Path, pattern: str) -> tuple[Path, ...]:
    """All files beside ``path`` that belong to its image, in the order of their names."""
    own = part_of(path, pattern)
    compile_pattern(pattern)
    if own is None:
        return (path,)
    part, root = own
    near = root.rglob("*") if is_on_path(pattern) else root.iterdir()
    same = []
    for p in near:
        if p.name.startswith(".") or not p.is_file():
            continue
        other = split_path(p.relative_to(root).as_posix(), pattern)
        if other is not None and other.image == part.image:
            same.append(p)
    return tuple(sorted(same)) or (path,)


@dataclass(frozen=True)
class JoinedPlanes:
    """Sends a channel's plane to the file that holds it."""

    #: by channel and plane: the file's reader, and the channel and plane it has there
    where: dict[tuple[int, int], tuple[PlaneReader, int, int]]

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:
        """Pixels (Y, X) of a channel's plane."""
        read, own, at = self.where[channel, plane]
        return read(own, at, region)


@dataclass(frozen=True)
class PagesAsPlanes:
    """Reads what was taken for channels as focal planes of one."""

    read: PlaneReader

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:
        """Pixels (Y, X) of a page."""
        return self.read(plane, channel, region)


def _one_channel(source: Source) -> Source:
    """A stack whose pages nothing explains, as the planes of the channel that its name says."""
    if not source.bare_pages or source.named or source.n_planes > 1:
        return source
    return replace(
        source, channels=(FileChannel(),), n_planes=len(source.channels), bare_pages=False,
        read=PagesAsPlanes(source.read), channel_axis="channels",
    )  # fmt: skip


@dataclass(frozen=True)
class _File:
    """One file of an image, brought to one channel."""

    source: Source
    channel: int
    token: str
    plane: str

    @property
    def path(self) -> Path:
        return self.source.paths[0]

    @property
    def own(self) -> FileChannel:
        return self.source.channels[self.channel]


def used_colour(source: Source) -> int | None:
    """The one colour that a tinted picture uses; None where it uses several.

    A grey picture stored as three equal colours, and a tint of two colours in a fixed ratio, are
    one channel too.
    """
    planes = [
        np.asarray(source.read(c, z, None), np.float64)
        for c in range(len(source.channels))
        for z in range(1)
    ]
    light = [float((p - p.min()).sum()) for p in planes]
    best = int(np.argmax(light))
    unused = _UNUSED_LOSSY if source.metadata.get("lossy") else _UNUSED
    if light[best] == 0:
        return 0
    for i, plane in enumerate(planes):
        if i == best or light[i] <= unused * light[best]:
            continue
        both = np.corrcoef(planes[best].ravel(), plane.ravel())[0, 1]
        if not both > 0.99:
            return None
    return best


def join(sources: Sequence[Source], pattern: str | None) -> Source:
    """One `Source` of the files of one image.

    Parameters
    ----------
    sources : sequence of Source
        One per file, each of one channel.
    pattern : str or None
        The protocol's file pattern; without it tokens are found in the names.

    Returns
    -------
    Source
    """
    files = _files(sources, pattern)
    first = files[0].source
    by_token: dict[str, list[_File]] = {}
    for file in files:
        by_token.setdefault(file.token, []).append(file)
    depth = first.n_planes
    where: dict[tuple[int, int], tuple[PlaneReader, int, int]] = {}
    channels: list[FileChannel] = []
    for c, (token, members) in enumerate(by_token.items()):
        members = sorted(members, key=lambda f: (len(f.plane), f.plane))
        if len({f.plane for f in members}) < len(members):
            raise _same_channel(first, files)
        if len(members) > 1:
            depth = len(members)
            if any(f.source.n_planes > 1 for f in members):
                raise ImageReadError(
                    f"{members[0].path}: one of {len(members)} files of planes, and a stack "
                    "itself; give the planes, or the stacks"
                )
        for z in range(max(len(members), members[0].source.n_planes)):
            file = members[z] if len(members) > 1 else members[0]
            at = 0 if len(members) > 1 else z
            where[c, z] = (file.source.read, file.channel, at)
        own = members[0].own
        stem = members[0].path.stem
        words = (token, stem, members[0].path.name, *own.aliases)
        name = own.name if not members[0].source.metadata.get("rgb") else ""
        aliases = tuple(w for w in words if w and w != name)
        channels.append(replace(own, name=name or token, aliases=aliases))
    counts = {c: sum(1 for k in where if k[0] == c) for c in range(len(by_token))}
    if len(set(counts.values())) > 1:
        held = ", ".join(f"{t or 'one'}: {counts[c]}" for c, t in enumerate(by_token))
        raise ImageReadError(
            f"{first.paths[0]}: channels of this image have different numbers of focal planes "
            f"({held}); files are missing, or projections lie among the planes"
        )
    if len({c.name for c in channels}) < len(channels):
        # what the files say does not tell them apart; their names do
        tokens = list(by_token)
        channels = [
            replace(c, name=t, aliases=tuple(w for w in (c.name, *c.aliases) if w and w != t))
            for c, t in zip(channels, tokens, strict=True)
        ]
        names_source = "file names"
    else:
        inside = any(s.named and not s.metadata.get("rgb") for s in sources)
        names_source = first.names_source if inside and first.names_source else "file names"
    scales = {s.pixel_size_um for s in sources if s.pixel_size_um is not None}
    if len(scales) > 1:
        raise ImageReadError(
            f"{first.paths[0]}: the files of this image state different pixel sizes "
            f"{sorted(scales)}; state reading.pixel_size_um in the protocol"
        )
    stated = next((s for s in sources if s.pixel_size_um is not None), first)
    metadata = dict(first.metadata)
    metadata["lossy"] = any(s.metadata.get("lossy") for s in sources)
    metadata["rgb"] = False
    return Source(
        paths=tuple(s.paths[0] for s in sources),
        channels=tuple(channels),
        n_planes=depth,
        shape=first.shape,
        dtype=max((s.dtype for s in sources), key=lambda d: d.itemsize),
        read=JoinedPlanes(where),
        names_source=names_source,
        pixel_size_um=stated.pixel_size_um,
        pixel_size_source=stated.pixel_size_source,
        metadata=metadata,
        members=tuple(dict.fromkeys(m for s in sources for m in s.members)),
    )


def _files(sources: Sequence[Source], pattern: str | None) -> list[_File]:
    """Each file with its tokens, checked to be one channel of the size of the first."""
    first = sources[0]
    paths = [s.paths[0] for s in sources]
    stems = [p.stem for p in paths]
    found = pattern or find_pattern(paths)
    by_channel = found is not None and "channel" in compile_pattern(found).groupindex
    if by_channel:
        sources = [_one_channel(s) for s in sources]
        first = sources[0]
    out: list[_File] = []
    for source, path in zip(sources, paths, strict=True):
        part = part_of(path, found)
        several = len(source.channels) > 1 and not source.metadata.get("rgb")
        if several and not by_channel and part is not None and source.labels == first.labels:
            # a file of all channels for each focal plane
            out += [_File(source, c, w, part[0].plane) for c, w in enumerate(source.labels)]
            _check_alike(source, first)
            continue
        colour = 0
        if source.metadata.get("rgb") and len(source.channels) == 3:
            used = used_colour(source)
            if used is None:
                raise ImageReadError(
                    f"{path}: one of {len(sources)} files of one image, and holds 3 colours that "
                    "differ (an overlay?); one file per channel must hold one. Save it as a grey "
                    "image, or leave it out"
                )
            colour = used
        elif len(source.channels) != 1:
            raise ImageReadError(
                f"{path}: one of {len(sources)} files of one image, and holds "
                f"{len(source.channels)} {source.channel_axis} {list(source.labels)}; one file per "
                "channel must hold one. Save it as a grey image"
            )
        _check_alike(source, first)
        if part is not None:
            token, plane = part[0].channel, part[0].plane
        else:
            split = split_token(path.stem, stems)
            token, plane = (split[1] if split else path.stem), ""
        out.append(_File(source, colour, token, plane))
    if len({(f.token, f.plane) for f in out}) < len(out):
        raise _same_channel(first, out)
    return out


def _check_alike(source: Source, first: Source) -> None:
    if source.shape != first.shape or source.n_planes != first.n_planes:
        raise ImageReadError(
            f"{source.paths[0]}: {source.shape} and {source.n_planes} planes, but "
            f"{first.paths[0].name} has {first.shape} and {first.n_planes}; files of one image "
            "must match"
        )


def _same_channel(first: Source, files: Sequence[_File]) -> ImageReadError:
    shown = ", ".join(f"{f.path.name} ({f.token or f.plane})" for f in files[:8])
    return ImageReadError(
        f"{first.paths[0]}: files of this image hold the same channel: {shown}; keep one, or say "
        "in reading.file_pattern what tells them apart (groups image, channel, plane, time)"
    )
