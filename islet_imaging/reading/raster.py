"""PNG and JPEG: pictures of a staining, with colours for channels.

The idea: an exported picture has no pixel size and no channel names but red, green and blue, so
both must be stated by the protocol; JPEG is marked as lossy, because its colours bleed into each
other.  The header's size is checked before decoding; the picture is decoded once and kept.
It fails, with an `ImageReadError`, on palettes, on damaged files and on huge declared sizes.
"""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ImageReadError
from islet_imaging.protocol import Limits
from islet_imaging.reading.guard import check_declared, check_read, guarded
from islet_imaging.reading.pages import bounds
from islet_imaging.reading.source import FileChannel, Source

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"


class RasterPlanes:
    """Decodes a picture when first asked and keeps it."""

    def __init__(self, path: Path, codec: str, shape: tuple[int, int]) -> None:
        self.path, self.codec, self.shape = path, codec, shape
        self._pixels: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """The path without the pixels, so that an image can go to another process."""
        return {"path": self.path, "codec": self.codec, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["codec"], state["shape"])  # type: ignore[misc]

    def pixels(self) -> NDArray[Any]:
        """The decoded picture, (Y, X, S)."""
        import imagecodecs

        with self._lock, guarded(self.path):
            if self._pixels is None:
                data = self.path.read_bytes()
                decode = imagecodecs.png_decode if self.codec == "PNG" else imagecodecs.jpeg8_decode
                pixels = np.asarray(decode(data))
                if pixels.shape[:2] != self.shape:
                    raise ImageReadError(f"{self.path}: damaged: its header says {self.shape}")
                self._pixels = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
            return self._pixels

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:  # noqa: ARG002  a picture has one
        """Pixels (Y, X) of a colour."""
        y0, y1, x0, x1 = bounds(region, self.shape)
        return np.ascontiguousarray(self.pixels()[y0:y1, x0:x1, channel])


def open_raster(path: Path, *, limits: Limits) -> Source:
    """Open a PNG or JPEG file as a `Source`."""
    with guarded(path):
        data = path.read_bytes()
        codec = "PNG" if data.startswith(PNG) else "JPEG"
        height, width, samples, bits = _png(data, path) if codec == "PNG" else _jpeg(data, path)
    n_bytes = height * width * samples * max(1, bits // 8)
    if n_bytes == 0:
        raise ImageReadError(f"{path}: a picture of size zero; export it again")
    check_declared(path, n_bytes, len(data), limits)
    check_read(path, n_bytes, limits)
    planes = RasterPlanes(path, codec, (height, width))
    colours = samples >= 3
    names = ("red", "green", "blue") if colours else ("",)
    return Source(
        paths=(path,),
        channels=tuple(FileChannel(n) for n in names),
        n_planes=1,
        shape=(height, width),
        dtype=np.dtype(np.uint16 if bits == 16 else np.uint8),
        read=planes,
        names_source="colours of the file" if colours else "",
        metadata={"format": codec, "bits": bits, "rgb": colours, "lossy": codec == "JPEG"},
        channel_axis="colours" if colours else "channels",
    )


def _png(data: bytes, path: Path) -> tuple[int, int, int, int]:
    """Height, width, samples and bits of a PNG."""
    if len(data) < 33:
        raise ImageReadError(f"{path}: truncated PNG; copy or export it again")
    width, height, bits, kind = struct.unpack(">IIBB", data[16:26])
    if kind == 3 or bits < 8:
        raise ImageReadError(
            f"{path}: a palette or black-and-white PNG: its numbers are no intensities; export "
            "the raw channels as 8 or 16 bit"
        )
    return height, width, {0: 1, 2: 3, 4: 2, 6: 4}.get(kind, 1), bits


def _jpeg(data: bytes, path: Path) -> tuple[int, int, int, int]:
    """Height, width, samples and bits of a JPEG, from its start-of-frame segment."""
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack(">H", data[at + 2 : at + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, samples = struct.unpack(">BHHB", data[at + 4 : at + 10])
            if samples == 4 or bits != 8:
                raise ImageReadError(f"{path}: a CMYK or {bits}-bit JPEG is not supported")
            if data.find(b"\xff\xd9", at) < 0:  # decoders fill what is missing with grey
                raise ImageReadError(f"{path}: truncated JPEG; copy or export it again")
            return height, width, samples, bits
        at += 2 + length
    raise ImageReadError(f"{path}: truncated JPEG; copy or export it again")
