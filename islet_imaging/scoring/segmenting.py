"""From an image's DNA channel, or from labels that are given, to nuclei, cells and islets.

The idea: nuclei are found, or they are those that somebody else found; all that follows is one.
The scale, which widths of rings and gaps and the networks follow, is what the image shows, so the
same nuclei give the same calls whoever found them; where the given nuclei are of another size
altogether, theirs holds.  A cell is its nucleus and a ring, or, where whole cells are given, what
is left of the cell.
It fails where given nuclei are of the wrong places: nothing looks whether DNA lies under them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging._types import Labels, Region, Work
from islet_imaging.arrays.label_file import band_rows
from islet_imaging.protocol import Protocol

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.network.scale import FoundScale
    from islet_imaging.quality import Flag
    from islet_imaging.scoring.islets import IsletForming
    from islet_imaging.scoring.regions import ImageRegions
    from islet_imaging.segmentation.nuclei import NucleiMethod

#: given nuclei this many times larger or smaller than those the image shows have their own scale
UNLIKE = 1.6
#: fewer given nuclei than this say nothing of their size
FEW = 10

#: told the share done and what is being done
Tell = Callable[[float, str], None]


@dataclasses.dataclass(frozen=True)
class Given:
    """Labels that are used instead of finding nuclei, or instead of rings around them.

    Parameters
    ----------
    nuclei, cells : ndarray of int32, shape (Y, X), optional
        Checked label images.
    """

    nuclei: Labels | None = None
    cells: Labels | None = None
    #: whole cell of each nucleus; known once nuclei are
    home: dict[int, int] = dataclasses.field(default_factory=dict)
    #: length that no given cell is longer than, px
    reach_px: int = 0

    @classmethod
    def of(cls, shape: tuple[int, int], nuclei: Any, cells: Any) -> Given:
        """Check what a caller gives: arrays, files or None.

        Raises
        ------
        IsletImagingError
            If something is no label image of an image of that shape.
        """
        from islet_imaging.segmentation.whole_cells import reach_px

        own, whole = _labels(nuclei, shape, "nuclei"), _labels(cells, shape, "cells")
        return cls(own, whole, {}, 0 if whole is None else reach_px(whole))

    def settle(self, nuclei: Labels) -> None:
        """Work out which cell each nucleus lies in."""
        from islet_imaging.segmentation.whole_cells import cells_of_nuclei

        if self.cells is not None:
            self.home.update(cells_of_nuclei(nuclei, self.cells))

    def flags(self, cells: pd.DataFrame, lengths: Mapping[str, Any]) -> list[Flag]:
        """What the image says of what was given."""
        from islet_imaging.quality.given import given_flags

        whole = None if self.cells is None else _count(self.cells)
        return given_flags(cells, lengths, whole_cells=whole, nuclei=self.nuclei is not None)


def _count(labels: Labels) -> int:
    return int(np.count_nonzero(np.bincount(labels.ravel())[1:]))


def _labels(given: Any, shape: tuple[int, int], what: str) -> Labels | None:
    from islet_imaging.reading.annotations import checked_labels, read_labels_for

    if given is None:
        return None
    if isinstance(given, str | Path):
        return read_labels_for(Path(given), shape, what)
    return checked_labels(given, shape, what)


def scale_of(
    regions: ImageRegions, protocol: Protocol, work: Work, given: Given
) -> tuple[FoundScale, NucleiMethod]:
    """The scale that nuclei are searched with, and how they are searched.

    Parameters
    ----------
    regions : ImageRegions
        The image.
    protocol : Protocol
        What was stated.
    work : Work
        Threads and device.
    given : Given
        Nuclei that were given have their say.
    """
    from islet_imaging.network.scale import Scale
    from islet_imaging.segmentation.nuclei import NucleiMethod, nuclei_scale

    wanted = protocol.nuclei
    how = NucleiMethod(wanted.method, wanted.model, wanted.min_area_um2, wanted.max_area_um2)
    read = partial(regions.corrected, protocol.dna)
    known = Scale(regions.pixel_size_um, wanted.diameter_um)
    found = nuclei_scale(read, regions.shape, known, how, work)
    if given.nuclei is not None:
        # what the network doubts says nothing of nuclei that it did not find
        found = dataclasses.replace(_of_given(found, given.nuclei), doubt=None)
    return found, how


def _of_given(found: FoundScale, nuclei: Labels) -> FoundScale:
    """The scale, or that of the given nuclei where theirs is another and none was stated."""
    from islet_imaging.network.scale import PROFILE

    edge = np.unique(np.concatenate([nuclei[0], nuclei[-1], nuclei[:, 0], nuclei[:, -1]]))
    areas = np.bincount(nuclei.ravel())
    areas[0] = areas[edge] = 0
    areas = areas[areas > 0]
    if found.source == "stated" or len(areas) < FEW:
        return found
    seen = float(np.median(2 * np.sqrt(areas / np.pi)))
    ratio = seen / (PROFILE * found.nucleus_px)
    if 1 / UNLIKE <= ratio <= UNLIKE:
        return found
    return dataclasses.replace(
        found, diameter_px=seen / PROFILE, seen_px=seen, n_seen=len(areas), source="image"
    )


def scale_record(scale: FoundScale, protocol: Protocol) -> dict[str, Any]:
    """What a run keeps of an image's scale: what was seen, and the lengths that follow, um."""
    low, high = protocol.nuclei.areas_um2(scale.nucleus_um)
    return {
        **scale.to_dict(),
        "ring_um": protocol.cells.ring_of(scale.nucleus_um),
        "max_gap_um": protocol.islets.gap_of(scale.nucleus_um),
        "min_area_um2": low,
        "max_area_um2": high,
    }


