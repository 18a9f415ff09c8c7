"""LIF through bioio, which is optional (``pip install 'islet-imaging[formats]'``).

The idea: bioio gives a vendor's format the axes T, C, Z, Y, X, channel names and pixel sizes;
a plane is read when asked for.  A file of several scenes is several images.
It fails, with an `ImageReadError`, when bioio or its plugin is not installed, on several scenes
where none is named, and on time series.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ImageReadError
from islet_imaging.protocol import Limits
from islet_imaging.reading import czi, nd2
from islet_imaging.reading.guard import check_read, guarded
from islet_imaging.reading.metadata import Facts, worded
from islet_imaging.reading.pages import bounds
from islet_imaging.reading.source import COLOURS, FileChannel, Source, pick_scene, scene_names

#: first bytes of a file -> its format and the plugin that reads it
MAGIC = {
    b"ZISRAWFILE": ("CZI", "pylibCZIrw"),
    b"\xda\xce\xbe\x0a": ("ND2", "nd2"),
    b"\x70\x00\x00\x00": ("LIF", "bioio-lif"),
}


class BioioPlanes:
    """Reads planes through bioio; the last plane is kept for its regions."""

    def __init__(self, path: Path, shape: tuple[int, int], scene: int, samples: int) -> None:
        self.path, self.shape, self.scene, self.samples = path, shape, scene, samples
        self._image: Any = None
        self._last: tuple[tuple[int, int], NDArray[Any]] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """The path without the opened file, so that an image can go to another process."""
        return {n: getattr(self, n) for n in ("path", "shape", "scene", "samples")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:
        """Pixels (Y, X) of a channel's plane."""
        y0, y1, x0, x1 = bounds(region, self.shape)
        number, sample = divmod(channel, self.samples)
        with self._lock, guarded(self.path):
            if self._last is None or self._last[0] != (number, plane):
                if self._image is None:
                    self._image = _bioimage(self.path)
                    if self.scene:
                        self._image.set_scene(self.scene)
                axes = "YX" if self.samples == 1 else "YXS"
                lazy = self._image.get_image_dask_data(axes, T=0, C=number, Z=plane)
                self._last = ((number, plane), np.asarray(lazy.compute(scheduler="synchronous")))
            found = self._last[1] if self.samples == 1 else self._last[1][..., sample]
            return found[y0:y1, x0:x1].copy()


def _bioimage(path: Path) -> Any:
    try:
        from bioio import BioImage
    except ImportError:
        raise ImageReadError(
            f"{path}: LIF files need bioio: pip install 'islet-imaging[formats]', "
            "or export as OME-TIFF"
        ) from None
    return BioImage(path)


def scenes_of_vendor(path: Path) -> tuple[str, ...]:
    """Names of the images in a CZI, LIF or ND2 file; one name where it holds one.

    Raises
    ------
    ImageReadError
        If the file cannot be read, or its library is not installed.
    """
    with guarded(path):
        with path.open("rb") as stream:
            head = stream.read(10)
        if head.startswith(b"ZISRAW"):
            return czi.scenes_of_czi(path)
        if MAGIC.get(head[:4], ("",))[0] == "ND2":
            return nd2.scenes_of_nd2(path)
        return scene_names([str(s) for s in _bioimage(path).scenes])


def open_vendor(
    path: Path, kind: str, plugin: str, *, limits: Limits, scene: str | None = None
) -> Source:
    """Open a CZI, LIF or ND2 file, or one scene of it, as a `Source`."""
    if kind == "CZI":
        return czi.open_czi(path, limits=limits, scene=scene)
    if kind == "ND2":
        return nd2.open_nd2(path, limits=limits, scene=scene)
    with guarded(path):
        try:
            image = _bioimage(path)
        except ImageReadError:
            raise
        except Exception as error:
            raise ImageReadError(
                f"{path}: this {kind} file cannot be read. Is {plugin} installed (pip install "
                "'islet-imaging[formats]')? If it is, the file may be damaged: export as OME-TIFF"
            ) from error
        number = pick_scene(path, scene_names([str(s) for s in image.scenes]), scene)
        if number:
            image.set_scene(number)
        size = {a: int(getattr(image.dims, a, 1) or 1) for a in "TCZYXS"}
        if size["T"] > 1:
            raise ImageReadError(f"{path}: {size['T']} time points; save one file per time point")
        names = [worded(str(n)) for n in (image.channel_names or [])]
        facts = Facts()
        try:
            y, x = image.physical_pixel_sizes.Y, image.physical_pixel_sizes.X
        except Exception:  # a plugin that wants a scale where there is none
            y = x = None
        facts.size((float(y), float(x)) if y and x else None)
        dtype = np.dtype(image.dtype)
    if len(names) != size["C"]:
        names = [""] * size["C"]
    check_read(path, size["Y"] * size["X"] * size["S"] * dtype.itemsize, limits)
    colours = size["S"] > 1
    samples = min(3, size["S"])
    channels = tuple(FileChannel(n) for n in names)
    if colours:
        channels = tuple(
            FileChannel(c if size["C"] == 1 else f"{n} {c}".strip())
            for n in names
            for c in COLOURS[:samples]
        )
    return Source(
        paths=(path,),
        channels=channels,
        n_planes=size["Z"],
        shape=(size["Y"], size["X"]),
        dtype=dtype,
        read=BioioPlanes(path, (size["Y"], size["X"]), number, samples),
        names_source=kind if any(names) else "colours of the file" if colours else "",
        pixel_size_um=facts.pixel_size_um,
        pixel_size_source=kind if facts.pixel_size_um else facts.doubt,
        metadata={"format": kind, "bits": dtype.itemsize * 8, "rgb": colours, "lossy": False},
        channel_axis="colours" if colours else "channels",
    )
