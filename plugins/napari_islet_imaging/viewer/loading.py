"""Opening a run without holding up the window.

The idea: reading tables and pixels and drawing outlines happens in a thread; what only the window's
own thread may do, putting layers into the viewer, is done one layer at a time in its event loop.
It fails with the library's message, given to the widget that asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session.review import ReviewSession


def load_session(
    viewer: napari.Viewer,
    path: str | Path,
    then: Callable[[ReviewSession], object],
    failed: Callable[[str], object],
    *,
    show: bool = True,
    instead: Iterable[Any] = (),
) -> None:
    """Open a run in a thread and hand its session over in the window's own.

    Parameters
    ----------
    viewer : napari.Viewer
        Where its first image is shown.
    path : path
        The run folder.
    then : callable
        Gets the session, when its layers are there.
    failed : callable
        Gets the message of what went wrong, or that nothing was scored.
    show : bool
        Whether to open an image: the one that the queue begins with.
    instead : iterable of layers
        Those of what was scored; they become layers of the run.
    """
    from napari_islet_imaging.session.layer_data import KEY
    from napari_islet_imaging.viewer.layers import lock, reusable_layers
    from napari_islet_imaging.viewer.session_view import prepare, view_of
    from napari_islet_imaging.viewer.turns import in_thread

    def read() -> tuple[ReviewSession, list[tuple[Any, dict[str, Any]]], Any]:
        from islet_imaging.errors import IsletImagingError
        from islet_imaging.run.folder import Run
        from napari_islet_imaging.session.review import ReviewSession

        session = ReviewSession(Run.open(path))
        if not session.tables:
            raise IsletImagingError(
                "Nothing could be scored; run.log in the results folder says why."
            )
        reused = reusable_layers(session, instead)
        if not show:
            return session, reused, None
        try:
            tags = [tag for _, tag in reused]
            return session, reused, prepare(session, session.image_names[0], tags)
        except IsletImagingError as error:  # the run is there all the same, as without its images
            return session, [], str(error)

    def deliver(found: tuple[ReviewSession, list[tuple[Any, dict[str, Any]]], Any]) -> None:
        session, reused, image = found
        for layer, tag in reused:
            layer.metadata[KEY] = tag
            if tag.get("channel") not in (None, layer.name):
                layer.name = tag["channel"]
            lock(layer)
        view = view_of(viewer, session)
        if image is None:
            then(session)
        elif isinstance(image, str):
            then(session)
            failed(image)
        else:
            opened, prepared = image
            view.show_prepared(opened, prepared, lambda: then(session))

    in_thread(read, deliver, failed)
