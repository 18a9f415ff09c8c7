"""Pixels of a region of a TIFF page without decoding the rest.

The idea: a page is uncompressed and contiguous, and then a memory map gives any region for
nothing, or it is cut into strips or tiles, and then only those that meet the region are decoded
(tifffile decodes a segment; which ones are needed is decided here).
It fails, with an `ImageReadError`, on segments that are missing or lie beyond the file's end:
libraries fill those with zeros, which would be measured as background.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ImageReadError
from islet_imaging.protocol import Limits
from islet_imaging.reading.guard import check_read
from islet_imaging.reading.streams import stream_size

_JPEG = {6, 7, 34892, 33007}
#: compressions that change pixels
LOSSY = {6, 7, 34892, 33003, 33004, 33005, 34712, 50001, 34933, 34934}
#: read segments in groups of about this size
_BATCH_BYTES = 32 * 2**20


def bounds(region: Region | None, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Rows and columns of a region clipped to the image: y0, y1, x0, x1."""
    if region is None:
        return 0, shape[0], 0, shape[1]
    (y0, y1, ys), (x0, x1, xs) = (s.indices(n) for s, n in zip(region, shape, strict=True))
    if ys != 1 or xs != 1:
        raise ImageReadError(f"region {region}: slices with a step cannot be read")
    return y0, max(y0, y1), x0, max(x0, x1)


def check_segments(page: Any, path: Path, n_virtual: int = 1) -> None:
    """Refuse a page whose strips or tiles are not all in the file."""
    key = page.keyframe
    size = page.parent.filehandle.size
    needed = math.prod(key.chunked)
    offsets, counts = page.dataoffsets, page.databytecounts
    if len(offsets) < needed or len(counts) < needed:
        raise ImageReadError(
            f"{path}: the header promises {needed} strips or tiles and lists {len(offsets)}; "
            "the file is damaged, export it again"
        )
    if key.is_contiguous:
        end = offsets[0] + n_virtual * key.nbytes
        bad = 0 if offsets[0] > 0 and end <= size else needed
    else:
        # a tile of length 0 is how sparse slides store empty background
        ok_empty = key.is_tiled
        ends = [
            o + c <= size and o > 0 if c > 0 else ok_empty
            for o, c in zip(offsets[:needed], counts[:needed], strict=True)
        ]
        bad = needed - sum(ends)
    if bad:
        raise ImageReadError(
            f"{path}: truncated: {bad} of {needed} strips or tiles of the pixels are not in the "
            f"file ({size:,} bytes); copy or export it again"
        )


def read_plane(
    page: Any, path: Path, *, virtual: int, sample: int, region: Region | None, limits: Limits
) -> NDArray[Any]:
    """One sample of one page.

    Parameters
    ----------
    page : tifffile.TiffPage or TiffFrame
        Page of an open file.
    path : Path
        The file, for messages and the memory map.
    virtual : int
        Number of the plane where ImageJ stored many planes behind one page, else 0.
    sample : int
        Which sample of a pixel, from 0.
    region : tuple of slice or None
        Rows and columns.
    limits : Limits
        What a file may ask for.

    Returns
    -------
    ndarray, shape (Y, X)
        A fresh array in native byte order.
    """
    key = page.keyframe
    separate, _, height, width, contig = key.shaped
    y0, y1, x0, x1 = bounds(region, (height, width))
    check_read(path, (y1 - y0) * (x1 - x0) * key.dtype.itemsize, limits)
    planar = separate > 1
    if key.is_final and key.is_contiguous:
        stored = np.memmap(
            page.parent.filehandle.path,
            mode="r",
            dtype=key.parent.byteorder + key._dtype.char,
            shape=(separate, height, width, contig),
            offset=page.dataoffsets[0] + virtual * key.nbytes,
        )
        part = stored[sample if planar else 0, y0:y1, x0:x1, 0 if planar else sample]
        native: NDArray[Any] = np.array(part, dtype=key.dtype)
        return native
    return _from_segments(page, path, sample, (y0, y1, x0, x1), limits)


