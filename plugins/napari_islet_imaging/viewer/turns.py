"""Work that must not hold up the window: in a thread, or a step in a turn of the event loop.

The idea: what takes long and touches no widget runs in a thread; what only the window's own thread
may do is cut into steps, and keys and clicks are heard between them.
It fails for one step that takes long by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

#: until the next turn; with 0 Qt may take several steps in one
TURN_MS = 1


def while_there(widget: QWidget, call: Callable[..., object]) -> Callable[..., None]:
    """The call, which does nothing once the widget that it speaks to is gone."""

    def guarded(*args: Any) -> None:
        if isalive(widget):
            call(*args)

    return guarded


def in_turns(steps: list[Callable[[], object]]) -> None:
    """Do one thing in a turn of the event loop, so that keys and clicks are heard between them."""

    def one() -> None:
        steps[0]()
        in_turns(steps[1:])

    if steps:
        QTimer.singleShot(TURN_MS, one)


def in_thread(
    work: Callable[[], Any], then: Callable[[Any], object], failed: Callable[[str], object]
) -> None:
    """Do something in a thread and hand what it gives, or its message, to the window's own."""
    from napari.qt.threading import create_worker

    def guarded() -> tuple[bool, Any]:
        # napari 0.9 trips over a worker that raises under one of the two Qt bindings
        try:
            return True, work()
        except Exception as error:
            return False, str(error)

    def done(found: tuple[bool, Any]) -> None:
        went_well, given = found
        (then if went_well else failed)(given)

    create_worker(guarded, _connect={"returned": done})
