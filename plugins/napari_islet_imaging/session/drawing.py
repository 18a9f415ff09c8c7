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

from napari_islet_imaging.session.colours import BY_CALL, EXCLUDED, NEUTRAL, SELECTED
from napari_islet_imaging.session.outlines import categories_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_islet_imaging.session.opened import OpenImage
    from napari_islet_imaging.session.outlines import Region
    from napari_islet_imaging.session.review import ReviewSession


#: so many cells are drawn one by one
_FEW = 40


def call_categories(session: ReviewSession, image: str) -> NDArray[np.uint8]:
    """What to draw of each cell of an image: its call for the marker under review, as shown."""
    table = session.tables[image]
    if session.open is not None and session.open.name == image:
        table = session.shown
    if not session.marker:  # nuclei without calls
        shown = np.full(len(table), NEUTRAL, np.uint8)
        shown[table["excluded"].to_numpy(bool)] = EXCLUDED
        return shown
    if session.hidden:  # only what the reviewer said is told
        shown = np.full(len(table), NEUTRAL, np.uint8)
        for row, cell in enumerate(table["cell"].to_numpy(int)):
            own = session.own_call(image, int(cell))
            if own:
                shown[row] = BY_CALL.get(own, EXCLUDED)
        return shown
    return categories_of(
        table[f"{session.marker}_call"].to_numpy(), table["excluded"].to_numpy(bool)
    )


def filled_rows(session: ReviewSession, table: pd.DataFrame) -> NDArray[np.bool_] | None:
    """Cells that are positive for the second marker, None where none is shown."""
    if not session.second or session.hidden:
        return None
    positive = table[f"{session.second}_call"].to_numpy() == "positive"
    return np.asarray(positive & ~table["excluded"].to_numpy(bool))


def marked_rows(
    session: ReviewSession, table: pd.DataFrame, categories: NDArray[np.uint8]
) -> NDArray[np.bool_] | None:
    """Cells that people decided; of those a blinded reviewer sees the own ones alone."""
    if session.hidden:
        return np.isin(categories, (NEUTRAL, SELECTED), invert=True)
    if "corrected_by" not in table:
        return None
    who = table["corrected_by"]
    return np.asarray((who.to_numpy() != "") & who.notna().to_numpy())


def draw_calls(session: ReviewSession, opened: OpenImage) -> OpenImage:
    """Draw all outlines of an image that need not be the open one; any thread may do it."""
    table, categories = session.tables[opened.name], call_categories(session, opened.name)
    opened.draw(
        table,
        categories,
        filled=filled_rows(session, table),
        marked=marked_rows(session, table, categories),
    )
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
        self._chosen: list[int] = []
        session.image_opened.connect(self._image_opened)
        session.display_changed.connect(self.redraw)
        session.trial_changed.connect(self.redraw)
        session.chosen_changed.connect(self._chosen_changed)
        session.shapes_changed.connect(self._shapes_changed)
        session.cells_changed.connect(self.redraw)
        if session.open is not None:
            self._image_opened()

    def redraw(self, cells: list[int] | None = None) -> None:
        """Draw all outlines again, or those around some cells.

        Parameters
        ----------
        cells : list of int, optional
            Only around these.
        """
        session = self.session
        if session.open is None:
            return
        region = None if cells is None else session.region_of(cells)
        if cells is not None and region is None:
            return
        self.changed.emit(self._draw(session.shown, region))

    def _draw(self, table: pd.DataFrame, region: Region | None) -> Region:
        session, categories = self.session, self._categories()
        assert session.open is not None
        return session.open.draw(
            table,
            categories,
            region,
            filled=filled_rows(session, table),
            marked=marked_rows(session, table, categories),
        )

    def _image_opened(self, *_: object) -> None:
        opened = self.session.open
        self._chosen = []
        if opened is not None and not opened.drawn:
            draw_calls(self.session, opened)

    def _chosen_changed(self) -> None:
        before, self._chosen = self._chosen, list(self.session.chosen)
        other = sorted(set(before) ^ set(self._chosen))
        # a few are drawn where they lie; of many, a patch around them would be most of the image
        self.redraw(other if len(other) <= _FEW else None)

    def _shapes_changed(self, region: Region) -> None:
        """Nuclei changed shape in a region: draw it again from the label image."""
        session = self.session
        if session.open is not None:
            session.open.forget_outlines()
            self.changed.emit(self._draw(session.table, region))

    def _categories(self) -> NDArray[np.uint8]:
        session = self.session
        assert session.open is not None
        shown = call_categories(session, session.open.name)
        if session.chosen:
            shown[np.isin(session.shown["cell"].to_numpy(), session.chosen)] = SELECTED
        return shown
