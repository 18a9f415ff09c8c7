"""Where the tasks of a folder run: here, in processes, or on any executor that is handed in.

The idea: one loop over futures serves a process pool and a cluster alike; what is finished is told
as it comes, and whoever watches may stop the rest.
It fails, for the images a worker held, where that worker dies: too little memory, most often.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed

from islet_imaging._types import usable_cores
from islet_imaging.errors import Cancelled
from islet_imaging.scoring.task import Outcome, Task, measure_task


def worker_count(workers: int | None, images: int) -> int:
    """How many processes to start: what was asked for, or what is worth its while."""
    if workers is not None:
        return max(1, workers)
    # a pool costs seconds to start: not for a handful of images
    return 1 if images < 4 else min(usable_cores(), images)


def run_tasks(
    tasks: list[Task],
    *,
    workers: int,
    executor: Executor | None,
    tell: Callable[[str], None],
    cancelled: Callable[[], bool] | None,
) -> dict[str, Outcome]:
    """Run the tasks wherever they are to run; a broken worker costs the images it had."""
    outcomes: dict[str, Outcome] = {}

    def stop_if_asked() -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("stopped on request; what is finished is kept")

    if executor is None and workers == 1:
        for task in tasks:
            stop_if_asked()
            outcomes[task.image] = measure_task(task)
            tell(task.image)
        # the last image is no reason to write tables that nobody wants any more
        stop_if_asked()
        return outcomes

    def collect(pool: Executor) -> None:
        futures: dict[Future[Outcome], Task] = {pool.submit(measure_task, t): t for t in tasks}
        try:
            for future in as_completed(futures):
                task = futures[future]
                try:
                    outcomes[task.image] = future.result()
                except Exception as error:  # the worker died, not the image's code
                    outcomes[task.image] = Outcome(
                        task.image,
                        "failed",
                        f"{task.image}: its worker stopped ({type(error).__name__}: {error}); "
                        "often too little memory: use fewer --workers",
                    )
                tell(task.image)
                stop_if_asked()
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    if executor is not None:
        collect(executor)
    else:
        import multiprocessing

        # spawn: forking a process that holds an inference engine's threads can hang
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
            collect(pool)
    return outcomes
