"""A folder of images: measured in parallel, fitted per staining run, called, summarised, written.

The idea: every image's work is one task that reads files and writes files into the run folder, so
that any `concurrent.futures.Executor` can run it, a stopped run goes on where it stopped, and a bad
image costs nothing but itself.  Between the two passes over the images stands the only step that
needs them all: the thresholds of each staining run (= batch).
It fails only for what concerns the whole run: no images, an unusable sheet or protocol, or a run
folder that cannot be written.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path

from islet_imaging.errors import IsletImagingError
from islet_imaging.experiment.given_files import told_of_mixture
from islet_imaging.protocol import Protocol
from islet_imaging.run.files import RunWriteError
from islet_imaging.run.folder import Run
from islet_imaging.run.lock import RunLock
from islet_imaging.run.proof import stamp_of
from islet_imaging.run.stage import finish_exchange
from islet_imaging.scoring.executors import run_tasks, side_by_side_calls
from islet_imaging.scoring.fingerprints import Inputs, given_of
from islet_imaging.scoring.places import check_inputs, image_rows, make_run_folder, sweep
from islet_imaging.scoring.plan import make_plan, requested, same_run, tasks_of
from islet_imaging.scoring.region_files import keep_region_files
from islet_imaging.scoring.results import provenance_of, write_run
from islet_imaging.scoring.task import Outcome, Task, finished

log = logging.getLogger(__name__)

#: called with images done, images in all, and what just happened
FolderProgress = Callable[[int, int, str], None]


def score_folder(
    folder: str | Path,
    out: str | Path,
    *,
    protocol: Protocol | str | Path | None = None,
    samples: str | Path | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    nuclei: str | Path | None = None,
    cells: str | Path | None = None,
    regions: str | Path | None = None,
    waiting: Collection[Path] = (),
    workers: int | None = None,
    executor: Executor | None = None,
    device: str = "auto",
    progress: FolderProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
    say: Callable[[str], None] | None = None,
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
        The sample sheet; without one every image is a sample of one unnamed batch.  Its columns
        ``nuclei``, ``cells`` and ``regions`` name files that go with an image.
    include, exclude : sequence of str, optional
        Patterns with ``*`` and ``?`` on path, file or folder name: what is scored and what is left
        out, instead of the protocol's ``reading.include`` and ``reading.exclude``.
    nuclei, cells : path, optional
        Folder of label files, or a pattern such as ``masks/{image}_cp_masks.png``, to take instead
        of finding nuclei and of rings around them (`docs/own_nuclei.md`).
    regions : path, optional
        Folder or pattern of files of regions: what is islet and what is left out.  They are kept in
        the run's journal, where regions drawn in the window stand too.
    waiting : collection of Path, optional
        Files that are still being written and count as not there; see `watch_folder`.
    workers : int, optional
        Processes; by default as many as there are cores, one for fewer than 4 images, and fewer
        where the memory does not suffice. A slide uses all of them, region by region, where there
        are fewer slides left than workers. With ``executor``: how many tasks it runs at a time.
    executor : concurrent.futures.Executor, optional
        Where to run instead, e.g. ``dask.distributed.Client(...).get_executor()``; it must see the
        same files. Without ``workers`` no slide is shared out.
    device : str
        "auto", "cpu", "cuda" or "mps", for the networks.
    progress : callable, optional
        ``progress(done, total, image)`` after every image; at the start with an empty name, and
        once for each image that was finished before.
    cancelled : callable, optional
        Asked between images; True stops the run, what is finished is kept.
    say : callable, optional
        Told in a sentence how much memory is needed and how many workers there are.

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
    A synthetic experiment of two batches, one islet each:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from islet_imaging import score_folder
    >>> from islet_imaging.phantom import write_experiment
    >>> folder = Path(tempfile.mkdtemp())
    >>> sheet = write_experiment(folder / "stainings", n_conditions=1, n_batches=2, n_islets=1,
    ...                          controls=False, shape=(160, 160))
    >>> run = score_folder(folder / "stainings", folder / "run", workers=1,
    ...                    samples=folder / "stainings" / "samples.csv")
    >>> run.images[["image", "batch", "status"]].values.tolist()
    [['batch1/untreated/islet01.ome.tif', 'batch1', 'scored'],
     ['batch2/untreated/islet01.ome.tif', 'batch2', 'scored']]
    """
    request = requested(
        folder,
        out,
        protocol=protocol,
        samples=samples,
        include=include,
        exclude=exclude,
        nuclei=nuclei,
        cells=cells,
        regions=regions,
        waiting=waiting,
    )
    folder, out, sheet = request.folder, request.out, request.sheet
    make_run_folder(out)
    with RunLock(out, "score"), _logging_to(out / "run.log"):
        finish_exchange(out)
        log.info("scoring %s: %d images", folder, len(sheet.samples))
        if request.drafted:
            log.info("no protocol given: drafted from the channel names, see protocol.yaml")
        if mixture := told_of_mixture(sheet.samples):
            log.warning("%s", mixture)
        for item in sheet.skipped:
            log.warning("left out: %s", item)
        if sheet.guessed:
            log.warning("roles marked CHECK in the sheet: %s", ", ".join(sheet.guessed))
        plan = make_plan(request, device, inputs=Inputs(sheet, folder, out))
        if (done := same_run(out, plan.key)) is not None:
            log.info("nothing changed since this run was made: kept as it is")
            return done
        sweep(out)
        protocol, tasks = tasks_of(plan, out / ".work")
        outcomes = _measure(tasks, workers, executor, progress, cancelled, say)
        check_inputs(plan.inputs, protocol, sheet, outcomes)
        files = {s.image: f for s in sheet.samples if (f := given_of(s).get("regions"))}
        hashes = {s.image: plan.inputs.given(s).get("regions", "") for s in sheet.samples}
        keep_region_files(out, files, hashes, outcomes)
        for outcome in outcomes.values():
            if outcome.status == "failed":
                log.warning("failed: %s", outcome.message)
        rows = image_rows(sheet, outcomes, {t.image: t for t in tasks}, plan.inputs)
        facts = provenance_of(
            folder=folder,
            protocol=protocol,
            rows=rows,
            inputs=plan.inputs.to_dict(),
            drafted=request.drafted,
            device=plan.device,
        )
        facts["whole"] = plan.key
        facts["left_out"] = [str(item) for item in sheet.skipped]
        facts["sheet"] = None if samples is None else str(samples)
        fields = out / ".work" / "flat_fields.npz"
        facts["flat_fields"] = stamp_of(fields) if tasks and tasks[0].flat_fields else None
        # the file of the run before may hold stamps of tables that are not made any more
        facts["files"] = _files_before(out)
        pixels = sum(math.prod(r.shape_px) for r in rows if r.status == "scored")
        markers = len(protocol.markers)
        with side_by_side_calls(workers, executor, len(rows), pixels, markers) as each:
            run = write_run(out, protocol, facts, each)
        log.info("done: %s", run.path / "report.html")
        return run


