"""Make the pictures of docs/napari.md from a real window.

``python benchmarks/napari/pictures.py RUN docs/images`` (needs a display)

The idea: the widgets are driven as a reader would drive them and photographed; so the pictures show
the plugin as it is.  Where the run taught a network, its comparison is shown as it came.
It fails to be the same to the pixel on another system's fonts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    """Drive the window and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--taught", type=Path, help="a run that taught a network, for its picture")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="islets-") as folder:
        # on a copy, so that the run itself is not corrected
        run = Path(folder) / arguments.run.resolve().name
        shutil.copytree(arguments.run, run)
        (run / "corrections.jsonl").unlink(missing_ok=True)
        take(run, arguments.out, arguments.taught)


def take(run: Path, out: Path, taught: Path | None) -> None:
    """Take all pictures."""
    import napari
    from napari_islet_imaging import open_review
    from napari_islet_imaging.session.review import ReviewSession
    from napari_islet_imaging.widgets.cells import CellsWidget
    from napari_islet_imaging.widgets.score import ScoreWidget
    from napari_islet_imaging.widgets.shares import SharesWidget
    from napari_islet_imaging.widgets.teach import TeachWidget
    from PIL import Image
    from qtpy.QtWidgets import QApplication

    from islet_imaging.run.folder import Run

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1366, 768)

    def picture(name: str) -> None:
        for _ in range(10):
            QApplication.processEvents()
            time.sleep(0.03)
        pixels = viewer.screenshot(canvas_only=False, flash=False)
        image = Image.fromarray(np.asarray(pixels)[..., :3]).quantize(200, dither=Image.Dither.NONE)
        image.save(out / f"{name}.png", optimize=True)

    review = open_review(viewer, Run.open(run), reviewer="ana")
    for action in ("positive", "negative", "unsure", "positive"):
        review.act(action)
    review.strip.fill()
    picture("napari-review")
    review.tools.paint_button.setChecked(True)
    picture("napari-paint")
    review.tools.paint_button.setChecked(False)
    session = review.session
    viewer.window.remove_dock_widget(review)
    cells = CellsWidget(viewer, session)
    viewer.window.add_dock_widget(cells, name="Understand the calls", area="right")
    session.set_focus(session.queue.cells[2].cell)
    session.view.centre_on_focus()
    picture("napari-understand")
    session.set_second(next(m for m in session.protocol.markers if m != session.marker))
    picture("napari-scatter")
    viewer.window.remove_dock_widget(cells)
    table = SharesWidget(viewer, session)
    viewer.window.add_dock_widget(table, name="Shares and corrected cells", area="right")
    table.tabs.setCurrentIndex(1)
    picture("napari-table")
    viewer.window.remove_dock_widget(table)
    session.set_second("")
    if taught is not None:
        teach = TeachWidget(viewer, ReviewSession(Run.open(taught)))
        viewer.window.add_dock_widget(teach, name="Teach the network", area="right")
        for found in sorted(taught.glob(".work/teach/*/comparison.json")):
            teach.name_edit.setText(found.parent.name)
            said = json.loads(found.read_text("utf-8"))
            teach.show_result({**said, "model": str(found.parent / "model")})
        picture("napari-teach")
        viewer.window.remove_dock_widget(teach)
    score = ScoreWidget(viewer)
    viewer.window.add_dock_widget(score, name="Score an image", area="right")
    session.set_focus(0)
    viewer.reset_view()
    picture("napari-score")
    viewer.close()


if __name__ == "__main__":
    main()
