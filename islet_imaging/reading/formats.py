"""CZI, LIF and ND2 through bioio, which is optional (``pip install 'islet-imaging[formats]'``).

The idea: bioio gives every vendor format the axes T, C, Z, Y, X, channel names and pixel sizes;
a plane is read when asked for.  It fails, with an `ImageReadError`, when bioio or its plugin is
not installed, on several scenes, and on time series.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ImageReadError
from islet_imaging.reading.guard import check_read, guarded
from islet_imaging.reading.metadata import plausible
from islet_imaging.reading.pages import bounds
from islet_imaging.reading.source import FileChannel, Source

#: first bytes of a file -> its format and the plugin that reads it
MAGIC = {
    b"ZISRAWFILE": ("CZI", "bioio-czi"),
    b"\xda\xce\xbe\x0a": ("ND2", "bioio-nd2"),
    b"\x70\x00\x00\x00": ("LIF", "bioio-lif"),
}


class BioioPlanes:
    """Reads planes through bioio; the last plane is kept for its regions."""

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path, self.shape = path, shape
        self._image: Any = None
        self._last: tuple[tuple[int, int], NDArray[Any]] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """The path without the opened file, so that an image can go to another process."""
        return {"path": self.path, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["shape"])  # type: ignore[misc]

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:
        """Pixels (Y, X) of a channel's plane."""
        y0, y1, x0, x1 = bounds(region, self.shape)
        with self._lock, guarded(self.path):
            if self._last is None or self._last[0] != (channel, plane):
                if self._image is None:
                    self._image = _bioimage(self.path)
                lazy = self._image.get_image_dask_data("YX", T=0, C=channel, Z=plane)
                self._last = ((channel, plane), np.asarray(lazy.compute(scheduler="synchronous")))
            return self._last[1][y0:y1, x0:x1].copy()


def _bioimage(path: Path) -> Any:
    try:
        from bioio import BioImage
    except ImportError:
        raise ImageReadError(
            f"{path}: CZI, LIF and ND2 files need bioio: pip install 'islet-imaging[formats]', "
            "or export as OME-TIFF"
        ) from None
    return BioImage(path)


def open_vendor(path: Path, kind: str, plugin: str, *, max_gib: float) -> Source:
    """Open a CZI, LIF or ND2 file as a `Source`."""
    with guarded(path):
        try:
            image = _bioimage(path)
        except ImageReadError:
            raise
        except Exception as error:
            raise ImageReadError(
                f"{path}: bioio cannot read this {kind} file ({type(error).__name__}: "
                f"{str(error)[:120]}). Is {plugin} installed? pip install "
                "'islet-imaging[formats]', or export as OME-TIFF"
            ) from error
        scenes = tuple(image.scenes)
        if len(scenes) > 1:
            raise ImageReadError(
                f"{path}: holds {len(scenes)} scenes ({', '.join(scenes[:6])}); export one file "
                "per scene"
            )
        size = {a: int(getattr(image.dims, a)) for a in "TCZYX"}
        if size["T"] > 1:
            raise ImageReadError(f"{path}: {size['T']} time points; save one file per time point")
        names = [str(n) for n in (image.channel_names or [])]
        if len(set(names)) != size["C"]:
            names = [""] * size["C"]
        y, x = image.physical_pixel_sizes.Y, image.physical_pixel_sizes.X
        dtype = np.dtype(image.dtype)
    check_read(path, size["Y"] * size["X"] * dtype.itemsize, max_gib)
    scale = plausible((float(y), float(x))) if y and x else None
    return Source(
        paths=(path,),
        channels=tuple(FileChannel(n) for n in names),
        n_planes=size["Z"],
        shape=(size["Y"], size["X"]),
        dtype=dtype,
        read=BioioPlanes(path, (size["Y"], size["X"])),
        names_source=kind if any(names) else "",
        pixel_size_um=scale,
        pixel_size_source=kind if scale else "",
        metadata={"format": kind, "bits": dtype.itemsize * 8, "rgb": False, "lossy": False},
    )
