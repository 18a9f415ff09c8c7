"""`read_image`: from one file, or one per channel, to an `IsletImage` with the protocol's names.

The idea: the file is opened by its content, its channels are matched to the protocol by what the
file calls them, the pixel size is taken from the first source that states it.  Every decision is
noted in ``sources`` and ``metadata``.
It fails when a channel is not there by any of its words, when a stack has no stated projection,
when pixels are not square, and, on reading, when pixels are NaN or infinite.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ChannelError, ImageReadError
from islet_imaging.image import IsletImage
from islet_imaging.protocol import Limits, Protocol
from islet_imaging.reading import bioio_formats, raster
from islet_imaging.reading.companions import said_beside
from islet_imaging.reading.guard import check_file, guarded
from islet_imaging.reading.members import split_scene
from islet_imaging.reading.multifile import join, part_of, siblings
from islet_imaging.reading.names import split_token, squash
from islet_imaging.reading.naming import find_pattern
from islet_imaging.reading.remote import is_address, local_copy, remote_zarr
from islet_imaging.reading.source import FileChannel, Source, no_scene
from islet_imaging.reading.zarr_image import is_zarr, open_zarr

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_POSITION = re.compile(r"^(?:channel|ch|c)[ _\-]?([1-9]\d?)$", re.IGNORECASE)
_PROJECTIONS = ("none", "max", "mean", "plane")


def read_image(
    path: str | Path | Sequence[str | Path],
    *,
    protocol: Protocol | None = None,
    channel_names: Sequence[str] | Mapping[str, str] | None = None,
    pixel_size_um: float | None = None,
    projection: str | None = None,
    plane: int | None = None,
    name: str | None = None,
    limits: Limits | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> IsletImage:
    """Open a stained image; pixels are read when a channel is asked for.

    Parameters
    ----------
    path : str, Path or a sequence of them
        A file, or one file per channel.  With ``reading.file_pattern`` in the protocol any one
        file of a set stands for all of them.  Behind an address that fsspec knows (``s3://...``,
        ``https://...``; ``cloud`` extra) an OME-Zarr, a path with ``.zarr`` in it, is read where it
        lies, by chunks; any other file is copied into a temporary folder first.
    protocol : Protocol, optional
        Names the channels wanted, by what files call them (`Channel.source`, else `Channel.name`).
        Without it the image has all channels under the file's own names.
    channel_names : sequence of str or mapping of str to str, optional
        What the file's channels are, in their order in the file, for files that do not say; or
        names wanted with the file's words for them, ``{"INS": "red"}``.
    pixel_size_um : float, optional
        Edge of a pixel, um; overrides protocol and file.
    projection : {"none", "max", "mean", "plane"}, optional
        What to do with a z-stack; overrides the protocol.
    plane : int, optional
        The plane, from 0, for ``projection="plane"``.
    name : str, optional
        The image's name; the file's name, or what files of one image have in common.
    limits : Limits, optional
        What a file may ask for before it is refused; the protocol's, or the usual ones.
    storage_options : mapping, optional
        For the file system of an address, such as ``{"anon": True}``.

    Returns
    -------
    IsletImage
        ``pixel_size_um`` is None where nothing states it; `IsletImage.require_pixel_size` asks.

    Raises
    ------
    ImageReadError
        If a file is no image, is damaged, or needs a statement that is missing.
    ChannelError
        If a channel is not found, with what the file has.

    Examples
    --------
    >>> import numpy as np, tifffile, tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "islet.tif"
    >>> tifffile.imwrite(file, np.zeros((2, 8, 9), np.uint16), ome=True, metadata={
    ...     "axes": "CYX", "Channel": {"Name": ["DAPI", "INS"]}, "PhysicalSizeX": 0.5})
    >>> image = read_image(file)
    >>> image.channel_names, image.pixel_size_um
    (('DAPI', 'INS'), 0.5)
    """
    pattern = protocol.reading.file_pattern if protocol else None
    if limits is None:
        limits = protocol.reading.limits if protocol else Limits()
    if (folder := remote_zarr(path, storage_options)) is not None:
        source, own_name = open_zarr(folder, limits=limits), folder.name
    else:
        paths = _paths(_fetched(path, storage_options), pattern)
        source, own_name = _open_all(paths, pattern, limits), default_name(paths, pattern)
    own_name = name or own_name
    labels = _labels(source, channel_names, protocol, own_name)
    wanted, picked, names_source = _bind(source, labels, channel_names, protocol, own_name)
    size, size_source = _pixel_size(source, pixel_size_um, protocol, own_name)
    if projection is None:
        projection = protocol.reading.projection if protocol else "none"
        plane = plane if plane is not None else (protocol.reading.plane if protocol else None)
    _check_stack(source, projection, plane, own_name)
    facts = [source.channels[i].facts for i in picked]
    metadata: dict[str, Any] = {
        **source.metadata,
        "n_planes": source.n_planes,
        "projection": projection if source.n_planes > 1 else "none",
        "file_channels": list(labels),
    }
    for key in sorted({k for f in facts for k in f}):
        metadata[key] = {n: f[key] for n, f in zip(wanted, facts, strict=True) if key in f}
    return IsletImage(
        name=own_name,
        channel_names=wanted,
        shape=source.shape,
        dtype=np.dtype(np.float32) if _averages(source, projection) else source.dtype,
        pixel_size_um=size,
        reader=_Pixels(source, tuple(picked), wanted, projection, plane or 0, own_name),
        paths=source.paths,
        sources={"channel_names": names_source, "pixel_size_um": size_source},
        metadata=metadata,
    )


def open_source(path: Path, *, limits: Limits | None = None) -> Source:
    """Open one file by its content, whatever its suffix.

    A path may go on behind the file, ``plate.lif/Series 1``: the rest names one of its images.
    """
    limits = limits or Limits()
    with guarded(path):
        path, scene = split_scene(path)
        if path.is_dir() and (path.suffix.lower() == ".zarr" or is_zarr(path)):
            return open_zarr(path, limits=limits)
        check_file(path)
        with path.open("rb") as file:
            head = file.read(512)
        if head.startswith(_TIFF):
            from islet_imaging.reading.tiff import open_tiff

            return _with_companion(open_tiff(path, limits=limits, scene=scene), path)
        if head.startswith((raster.PNG, raster.JPEG)):
            no_scene(path, scene)
            return raster.open_raster(path, limits=limits)
        for magic, (kind, plugin) in bioio_formats.MAGIC.items():
            if head.startswith(magic):
                return bioio_formats.open_vendor(path, kind, plugin, limits=limits, scene=scene)
    raise ImageReadError(
        f"{path}: {_what(head)}; images are TIFF, PNG, JPEG, CZI, LIF, ND2 or OME-Zarr"
    )


def open_address(
    address: str, options: Mapping[str, Any] | None = None, *, limits: Limits | None = None
) -> tuple[Source, str]:
    """Open what lies behind an address, and its name: an OME-Zarr there, another file as a copy."""
    limits = limits or Limits()
    folder = remote_zarr(address, options)
    if folder is not None:
        return open_zarr(folder, limits=limits), folder.name
    copy = local_copy(address, options)
    return open_source(copy, limits=limits), copy.name


def _with_companion(source: Source, path: Path) -> Source:
    """What an index beside a file says, where the file itself says nothing."""
    said = said_beside(path)
    if said is None:
        return source
    more: dict[str, Any] = {"metadata": {**said.metadata, **source.metadata}}
    if source.pixel_size_um is None and (said.pixel_size_um or said.doubt):
        more["pixel_size_um"] = said.pixel_size_um
        more["pixel_size_source"] = said.source if said.pixel_size_um else said.doubt
    if len(source.channels) == 1 and said.name:
        own = source.channels[0]
        words = tuple(w for w in (own.name, *own.aliases, *said.aliases) if w and w != said.name)
        channel = FileChannel(said.name, words, {**said.facts, **own.facts})
        more |= {"channels": (channel,), "names_source": said.source}
    return replace(source, **more)


def _what(head: bytes) -> str:
    text = head.lstrip().lower()
    for start, what in (
        ((b"<!doctype html", b"<html"), "this is a web page, not an image (a failed download?)"),
        ((b"<?xml", b"<"), "this is an XML file, not an image"),
        ((b"%pdf",), "this is a PDF, not an image"),
        ((b"pk\x03\x04",), "this is a ZIP archive, not an image; unpack it"),
        (
            (b"\0\0\0\x0cjp  ",),
            "this is JPEG 2000, as ND2 was before NIS-Elements 3; save it again as ND2 or TIFF",
        ),
        ((b"bm",), "this is a BMP picture; export the raw channels as TIFF"),
        ((b"gif8",), "this is a GIF picture; export the raw channels as TIFF"),
        ((b"version https://git-lfs",), "this is a Git LFS pointer; fetch the file itself"),
    ):
        if text.startswith(start):
            return what
    return f"not an image of a known format (it starts with {head[:8]!r})"


def _fetched(
    path: str | Path | Sequence[str | Path], options: Mapping[str, Any] | None
) -> str | Path | Sequence[str | Path]:
    """Paths, with a copy in the place of every address."""
    if isinstance(path, str | Path):
        return local_copy(path, options) if isinstance(path, str) and is_address(path) else path
    return [local_copy(p, options) if isinstance(p, str) and is_address(p) else p for p in path]


def _paths(path: str | Path | Sequence[str | Path], pattern: str | None) -> tuple[Path, ...]:
    if isinstance(path, str | Path):
        one = Path(path)
        with guarded(one):
            return siblings(one, pattern) if pattern and one.is_file() else (one,)
    paths = tuple(Path(p) for p in path)
    if not paths:
        raise ImageReadError("an empty list of files was given; give one file per channel")
    return paths


def _open_all(paths: tuple[Path, ...], pattern: str | None, limits: Limits) -> Source:
    sources = [open_source(p, limits=limits) for p in paths]
    if len(sources) > 1 or part_of(paths[0], pattern):
        return join(sources, pattern)
    return sources[0]


def default_name(paths: Sequence[Path], pattern: str | None = None) -> str:
    """A file's name, or what the names of one image's files have in common.

    Examples
    --------
    >>> default_name([Path("x/a_d0.tif"), Path("x/a_d1.tif")])
    'a'
    >>> default_name([Path("x/a.tif")])
    'a.tif'
    """
    part = part_of(paths[0], pattern)
    if part is None and len(paths) > 1:
        part = part_of(paths[0], find_pattern(paths))
    if part is not None:
        return part[0].image
    split = split_token(paths[0].stem, [p.stem for p in paths]) if len(paths) > 1 else None
    return split[0] if split else paths[0].name


def _labels(
    source: Source,
    channel_names: Sequence[str] | Mapping[str, str] | None,
    protocol: Protocol | None,
    name: str,
) -> tuple[str, ...]:
    """What the file's channels are called, by statement, by the file, or by place."""
    n = len(source.channels)
    given = None if isinstance(channel_names, Mapping) else channel_names
    if given is not None:
        names = tuple(str(g) for g in given)
        if len(names) != n or len(set(names)) != n:
            raise ChannelError(
                f"{name}: {n} different names are needed, one for each of the file's "
                f"{source.channel_axis} {list(source.labels)}; given {list(names)}"
            )
        return names
    if source.bare_pages and not source.named:
        named = [c.name for c in protocol.channels] if protocol else []
        if isinstance(channel_names, Mapping):
            named = list(channel_names)
        if len(named) != n:
            raise ImageReadError(
                f"{name}: {n} pages, and the file does not say whether they are channels, focal "
                f"planes or time points. Name {n} channels (channel_names or protocol.yaml has "
                f"{len(named)}), or save as an ImageJ hyperstack or OME-TIFF"
            )
    return source.labels


def _bind(
    source: Source,
    labels: tuple[str, ...],
    channel_names: Sequence[str] | Mapping[str, str] | None,
    protocol: Protocol | None,
    name: str,
) -> tuple[tuple[str, ...], list[int], str]:
    """Names of the image's channels, their places in the file, and where names come from."""
    stated = channel_names is not None and not isinstance(channel_names, Mapping)
    origin = "given" if stated else source.names_source
    if protocol is not None:
        wants = [(c.name, c.source, c.role == "ignore") for c in protocol.channels]
    elif isinstance(channel_names, Mapping):
        wants = [(str(k), str(v), False) for k, v in channel_names.items()]
    else:
        return labels, list(range(len(labels))), origin or "none: numbered by place"
    if not source.named and not stated and all(w[1] is None for w in wants):
        if source.unplaced:
            raise ChannelError(
                f"{name}: the file has {len(labels)} {source.channel_axis} and names "
                f"{len(source.unplaced)} ({', '.join(source.unplaced)}), so which is which is not "
                "said; give each channel of the protocol a `source`, such as 'channel 1'"
            )
        # the file names nothing: as many names as channels are taken in the protocol's order
        if len(wants) == len(labels):
            return tuple(w[0] for w in wants), list(range(len(labels))), "protocol, in file order"
        raise ChannelError(
            f"{name}: the file names none of its {len(labels)} {source.channel_axis} and the "
            f"protocol has {len(wants)} ({[w[0] for w in wants]}); give each a `source`, such as "
            "'channel 1'"
        )
    names: list[str] = []
    picked: list[int] = []
    for want, word, ignored in wants:
        at = _find(source, labels, word or want, word is not None)
        if at is None and ignored:
            continue
        if at is None:
            several = _called(source, labels, word or want)
            if len(several) > 1:
                raise ChannelError(
                    f"{name}: {len(several)} channels are called {word or want!r}: "
                    + ", ".join(f"channel {i + 1} ({labels[i]})" for i in several)
                    + "; state which as `source` in the protocol"
                )
            raise ChannelError(
                f"{name}: no channel {word or want!r}"
                + (f" (the source of {want})" if word and word != want else "")
                + f"; the file has {_listed(source, labels)}. State the file's word for it as "
                "`source` in the protocol"
            )
        if at in picked:
            raise ChannelError(
                f"{name}: {want} and {names[picked.index(at)]} are both the file's channel "
                f"{labels[at]!r}; give each its own `source`"
            )
        names.append(want)
        picked.append(at)
    return tuple(names), picked, f"{origin or 'place in the file'}, matched to the protocol"


def _listed(source: Source, labels: tuple[str, ...]) -> str:
    parts = []
    for label, channel in zip(labels, source.channels, strict=True):
        extra = [a for a in channel.aliases[:1] if a != label]
        parts.append(f"{label!r}" + (f" ({extra[0]})" if extra else ""))
    return ", ".join(parts)


def _called(source: Source, labels: tuple[str, ...], word: str) -> list[int]:
    """Places of the channels that go by ``word``: exactly, else without case, or punctuation."""
    words = [
        {label, *channel.words} for label, channel in zip(labels, source.channels, strict=True)
    ]
    for form in (str, str.casefold, squash):
        hits = [i for i, own in enumerate(words) if form(word) in {form(w) for w in own}]
        if hits:
            return hits
    return []


def _find(source: Source, labels: tuple[str, ...], word: str, stated: bool) -> int | None:
    """The one channel that goes by ``word``, else the one at the place that it states."""
    hits = _called(source, labels, word)
    if len(hits) == 1:
        return hits[0]
    place = _POSITION.match(word.strip()) if stated and not hits else None
    if place and int(place[1]) <= len(labels):
        return int(place[1]) - 1
    return None


def _pixel_size(
    source: Source, given: float | None, protocol: Protocol | None, name: str
) -> tuple[float | None, str]:
    override = (
        given if given is not None else (protocol.reading.pixel_size_um if protocol else None)
    )
    if override is not None:
        if not (np.isfinite(override) and 0.001 <= override <= 1000):
            raise ImageReadError(f"{name}: a pixel size of {override} um is not possible")
        return float(override), "given" if given is not None else "protocol"
    if source.pixel_size_um is None:
        why = source.pixel_size_source
        return None, f"not stated (the file says {why})" if why else "not stated"
    y, x = source.pixel_size_um
    if abs(y - x) > 0.01 * max(x, y):
        raise ImageReadError(
            f"{name}: pixels are not square: {x:g} um wide and {y:g} um high "
            f"({source.pixel_size_source}). Resample to square pixels, or, if that is wrong, state "
            "reading.pixel_size_um in the protocol"
        )
    return float(x), source.pixel_size_source


def _check_stack(source: Source, projection: str, plane: int | None, name: str) -> None:
    if projection not in _PROJECTIONS:
        raise ImageReadError(f"{name}: projection {projection!r} is not one of {_PROJECTIONS}")
    n = source.n_planes
    if n > 1 and projection == "none":
        raise ImageReadError(
            f"{name}: a z-stack of {n} planes. State what to do with it: `reading: {{projection: "
            "max}` (or mean, or plane with `plane: 0`...) in the protocol, or projection= of "
            "read_image. If the planes are channels, reorder in ImageJ: Image > Hyperstacks > "
            "Stack to Hyperstack"
        )
    if projection == "plane" and n > 1 and (plane is None or not 0 <= plane < n):
        raise ImageReadError(f"{name}: plane {plane} is asked for; planes are 0 to {n - 1}")


def _averages(source: Source, projection: str) -> bool:
    return projection == "mean" and source.n_planes > 1


@dataclass(frozen=True)
class _Pixels:
    """The reader of an `IsletImage`: projects stacks and refuses NaN."""

    source: Source
    picked: tuple[int, ...]
    names: tuple[str, ...]
    projection: str
    plane: int
    image: str

    def __call__(self, index: int, region: Region | None) -> NDArray[Any]:
        channel = self.picked[index]
        read, n = self.source.read, self.source.n_planes
        if n == 1:
            pixels = read(channel, 0, region)
        elif self.projection == "plane":
            pixels = read(channel, self.plane, region)
        elif self.projection == "max":
            pixels = read(channel, 0, region)
            for z in range(1, n):
                np.maximum(pixels, read(channel, z, region), out=pixels)
        else:
            total = read(channel, 0, region).astype(np.float64)
            for z in range(1, n):
                total += read(channel, z, region)
            pixels = (total / n).astype(np.float32)
        if pixels.dtype.kind == "f":
            bad = int(pixels.size - np.count_nonzero(np.isfinite(pixels)))
            if bad:
                raise ImageReadError(
                    f"{self.image}: channel {self.names[index]} has {bad} of {pixels.size} pixels "
                    "that are NaN or infinite; replace them, or export the raw integers"
                )
        return pixels
