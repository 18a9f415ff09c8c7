"""A folder of images: measured in parallel, fitted per staining run, called, summarised, written.

The idea: every image's work is one task that reads files and writes files into the run folder, so
that any `concurrent.futures.Executor` can run it, a stopped run goes on where it stopped, and a bad
image costs nothing but itself.  Between the two passes over the images stands the only step that
needs them all: the thresholds of each staining run (= batch).
It fails only for what concerns the whole run: no images, an unusable sheet or protocol, or a run
folder that cannot be written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging.errors import Cancelled, IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.run import Run, label_path, write_labels, write_parquet, write_text

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.image import IsletImage
    from islet_imaging.positivity import Threshold
    from islet_imaging.samples import SampleSheet

log = logging.getLogger(__name__)

#: called with images done, images in all, and what just happened
FolderProgress = Callable[[int, int, str], None]

#: raised when the work of one image would come out differently than before
WORK_VERSION = 1


@dataclass(frozen=True)
class Task:
    """What a worker needs to know of one image; plain values, so that it travels anywhere."""

    image: str
    files: tuple[str, ...]
    run: str
    protocol: Mapping[str, Any]
    key: str
    threads: int | None
    device: str

    @property
    def work(self) -> Path:
        """Path, without ending, of what is kept between the passes."""
        return Path(self.run) / ".work" / self.image


@dataclass
class Outcome:
    """How one image fared."""

    image: str
    status: str
    message: str = ""
    flags: list[dict[str, Any]] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ---------------------------------------------------------------- pass 1: one image


def measure_task(task: Task) -> Outcome:
    """Measure one image and keep the result in the run folder; never raises for a bad image."""
    from islet_imaging.reading import read_image
    from islet_imaging.score import measure_image

    done = task.work.with_name(task.work.name + ".json")
    try:
        protocol = Protocol.from_dict(task.protocol)
        image = read_image(
            [Path(f) for f in task.files] if len(task.files) > 1 else Path(task.files[0]),
            protocol=protocol,
            name=task.image,
        )
        measured = measure_image(image, protocol, threads=task.threads, device=task.device)
        folder = Path(task.run)
        for kind, labels in (("nuclei", measured.nuclei), ("islets", measured.islets)):
            write_labels(
                label_path(folder, task.image, kind),  # type: ignore[arg-type]
                labels,
                measured.pixel_size_um,
            )
        for name, table in (
            ("cells", measured.cells),
            ("pairs", measured.pairs),
            ("islets", measured.islet_table),
        ):
            write_parquet(_work_table(task.run, task.image, name), table)
        outcome = Outcome(
            task.image,
            "scored",
            flags=[f.to_dict() for f in measured.flags],
            record={
                **measured.record,
                "pixel_size_um": measured.pixel_size_um,
                "shape_px": list(image.shape),
                "sources": dict(image.sources),
            },
        )
        write_text(done, json.dumps({"key": task.key, **outcome.__dict__}, default=str))
        return outcome
    except IsletImagingError as error:
        return Outcome(task.image, "failed", str(error))
    except MemoryError:
        return Outcome(
            task.image,
            "failed",
            f"{task.image}: not enough memory; use fewer --workers or crop the image",
        )
    except Exception as error:  # one bad image never ends a run, whatever a library throws
        log.exception("%s failed", task.image)
        return Outcome(task.image, "failed", f"{task.image}: {type(error).__name__}: {error}")


def _work_table(run: str | Path, image: str, name: str) -> Path:
    return Path(run) / ".work" / f"{image}.{name}.parquet"


def _finished(task: Task) -> Outcome | None:
    """The outcome kept from an earlier run, if it is of the same input, protocol and version."""
    try:
        kept = json.loads(task.work.with_name(task.work.name + ".json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    files = [_work_table(task.run, task.image, n) for n in ("cells", "pairs", "islets")]
    files += [label_path(Path(task.run), task.image, k) for k in ("nuclei", "islets")]
    if kept.pop("key", None) != task.key or not all(f.is_file() for f in files):
        return None
    return Outcome(**kept)


# ---------------------------------------------------------------- the folder


def _worker_count(workers: int | None, images: int) -> int:
    if workers is not None:
        return max(1, workers)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # a pool costs seconds to start: not for a handful of images
    return 1 if images < 4 else min(available or 1, images)


def _run_tasks(
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


def score_folder(
    folder: str | Path,
    out: str | Path,
    *,
    protocol: Protocol | str | Path | None = None,
    samples: str | Path | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    device: str = "auto",
    progress: FolderProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Run:
    """Score every image of a folder into a run folder.

    Parameters
    ----------
    folder : path
        Images, in any depth of sub-folders.
    out : path
        The run folder; made where it is missing. What is already finished there, from the same
        input and protocol, is kept.
    protocol : Protocol or path, optional
        Without one the protocol that ``init`` would draft from the channel names.
    samples : path, optional
        The sample sheet; without one every image is a sample of one unnamed batch.
    workers : int, optional
        Processes; by default as many as there are cores, one for fewer than 4 images.
    executor : concurrent.futures.Executor, optional
        Where to run instead, e.g. ``dask.distributed.Client(...).get_executor()``; it must see the
        same files.
    device : str
        "auto", "cpu", "cuda" or "mps", for the networks.
    progress : callable, optional
        ``progress(done, total, message)`` after every image.
    cancelled : callable, optional
        Asked between images; True stops the run, what is finished is kept.

    Returns
    -------
    Run

    Raises
    ------
    IsletImagingError
        If there is nothing to score, or the sheet or protocol cannot be used.
    Cancelled
        If ``cancelled`` says so.

    Examples
    --------
    ``run = score_folder("stainings", "run", samples="stainings/samples.csv")``
    """
    from islet_imaging.drafting import draft_protocol
    from islet_imaging.results import finish_run
    from islet_imaging.samples import load_samples

    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise IsletImagingError(f"{folder}: there is no such folder")
    out.mkdir(parents=True, exist_ok=True)
    drafted = protocol is None
    if protocol is None:
        protocol = draft_protocol(folder)
    elif not isinstance(protocol, Protocol):
        protocol = Protocol.load(protocol)
    sheet = load_samples(folder, samples, protocol=protocol, exclude=out)
    with _logging_to(out / "run.log"):
        log.info("scoring %s: %d images", folder, len(sheet.rows))
        if drafted:
            log.info("no protocol given: drafted from the channel names, see protocol.yaml")
        protocol = _fit_bleed_through(protocol, sheet)
        count = _worker_count(workers, len(sheet.rows))
        tasks, known = _plan(folder, out, protocol, sheet, count, device)
        outcomes = {t.image: found for t in tasks if (found := _finished(t)) is not None}
        outcomes.update({p.image: Outcome(p.image, "failed", p.message) for p in sheet.problems})
        waiting = [t for t in tasks if t.image not in outcomes]
        total = len(tasks)
        finished = total - len(waiting)
        if finished:
            log.info("%d images are finished already and kept", finished)

        def tell(image: str) -> None:
            nonlocal finished
            finished += 1
            if progress is not None:
                progress(finished, total, image)

        outcomes.update(
            _run_tasks(
                waiting, workers=count, executor=executor, tell=tell, cancelled=cancelled
            )
        )
        for o in outcomes.values():
            if o.status == "failed":
                log.warning("failed: %s", o.message)
        return finish_run(
            out,
            folder=folder,
            protocol=protocol,
            sheet=sheet,
            outcomes=outcomes,
            inputs=known,
            drafted=drafted,
        )
