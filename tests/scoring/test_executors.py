"""Workers that die, images that kill, and processes that must not be left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import starmap
from pathlib import Path

import pytest

from islet_imaging.errors import Cancelled, IsletImagingError
from islet_imaging.run.files import RunWriteError
from islet_imaging.scoring import executors
from islet_imaging.scoring.executors import run_tasks
from islet_imaging.scoring.task import Outcome, Task


def task(image: str, folder: Path) -> Task:
    return Task(image, (), {}, str(folder), {}, "", 1, "cpu", None)


def pretend(given: Task, _: object = None) -> Outcome:
    """A stand-in for measuring: what happens is in the image's name."""
    with (Path(given.run) / "log").open("a") as stream:
        stream.write(f"{given.image} {os.getpid()}\n")
    if given.image.startswith("poison"):
        os._exit(9)
    if given.image.startswith("once") and not (Path(given.run) / given.image).exists():
        (Path(given.run) / given.image).touch()
        os._exit(9)
    if given.image.startswith("full"):
        raise RunWriteError("disk full")
    if given.image.startswith("long"):
        time.sleep(600)
    return Outcome(given.image, "scored")


@pytest.fixture(autouse=True)
def _pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "measure_task", pretend)


def go(names: list[str], folder: Path, **more: object) -> dict[str, Outcome]:
    options = {"workers": 2, "executor": None, "tell": lambda _: None, "cancelled": None}
    return run_tasks([task(n, folder) for n in names], **{**options, **more})


def gone(pid: int) -> bool:
    for _ in range(600):
        try:
            os.kill(pid, 0)
            # a zombie answers too
            if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def workers_of(folder: Path) -> set[int]:
    return {int(line.split()[1]) for line in (folder / "log").read_text().splitlines()}


def test_a_poison_image_costs_itself_only_and_is_named(tmp_path: Path) -> None:
    names = ["a", "poison", "b", "once", "c", "d"]
    found = go(names, tmp_path)
    assert sorted(found) == sorted(names)
    assert found["poison"].status == "failed"
    assert "twice" in found["poison"].message
    assert all(found[n].status == "scored" for n in names if n != "poison")
    tries = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert tries.count("poison") == 2
    assert tries.count("once") == 2


def test_a_run_folder_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunWriteError):
        go(["a", "full", "long"], tmp_path)
    assert all(gone(p) for p in workers_of(tmp_path) - {os.getpid()})


def test_a_stop_does_not_wait_for_long_images(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(Cancelled):
        go(["long1", "long2"], tmp_path, cancelled=lambda: (tmp_path / "log").exists())
    assert time.monotonic() - start < 120
    assert all(gone(p) for p in workers_of(tmp_path))


def test_a_broken_executor_that_was_handed_in_is_told(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1) as pool:
        found = go(["poison", "b"], tmp_path, executor=pool)
    assert found["poison"].status == "failed"
    assert "memory" in found["poison"].message


_MAIN = """
import sys
from pathlib import Path
from islet_imaging.scoring import executors
from tests.scoring.test_executors import go, pretend
executors.measure_task = pretend
if __name__ == "__main__":
    go(["long1", "long2"], Path(sys.argv[1]))
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_main_process(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "main.py"
    script.write_text(_MAIN)
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)]) as process:
        for _ in range(1200):
            if (tmp_path / "log").exists() and len(workers_of(tmp_path)) == 2:
                break
            time.sleep(0.1)
        workers = workers_of(tmp_path)
        process.send_signal(how)
        process.wait()
    assert len(workers) == 2
    assert all(gone(p) for p in workers)


def kills_a_worker(parent: int, value: int) -> int:
    if value == 3 and os.getpid() != parent:
        os._exit(9)
    if value == 5:
        raise IsletImagingError("of the function")
    return 10 * value


@pytest.mark.parametrize("handed_in", [False, True])
def test_calls_of_a_worker_that_dies_are_made_in_this_process(handed_in: bool) -> None:
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(2)) if handed_in else None
        each = stack.enter_context(executors.side_by_side_calls(2, pool, 100))
        items = [(os.getpid(), k) for k in range(5)]
        assert list(each(kills_a_worker, items)) == [0, 10, 20, 30, 40]
        with pytest.raises(IsletImagingError, match="of the function"):
            list(each(kills_a_worker, [(os.getpid(), 5)]))


def test_few_images_are_called_without_processes() -> None:
    with executors.side_by_side_calls(2, None, 10) as each:
        assert each is starmap


def test_markers_of_one_large_image_are_fitted_side_by_side() -> None:
    pixels = executors.WORTH_CALLING_PX
    with executors.side_by_side_calls(2, None, 1, pixels, markers=2) as each:
        here, there = os.getpid(), set(each(os.getpid, [(), ()]))
        assert here not in there
    with executors.side_by_side_calls(2, None, 1, pixels, markers=1) as each:
        assert each is starmap
