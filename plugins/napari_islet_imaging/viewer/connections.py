"""What a widget is connected to, let go of in one stroke.

The idea: whatever a widget connects to, it notes in one list, and the list is emptied when the
widget goes; so a widget can be closed and opened as often as one likes.
It fails if a callback is connected around that list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Connections:
    """What a widget is connected to, so that it can let go of all of it."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], Any]] = []

    def add(self, signal: Any, callback: Callable[..., Any]) -> None:
        """Connect, and remember how to disconnect."""
        signal.connect(callback)
        self._undo.append(lambda: signal.disconnect(callback))

    def later(self, undo: Callable[[], Any]) -> None:
        """Remember something else to be undone."""
        self._undo.append(undo)

    def clear(self, *_: Any) -> None:
        """Let go of everything."""
        for undo in self._undo:
            try:
                undo()
            except (RuntimeError, TypeError, ValueError, KeyError):
                # the other side is gone already, which is what was wanted
                continue
        self._undo.clear()
