"""The image on the screen: its pixels, its labels, and the outlines drawn of them.

The idea: outlines are drawn into one uint8 image, whole once per image and in small patches after
an edit; where the outline pixels lie is found once and kept until a nucleus changes its shape.
It fails for labels that have no row in the table: they are not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_islet_imaging.session.colours import FILL
from napari_islet_imaging.session.moved import read_found
from napari_islet_imaging.session.outlines import (
    OutlineMap,
    Region,
    draw_dots,
    draw_outlines,
    grown_box,
    line_width_px,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.correction.burned_in import BurnedIn
    from islet_imaging.correction.prepared import PreparedCorrection
    from islet_imaging.image import IsletImage
    from islet_imaging.network.scale import FoundScale
    from islet_imaging.review.journal import Edit
    from islet_imaging.run.folder import Run


def load_image(
    run: Run,
    name: str,
    raw: pd.DataFrame,
    edits: Sequence[Edit],
    *,
    folders: Sequence[Path] = (),
) -> OpenImage:
    """Read an image of a run with its labels, corrections replayed.

    Parameters
    ----------
    run : Run
        The run folder.
    name : str
        The image, as in the tables.
    raw : DataFrame
        Its cells as scored.
    edits : sequence of Edit
        Those that hold, of any image.
    folders : sequence of Path
        Where to look for its file if that was moved.
    """
    from islet_imaging.review.replay import Replay

    image = read_found(run, name, folders)
    labels = np.ascontiguousarray(run.labels(name, "nuclei"), np.int32)
    own = [e for e in edits if e.image == name]
    if any(e.action == "shape" for e in own):
        replay = Replay(raw, labels, pixels=run.pixels.get(name, ()))
        for edit in own:
            replay.apply(edit)
        labels = replay.labels if replay.labels is not None else labels
    return OpenImage(
        name,
        image,
        image.pixel_size_um,
        labels,
        labels.copy(),
        run.labels(name, "islets"),
        np.zeros(labels.shape, np.uint8),
        run.scale(name),
    )


@dataclass(frozen=True, eq=False)
class Measuring:
    """What the measurements of an image rest on beside the nuclei.

    Parameters
    ----------
    image : IsletImage
        Its pixels, without what was drawn into them.
    correction : PreparedCorrection
        With the numbers of the whole image.
    burned_in : BurnedIn or None
        Bars and letters that were found in it.
    cells : ndarray of int32, shape (Y, X), or None
        Whole cells that were given instead of rings.
    reach_px : int
        Length that none of them is longer than.
    """

    image: IsletImage
    correction: PreparedCorrection
    burned_in: BurnedIn | None
    cells: NDArray[np.int32] | None
    reach_px: int


@dataclass(eq=False)
class OpenImage:
    """The image on the screen.

    Parameters
    ----------
    name : str
        As in the tables.
    image : IsletImage
        Its pixels.
    pixel_size_um : float or None
        Edge of a pixel, um.
    labels : ndarray of int32
        Nuclei with all corrections; napari paints into this array.
    committed : ndarray of int32
        The same as of the last edit in the journal.
    islets : ndarray of int32
        Islets as scored.
    outlines : ndarray of uint8
        What is drawn; see `napari_islet_imaging.session.outlines`.
    scale : FoundScale, optional
        What nuclei were searched with, and the lengths that follow; an image that is only looked
        at has none.
    """

    name: str
    image: IsletImage
    pixel_size_um: float | None
    labels: NDArray[np.int32]
    committed: NDArray[np.int32]
    islets: NDArray[np.int32]
    outlines: NDArray[np.uint8]
    scale: FoundScale | None = None
    _map: OutlineMap | None = field(default=None, repr=False)
    _scales: dict[str, float] | None = field(default=None, repr=False)
    #: what changed nuclei are measured with, once one was
    measuring: Measuring | None = field(default=None, repr=False)

    def full_scales(self, markers: Sequence[str]) -> dict[str, float]:
        """The camera's limit per marker, from the whole image, read once."""
        if self._scales is None:
            from islet_imaging.measurement.saturation import full_scales

            whole = slice(0, self.image.shape[0]), slice(0, self.image.shape[1])
            self._scales = full_scales(self.image, self.image.channel, markers, [whole])
        return self._scales

    def draw(
        self,
        table: pd.DataFrame,
        categories: NDArray[np.uint8],
        region: Region | None = None,
        *,
        filled: NDArray[np.bool_] | None = None,
        marked: NDArray[np.bool_] | None = None,
    ) -> Region:
        """Draw the outlines, all or those of a region.

        Parameters
        ----------
        table : DataFrame
            The image's cells.
        categories : ndarray of uint8
            One per row of the table.
        region : (slice, slice), optional
            Where to draw.
        filled, marked : ndarray of bool, optional
            Rows whose nuclei are filled, and that get a dot in the middle.

        Returns
        -------
        (slice, slice)
            What was drawn.
        """
        height, width = shape = self.labels.shape
        line = line_width_px(self.pixel_size_um)
        lookup, centre = self._lookup(table, categories)
        cells = table["cell"].to_numpy()
        fill = None
        if filled is not None and filled.any():
            fill = np.zeros(len(lookup), np.uint8)
            fill[cells[filled]] = FILL
        dots = np.zeros(0, int) if marked is None else cells[marked]
        if region is None:
            if self._map is None:
                self._map = OutlineMap(self.labels, centre, width_px=line)
            if fill is None:
                self.outlines[...] = 0
            else:
                np.take(fill, np.minimum(self.labels, len(fill) - 1), out=self.outlines)
            self._map.paint(self.outlines, lookup)
            draw_dots(self.outlines, centre[dots], lookup[dots], line)
            return slice(0, height), slice(0, width)
        # drawn with a margin, so that no outline ends at the edge of the region
        wide = grown_box([region], shape, line + 1)
        origin = (wide[0].start, wide[1].start)
        drawn = draw_outlines(self.labels[wide], lookup, centre, width_px=line, origin=origin)
        if fill is not None:
            inside = fill[np.minimum(self.labels[wide], len(fill) - 1)]
            drawn = np.where(drawn > 0, drawn, inside)
        draw_dots(drawn, centre[dots] - origin, lookup[dots], line)
        inner = tuple(
            slice(r.start - w.start, r.stop - w.start) for r, w in zip(region, wide, strict=True)
        )
        self.outlines[region] = drawn[inner]
        return region

    @property
    def drawn(self) -> bool:
        """Whether the outlines have been drawn at all."""
        return self._map is not None

    def cell_at(self, y_px: float, x_px: float) -> int:
        """Label at a place, 0 outside."""
        y, x = round(y_px), round(x_px)
        height, width = self.labels.shape
        return int(self.labels[y, x]) if 0 <= y < height and 0 <= x < width else 0

    def take_back(self, edit: Edit, *, again: bool = False) -> Region:
        """Put the nuclei of a shape edit back as they were; returns where they are.

        Parameters
        ----------
        edit : Edit
            The edit.
        again : bool
            Put them as the edit left them instead.
        """
        from islet_imaging.arrays.text_masks import decode_mask

        boxes: list[Region] = []
        old, new = (edit.before or (), edit.after or ())
        if again:
            old, new = new, old
        for shapes, erase in ((new, True), (old, False)):
            for shape in shapes:
                region, mask = decode_mask(shape["mask"])
                part = self.labels[region]
                if erase:
                    part[mask & (part == int(shape["cell"]))] = 0
                else:
                    part[mask] = int(shape["cell"])
                self.committed[region] = part
                boxes.append(region)
        return grown_box(boxes, self.labels.shape, 2)

    def forget_outlines(self) -> None:
        """Nuclei changed their shape: find the outline pixels anew when all are drawn again."""
        self._map = None

    def _lookup(
        self, table: pd.DataFrame, categories: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Category and centroid per label."""
        # one more than there are, for labels that are being painted and have no row yet
        top = int(table["cell"].max() if len(table) else 0) + 1
        lookup = np.zeros(top + 1, np.uint8)
        centre = np.zeros((top + 1, 2), np.float32)
        cells = table["cell"].to_numpy()
        lookup[cells] = categories
        centre[cells] = table[["y_px", "x_px"]].to_numpy(np.float32)
        return lookup, centre

    def region_of(self, rows: pd.DataFrame) -> Region | None:
        """A box that holds some cells with a margin; None for none."""
        if not len(rows):
            return None
        size = self.pixel_size_um or 0.5
        places = rows[["y_px", "x_px", "nucleus_area_um2"]].to_numpy(float)
        boxes = []
        for y, x, area in places:
            # a long nucleus reaches further than a round one of its area
            reach = int(2.5 * np.sqrt(max(area, 1.0) / np.pi) / size) + 4
            y0, x0 = int(y) - reach, int(x) - reach
            boxes.append((slice(y0, y0 + 2 * reach), slice(x0, x0 + 2 * reach)))
        return grown_box(boxes, self.labels.shape, 2)
