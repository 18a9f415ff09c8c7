"""A folder of images: measured in parallel, fitted per staining run, called, summarised, written.

The idea: every image's work is one task that reads files and writes files into the run folder, so
that any `concurrent.futures.Executor` can run it, a stopped run goes on where it stopped, and a bad
image costs nothing but itself.  Between the two passes over the images stands the only step that
needs them all: the thresholds of each staining run (= batch).
It fails only for what concerns the whole run: no images, an unusable sheet or protocol, or a run
folder that cannot be written.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging._types import usable_cores
from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.run.files import RunWriteError, atomic_path
from islet_imaging.run.folder import PROVENANCE_FORMAT, Run
from islet_imaging.run.lock import RunLock
from islet_imaging.run.measurements import proven_outcome
from islet_imaging.run.proof import digest, hash_file, stamp_of
from islet_imaging.run.rows import rows_of
from islet_imaging.run.stage import finish_exchange
from islet_imaging.scoring.executors import run_tasks, worker_count
from islet_imaging.scoring.fingerprints import (
    Inputs,
    common_key,
    image_key,
    measuring_part,
    run_key,
)
from islet_imaging.scoring.places import (
    check_inputs,
    check_places,
    image_rows,
    make_run_folder,
    sweep,
    without_run,
)
from islet_imaging.scoring.results import provenance_of, write_run
from islet_imaging.scoring.task import Outcome, Task, finished

if TYPE_CHECKING:
    from islet_imaging.experiment.sample_sheet import SampleSheet

log = logging.getLogger(__name__)

#: called with images done, images in all, and what just happened
FolderProgress = Callable[[int, int, str], None]


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
        ``progress(done, total, image)`` after every image; at the start with an empty name, and
        once for each image that was finished before.
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
    from islet_imaging.experiment.drafting import protocol_of_folder
    from islet_imaging.experiment.sample_sheet import read_samples, samples_without_sheet

    folder, out = Path(folder), Path(out)
    check_places(folder, out)
    base = None
    drafted = protocol is None
    if protocol is None:
        protocol = protocol_of_folder(folder)
    elif not isinstance(protocol, Protocol):
        base = Path(protocol).parent
        protocol = Protocol.load(protocol)
    protocol = _with_absolute_paths(protocol, base)
    if samples is None:
        sheet = samples_without_sheet(folder, protocol)
    else:
        sheet = read_samples(samples, folder, protocol)
    sheet = without_run(sheet, out)
    if not sheet.samples and not sheet.problems:
        raise IsletImagingError(
            f"{folder}: no images found; TIFF, SVS, NDPI, QPTIFF, PNG, JPEG, and with the formats "
            "extra CZI, LIF and ND2 are looked for, in sub-folders too"
            + (
                f"; files must match {pattern!r}"
                if (pattern := protocol.reading.file_pattern)
                else ""
            )
        )
    make_run_folder(out)
    with RunLock(out, "score"), _logging_to(out / "run.log"):
        finish_exchange(out)
        log.info("scoring %s: %d images", folder, len(sheet.samples))
        if drafted:
            log.info("no protocol given: drafted from the channel names, see protocol.yaml")
        for item in sheet.skipped:
            log.warning("left out: %s", item)
        if sheet.guessed:
            log.warning("roles marked CHECK in the sheet: %s", ", ".join(sheet.guessed))
        plan = _plan(folder, out, protocol, sheet, workers, device)
        if (done := _same_run(out, plan.key)) is not None:
            log.info("nothing changed since this run was made: kept as it is")
            return done
        sweep(out)
        protocol, tasks = _tasks(plan)
        outcomes = _measure(tasks, plan.workers, executor, progress, cancelled)
        check_inputs(plan.inputs, protocol, sheet, outcomes)
        for outcome in outcomes.values():
            if outcome.status == "failed":
                log.warning("failed: %s", outcome.message)
        rows = image_rows(sheet, outcomes, {t.image: t for t in tasks}, plan.inputs)
        facts = provenance_of(
            folder=folder,
            protocol=protocol,
            rows=rows,
            inputs=plan.inputs.to_dict(),
            drafted=drafted,
        )
        facts["whole"] = plan.key
        facts["left_out"] = [str(item) for item in sheet.skipped]
        facts["sheet"] = None if samples is None else str(samples)
        fields = out / ".work" / "flat_fields.npz"
        facts["flat_fields"] = stamp_of(fields) if tasks and tasks[0].flat_fields else None
        # the file of the run before may hold stamps of tables that are not made any more
        facts["files"] = _files_before(out)
        run = write_run(out, protocol, facts)
        log.info("done: %s", run.path / "report.html")
        return run


# ---------------------------------------------------------------- steps


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is to be done, and the key of it all."""

    out: Path
    protocol: Protocol
    sheet: SampleSheet
    inputs: Inputs
    networks: dict[str, str]
    flat_field: str
    device: str
    workers: int
    key: str


