"""Corrections whose numbers come from the whole image and which are applied to any part of it.

The idea: camera offset, flat field and the grid of the local background are worked out once, from
a fixed subsample or block by block; what is left is arithmetic on single pixels, so that a tile
comes out as it does in the whole image, to the last bit.
It fails as the corrections themselves do: see :mod:`islet_imaging.correction.image`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32, ReadChannel, Region
from islet_imaging.correction.steps import (
    background_blocks,
    estimate_offset,
    low_of_blocks,
    normalised_gain,
    remove_bleed_through,
    smooth_blocks,
    stretched,
    thinning,
)
from islet_imaging.errors import ChannelError, PixelSizeError
from islet_imaging.protocol import Correction

#: pixels that are read at once while numbers are worked out
READ_PX = 16_000_000


class PreparedCorrection:
    """The corrections of one image.

    Parameters
    ----------
    read : callable
        ``read(name, region)`` gives raw pixels of a channel.
    names : sequence of str
        The channels.
    shape : tuple of int
        Of the image, px.
    correction : Correction
        What to do.
    pixel_size_um, flat_fields, bleed_matrix
        As in :func:`islet_imaging.correction.image.correct_image`.

    Attributes
    ----------
    record : dict
        What is done, with numbers, for the provenance.

    Examples
    --------
    >>> image = np.arange(100.0, 116.0).reshape(4, 4)
    >>> prepared = PreparedCorrection(
    ...     lambda name, region: image[region], ["DAPI"], (4, 4), Correction(offset=100.0))
    >>> prepared.region((slice(1, 2), slice(0, 2)))["DAPI"].tolist()
    [[4.0, 5.0]]
    """

    def __init__(
        self,
        read: ReadChannel,
        names: Sequence[str],
        shape: tuple[int, int],
        correction: Correction,
        *,
        pixel_size_um: float | None = None,
        flat_fields: Mapping[str, NDArray[Any]] | None = None,
        bleed_matrix: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self._read, self.names, self.shape = read, list(names), shape
        self.record: dict[str, Any] = {}
        self._offset: dict[str, float] = {}
        self._gain: dict[str, Float32] = {}
        self._background: dict[str, Float32] = {}
        self._matrix = correction.bleed_matrix if bleed_matrix is None else bleed_matrix
        if correction.offset != "off":
            stated = correction.offset
            for name in self.names:
                found = estimate_offset(self._thinned(name)) if stated == "auto" else float(stated)
                self._offset[name] = found
            self.record["offset"] = dict(self._offset)
        if correction.flat_field != "off":
            self.record["flat_field"] = {}
            for name, field in (flat_fields or {}).items():
                if name in self.names:
                    self._gain[name] = self._checked_gain(name, field)
                    low, high = float(self._gain[name].min()), float(self._gain[name].max())
                    self.record["flat_field"][name] = {"lowest": low, "highest": high}
        if correction.background == "local":
            if pixel_size_um is None:
                raise PixelSizeError("`correction: {background: local}` needs a pixel size")
            self.record["background"] = {}
            window = correction.background_um / pixel_size_um
            eighth = tuple(np.arange(0, n, 8) for n in shape)
            for name in self.names:
                self._background[name] = self._background_grid(name, window)
                level = stretched(self._background[name], shape, (eighth[0], eighth[1]))
                self.record["background"][name] = {"median": float(np.median(level))}
        if self._matrix:
            # also refuses a matrix that cannot be inverted or names a channel that is not there
            none = {name: np.zeros((0, 0), np.float32) for name in self.names}
            _, condition = remove_bleed_through(none, self._matrix)
            fractions = {source: dict(row) for source, row in self._matrix.items()}
            self.record["bleed_through"] = {"matrix": fractions, "condition": condition}

    def region(self, region: Region) -> dict[str, NDArray[Any]]:
        """Corrected pixels of every channel in a region."""
        return self.apply({name: self._read(name, region) for name in self.names}, region)

    def channel(self, name: str, region: Region) -> NDArray[Any]:
        """Corrected pixels of one channel in a region."""
        mixed = {*self._matrix, *(n for row in self._matrix.values() for n in row)}
        needed = [n for n in self.names if n == name or (name in mixed and n in mixed)]
        return self.apply({n: self._read(n, region) for n in needed}, region)[name]

    def apply(self, raw: Mapping[str, NDArray[Any]], region: Region) -> dict[str, NDArray[Any]]:
        """Correct raw pixels of a region; the very arrays given, untouched, if all is off."""
        out: dict[str, NDArray[Any]] = {}
        for name, pixels in raw.items():
            out[name] = self._before_background(name, pixels, region)
            if name in self._background:
                places = (np.arange(s.start, s.stop) for s in region)
                level = stretched(self._background[name], self.shape, (next(places), next(places)))
                out[name] = np.subtract(out[name], level, dtype=np.float32)
        if self._matrix and any(name in self._matrix for name in out):
            out, _ = remove_bleed_through(out, self._matrix)
        return out

    def _before_background(self, name: str, pixels: NDArray[Any], region: Region) -> NDArray[Any]:
        if name in self._offset:
            pixels = pixels.astype(np.float32) - np.float32(self._offset[name])
        if name in self._gain:
            pixels = pixels.astype(np.float32, copy=False) / self._gain[name][region]
        return pixels

    def _checked_gain(self, name: str, field: NDArray[Any]) -> Float32:
        if np.shape(field) != self.shape:
            raise ChannelError(
                f"the flat field of {name!r} has shape {np.shape(field)}, the image "
                f"{self.shape}; take it with the camera settings of the images"
            )
        return normalised_gain(field)

    def _bands(self, starts: NDArray[Any]) -> Iterator[tuple[int, int, Region]]:
        """Groups of bands of rows, given by their starts, that hold about `READ_PX` pixels."""
        ends = np.append(starts[1:], self.shape[0])
        most = max(1, READ_PX // max(1, self.shape[1]))
        first = 0
        while first < len(starts):
            last = first
            while last + 1 < len(starts) and ends[last + 1] - starts[first] <= most:
                last += 1
            rows = slice(int(starts[first]), int(ends[last]))
            yield first, last + 1, (rows, slice(0, self.shape[1]))
            first = last + 1

    def _thinned(self, name: str) -> NDArray[Any]:
        step = thinning(self.shape)
        bands = self._bands(np.arange(0, self.shape[0], step))
        return np.concatenate([self._read(name, where)[::step, ::step] for _, _, where in bands])

    def _background_grid(self, name: str, window_px: float) -> Float32:
        n, step, starts = background_blocks(self.shape, window_px)
        rows = []
        for first, last, where in self._bands(starts):
            pixels = self._before_background(name, self._read(name, where), where)
            rows.append(low_of_blocks(pixels, where[0].start, (first, last), self.shape, n, step))
        return smooth_blocks(np.concatenate(rows))
