"""islet-imaging in napari: see every call, correct it in seconds, lose nothing.

The idea: the widgets parse, call the library's public functions and show what comes back; a review
lives in a `ReviewSession` that writes each edit to the run's journal before it is shown.
It fails when a number is computed here that the library does not compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import napari

    from islet_imaging.run.folder import Run
    from napari_islet_imaging.widgets.review import ReviewWidget

__all__ = ["open_review"]


def open_review(
    viewer: napari.Viewer,
    run: Run,
    *,
    image: str | None = None,
    reviewer: str | None = None,
    blinded: bool = False,
) -> ReviewWidget:
    """Open a run in a viewer with the review queue beside it.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    run : Run
        The run folder.
    image : str, optional
        Begin with this image instead of the first of the queue.
    reviewer : str, optional
        The name kept with every edit; by default the login name.
    blinded : bool
        Hide file and condition, and shuffle.

    Returns
    -------
    ReviewWidget
        The docked widget.
    """
    from islet_imaging.errors import IsletImagingError
    from napari_islet_imaging.session.review import ReviewSession
    from napari_islet_imaging.widgets.docking import REVIEW_NAME
    from napari_islet_imaging.widgets.review import ReviewWidget

    session = ReviewSession(run, reviewer=reviewer, blinded=blinded)
    if image is not None and image not in session.tables:
        raise IsletImagingError(
            f"{run.path}: no scored image {image!r}; it has {sorted(session.tables)}"
        )
    widget = ReviewWidget(viewer, session=session)
    viewer.window.add_dock_widget(widget, name=REVIEW_NAME, area="right")
    widget.start(image)
    return widget
