"""Where the tasks of a folder run: here, in processes, or on any executor that is handed in.

The idea: each of our own workers is a pool of one process that has one image at a time, so a worker
that dies (too little memory, a crash in a library) costs the image it had and no other; that image
is tried once more, alone, and named if it kills again.  A worker ends with the process that started
it, however that ends, and at once when the run is stopped.
It fails, for the images a worker held, on an executor that was handed in and breaks.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager
from itertools import starmap
from typing import Any

from islet_imaging._types import usable_cores
from islet_imaging.errors import Cancelled, IsletImagingError
from islet_imaging.run.called import Each
from islet_imaging.run.files import RunWriteError
from islet_imaging.scoring.memory import fitting, free_bytes, largest_need
from islet_imaging.scoring.spread import OwnPool, Parts
from islet_imaging.scoring.task import Outcome, Task, is_large, measure_task

log = logging.getLogger(__name__)

#: seconds between two looks whether the run is to be stopped
_LOOK_S = 0.2
#: fewer images, of fewer pixels together, are called in the leading process
WORTH_CALLING, WORTH_CALLING_PX = 48, 100_000_000


def worker_count(workers: int | None, images: int, large: int = 0) -> int:
    """How many processes to start: what was asked for, or what is worth its while.

    Parameters
    ----------
    workers : int or None
        What was asked for.
    images : int
        How many images there are.
    large : int
        Those among them whose regions several workers share.

    Examples
    --------
    >>> worker_count(8, 3), worker_count(8, 3, large=1), worker_count(None, 3)
    (3, 8, 1)
    """
    most = None if large else max(images, 1)
    if workers is not None:
        return max(1, workers if most is None else min(workers, most))
    # a pool costs seconds to start: not for a handful of images
    if images < 4 and not large:
        return 1
    return usable_cores() if most is None else min(usable_cores(), most)


def run_tasks(
    tasks: list[Task],
    *,
    workers: int | None,
    executor: Executor | None,
    tell: Callable[[str], None],
    cancelled: Callable[[], bool] | None,
    say: Callable[[str], None] = log.info,
) -> dict[str, Outcome]:
    """Run the tasks wherever they are to run.

    Parameters
    ----------
    tasks : list of Task
        What is to be done.
    workers : int or None
        Own processes, 1 is this one, None as many as are worth their while; of an executor, how
        many tasks it runs at the same time.
    executor : Executor or None
        Where to run instead.
    tell : callable
        Told each image's name when it is done.
    cancelled : callable or None
        Asked five times a second; True stops the run.
    say : callable
        Told in a sentence how much memory is needed, and how many workers there will be.

    Returns
    -------
    dict of str to Outcome
        By image.

    Raises
    ------
    Cancelled
        If ``cancelled`` says so.
    RunWriteError
        If the run folder cannot be written.
    """
    outcomes: dict[str, Outcome] = {}

    def stop_if_asked() -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("stopped on request; what is finished is kept")

    def done(outcome: Outcome) -> None:
        outcomes[outcome.image] = outcome
        tell(outcome.image)
        stop_if_asked()

    if not tasks:
        return outcomes
    large = {t.image for t in tasks if is_large(t)}
    if executor is None:
        workers = worker_count(workers, len(tasks), len(large))
        workers, sentence = fitting(workers, largest_need(tasks), free_bytes())
        if sentence:
            say(sentence)
        threads = max(1, usable_cores() // workers)
    else:
        # whoever runs several tasks on a machine has a thread for each
        workers, threads = workers or 1, 1
        if (need := largest_need(tasks)) is not None:
            say(f"{need}, for each task at a time")
    tasks = [dataclasses.replace(t, threads=threads) for t in tasks]
    tasks, shared = _shared(tasks, large, workers)
    if executor is None:  # what is not spread is done while the workers wait
        shared = [dataclasses.replace(t, threads=usable_cores()) for t in shared]
    if executor is None and workers == 1:
        for task in tasks:
            stop_if_asked()
            done(measure_task(task, cancelled))
    elif executor is not None:
        _on_executor(executor, tasks, done, stop_if_asked)
    else:
        for task in _in_processes(tasks, workers, done, stop_if_asked):
            # it killed its worker: once more, with nothing beside it
            for again in _in_processes([task], 1, done, stop_if_asked):
                done(_killed(again, "twice"))
    if shared:
        pool = executor or OwnPool(workers, _watch)
        try:
            for task in shared:
                stop_if_asked()
                parts = Parts(pool, task, stop_if_asked)
                try:
                    done(measure_task(task, cancelled, parts))
                finally:
                    parts.cancel()
        finally:
            if isinstance(pool, OwnPool):
                pool.kill()
    return outcomes


@contextmanager
def side_by_side_calls(
    workers: int | None, executor: Executor | None, images: int, pixels: int = 0, markers: int = 1
) -> Iterator[Each]:
    """Where thresholds are fitted and cells are called, once all images are measured.

    Parameters
    ----------
    workers, executor
        As in `run_tasks`.
    images : int
        How many there are.
    pixels : int
        Of all of them; for few and small ones starting processes takes longer than it saves.
    markers : int
        Thresholds of so many are fitted side by side, of a slide too.

    Yields
    ------
    callable
        ``each(function, items)`` gives ``function(*item)`` for each item, in order.  What a worker
        could not do, because it died, is done in this process.
    """
    few = images < WORTH_CALLING and pixels < WORTH_CALLING_PX
    asked = usable_cores() if workers is None else workers
    count = max(1, min(asked, max(images, markers)))
    if few or (executor is None and count == 1):
        yield starmap
        return
    pool: OwnPool | Executor
    if executor is None:
        pool = OwnPool(count, _watch)
        for _ in range(count):  # while the leading process holds the images against each other
            pool.executor.submit(_get_ready)
    else:
        pool = executor

    def each(function: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        runs_on = pool.executor if isinstance(pool, OwnPool) else pool
        begun: list[tuple[tuple[Any, ...], Future[Any] | None]] = []
        for item in items:
            try:
                begun.append((item, runs_on.submit(function, *item)))
            except BrokenExecutor:
                begun.append((item, None))
        begun.reverse()
        while begun:
            item, future = begun.pop()
            try:
                yield function(*item) if future is None else future.result()
            except IsletImagingError:
                raise
            except Exception:  # of the executor; one of the function's own comes again
                log.info("a worker ended while cells were called: done in this process")
                yield function(*item)

    try:
        yield each
    finally:
        if isinstance(pool, OwnPool):
            pool.kill()


def _get_ready() -> None:
    """Import what calling needs."""
    import islet_imaging.positivity.staining_run
    import islet_imaging.run.called  # noqa: F401


def _shared(tasks: list[Task], named: set[str], workers: int) -> tuple[list[Task], list[Task]]:
    """Tasks that one worker does whole, and large images that all workers share region by region.

    Whole is as quick, and spares the leading process, where each worker has a large image anyway;
    what is left over of them would leave workers idle.
    """
    if workers < 2:
        return tasks, []
    large = [t for t in tasks if t.image in named]
    shared = large[len(large) - len(large) % workers :]
    apart = {t.image for t in shared}
    return [t for t in tasks if t.image not in apart], shared


def _killed(task: Task, how_often: str) -> Outcome:
    return Outcome(
        task.image,
        "failed",
        f"{task.image}: the process that measured it ended {how_often} without a word; most often "
        "there is too little memory: use fewer --workers, close other programs, or crop the image",
    )


def _on_executor(
    executor: Executor,
    tasks: list[Task],
    done: Callable[[Outcome], None],
    stop_if_asked: Callable[[], None],
) -> None:
    waiting: dict[Future[Outcome], Task] = {}
    try:
        for task in tasks:
            try:
                waiting[executor.submit(measure_task, task)] = task
            except BrokenExecutor:
                done(_killed(task, "or one beside it"))
        while waiting:
            ready, _ = wait(waiting, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            for future in ready:
                task = waiting.pop(future)
                try:
                    outcome = future.result()
                except RunWriteError:
                    raise
                except BrokenExecutor:
                    outcome = _killed(task, "or one beside it")
                except Exception as error:  # of the executor: the task itself never raises
                    outcome = Outcome(
                        task.image,
                        "failed",
                        f"{task.image}: its worker stopped ({type(error).__name__}: {error}); "
                        "often too little memory: use fewer workers",
                    )
                done(outcome)
            stop_if_asked()
    finally:
        for future in waiting:
            future.cancel()


def _in_processes(
    tasks: list[Task],
    workers: int,
    done: Callable[[Outcome], None],
    stop_if_asked: Callable[[], None],
) -> Iterator[Task]:
    """Run tasks in own processes; those whose process died come out, when all others are done."""
    died: list[Task] = []
    queue = list(reversed(tasks))
    with _workers(min(workers, len(tasks))) as pools:
        waiting: dict[Future[Outcome], tuple[_Worker, Task]] = {}
        idle = list(pools)
        while queue or waiting:
            while idle and queue:
                worker, task = idle.pop(), queue.pop()
                waiting[worker.submit(task)] = worker, task
            ready, _ = wait(waiting, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            for future in ready:
                worker, task = waiting.pop(future)
                idle.append(worker)
                try:
                    outcome = future.result()
                except BrokenExecutor:
                    died.append(task)
                    worker.renew()
                    continue
                done(outcome)
            stop_if_asked()
    yield from died


@contextmanager
def _workers(n: int) -> Iterator[list[_Worker]]:
    pools = [_Worker() for _ in range(n)]
    try:
        yield pools
    except BaseException:
        for pool in pools:
            pool.kill()
        raise
    finally:
        for pool in pools:
            pool.close()


class _Worker:
    """A pool of one process, which one image at a time is given to."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """A fresh process, where the one before died."""
        import multiprocessing

        # spawn: forking a process that holds an inference engine's threads can hang
        context = multiprocessing.get_context("spawn")
        self._end, self._stop = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            max_workers=1, mp_context=context, initializer=_watch, initargs=(self._end,)
        )

    def submit(self, task: Task) -> Future[Outcome]:
        return self._pool.submit(measure_task, task)

    def kill(self) -> None:
        """End the process now, whatever it does; what it writes is written whole or not at all."""
        self._stop.close()
        self._end.close()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _watch(stop: Any) -> None:
    """End this process with the one that started it, and when the other end of a pipe closes."""
    import multiprocessing
    import signal
    from multiprocessing.connection import wait as wait_for

    # Ctrl-C goes to every process of a terminal: the one in charge decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        watched = [stop] if parent is None else [stop, parent.sentinel]
        wait_for(watched)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch").start()
