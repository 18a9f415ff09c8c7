"""Run as a script: a real napari window scores an image and shows the review, then closes.

``python window_scoring.py IMAGE RUN``; what it does to files and network is watched from outside.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import napari
from qtpy.QtWidgets import QApplication


def wait(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not done():
        assert time.monotonic() < end, "took too long"
        QApplication.processEvents()
        time.sleep(0.02)


def main(image: str, run: str) -> None:
    viewer = napari.Viewer()
    viewer.open(image, plugin="islet-imaging")
    _, panel = viewer.window.add_plugin_dock_widget("islet-imaging", "Score an image")
    panel.out_edit.setText(run)
    wait(lambda: panel.channels.rowCount() == len(viewer.layers))
    panel.score()
    assert panel.job is not None, panel.status.text()
    wait(lambda: not panel.job.running and panel.result.text() != "")
    viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
