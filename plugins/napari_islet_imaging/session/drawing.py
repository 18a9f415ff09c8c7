"""The outlines of the open image, drawn as the review goes on.

The idea: this listens to a review and draws what it says: all calls when an image is opened or
another marker is chosen, a small patch after an edit; cells that are chosen are outlined as chosen
whatever their call.  Who shows the outlines listens to it in turn.
It fails for labels that have no row in the table: they are not drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from napari_islet_imaging.session.colours import SELECTED
from napari_islet_imaging.session.outlines import categories_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_islet_imaging.session.opened import OpenImage
    from napari_islet_imaging.session.outlines import Region
    from napari_islet_imaging.session.review import ReviewSession


def call_categories(session: ReviewSession, image: str) -> NDArray[np.uint8]:
    """What to draw of each cell of an image: its call for the marker under review."""
    table = session.tables[image]
    return categories_of(
        table[f"{session.marker}_call"].to_numpy(), table["excluded"].to_numpy(bool)
    )


def draw_calls(session: ReviewSession, opened: OpenImage) -> OpenImage:
    """Draw all outlines of an image that need not be the open one; any thread may do it."""
    opened.draw(session.tables[opened.name], call_categories(session, opened.name))
    return opened


class CallOutlines:
    """Keeps the outlines of a review's open image as its calls are.

    Parameters
    ----------
    session : ReviewSession
        What to draw.
    """

    #: region of the open image whose outlines were drawn anew
    changed = Signal(object)

    def __init__(self, session: ReviewSession) -> None:
        self.session = session
        self._marked: list[int] = []
        session.image_opened.connect(self._image_opened)
        session.marker_changed.connect(self.redraw)
        session.shapes_changed.connect(self._shapes_changed)
        session.cells_changed.connect(self.redraw)
        if session.open is not None:
            self._image_opened()

    def mark(self, cells: list[int]) -> None:
        """Outline these cells of the open image as chosen, and none else."""
        before, self._marked = self._marked, list(cells)
        self.redraw(sorted({*before, *cells}))

    def redraw(
        self, cells: list[int] | None = None, categories: NDArray[np.uint8] | None = None
    ) -> None:
        """Draw all outlines again, or those around some cells.

        Parameters
        ----------
        cells : list of int, optional
            Only around these.
        categories : ndarray of uint8, optional
            To show instead of the calls, one per row of the open image's table.
        """
        session = self.session
        if session.open is None:
            return
        region = None if cells is None else session.region_of(cells)
        if cells is not None and region is None:
            return
        shown = self._categories() if categories is None else categories
        self.changed.emit(session.open.draw(session.table, shown, region))

    def _image_opened(self, *_: object) -> None:
        opened = self.session.open
        self._marked = []
        if opened is not None and not opened.drawn:
            draw_calls(self.session, opened)

    def _shapes_changed(self, region: Region) -> None:
        """Nuclei changed shape in a region: draw it again from the label image."""
        session = self.session
        if session.open is not None:
            session.open.forget_outlines()
            self.changed.emit(session.open.draw(session.table, self._categories(), region))

    def _categories(self) -> NDArray[np.uint8]:
        session = self.session
        assert session.open is not None
        shown = call_categories(session, session.open.name)
        if self._marked:
            shown[np.isin(session.table["cell"].to_numpy(), self._marked)] = SELECTED
        return shown
