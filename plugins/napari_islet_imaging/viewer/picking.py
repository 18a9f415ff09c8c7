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
    from napari_islet_imaging.viewer.connections import Connections


def pick_with_clicks(
    viewer: napari.Viewer,
    connections: Connections,
    session: Callable[[], ReviewSession | None],
    picked: Callable[[int, bool], None],
) -> None:
    """Call ``picked(cell, shift)`` for clicks on the image that are not strokes of a brush."""

    def on_click(viewer: napari.Viewer, event: Any) -> Any:
        here = session()
        active = viewer.layers.selection.active
        mode = str(getattr(active, "mode", "pan_zoom"))
        if here is None or here.open is None or mode != "pan_zoom" or event.button != 1:
            return
        start = tuple(event.pos) if hasattr(event, "pos") else ()
        yield
        while event.type == "mouse_move":
            yield
        if start and sum(abs(a - b) for a, b in zip(start, event.pos, strict=True)) > 4:
            return
        size = here.open.pixel_size_um or 1.0
        y, x = (float(v) / size for v in event.position[-2:])
        picked(here.cell_at(y, x), "Shift" in event.modifiers)

    viewer.mouse_drag_callbacks.append(on_click)
    connections.later(lambda: viewer.mouse_drag_callbacks.remove(on_click))
