"""Opening a run without holding up the window.

The idea: reading tables and pixels happens in a thread; the layers, which only the window's own
thread may touch, are made from what comes back.
It fails with the library's message, given to the widget that asked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_islet_imaging.session import ReviewSession


def open_session(path: str | Path) -> ReviewSession | None:
    """A session with its first sample open, None where no sample was scored."""
    from islet_imaging.run import Run
    from napari_islet_imaging.session import ReviewSession

    run = Run.open(path)
    images = run.images
    samples = images[(images["status"] == "scored") & (images["role"] == "sample")]["image"]
    if not len(samples):
        return None
    session = ReviewSession(run)
    session.open_image(next((n for n in session.image_names if n in set(samples)), samples.iloc[0]))
    return session


def load_session(
    path: str | Path,
    then: Callable[[ReviewSession | None], None],
    failed: Callable[[str], None],
) -> None:
    """Open a session in a thread and hand it over in the window's own.

    Parameters
    ----------
    path : path
        The run folder.
    then : callable
        Gets the session.
    failed : callable
        Gets the message of what went wrong.
    """
    from napari.qt.threading import create_worker

    create_worker(
        open_session,
        path,
        _connect={"returned": then, "errored": lambda error: failed(str(error))},
    )
