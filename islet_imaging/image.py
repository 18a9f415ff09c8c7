"""One stained image: named channels, a pixel size that was never guessed, pixels read on demand.

The idea: every later step asks for a channel by *name* and, if it wants, a region; where the pixels
come from (one file, one file per channel, an array) stays here.  A channel name or a pixel size
carries its source, so that `inspect` and the report can say where it came from.
It fails, with a `ChannelError` or `PixelSizeError`, rather than hand out a wrong channel or scale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ChannelError, PixelSizeError

Reader = Callable[[int, Region | None], NDArray[Any]]

#: images of more pixels than this are never held whole; one of this size takes 4 GB to score
WHOLE_PX = 36_000_000


@dataclass(frozen=True)
class IsletImage:
    """A two-dimensional multi-channel fluorescence image.

    Parameters
    ----------
    name : str
        The image's name: its path relative to the scored folder, or what the caller chose.
    channel_names : tuple of str
        One name per channel, unique.
    shape : tuple of int
        Height and width, px.
    dtype : numpy.dtype
        Type of the stored pixels.
    pixel_size_um : float or None
        Edge of a pixel, um; None where no source states it.
    reader : callable
        ``reader(channel_index, region or None)`` gives that channel's pixels, (Y, X).
    paths : tuple of Path
        The files behind the image; empty for an array.
    sources : mapping of str to str
        Where ``channel_names`` and ``pixel_size_um`` come from, for people to read.
    metadata : mapping
        What else the file says of its acquisition (bit depth, exposure, objective, planes).

    Examples
    --------
    >>> import numpy as np
    >>> image = IsletImage.from_array(np.zeros((2, 8, 9)), ["DAPI", "INS"], pixel_size_um=0.5)
    >>> image.channel("INS").shape
    (8, 9)
    """

    name: str
    channel_names: tuple[str, ...]
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    pixel_size_um: float | None
    reader: Reader = field(repr=False, compare=False)
    paths: tuple[Path, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_array(
        cls,
        array: NDArray[Any],
        channel_names: Sequence[str],
        pixel_size_um: float | None = None,
        *,
        name: str = "array",
        metadata: Mapping[str, Any] | None = None,
    ) -> IsletImage:
        """Wrap an array that is already in memory.

        Parameters
        ----------
        array : ndarray, shape (C, Y, X) or (Y, X)
            Pixels, any real dtype.
        channel_names : sequence of str
            One name per channel.
        pixel_size_um : float, optional
            Edge of a pixel, um.
        name : str
            The image's name in tables.
        metadata : mapping, optional
            Facts of the acquisition.

        Returns
        -------
        IsletImage

        Raises
        ------
        ChannelError
            If the names do not fit the array.

        Examples
        --------
        >>> IsletImage.from_array(np.zeros((4, 5)), ["DAPI"]).shape
        (4, 5)
        """
        stack = np.asarray(array)
        if stack.ndim == 2:
            stack = stack[np.newaxis]
        names = tuple(str(n) for n in channel_names)
        if stack.ndim != 3 or len(names) != stack.shape[0]:
            raise ChannelError(
                f"{name}: an array of shape {np.shape(array)} does not hold the {len(names)} "
                f"channels {list(names)}; give (C, Y, X) and one name per channel"
            )
        if len(set(names)) != len(names):
            raise ChannelError(f"{name}: channel names are not unique: {list(names)}")

        def reader(index: int, region: Region | None) -> NDArray[Any]:
            plane: NDArray[Any] = stack[index]
            return plane if region is None else plane[region]

        return cls(
            name=name,
            channel_names=names,
            shape=(int(stack.shape[1]), int(stack.shape[2])),
            dtype=stack.dtype,
            pixel_size_um=pixel_size_um,
            reader=reader,
            sources={"channel_names": "given", "pixel_size_um": "given"},
            metadata=dict(metadata or {}),
        )

    def index(self, channel: str) -> int:
        """Position of a channel, found by its name (exact, else ignoring case)."""
        if channel in self.channel_names:
            return self.channel_names.index(channel)
        folded = [n.casefold() for n in self.channel_names]
        hits = [i for i, n in enumerate(folded) if n == channel.casefold()]
        if len(hits) != 1:
            raise ChannelError(
                f"{self.name}: no channel {channel!r}; the image has {list(self.channel_names)}. "
                "Name the channel as in the file, or state its `source` in the protocol"
            )
        return hits[0]

    def channel(self, channel: str, region: Region | None = None) -> NDArray[Any]:
        """Pixels of one channel, (Y, X), as stored; of a region only where one is given."""
        return self.reader(self.index(channel), region)

    def held(self, channels: Iterable[str]) -> IsletImage:
        """The image with these channels read whole once, when they are first asked for.

        Parameters
        ----------
        channels : iterable of str
            Names, as for `channel`; the others are read from the file every time.

        Returns
        -------
        IsletImage

        Examples
        --------
        >>> image = IsletImage.from_array(np.zeros((2, 4, 5)), ["DAPI", "INS"]).held(["INS"])
        >>> image.channel("INS") is image.channel("INS")
        True
        """
        planes: dict[int, NDArray[Any] | None] = {self.index(name): None for name in channels}

        def reader(index: int, region: Region | None) -> NDArray[Any]:
            if index not in planes:
                return self.reader(index, region)
            plane = planes[index]
            if plane is None:
                plane = planes[index] = self.reader(index, None)
            return plane if region is None else plane[region]

        return dataclasses.replace(self, reader=reader)

    def full_scale(self, pixels: NDArray[Any]) -> float | None:
        """The largest value that the camera could have written, to tell saturation by.

        Cameras of 10, 12 or 14 bits write 16-bit files.  The file's own statement is taken where
        there is one; otherwise the fewest bits that hold the largest pixel.

        Parameters
        ----------
        pixels : ndarray
            Pixels of a whole channel, as `channel` gives them.

        Returns
        -------
        float or None
            For example 4095 for 12 bits; None for floating point, which has no such value.

        Examples
        --------
        >>> image = IsletImage.from_array(np.full((4, 5), 4095, np.uint16), ["DAPI"])
        >>> image.full_scale(image.channel("DAPI"))
        4095.0
        """
        if pixels.dtype.kind not in "ui" or pixels.size == 0:
            return None
        largest = int(pixels.max())
        stored = 8 * pixels.dtype.itemsize - (pixels.dtype.kind == "i")
        stated = self.metadata.get("significant_bits")
        if isinstance(stated, int) and 0 < stated <= stored and largest < 2**stated:
            return float(2**stated - 1)
        bits = [b for b in (8, 10, 12, 14, 16) if b <= stored and largest < 2**b]
        # 8 bits of a 16-bit file are an empty channel rather than an 8-bit camera
        bits = [b for b in bits if b > 8 or stored <= 8]
        return float(2 ** (bits[0] if bits else stored) - 1)

    def require_pixel_size(self) -> float:
        """The pixel size in um, or an error that says the three ways to give it."""
        if self.pixel_size_um is None:
            said = self.sources.get("pixel_size_um", "").removeprefix("not stated")
            raise PixelSizeError(
                f"{self.name}: the file states no pixel size{said}. Give it in one of three ways: "
                "PhysicalSizeX in the file's OME-XML (or ImageJ's Image > Properties), "
                "`reading: {pixel_size_um: ...}` in protocol.yaml, or "
                "read_image(..., pixel_size_um=...) / --pixel-size-um"
            )
        return self.pixel_size_um
