"""OME-Zarr (0.4 and 0.5) as an image: the full resolution of a multiscale, region by region.

The idea: the ``zarr`` library reads chunks, the metadata of the group say what its axes are, what
the channels are called and how large a pixel is.  A plate is its fields, each an image.  A group
may lie behind an address: then the chunks of a region are fetched, and no more.
It fails, with an `ImageReadError`, when the ``formats`` extra is not installed, when a group holds
no multiscale image, and on time series.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ImageReadError
from islet_imaging.protocol import Limits
from islet_imaging.reading.guard import check_read, guarded
from islet_imaging.reading.metadata import Facts, shown_colour, to_um, worded
from islet_imaging.reading.pages import bounds
from islet_imaging.reading.remote import RemoteFolder, fetching
from islet_imaging.reading.source import FileChannel, Source

#: where a group lies
Place = Path | RemoteFolder

#: most fields that a plate may list
_MAX_IMAGES = 100_000


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return any((path / n).is_file() for n in ("zarr.json", ".zgroup", ".zattrs", ".zarray"))


def _attributes(path: Place) -> dict[str, Any]:
    """The OME metadata of a group, of 0.4 or 0.5; empty where there are none."""
    for name in ("zarr.json", ".zattrs"):
        try:
            text = _text(path, name)
            if text is None:
                continue
            data = json.loads(text)
        except ImageReadError:
            raise
        except (OSError, ValueError, RecursionError):
            raise ImageReadError(
                f"{path / name}: damaged: not JSON; copy or export it again"
            ) from None
        if isinstance(data, dict):
            data = data.get("attributes", data) if name == "zarr.json" else data
            ome = data.get("ome", data) if isinstance(data, dict) else {}
            return ome if isinstance(ome, dict) else {}
    return {}


def _text(path: Place, name: str) -> str | None:
    """What a file of a group says; None where there is none."""
    if isinstance(path, RemoteFolder):
        return path.text(name)
    file = path / name
    return file.read_text("utf-8") if file.is_file() else None


def zarr_images(path: Place) -> tuple[str, ...]:
    """Paths of the images inside a Zarr group: empty where the group itself is one image.

    Examples
    --------
    >>> import tempfile
    >>> zarr_images(Path(tempfile.mkdtemp()))
    ()
    """
    with guarded(path):
        attributes = _attributes(path)
        if "multiscales" in attributes:
            return ()
        out: list[str] = []
        for well in (attributes.get("plate") or {}).get("wells") or []:
            inside = str(well["path"])
            images = (_attributes(path / inside).get("well") or {}).get("images") or []
            out += [f"{inside}/{i['path']}" for i in images]
        if not out:
            # bioformats2raw writes one numbered group for each series
            out = [n for n in _numbered(path) if "multiscales" in _attributes(path / n)]
        if not out and isinstance(path, Path) and (path / "images").is_dir():
            # SpatialData keeps its images apart from labels, shapes and tables
            names = sorted(p.name for p in (path / "images").iterdir() if p.is_dir())
            out = [
                f"images/{n}" for n in names if "multiscales" in _attributes(path / "images" / n)
            ]
        if len(out) > _MAX_IMAGES or any(".." in Path(o).parts for o in out):
            raise ImageReadError(f"{path}: its plate lists fields outside of it, or too many")
        return tuple(out)


def _numbered(path: Place) -> Iterator[str]:
    """Names of the numbered groups in a group; behind an address, up to the first that is not."""
    if isinstance(path, RemoteFolder):
        yield from itertools.takewhile(lambda n: _attributes(path / n), map(str, itertools.count()))
        return
    for inside in sorted(path.iterdir(), key=lambda p: (len(p.name), p.name)):
        if inside.is_dir() and inside.name.isdigit():
            yield inside.name


@dataclass(frozen=True)
class ZarrPlanes:
    """Reads regions of an array; opened for each read, as it travels between processes."""

    path: Place
    axes: str
    shape: tuple[int, int]
    limits: Limits

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:
        """Pixels (Y, X) of a channel's plane."""
        y0, y1, x0, x1 = bounds(region, self.shape)
        with guarded(self.path):
            array = _open(self.path)
            check_read(self.path, (y1 - y0) * (x1 - x0) * array.dtype.itemsize, self.limits)
            at: dict[str, Any] = {"c": channel, "z": plane, "t": 0, "y": slice(y0, y1)}
            at["x"] = slice(x0, x1)
            with _reached(self.path):
                part = np.asarray(array[tuple(at[a] for a in self.axes)])
            if self.axes.index("x") < self.axes.index("y"):
                part = part.T
        return np.ascontiguousarray(part.astype(part.dtype.newbyteorder("="), copy=False))


def _reached(path: Place) -> AbstractContextManager[None]:
    """Where something is fetched, what goes wrong is told as that."""
    return fetching(path) if isinstance(path, RemoteFolder) else nullcontext()


def _open(path: Place) -> Any:
    try:
        import zarr
    except ImportError:
        raise ImageReadError(
            f"{path}: OME-Zarr needs the zarr library: pip install 'islet-imaging[formats]', or "
            "export as OME-TIFF"
        ) from None
    if not isinstance(path, RemoteFolder):
        return zarr.open_array(str(path), mode="r")
    return _open_remote(path)