def _plan(
    folder: Path,
    out: Path,
    protocol: Protocol,
    sheet: SampleSheet,
    workers: int | None,
    device: str,
) -> _Plan:
    """Stamp everything that changes a number, before any of it is used."""
    from islet_imaging.network.engine import device_of
    from islet_imaging.network.weights import package_hashes

    inputs = Inputs(sheet, folder, out)
    networks = package_hashes(protocol.models)
    field = protocol.correction.flat_field
    try:
        flat_field = field if field in ("off", "auto") else hash_file(Path(field))
    except OSError as error:
        raise IsletImagingError(
            f"{field}: the flat-field image cannot be read ({error.strerror or error})"
        ) from error
    where = device_of(device) if networks else "cpu"
    key = run_key(protocol, sheet, inputs, networks=networks, flat_field=flat_field, device=where)
    count = worker_count(workers, len(sheet.samples))
    return _Plan(out, protocol, sheet, inputs, networks, flat_field, where, count, key)


def _tasks(plan: _Plan) -> tuple[Protocol, list[Task]]:
    """What is fitted over all images first, and one task per image with its key."""
    from islet_imaging.experiment.calibration import fit_bleed_matrix, fit_flat_fields

    out, sheet = plan.out, plan.sheet
    protocol = fit_bleed_matrix(plan.protocol, sheet.samples)
    calibration = _write_calibration(out, fit_flat_fields(protocol, sheet.samples))
    flat_field = plan.flat_field
    if calibration:
        flat_field = hash_file(Path(calibration))
    plain = protocol.to_dict()
    common = digest([measuring_part(protocol), common_key(plan.networks, flat_field, plan.device)])
    return protocol, [
        Task(
            image=s.image,
            files=tuple(str(p.absolute()) for p in s.paths),
            facts={**s.extra, "role": s.role},
            run=str(out.absolute()),
            protocol=plain,
            key=image_key(s, plan.inputs, common),
            threads=max(1, usable_cores() // plan.workers),
            device=plan.device,
            flat_fields=calibration,
            stamps=plan.inputs.of(s),
            networks=plan.networks,
        )
        for s in sheet.samples
    ]


def _measure(
    tasks: list[Task],
    workers: int,
    executor: Executor | None,
    progress: FolderProgress | None,
    cancelled: Callable[[], bool] | None,
) -> dict[str, Outcome]:
    """Outcomes of all images; of those that were finished before, as they were."""
    outcomes = {t.image: found for t in tasks if (found := finished(t)) is not None}
    ready = len(outcomes)
    if ready:
        log.info("%d images are finished already and kept", ready)

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
        run_tasks(waiting, workers=workers, executor=executor, tell=tell, cancelled=cancelled)
    )
    return outcomes


def _same_run(out: Path, key: str) -> Run | None:
    """The run in ``out``, if it is finished, without failures, and proves to be exactly this."""
    if not (out / "provenance.json").exists():
        return None
    try:
        run = Run.open(out)
        facts = run.provenance
        if facts.get("format") != PROVENANCE_FORMAT or facts.get("whole") != key:
            return None
        if run.corrections_pending:
            log.info("corrections were made since the tables: making them again")
            return None
        for name in (*facts["files"], "summary.csv", "cells.parquet", "report.html"):
            run.prove(name)
        run.flat_fields_proven()
        rows = rows_of(facts)
        if any(r.status == "failed" for r in rows):
            return None
        whole = all(proven_outcome(out, r.image, r.key) is not None for r in rows if r.key)
    except IsletImagingError as error:
        log.info("the run that is there is not taken over: %s", error)
        return None
    return run if whole else None


def _files_before(out: Path) -> list[str]:
    try:
        return list(Run.open(out).provenance.get("files", ()))
    except IsletImagingError:
        return []


def _write_calibration(out: Path, fields: Mapping[str, Any] | None) -> str | None:
    if fields is None:
        return None
    import numpy as np

    path = out.absolute() / ".work" / "flat_fields.npz"
    with atomic_path(path) as part, part.open("wb") as stream:
        np.savez(stream, **fields)
    return str(path)


def _with_absolute_paths(protocol: Protocol, base: Path | None) -> Protocol:
    """The protocol with the flat field where it lies: a run is repeated from another folder."""
    how = protocol.correction
    if how.flat_field in ("off", "auto"):
        return protocol
    path = str(((base or Path()) / how.flat_field).absolute())
    return protocol.replace(correction=dataclasses.replace(how, flat_field=path))


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
