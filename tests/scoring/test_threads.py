"""Images of a folder and parts of an image share the cores, and never take more than there are."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from islet_imaging import Channel, Protocol, phantom
from islet_imaging._types import side_by_side
from islet_imaging.scoring import executors
from islet_imaging.scoring.executors import run_tasks
from islet_imaging.scoring.image import measure_image
from islet_imaging.scoring.task import Outcome, Task


@pytest.mark.parametrize("cores", [1, 2, 4, 8, 16])
def test_workers_and_threads_never_exceed_the_cores(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Task] = []
    at_once = 0

    def here(task: Task, *_: Any) -> Outcome:
        given.append(task)
        return Outcome(task.image, "scored")

    def beside(tasks: list[Task], workers: int, *_: Any) -> Iterator[Task]:
        nonlocal at_once
        at_once = workers
        given.extend(tasks)
        yield from ()

    monkeypatch.setattr(executors, "usable_cores", lambda: cores)
    monkeypatch.setattr(executors, "measure_task", here)
    monkeypatch.setattr(executors, "_in_processes", beside)
    monkeypatch.setattr(executors, "fitting", lambda workers, *_: (workers, ""))
    for images in (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 40):
        for asked in (None, 1, 2, cores, cores + 3):
            given.clear()
            at_once = 1
            tasks = [Task(str(k), (), {}, "", {}, "", 1, "cpu", None) for k in range(images)]
            run_tasks(tasks, workers=asked, executor=None, tell=lambda _: None, cancelled=None)
            (threads,) = {t.threads for t in given}
            assert len(given) == images
            assert at_once <= images
            if asked is None or asked <= cores:
                assert at_once * threads <= cores
                # and no core that another thread could use is left idle
                assert at_once * (threads + 1) > cores
            else:
                assert threads == max(1, cores // at_once)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_no_more_at_the_same_time_than_threads(threads: int) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def call(k: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return k

    assert side_by_side(call, range(8), threads) == list(range(8))
    assert most == threads


@pytest.mark.parametrize("threads", [1, 3])
def test_no_step_of_an_image_takes_more_threads_than_it_is_given(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[int] = []
    begin = concurrent.futures.ThreadPoolExecutor.__init__

    def watched(self: Any, max_workers: int | None = None, *more: Any, **options: Any) -> None:
        assert max_workers is not None, "a pool of as many threads as there are cores"
        pools.append(max_workers)
        begin(self, max_workers, *more, **options)

    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "__init__", watched)
    image = phantom("easy_confocal", seed=1, shape=(256, 256), measure_light=False).image
    protocol = Protocol((Channel("DAPI", "dna"), Channel("INS")))
    measured = measure_image(image, protocol, threads=threads)
    assert len(measured.cells) > 10
    assert pools
    assert max(pools) == threads


def test_results_do_not_depend_on_threads() -> None:
    image = phantom("ffpe20x", seed=4, shape=(300, 340), measure_light=False).image
    protocol = Protocol((Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")))
    one, four = (measure_image(image, protocol, threads=n) for n in (1, 4))
    assert one.cells.equals(four.cells)
    assert np.array_equal(one.nuclei, four.nuclei)
    assert one.numbers.to_dict() == four.numbers.to_dict()