@lru_cache(maxsize=16)
def _open_remote(path: RemoteFolder) -> Any:
    """An array behind an address; its metadata are fetched once."""
    import zarr

    with fetching(path):
        version: Any = 3 if path.text("zarr.json") is not None else 2
        return zarr.open_array(path.store(), mode="r", zarr_format=version)


def open_zarr(path: Place, *, limits: Limits) -> Source:
    """Open an OME-Zarr image as a `Source`; no chunk is read.

    Parameters
    ----------
    path : Path or RemoteFolder
        The group that holds the multiscale image: a ``.zarr`` folder, or a field of a plate.
    limits : Limits
        What a file may ask for.

    Returns
    -------
    Source

    Raises
    ------
    ImageReadError
        If the folder is no OME-Zarr image of channels, planes, Y and X.
    """
    with guarded(path):
        attributes = _attributes(path)
        inside = () if "multiscales" in attributes else zarr_images(path)
        if inside:
            raise ImageReadError(
                f"{path}: holds {len(inside)} images ({', '.join(inside[:6])}...); name one of "
                f"them, such as {path.name}/{inside[0]}"
                + ("" if isinstance(path, RemoteFolder) else ", or score the folder")
            )
        scales = attributes.get("multiscales")
        if not scales:
            raise ImageReadError(
                f"{path}: no OME-Zarr image can be read there; check the address and your rights "
                "(storage_options)"
                if isinstance(path, RemoteFolder)
                else f"{path}: a Zarr folder without an OME-Zarr image in it; export as OME-Zarr "
                "or OME-TIFF"
            )
        first = scales[0]
        dataset = first["datasets"][0]
        inner = str(dataset["path"])
        if ".." in Path(inner).parts or Path(inner).is_absolute():
            raise ImageReadError(f"{path}: its metadata point outside of it; export it again")
        array = _open(path / inner)
        stated = first.get("axes") or []
        axes = "".join(str(a.get("name", a) if isinstance(a, dict) else a).lower() for a in stated)
        axes = axes or "tczyx"[-array.ndim :]
        sizes = dict(zip(axes, array.shape, strict=True))
        if set(axes) - set("tczyx") or not {"y", "x"} <= set(axes):
            raise ImageReadError(f"{path}: axes {axes!r} do not come down to channels, z, y and x")
        if sizes.get("t", 1) > 1:
            raise ImageReadError(f"{path}: {sizes['t']} time points; save one image per time point")
        if 0 in array.shape or array.dtype.kind not in "uif":
            raise ImageReadError(f"{path}: {array.dtype} pixels of shape {array.shape}; no image")
        facts = _facts(attributes, first, dataset, stated, axes)
        dtype = np.dtype(array.dtype).newbyteorder("=")
        shape = (int(sizes["y"]), int(sizes["x"]))
    n = int(sizes.get("c", 1))
    names = facts.names if len(facts.names) == n else [""] * n
    more: list[dict[str, Any]] = facts.channel_facts if len(facts.channel_facts) == n else [{}] * n
    return Source(
        paths=() if isinstance(path, RemoteFolder) else (path,),
        channels=tuple(FileChannel(a, (), b) for a, b in zip(names, more, strict=True)),
        n_planes=int(sizes.get("z", 1)),
        shape=shape,
        dtype=dtype,
        read=ZarrPlanes(path / inner, axes, shape, limits),
        names_source="OME-Zarr" if any(names) else "",
        unplaced=facts.unplaced(n),
        pixel_size_um=facts.pixel_size_um,
        pixel_size_source="OME-Zarr" if facts.pixel_size_um else facts.doubt,
        metadata={"format": "OME-Zarr", "bits": dtype.itemsize * 8, "rgb": False, "lossy": False},
    )


def _facts(
    attributes: dict[str, Any],
    first: dict[str, Any],
    dataset: dict[str, Any],
    stated: list[Any],
    axes: str,
) -> Facts:
    facts = Facts()
    channels = (attributes.get("omero") or {}).get("channels") or []
    facts.names = [worded(str(c.get("label") or c.get("name") or "")) for c in channels]
    for channel in channels:
        known = re.fullmatch(r"[0-9A-Fa-f]{6}", str(channel.get("color") or ""))
        colour = shown_colour(int(known[0], 16)) if known else ""
        facts.channel_facts.append({"colour": colour} if colour else {})
    scale = dict.fromkeys(axes, 1.0)
    there = False
    for holder in (dataset, first):
        for step in holder.get("coordinateTransformations") or []:
            values = step.get("scale", []) if step.get("type") == "scale" else []
            space = "".join(a for a in axes if a in "zyx")
            # some writers give the axes of space only
            of = next((known for known in (axes, space) if len(known) == len(values)), "")
            there |= bool(of)
            for axis, value in zip(of, values, strict=False):
                scale[axis] *= float(value)
    unit = {
        str(a.get("name", "")).lower(): str(a.get("unit") or a.get("units") or "")
        for a in stated
        if isinstance(a, dict)
    }
    y, x = (to_um(scale[a], unit.get(a, "")) for a in "yx")
    facts.size((y, x) if there and y and x else None)
    return facts