# ---------------------------------------------------------------- steps


def _measure(
    tasks: list[Task],
    workers: int | None,
    executor: Executor | None,
    progress: FolderProgress | None,
    cancelled: Callable[[], bool] | None,
    say: Callable[[str], None] | None,
) -> dict[str, Outcome]:
    """Outcomes of all images; of those that were finished before, as they were."""
    outcomes = {t.image: found for t in tasks if (found := finished(t)) is not None}
    ready = len(outcomes)
    if ready:
        log.info("%d images are finished already and kept", ready)

    def noted(sentence: str) -> None:
        log.info("%s", sentence)
        if say is not None:
            say(sentence)

    def tell(image: str) -> None:
        nonlocal ready
        ready += 1
        if progress is not None:
            progress(ready, len(tasks), image)

    if progress is not None:
        for image in ("", *outcomes):  # those that were finished before, by name
            progress(ready, len(tasks), image)
    waiting = [t for t in tasks if t.image not in outcomes]
    outcomes.update(
        run_tasks(
            waiting,
            workers=workers,
            executor=executor,
            tell=tell,
            cancelled=cancelled,
            say=noted,
        )
    )
    return outcomes


def _files_before(out: Path) -> list[str]:
    try:
        return list(Run.open(out).provenance.get("files", ()))
    except IsletImagingError:
        return []


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Append the library's log to a file while the block runs."""
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise RunWriteError(f"{path}: cannot be written ({error.strerror or error})") from error
    # a full disk is told where it matters, not by the log's own traceback
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # noqa: ARG005
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("islet_imaging")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(before or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        with suppress(OSError):
            handler.close()
