"""Which panel follows which session: a review docked, a run shown already, a run scored again.

The idea: panels are found among the viewer's dock widgets and asked what they follow; nobody keeps
a list of them.
It fails to find a panel that was taken out of its dock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_islet_imaging.viewer.layers import tag_of
from napari_islet_imaging.viewer.turns import in_turns, while_there
from napari_islet_imaging.widgets.review import ReviewWidget

if TYPE_CHECKING:
    from pathlib import Path

    import napari

    from napari_islet_imaging.session.review import ReviewSession

#: as napari calls the panel that its menu opens, so that the menu knows of ours
REVIEW_NAME = "Review cells (Islet imaging)"


def dock_review(viewer: napari.Viewer, session: ReviewSession) -> None:
    """Open the review of a session as a tab on the right, or bring it to the front."""
    for docked in list(viewer.window.dock_widgets.values()):
        if not isinstance(docked, ReviewWidget):
            continue
        if docked.session is None:
            docked.attach(session)
            docked.start()
        if docked.session is session:
            dock = docked.parentWidget()
            if dock is not None:
                dock.show()
                dock.raise_()
            return
        # one panel has the keys; what was decided in the other one is on the disk
        viewer.window.remove_dock_widget(docked)
    widget = ReviewWidget(viewer, session)
    in_turns(
        [
            lambda: viewer.window.add_dock_widget(
                widget, name=REVIEW_NAME, area="right", tabify=True
            ),
            while_there(widget, widget.start),
        ]
    )


def session_of(viewer: napari.Viewer, run: Path) -> ReviewSession | None:
    """The session of a run that is shown or followed by a panel, if there is one."""
    found = [getattr(w, "session", None) for w in viewer.window.dock_widgets.values()]
    found += [tag_of(layer).get("session") for layer in viewer.layers]
    return next((s for s in found if s is not None and s.run.path.resolve() == run.resolve()), None)


def switch_session(viewer: napari.Viewer, before: ReviewSession, session: ReviewSession) -> None:
    """Panels that follow a run's session follow the one of its new scoring."""
    session.set_reviewer(before.reviewer)
    if before.marker in session.protocol.markers:
        session.set_marker(before.marker)
    if before.blinded:
        session.set_blinded(True)
    for docked in viewer.window.dock_widgets.values():
        if getattr(docked, "session", None) is before and hasattr(docked, "attach"):
            docked.attach(session)
