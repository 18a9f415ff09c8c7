"""How quick the plugin is in a real window; one command writes ``benchmarks/napari/results.md``.

``python benchmarks/napari/run.py`` (needs the napari extra and a display, which ``xvfb-run -a``
gives)

The idea: a run of a 4096 x 4096 image with 10,000 cells is opened, 100 queued cells are reviewed by
key events on the canvas, the threshold of 100,000 cells is dragged by mouse events; every time is
from the event to the end of the repaint.  Wall time and the process's own CPU time are both given:
on a busy machine only the second says what the plugin costs.
``--beside CHECKOUT`` measures another checkout in the same run, which is the only fair comparison.
It fails to tell what a graphics card would do: under Xvfb everything is drawn by the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from synthetic_run import make_run

HERE = Path(__file__).parent


class Clock:
    """Wall and CPU seconds of repeated steps."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def time(self, step: Callable[[], object]) -> None:
        """Run a step and note how long it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)

    def row(self, name: str, target: str) -> list[str]:
        """A row of the table."""
        wall, cpu = np.array(self.wall), np.array(self.cpu)
        times = (np.median(wall), np.percentile(wall, 95), np.median(cpu))
        return [name, str(len(wall)), *(f"{t:.3f}" for t in times), target]


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=4096, help="height and width of the image, px")
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--run", type=Path, help="a run made before, instead of a new one")
    parser.add_argument(
        "--beside", type=Path, help="another checkout, whose CPU times are given beside ours"
    )
    parser.add_argument("--rows", type=Path, help="write the rows as JSON and nothing else")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or make_run(
            Path(folder),
            images=1,
            shape=(arguments.edge, arguments.edge),
            n_cells=arguments.cells,
        )
        fresh = Path(folder) / "fresh"
        shutil.copytree(run, fresh)
        rows = measure(fresh, arguments.keys)
        if arguments.rows is not None:
            arguments.rows.write_text(json.dumps(rows))
            return
        before = None
        if arguments.beside is not None:
            before = other(arguments.beside, run, arguments.keys, Path(folder) / "rows.json")
    columns = ["step", "times", "median, s", "95 %, s", "CPU, median, s", "target"]
    if before is not None:
        columns.insert(4, "CPU before, s")
        for row, old in zip(rows, before, strict=True):
            row.insert(4, old[4])
    head = [
        "# Speed of the napari plugin",
        "",
        f"Written by `python benchmarks/napari/run.py --edge {arguments.edge} "
        f"--cells {arguments.cells}`; {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores with a load of {os.getloadavg()[0]:.0f} from other work; drawn by "
        "the processor (Xvfb)."
        + (f" Before: commit {commit(arguments.beside)}, in the same run." if before else ""),
        "",
        f"| {' | '.join(columns)} |",
        f"| {' | '.join(['---'] * len(columns))} |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    text = "\n".join(head) + "\n"
    (HERE / "results.md").write_text(text)
    print(text)


def other(checkout: Path, run: Path, keys: int, out: Path) -> list[list[str]]:
    """The rows of another checkout, measured by this script."""
    paths = os.pathsep.join([str(checkout), str(checkout / "plugins")])
    command = [sys.executable, __file__, "--run", run, "--keys", str(keys), "--rows", out]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})
    rows: list[list[str]] = json.loads(out.read_text())
    return rows


def commit(checkout: Path) -> str:
    """Which commit a checkout is at."""
    command = ["git", "-C", checkout, "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def measure(run: Path, keys: int) -> list[list[str]]:
    """Rows of the table."""
    import napari
    from napari_islet_imaging import open_review
    from napari_islet_imaging.viewer.histogram import Histogram
    from qtpy.QtCore import QPointF, Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication, QWidget

    from islet_imaging.run.folder import Run

    def settle() -> None:
        for _ in range(4):
            QApplication.processEvents()

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 900)
    settle()
    opened = Clock()
    found = []
    opened.time(lambda: (found.append(open_review(viewer, Run.open(run), reviewer="t")), settle()))
    widget = found[0]
    canvas = next(
        w
        for top in QApplication.topLevelWidgets()
        for w in top.findChildren(QWidget)
        if type(w).__name__ == "CanvasBackendDesktop"
    )
    pressed, edit = Clock(), Clock()
    order = (Qt.Key.Key_J, Qt.Key.Key_K, Qt.Key.Key_U)
    for k in range(keys):
        before = widget.session.queue.position

        def press(key: Qt.Key = order[k % 3]) -> None:
            QTest.keyClick(canvas, key)
            settle()

        pressed.time(press)
        if widget.session.queue.position == before and before + 1 < len(widget.session.queue.cells):
            raise RuntimeError("the key did not reach the plugin")
    for _ in range(20):
        edit.time(lambda: (widget.session.call("positive"), widget.session.step()))
    undo = Clock()
    for _ in range(10):
        undo.time(lambda: (widget.act("undo"), settle()))

    histogram = Histogram()
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.lognormal(5, 0.3, 60_000), rng.lognormal(7, 0.5, 40_000)])
    histogram.set_values(values, control=rng.lognormal(5, 0.3, 20_000))
    histogram.set_threshold(400.0)
    histogram.resize(360, 240)
    histogram.show()
    settle()
    counted = []
    histogram.threshold_moved.connect(lambda cut: counted.append(float((values > cut).mean())))
    moved = Clock()
    y = 100
    start = QPointF(histogram.x_of(400.0), y).toPoint()
    QTest.mousePress(histogram, Qt.MouseButton.LeftButton, pos=start)
    for x in np.linspace(60, 300, 60):

        def move(x: float = x) -> None:
            QTest.mouseMove(histogram, QPointF(float(x), y).toPoint())
            settle()

        moved.time(move)
    from napari_islet_imaging.widgets.cells import CellsWidget

    cells = CellsWidget(viewer, widget.session)
    viewer.window.add_dock_widget(cells, name="cells", area="right", tabify=True)
    settle()
    whole = Clock()
    cuts = np.nanpercentile(cells._values(), np.linspace(30, 90, 20))
    for cut in cuts:

        def redraw(cut: float = float(cut)) -> None:
            cells.move_threshold(cut)
            cells._try()  # at once, not when the timer lets it
            settle()

        whole.time(redraw)
    viewer.close()
    return [
        opened.row("open the run for review", "< 5 s"),
        pressed.row("key press to next cell, repainted", "< 0.15 s"),
        edit.row("  of which edit on the disk and queue, without repaint", ""),
        undo.row("undo, repainted", ""),
        moved.row("drag of the threshold, histogram of 100,000 cells", "< 0.1 s"),
        whole.row("drag of the threshold with all outlines of the image", "< 0.1 s"),
    ]


if __name__ == "__main__":
    main()
