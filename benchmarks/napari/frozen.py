"""How long the window stands still while work is done; writes ``benchmarks/napari/frozen.md``.

``python benchmarks/napari/frozen.py`` (needs the napari extra and a display, which ``xvfb-run -a``
gives)

The idea: a timer of 2 ms lives in the window's event loop, and the time between two of its ticks is
a time in which no key or click was heard.  The longest such gap is noted while an image is scored,
its result arrives and its layers are added, a folder is scored and a large run is opened.  The CPU
time of the window's own thread in that gap is noted too: on a busy machine a gap is longer than the
work in it; and how long Python itself stood still to collect garbage, which it does when it likes
and which takes longer the more modules are loaded, napari's most of all.
It fails to tell a gap that is ours from one that the operating system made by itself.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from synthetic_run import make_run

HERE = Path(__file__).parent
LIMIT_S = 0.2


class Gaps:
    """Times between the ticks of a timer in Qt's event loop; a context manager."""

    def __enter__(self) -> Gaps:
        """Begin."""
        from qtpy.QtCore import QTimer

        self.wall: list[float] = []
        self.cpu: list[float] = []
        self._last = (time.perf_counter(), time.thread_time())
        self.collecting = [0.0]
        gc.callbacks.append(self._collecting)
        self._timer = QTimer()
        self._timer.setInterval(2)
        self._timer.timeout.connect(self._tick)
        self._timer.start()
        return self

    def _tick(self) -> None:
        now = (time.perf_counter(), time.thread_time())
        self.wall.append(now[0] - self._last[0])
        self.cpu.append(now[1] - self._last[1])
        self._last = now

    def _collecting(self, phase: str, _: object) -> None:
        now = time.perf_counter()
        if phase == "stop" and threading.current_thread() is threading.main_thread():
            self.collecting.append(now - self._collection)
        self._collection = now

    def __exit__(self, *_: object) -> None:
        """End; what runs until here counts."""
        self._tick()
        self._timer.stop()
        gc.callbacks.remove(self._collecting)

    def row(self, name: str) -> str:
        """A row of the table."""
        wall, cpu = np.array(self.wall), np.array(self.cpu)
        return (
            f"| {name} | {wall.sum():.1f} | {wall.max():.3f} | {(wall > LIMIT_S).sum()} | "
            f"{cpu.max():.3f} | {max(self.collecting):.3f} |"
        )


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=2048, help="edge of the scored image, px")
    parser.add_argument("--run-edge", type=int, default=4096, help="edge of the opened run, px")
    parser.add_argument("--out", type=Path, default=HERE / "frozen.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = measure(Path(folder), arguments.edge, arguments.run_edge)
    head = [
        "# How long the window stands still",
        "",
        f"Written by `python benchmarks/napari/frozen.py --edge {arguments.edge} --run-edge "
        f"{arguments.run_edge}`; {platform.system()} {platform.machine()}, {os.cpu_count()} cores "
        f"with a load of {os.getloadavg()[0]:.0f}; drawn by the processor (Xvfb). Limit: "
        f"{LIMIT_S} s.",
        "",
        "| while | seconds in all | longest gap, s | gaps over the limit | "
        "CPU of the window's thread in a gap, at most, s | longest collection of garbage, s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    text = "\n".join([*head, *lines]) + "\n"
    arguments.out.write_text(text)
    print(text)


def wait(until: Callable[[], bool], seconds: float = 600.0) -> None:
    """Run the event loop until something holds, and half a second on."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    extra = None
    while extra is None or time.monotonic() < extra:
        QApplication.processEvents()
        if extra is None and until():
            extra = time.monotonic() + 0.5
        if time.monotonic() > end:
            raise RuntimeError("it did not end")
        time.sleep(0.001)


def measure(folder: Path, edge: int, run_edge: int) -> list[str]:
    """Rows of the table."""
    import napari
    from napari_islet_imaging.widgets.batch import BatchWidget
    from napari_islet_imaging.widgets.review import ReviewWidget
    from napari_islet_imaging.widgets.score import ScoreWidget

    n_cells = 2500 * edge**2 // 2048**2
    # in a process of its own: what it imports would weigh on the window's collections of garbage
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        images = pool.submit(
            make_run, folder / "small", images=4, shape=(edge, edge), n_cells=n_cells
        )
        big = pool.submit(
            make_run,
            folder / "big",
            images=2,
            shape=(run_edge, run_edge),
            n_cells=10_000 * run_edge**2 // 4096**2,
        )
        images, big = images.result().parent, big.result()
    rows = []
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 900)
    wait(lambda: True)

    viewer.open(str(images / "images" / "islet_1.ome.tif"), plugin="islet-imaging")
    score = ScoreWidget(viewer)
    viewer.window.add_dock_widget(score, name="score")
    score.out_edit.setText(str(folder / "scored"))
    wait(lambda: True)
    with Gaps() as gaps:
        score.score()
        wait(lambda: not score.job.running)
    rows.append(gaps.row(f"an image of {edge} x {edge} x 3 is scored"))
    with Gaps() as gaps:
        wait(lambda: score.review_button.isVisible())
    rows.append(gaps.row("its result arrives, layers are added"))
    with Gaps() as gaps:
        score.review()
        wait(lambda: True)
    rows.append(gaps.row("the review is opened on it"))
    for dock in list(viewer.window.dock_widgets.values()):
        viewer.window.remove_dock_widget(dock)
    viewer.layers.clear()

    batch = BatchWidget(viewer)
    viewer.window.add_dock_widget(batch, name="batch")
    batch.folder_edit.setText(str(images / "images"))
    batch.out_edit.setText(str(folder / "folder-scored"))
    with Gaps() as gaps:
        batch.score()
        wait(lambda: batch.review_button.isEnabled())
    rows.append(gaps.row("a folder of 4 such images is scored and its run opened"))
    viewer.window.remove_dock_widget(batch)
    viewer.layers.clear()

    review = ReviewWidget(viewer)
    viewer.window.add_dock_widget(review, name="review")
    wait(lambda: True)
    with Gaps() as gaps:
        review.open_run(big)
        wait(
            lambda: review.session is not None and bool(viewer.layers) and review.session.focus > 0
        )
    rows.append(gaps.row(f"a run of two images of {run_edge} x {run_edge} is opened"))
    first = review.session.open.name
    with Gaps() as gaps:
        other = next(n for n in review.session.image_names if n != first)
        review.image_box.setCurrentText(review.session.shown_name(other))
        review.image_box.activated.emit(review.image_box.currentIndex())
        wait(lambda: review.session.open.name == other)
    rows.append(gaps.row("the other image of that run is opened"))
    viewer.close()
    return rows


if __name__ == "__main__":
    main()
