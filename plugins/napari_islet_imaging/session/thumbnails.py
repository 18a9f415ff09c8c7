"""Small pictures of cells in the queue: what comes next is seen before it comes.

The idea: a crop around the nucleus shows the marker in grey between two levels of the whole image,
the DNA in blue under it and the drawn outlines over it, as the image beside does.
It fails for cells of an image that is not open: their pixels are not read for a thumbnail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_islet_imaging.session.colours import (
    CATEGORIES,
    NEUTRAL,
    NEUTRAL_COLOUR,
    SELECTED,
    SELECTED_COLOUR,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_islet_imaging.session.review import ReviewSession

#: width of tissue that is shown, um, and px where no pixel size is known
SHOWN_UM, SHOWN_PX = 30.0, 60
_COLOURS = {
    **{value: colour for value, (_, colour, _) in CATEGORIES.items()},
    NEUTRAL: NEUTRAL_COLOUR,
    SELECTED: SELECTED_COLOUR,
}


def upcoming(session: ReviewSession, n: int) -> list[int]:
    """Cells of the open image that the queue holds from where it is, the one in focus first."""
    if session.open is None:
        return []
    queue = session.queue
    rest = queue.cells[max(queue.position, 0) :]
    return [entry.cell for entry in rest if entry.image == session.open.name][:n]


def thumbnail(
    session: ReviewSession, cell: int, levels: dict[str, tuple[float, float]]
) -> NDArray[np.uint8] | None:
    """A picture around a cell of the open image.

    Parameters
    ----------
    session : ReviewSession
        Its open image is shown.
    cell : int
        The cell.
    levels : dict of str to (float, float)
        Black and white of each channel, as in the window.

    Returns
    -------
    ndarray of uint8, (Y, X, 3), or None
        None for a cell that is not there.
    """
    row, opened = session.row(cell), session.open
    if row is None or opened is None:
        return None
    edge = SHOWN_PX if not opened.pixel_size_um else max(12, round(SHOWN_UM / opened.pixel_size_um))
    height, width = opened.labels.shape
    y0 = int(min(max(float(row["y_px"]) - edge / 2, 0), max(height - edge, 0)))
    x0 = int(min(max(float(row["x_px"]) - edge / 2, 0), max(width - edge, 0)))
    region = (slice(y0, min(y0 + edge, height)), slice(x0, min(x0 + edge, width)))
    dna, marker = session.protocol.dna, session.marker
    blue = _shown(opened.image.channel(dna, region), levels.get(dna))
    grey = _shown(opened.image.channel(marker, region), levels.get(marker)) if marker else blue
    rgb = np.stack([grey, grey, np.maximum(grey, 0.6 * blue)], axis=-1)
    picture = (255 * rgb).astype(np.uint8)
    drawn = opened.outlines[region]
    for value, colour in _COLOURS.items():
        picture[drawn == value] = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return picture


def _shown(pixels: NDArray[np.generic], levels: tuple[float, float] | None) -> NDArray[np.float32]:
    values = np.asarray(pixels, np.float32)
    low, high = levels or (float(values.min(initial=0)), float(values.max(initial=1)))
    shown: NDArray[np.float32] = np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0)
    return shown
