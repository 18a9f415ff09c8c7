"""The pixels and labels of one image, asked for region by region.

The idea: every step of scoring sees an image only through `ImageRegions`, so there is one way for
an image of any size: a small one is one region, read once and kept in memory; a large one is tiles
with a margin around, read when they are needed, with its label images on disk.  A further
dimension, planes of a stack, would enter here and nowhere else.
It fails when the disk has no room for two label files of 4 bytes per pixel of a large image.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Labels, Region
from islet_imaging.arrays.label_file import LabelArray, LabelFile, remove_with
from islet_imaging.correction.burned_in import without_burned_in
from islet_imaging.correction.prepared import PreparedCorrection
from islet_imaging.image import WHOLE_PX, IsletImage
from islet_imaging.protocol import Protocol

#: edge of a tile that cells are measured in, without its margin, px
TILE_PX = 2048


def _stored(
    kept: Mapping[str, NDArray[Any]], image: IsletImage, name: str, region: Region
) -> NDArray[Any]:
    """Pixels of a channel as stored."""
    return kept[name][region] if name in kept else image.channel(name, region)


class ImageRegions:
    """One image by regions, as stored and corrected, and the label images made of it.

    Parameters
    ----------
    image : IsletImage
        With a pixel size and the protocol's channels.
    protocol : Protocol
        Its channels and corrections.
    flat_fields : mapping of str to ndarray (Y, X), optional
        Relative illumination per channel, where the protocol asks for one.
    tile_px : int, optional
        Edge of the tiles, px; by default one region up to `WHOLE_PX`, else `TILE_PX`.
    scratch : Path, optional
        Folder for label files, which the caller takes away; without it a temporary one that goes
        with the label images.
    device : str
        Where networks run on a part of it.
    there : bool
        Whether the label files are made by another process and only read here.

    Attributes
    ----------
    names : list of str
        Channels in use.
    whole : bool
        Whether the image is one region, kept in memory.
    nuclei, islets : LabelArray or LabelFile
        Filled by whoever segments, from top to bottom.
    scratch : Path
        Where label files lie, of a large image.
    burned_in : BurnedIn or None
        Bars and letters that were drawn into the pixels and are left out.
    """

    def __init__(
        self,
        image: IsletImage,
        protocol: Protocol,
        *,
        flat_fields: Mapping[str, NDArray[np.float32]] | None = None,
        tile_px: int | None = None,
        scratch: Path | None = None,
        device: str = "auto",
        there: bool = False,
    ) -> None:
        self.image, self.protocol, self.device = image, protocol, device
        self.shape = image.shape
        self.pixel_size_um = image.require_pixel_size()
        self.names = [c.name for c in protocol.channels if c.role != "ignore"]
        small = image.shape[0] * image.shape[1] <= WHOLE_PX
        self.whole = tile_px is None and not there and small
        self._tile = tile_px or (max(1, *image.shape) if self.whole else TILE_PX)
        self._kept: dict[str, NDArray[Any]] = {}
        self._image = image
        if self.whole:
            self._kept = {name: image.channel(name) for name in self.names}
        # bars and letters that were drawn into the pixels are seen by no later step
        self._image, self.burned_in = without_burned_in(
            image, self.names, self.tiles(), self.stored
        )
        if self.whole and self.burned_in is not None:
            self._kept = {name: self._image.channel(name) for name in self.names}
        self._correction = PreparedCorrection(
            # not a method of this object, which would then hold itself and outlive its image
            partial(_stored, self._kept, self._image),
            self.names,
            image.shape,
            protocol.correction,
            pixel_size_um=self.pixel_size_um,
            flat_fields=flat_fields,
        )
        everywhere = slice(0, image.shape[0]), slice(0, image.shape[1])
        # a small image is corrected once
        self._corrected = self._correction.region(everywhere) if self.whole else {}
        self._scratch: Path | None = None
        self.scratch = scratch or Path()
        self.nuclei: LabelArray | LabelFile
        self.islets: LabelArray | LabelFile
        if self.whole:
            self.nuclei, self.islets = LabelArray(image.shape), LabelArray(image.shape)
        else:
            folder = scratch
            if folder is None:
                folder = self._scratch = Path(tempfile.mkdtemp(prefix="islet-imaging-"))
            self.nuclei = LabelFile(folder / "nuclei.raw", image.shape, there=there)
            self.islets = LabelFile(folder / "islets.raw", image.shape, there=there)
            self.scratch = folder

    @property
    def record(self) -> dict[str, Any]:
        """What is done to the pixels, with numbers, for the provenance."""
        drawn = {} if self.burned_in is None else {"burned_in": self.burned_in.boxes}
        return {**self._correction.record, **drawn}

    def stored(self, name: str, region: Region) -> NDArray[Any]:
        """Pixels of a channel as stored."""
        return _stored(self._kept, self._image, name, region)

    def corrected(self, name: str, rows: slice, columns: slice) -> NDArray[Any]:
        """Corrected pixels of a channel."""
        if name in self._corrected:
            return self._corrected[name][rows, columns]
        return self._correction.channel(name, (rows, columns))

    def dna(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Corrected pixels of the DNA channel."""
        return self.corrected(self.protocol.dna, rows, columns)

    def labels(self, rows: slice, columns: slice) -> Labels:
        """Nuclei, once they are there."""
        return self.nuclei.read((rows, columns))

    def channels(self, region: Region) -> dict[str, NDArray[Any]]:
        """Corrected pixels of every channel in use."""
        if self._corrected:
            return {name: plane[region] for name, plane in self._corrected.items()}
        return self._correction.region(region)

    def tiles(self) -> list[Region]:
        """Regions that share the image out among them."""
        return [
            (
                slice(y, min(y + self._tile, self.shape[0])),
                slice(x, min(x + self._tile, self.shape[1])),
            )
            for y in range(0, self.shape[0], self._tile)
            for x in range(0, self.shape[1], self._tile)
        ]

    def finish(self) -> tuple[Labels, Labels]:
        """The label images of nuclei and islets, whole; of a large image, read-only maps."""
        found = self.nuclei.map(), self.islets.map()
        if self._scratch is not None:
            remove_with(found, self._scratch)
        return found

    def discard(self) -> None:
        """Take a temporary folder away, when something went wrong."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def with_margin(core: Region, margin: int, shape: tuple[int, int]) -> Region:
    """A region with a margin around, within the image.

    Examples
    --------
    >>> with_margin((slice(0, 10), slice(10, 20)), 4, (40, 22))
    (slice(0, 14, None), slice(6, 22, None))
    """
    rows, columns = (
        slice(max(0, s.start - margin), min(n, s.stop + margin))
        for s, n in zip(core, shape, strict=True)
    )
    return rows, columns


def joined(box: Region | None, more: Region, top: int) -> Region:
    """The box around two, the second of rows counted from ``top``."""
    rows, columns = slice(more[0].start + top, more[0].stop + top), more[1]
    if box is None:
        return rows, columns
    return (
        slice(min(box[0].start, rows.start), max(box[0].stop, rows.stop)),
        slice(min(box[1].start, columns.start), max(box[1].stop, columns.stop)),
    )


def boxes_of(bands: Iterator[tuple[int, Labels]]) -> dict[int, Region | None]:
    """Where each label lies, from bands of a label image; in the order of labels."""
    from scipy import ndimage as ndi

    boxes: dict[int, Region | None] = {}
    for top, labels in bands:
        for label, box in enumerate(ndi.find_objects(labels), start=1):
            if box is not None:
                boxes[label] = joined(boxes.get(label), box, top)
    return dict(sorted(boxes.items()))
