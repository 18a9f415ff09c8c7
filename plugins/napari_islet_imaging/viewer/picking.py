"""Clicks on the image, told as cells.

The idea: a click that did not move is a choice, whatever napari makes of it besides; a stroke of a
brush or a drag of the image is none.
It fails for a place that no nucleus covers: that is cell 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session.review import ReviewSession


def pick_with_clicks(
    viewer: napari.Viewer, session: ReviewSession, listening: Callable[[], bool]
) -> None:
    """Tell a review of clicks on the image that are not strokes of a brush.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the image is.
    session : ReviewSession
        Whose cells are picked.
    listening : callable
        Whether its image is what is seen.
    """

    def on_click(viewer: napari.Viewer, event: Any) -> Any:
        active = viewer.layers.selection.active
        mode = str(getattr(active, "mode", "pan_zoom"))
        opened = session.open
        if opened is None or not listening() or mode != "pan_zoom" or event.button != 1:
            return
        start = tuple(event.pos) if hasattr(event, "pos") else ()
        yield
        while event.type == "mouse_move":
            yield
        if start and sum(abs(a - b) for a, b in zip(start, event.pos, strict=True)) > 4:
            return
        size = opened.pixel_size_um or 1.0
        y, x = (float(v) / size for v in event.position[-2:])
        session.pick(opened.cell_at(y, x), add="Shift" in event.modifiers)

    viewer.mouse_drag_callbacks.append(on_click)