def find_nuclei(
    regions: ImageRegions,
    protocol: Protocol,
    scale: FoundScale,
    method: NucleiMethod,
    work: Work,
    given: Given,
    tell: Tell,
) -> tuple[IsletForming, int]:
    """Fill the label image of nuclei; what islets will be drawn from, and the largest label.

    Parameters
    ----------
    regions : ImageRegions
        The image; its nuclei are filled.
    protocol : Protocol
        How islets are formed.
    scale, method
        From `scale_of`.
    work : Work
        Threads, device, whether to stop.
    given : Given
        Nuclei to take instead.
    tell : callable
        Told of steps.
    """
    from islet_imaging.scoring.islets import IsletForming

    forming = IsletForming(regions.shape, regions.pixel_size_um, protocol.islets, scale.nucleus_um)
    top = largest = 0
    for labels in _nuclei(regions, protocol, scale, method, work, given, tell):
        regions.nuclei.append(labels)
        forming.add(top, labels)
        top += len(labels)
        largest = max(largest, int(labels.max(initial=0)))
    given.settle(regions.nuclei.map())
    return forming, largest


def draw_islets(
    regions: ImageRegions, forming: IsletForming, work: Work, tell: Tell
) -> dict[int, Region | None]:
    """Fill the label image of islets, from the nuclei that were found; where each islet lies."""
    from islet_imaging.scoring.regions import boxes_of

    tell(0.55, "finding islets")
    for top, islets in forming.draw(regions.nuclei.bands(), threads=work.at_once):
        regions.islets.append(islets)
        tell(0.55 + 0.05 * top / regions.shape[0], "finding islets")
    return boxes_of(regions.islets.bands())


def _nuclei(
    regions: ImageRegions,
    protocol: Protocol,
    scale: FoundScale,
    method: NucleiMethod,
    work: Work,
    given: Given,
    tell: Tell,
) -> Iterator[Labels]:
    """The label image of nuclei, found or given, in strips from top to bottom."""
    from islet_imaging.segmentation.nuclei import segment_nuclei_tiled

    if given.nuclei is not None:
        for rows in band_rows(regions.shape):
            work.stop_if_asked("reading of nuclei")
            yield given.nuclei[rows]
        return
    found = segment_nuclei_tiled(
        partial(regions.corrected, protocol.dna),
        regions.shape,
        scale,
        method,
        dataclasses.replace(
            work,
            progress=lambda done, total: tell(0.05 + 0.5 * done / total, "finding nuclei"),
        ),
    )
    for _, labels in found:
        yield labels
