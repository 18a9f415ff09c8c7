"""Driving a real window: waiting for it, and finding the widget that the image is drawn on."""

from __future__ import annotations

import time

from qtpy.QtWidgets import QApplication, QWidget


def settle(seconds=0.05):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)


def arrive(widget):
    """Wait until the image that a widget opens is there."""
    end = time.monotonic() + 60
    settle()
    while widget.view is None or widget.view.opening:
        assert time.monotonic() < end, widget.message.text()
        settle()


def canvas_of(viewer):
    """The widget that napari draws the image on."""
    window = QApplication.activeWindow() or QApplication.topLevelWidgets()[0]
    found = [
        w
        for top in QApplication.topLevelWidgets()
        for w in top.findChildren(QWidget)
        if type(w).__name__ in ("CanvasBackendDesktop",)
    ]
    assert found, window
    return found[0]
