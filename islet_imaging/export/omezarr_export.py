"""OME-Zarr 0.5: the image with its nuclei and islets as labels, and the calls as label properties.

The idea: what NGFF 0.5 says, written with zarr: a multiscale image with um units and named
channels, ``labels/nuclei`` and ``labels/islets`` with ``image-label`` colours and properties.
It fails to carry every measurement: properties hold the calls, the tables hold the rest.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.export.geojson import classification
from islet_imaging.export.image import missing, plain

if TYPE_CHECKING:
    from islet_imaging.export.image import ExportImage
    from islet_imaging.run.folder import Run

_VERSION = "0.5"
_CHUNK = 512
#: the smallest level's longer side is at most this, px
_SMALLEST_PX = 512


def write_omezarr(image: ExportImage, run: Run, path: Path) -> Path:
    """Write one image with its labels.

    Parameters
    ----------
    image : ExportImage
        Labels and calls.
    run : Run
        Where the pixels are read from.
    path : Path
        The ``.ome.zarr`` folder; an older one is replaced when the new one is complete.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    IsletImagingError
        If zarr is not installed.
    """
    try:
        import zarr
    except ImportError:
        raise missing("zarr (with ome-zarr)") from None

    stained = run.read_image(image.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        root = zarr.open_group(part, mode="w", zarr_format=3)
        pixels = np.stack([np.asarray(stained.channel(c)) for c in stained.channel_names])
        _write_levels(root, pixels, image.pixel_size_um, axes="cyx", name=image.name)
        omero = [
            {
                "label": name,
                "active": True,
                "window": {
                    "start": float(plane.min()),
                    "end": float(plane.max()),
                    "min": float(plane.min()),
                    "max": float(plane.max()),
                },
                "color": "FFFFFF",
            }
            for name, plane in zip(stained.channel_names, pixels, strict=True)
        ]
        root.attrs["ome"] = {**root.attrs["ome"], "omero": {"channels": omero}}
        labels = root.create_group("labels")
        labels.attrs["ome"] = {"version": _VERSION, "labels": ["nuclei", "islets"]}
        markers = run.protocol.markers
        colours, properties = [], []
        for _, row in image.cells.iterrows():
            kind = classification(row, markers)
            cell = int(row["cell"])
            colours.append({"label-value": cell, "rgba": [*kind["color"], 255]})
            calls: dict[str, Any] = {"label-value": cell, "class": kind["name"]}
            for m in markers:
                calls[f"{m}_call"] = str(row[f"{m}_call"])
                calls[f"{m}_probability"] = plain(row[f"{m}_probability"])
            properties.append(calls)
        _write_label(labels, "nuclei", image.nuclei, image, colours, properties)
        _write_label(labels, "islets", image.islets, image, [], [])
        if path.exists():
            shutil.rmtree(path)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def _write_label(
    labels: Any,
    name: str,
    pixels: NDArray[np.int32],
    image: ExportImage,
    colours: list[dict[str, Any]],
    properties: list[dict[str, Any]],
) -> None:
    group = labels.create_group(name)
    _write_levels(group, pixels.astype(np.uint32), image.pixel_size_um, axes="yx", name=name)
    about: dict[str, Any] = {"version": _VERSION, "source": {"image": "../../"}}
    if colours:
        about |= {"colors": colours, "properties": properties}
    group.attrs["ome"] = {**group.attrs["ome"], "image-label": about}


def _write_levels(
    group: Any, pixels: NDArray[Any], pixel_size_um: float, *, axes: str, name: str
) -> None:
    """Write a pyramid by striding (labels) or 2 x 2 means (images), and its multiscales."""
    datasets: list[dict[str, Any]] = []
    level, factor = pixels, 1
    while True:
        key = str(len(datasets))
        chunks = (1,) * (level.ndim - 2) + tuple(min(_CHUNK, n) for n in level.shape[-2:])
        array = group.create_array(
            key,
            shape=level.shape,
            dtype=level.dtype,
            chunks=chunks,
            dimension_names=list(axes),
        )
        array[...] = level
        edge = pixel_size_um * factor
        scale = [1.0] * (level.ndim - 2) + [edge, edge]
        moved = {"type": "scale", "scale": scale}
        transforms: list[dict[str, Any]] = [moved]
        if factor > 1 and axes == "cyx":
            # the middle of a 2 x 2 mean is half a fine pixel further in
            shift = (factor - 1) / 2 * pixel_size_um
            transforms.append({"type": "translation", "translation": [0.0, shift, shift]})
        datasets.append({"path": key, "coordinateTransformations": transforms})
        if max(level.shape[-2:]) <= _SMALLEST_PX:
            break
        level, factor = _halved(level, mean=axes == "cyx"), factor * 2
    described = [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    group.attrs["ome"] = {
        "version": _VERSION,
        "multiscales": [{"name": name, "axes": described[-len(axes) :], "datasets": datasets}],
    }


def _halved(level: NDArray[Any], *, mean: bool) -> NDArray[Any]:
    if not mean:
        strided: NDArray[Any] = level[..., ::2, ::2]
        return strided
    height, width = (n // 2 * 2 for n in level.shape[-2:])
    part = level[..., :height, :width].astype(np.float32)
    small = part.reshape(*level.shape[:-2], height // 2, 2, width // 2, 2).mean(axis=(-3, -1))
    halved: NDArray[Any] = small.astype(level.dtype)
    return halved