def _from_segments(
    page: Any, path: Path, sample: int, box: tuple[int, int, int, int], limits: Limits
) -> NDArray[Any]:
    key = page.keyframe
    separate, _, height, width, _ = key.shaped
    planar = separate > 1
    y0, y1, x0, x1 = box
    if key.is_tiled:
        th, tw = key.tilelength, key.tilewidth
    else:
        th, tw = min(key.rowsperstrip, height), width
    rows, columns = math.ceil(height / th), math.ceil(width / tw)
    samples = 1 if planar else key.samplesperpixel
    check_read(path, th * tw * samples * key.dtype.itemsize, limits)
    first = sample * rows * columns if planar else 0
    wanted = [
        first + r * columns + c
        for r in range(y0 // th, math.ceil(y1 / th))
        for c in range(x0 // tw, math.ceil(x1 / tw))
    ]
    out = np.empty((y1 - y0, x1 - x0), dtype=key.dtype)
    if not wanted or out.size == 0:
        return out
    options: dict[str, Any] = {"_fullsize": False}
    if key.compression in _JPEG:
        options |= {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
    segments = page.parent.filehandle.read_segments(
        [page.dataoffsets[i] for i in wanted],
        [page.databytecounts[i] for i in wanted],
        indices=wanted,
        buffersize=_BATCH_BYTES,
    )
    for data, index in segments:
        stated = stream_size(data) if data else None
        # blocks of a stream may be padded, by less than another tile
        if stated and (stated[0] > 2 * th + 64 or stated[1] > 2 * tw + 64):
            raise ImageReadError(
                f"{path}: damaged: a tile of {th} x {tw} px holds a picture that says it is "
                f"{stated[0]} x {stated[1]} px; export it again"
            )
        segment, (_, _, h, w, _), shape = key.decode(data, index, **options)
        top, left = max(y0, h), max(x0, w)
        bottom = min(y1, h + shape[1], height)
        right = min(x1, w + shape[2], width)
        if segment is None:
            out[top - y0 : bottom - y0, left - x0 : right - x0] = 0
            continue
        piece = segment[0, top - h : bottom - h, left - w : right - w, 0 if planar else sample]
        out[top - y0 : bottom - y0, left - x0 : right - x0] = piece
    return out


def check_pixels(key: Any, kind: str, path: Path) -> None:
    """Refuse pixels that are no intensities."""
    if key.dtype is None:
        raise ImageReadError(
            f"{path}: pixels of {key.bitspersample} bit and sample format {key.sampleformat} are "
            "not supported; export as 8 or 16 bit unsigned"
        )
    if key.dtype.kind not in "uif" or key.bitspersample == 1:
        what = "black-and-white (1 bit)" if key.dtype.kind in "bu" else str(key.dtype)
        raise ImageReadError(
            f"{path}: {what} pixels are no fluorescence intensities; export the raw channels as "
            "8 or 16 bit unsigned"
        )
    photometric = int(key.photometric)
    if photometric == 0:
        raise ImageReadError(
            f"{path}: intensities are stored inverted (MinIsWhite); in ImageJ: Image > Lookup "
            "Tables > Invert LUT, check, and save again"
        )
    if photometric == 3 and kind not in ("imagej", "ome") and not _ramp(key):
        raise ImageReadError(
            f"{path}: a palette (indexed colour) image: its numbers are no intensities; export "
            "the raw channels as 8 or 16 bit grey"
        )
    if photometric not in (1, 2, 3, 6):
        raise ImageReadError(
            f"{path}: colour space {getattr(key.photometric, 'name', photometric)} is not a set "
            "of fluorescence channels; export the raw channels"
        )
    if key.shaped[1] > 1:
        raise ImageReadError(f"{path}: volumes stored as one deep page are not supported")


def _ramp(key: Any) -> bool:
    """Whether a colour map only tints an intensity: no component ever falls."""
    table = key.colormap
    if table is None:
        return False
    steps = np.diff(np.asarray(table, dtype=np.int64), axis=-1)
    return bool((steps >= 0).all() and (steps > 0).any())


def intensity_samples(key: Any, samples: int, *, colours: bool) -> int:
    """How many of a pixel's samples are intensities: transparency is no channel.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> intensity_samples(SimpleNamespace(extrasamples=(2,)), 2, colours=False)
    1
    """
    alpha = sum(int(e) in (1, 2) for e in key.extrasamples or ())
    if colours and samples == 4:
        return 3
    return samples - alpha if 0 < alpha < samples else samples
