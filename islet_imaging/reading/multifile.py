"""One file per channel: which files make one image, and their union as one `Source`.

The idea: file names of one image differ only in a channel token; the image's name is what is left
when the token is taken out.  A protocol's ``reading.file_pattern`` states it (groups ``image`` and
``channel``); drafts find it with `names.split_token`.
It fails, with an `ImageReadError`, when the files differ in size, or two hold the same channel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ImageReadError, ProtocolError
from islet_imaging.reading.names import split_token
from islet_imaging.reading.source import FileChannel, PlaneReader, Source

#: what a folder's images are called
SUFFIXES = (
    *(".tif", ".tiff", ".btf", ".tf8", ".svs", ".ndpi", ".qptiff"),
    *(".png", ".jpg", ".jpeg", ".czi", ".lif", ".nd2"),
)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A protocol's ``file_pattern``, checked for its two groups."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ProtocolError(f"reading.file_pattern {pattern!r}: {error}") from None
    if not {"image", "channel"} <= set(compiled.groupindex):
        raise ProtocolError(
            f"reading.file_pattern {pattern!r} needs the groups (?P<image>...) and (?P<channel>...)"
        )
    return compiled


def split_name(name: str, pattern: str | None) -> tuple[str, str] | None:
    """Image and channel of a file name by the protocol's pattern; None where it does not match.

    Examples
    --------
    >>> split_name("a_d0.tif", r"(?P<image>.+)_(?P<channel>d[0-9])[.]tif")
    ('a', 'd0')
    """
    if pattern is None:
        return None
    found = compile_pattern(pattern).fullmatch(name)
    if found is None or not found["image"]:
        return None
    return found["image"].rstrip(" _-."), found["channel"] or ""


def siblings(path: Path, pattern: str) -> tuple[Path, ...]:
    """All files beside ``path`` that belong to its image, in the order of their names."""
    own = split_name(path.name, pattern)
    if own is None:
        return (path,)
    beside = [p for p in path.parent.iterdir() if p.is_file() and not p.name.startswith(".")]
    same = [p for p in beside if (split_name(p.name, pattern) or ("",))[0] == own[0]]
    return tuple(sorted(same)) or (path,)


@dataclass(frozen=True)
class JoinedPlanes:
    """Sends a channel to the file that holds it."""

    readers: tuple[PlaneReader, ...]

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:
        """Pixels (Y, X) of a channel's plane."""
        return self.readers[channel](0, plane, region)


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
    first = sources[0]
    stems = [s.paths[0].stem for s in sources]
    channels: list[FileChannel] = []
    for source, stem in zip(sources, stems, strict=True):
        path = source.paths[0]
        if len(source.channels) != 1:
            raise ImageReadError(
                f"{path}: one of {len(sources)} files of one image, and holds "
                f"{len(source.channels)} {source.channel_axis} {list(source.labels)}; one file per "
                "channel must hold one. Save it as a grey image"
            )
        if source.shape != first.shape or source.n_planes != first.n_planes:
            raise ImageReadError(
                f"{path}: {source.shape} and {source.n_planes} planes, but {first.paths[0].name} "
                f"has {first.shape} and {first.n_planes}; files of one image must match"
            )
        split = split_name(path.name, pattern) or split_token(stem, stems)
        token = split[1] if split else stem
        own = source.channels[0]
        aliases = tuple(a for a in (token, stem, path.name, *own.aliases) if a and a != own.name)
        channels.append(replace(own, name=own.name or token, aliases=aliases))
    if len({c.name for c in channels}) < len(channels):
        # what the files say does not tell them apart; their names do
        channels = [replace(c, name=c.aliases[0], aliases=(*c.aliases[1:],)) for c in channels]
        names_source = "file names"
        if len({c.name for c in channels}) < len(channels):
            held = zip(sources, channels, strict=True)
            listed = ", ".join(f"{s.paths[0].name} ({c.name})" for s, c in held)
            raise ImageReadError(
                f"{first.paths[0]}: files of this image hold the same channel: {listed}; keep one"
            )
    else:
        names_source = first.names_source or "file names"
    scales = {s.pixel_size_um for s in sources if s.pixel_size_um is not None}
    if len(scales) > 1:
        raise ImageReadError(
            f"{first.paths[0]}: the files of this image state different pixel sizes "
            f"{sorted(scales)}; state reading.pixel_size_um in the protocol"
        )
    stated = next((s for s in sources if s.pixel_size_um is not None), first)
    metadata = dict(first.metadata)
    metadata["lossy"] = any(s.metadata.get("lossy") for s in sources)
    return Source(
        paths=tuple(s.paths[0] for s in sources),
        channels=tuple(channels),
        n_planes=first.n_planes,
        shape=first.shape,
        dtype=max((s.dtype for s in sources), key=lambda d: d.itemsize),
        read=JoinedPlanes(tuple(s.read for s in sources)),
        names_source=names_source,
        pixel_size_um=stated.pixel_size_um,
        pixel_size_source=stated.pixel_size_source,
        metadata=metadata,
    )
