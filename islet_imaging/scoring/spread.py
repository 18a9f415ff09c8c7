"""The regions of one large image as tasks, so that a single slide uses every worker.

The idea: one process leads an image through the very steps that every image takes
(`islet_imaging.scoring.image`), and hands out what can be done region by region: blocks of the
networks, tiles of cells, hashes of channels.  A part reads what it needs from the files and from
the run folder, sends back what is small, and gives the same bytes wherever it runs; results are
used in the order of the parts.  So the number of workers changes no number.
A worker that dies costs the parts it had; they are handed out again.  It fails, for the image, when
parts kill their worker again and again.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from islet_imaging.errors import IsletImagingError
from islet_imaging.scoring.task import Task, part_of, scratch_of

#: seconds between two looks whether the run is to be stopped
_LOOK_S = 0.2
#: so many times a pool is made anew for one image
_PATIENCE = 3


class OwnPool:
    """Processes of this machine that take parts from one queue.

    Parameters
    ----------
    workers : int
        How many.
    watch : callable
        Begins in each process with the other end of a pipe, and ends the process with ours.
    """

    def __init__(self, workers: int, watch: Callable[[Any], None]) -> None:
        self._workers, self._watch = workers, watch
        self.renewed = 0
        self._make()

    def _make(self) -> None:
        # spawn: forking a process that holds an inference engine's threads can hang
        context = multiprocessing.get_context("spawn")
        self._end, self._stop = context.Pipe(duplex=False)
        self.executor = ProcessPoolExecutor(
            self._workers, mp_context=context, initializer=self._watch, initargs=(self._end,)
        )

    def renew(self, broken: Executor) -> None:
        """Fresh processes, where one died and took the pool with it."""
        if broken is self.executor:
            self.kill()
            self.renewed += 1
            self._make()

    def kill(self) -> None:
        """End all processes now, whatever they do."""
        self._stop.close()
        self._end.close()
        self.executor.shutdown(wait=False, cancel_futures=True)


class Parts:
    """Hands out the parts of one image; see `islet_imaging._types.Spread`.

    Parameters
    ----------
    pool : OwnPool or Executor
        Where parts are computed.
    task : Task
        The image.
    stop_if_asked : callable
        Raises where the run is to be stopped; asked while waiting.
    """

    def __init__(
        self, pool: OwnPool | Executor, task: Task, stop_if_asked: Callable[[], None]
    ) -> None:
        self._pool, self._task, self._stop_if_asked = pool, task, stop_if_asked
        self.scratch: Path = scratch_of(task)
        self._waiting: set[Future[Any]] = set()
        self._renewed = pool.renewed if isinstance(pool, OwnPool) else 0

    def __call__(
        self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]
    ) -> Iterator[Any]:
        """Begin ``function(regions, *item)`` for all items; the results, in their order."""
        begun = [(item, *self._begin(function, item)) for item in items]
        return self._results(function, begun)

    def _begin(
        self, function: Callable[..., Any], item: tuple[Any, ...]
    ) -> tuple[Executor, Future[Any]]:
        while True:
            executor = self._pool.executor if isinstance(self._pool, OwnPool) else self._pool
            try:
                future = executor.submit(part_of, self._task, function, item)
            except BrokenExecutor as error:
                self._renew(executor, error)
                continue
            self._waiting.add(future)
            return executor, future

    def _renew(self, executor: Executor, error: BrokenExecutor) -> None:
        pool = self._pool
        if not isinstance(pool, OwnPool) or pool.renewed - self._renewed >= _PATIENCE:
            raise IsletImagingError(
                f"{self._task.image}: the processes that measured its regions ended again and "
                "again without a word; most often there is too little memory: use fewer --workers"
            ) from error
        pool.renew(executor)

    def _results(
        self,
        function: Callable[..., Any],
        begun: list[tuple[tuple[Any, ...], Executor, Future[Any]]],
    ) -> Iterator[Any]:
        begun.reverse()
        while begun:
            item, executor, future = begun.pop()
            while True:
                self._stop_if_asked()
                if not wait([future], timeout=_LOOK_S).done:
                    continue
                self._waiting.discard(future)
                try:
                    result = future.result()
                except BrokenExecutor as error:
                    self._renew(executor, error)
                    executor, future = self._begin(function, item)
                    continue
                break
            yield result

    def cancel(self) -> None:
        """Parts that nobody waits for any more, as after a fault, are not begun."""
        for future in self._waiting:
            future.cancel()
