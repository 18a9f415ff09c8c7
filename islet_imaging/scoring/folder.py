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
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging._types import usable_cores
from islet_imaging._version import __version__
from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.run.folder import TABLES, Run, atomic_path
from islet_imaging.scoring.executors import run_tasks, worker_count
from islet_imaging.scoring.fingerprints import digest, hash_file, hash_inputs, inputs_of
from islet_imaging.scoring.task import WORK_VERSION, Outcome, Task, finished

if TYPE_CHECKING:
    from islet_imaging.experiment.sample_sheet import SampleSheet
    from islet_imaging.run.called import ImageRow

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
    from islet_imaging.experiment.calibration import fit_bleed_matrix, fit_flat_fields
    from islet_imaging.experiment.drafting import protocol_of_folder
    from islet_imaging.experiment.sample_sheet import read_samples, samples_without_sheet
    from islet_imaging.scoring.results import provenance_of, write_run

    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise IsletImagingError(f"{folder}: there is no such folder")
    base = None
    drafted = protocol is None
    if protocol is None:
        protocol = protocol_of_folder(folder)
    elif not isinstance(protocol, Protocol):
        base = Path(protocol).parent
        protocol = Protocol.load(protocol)
    if samples is None:
        sheet = samples_without_sheet(folder, protocol)
    else:
        sheet = read_samples(samples, folder, protocol)
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
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IsletImagingError(f"{out}: the run folder cannot be made: {error}") from error
    with _logging_to(out / "run.log"):
        log.info("scoring %s: %d images", folder, len(sheet.samples))
        if drafted:
            log.info("no protocol given: drafted from the channel names, see protocol.yaml")
        for item in sheet.skipped:
            log.warning("left out: %s", item)
        if sheet.guessed:
            log.warning("roles marked CHECK in the sheet: %s", ", ".join(sheet.guessed))
        inputs = hash_inputs(sheet, folder, out)
        whole = digest([inputs, protocol.to_dict(), _sheet_facts(sheet), __version__])
        if (done := _same_run(out, whole)) is not None:
            log.info("nothing changed since this run was made: kept as it is")
            return done
        protocol = fit_bleed_matrix(protocol, sheet.samples)
        fields = fit_flat_fields(protocol, sheet.samples, base=base)
        calibration = _write_calibration(out, fields)
        count = worker_count(workers, len(sheet.samples))
        tasks = _plan(out, protocol, sheet, inputs, count, device, calibration)
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
            run_tasks(waiting, workers=count, executor=executor, tell=tell, cancelled=cancelled)
        )
        for outcome in outcomes.values():
            if outcome.status == "failed":
                log.warning("failed: %s", outcome.message)
        rows = _image_rows(sheet, outcomes)
        facts = provenance_of(
            folder=folder, protocol=protocol, rows=rows, inputs=inputs, drafted=drafted
        )
        facts["whole"] = whole
        facts["left_out"] = [str(item) for item in sheet.skipped]
        facts["sheet"] = None if samples is None else str(samples)
        run = write_run(out, protocol, facts)
        log.info("done: %s", run.path / "report.html")
        return run


# ---------------------------------------------------------------- what a run is made of


def _sheet_facts(sheet: SampleSheet) -> list[Any]:
    rows = [[s.image, s.condition, s.batch, s.role, dict(s.extra)] for s in sheet.samples]
    return [rows, [dataclasses.asdict(p) for p in sheet.problems]]


def _same_run(out: Path, whole: str) -> Run | None:
    """The run in ``out``, if it is finished, without failures, and of exactly this input."""
    try:
        facts = json.loads((out / "provenance.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    names = [f"{t}.csv" for t in TABLES] + ["cells.parquet", "report.html", "protocol.yaml"]
    there = all((out / n).is_file() for n in names)
    failed = any(i["status"] == "failed" for i in facts.get("images", ()))
    return Run.open(out) if there and not failed and facts.get("whole") == whole else None


def _write_calibration(out: Path, fields: Mapping[str, Any] | None) -> str | None:
    if fields is None:
        return None
    import numpy as np

    path = out / ".work" / "flat_fields.npz"
    with atomic_path(path) as part, part.open("wb") as stream:
        np.savez(stream, **fields)
    return str(path)


def _plan(
    out: Path,
    protocol: Protocol,
    sheet: SampleSheet,
    inputs: Mapping[str, Mapping[str, Any]],
    workers: int,
    device: str,
    calibration: str | None,
) -> list[Task]:
    """One task per image, with a key of everything its measurements depend on."""
    from islet_imaging.network.weights import model_hashes

    plain = protocol.to_dict()
    # what comes after measuring does not make an image be measured again
    for later in ("positivity", "statistics", "fitted"):
        plain.pop(later)
    plain["quality"].pop("blocked")
    hashes = {s.image: [inputs_of(inputs, p) for p in s.paths] for s in sheet.samples}
    field_hash = hash_file(Path(calibration)) if calibration else None
    models = model_hashes(protocol.models)
    base = digest([plain, __version__, WORK_VERSION, models, protocol.asked, field_hash])
    return [
        Task(
            image=s.image,
            files=tuple(str(p.resolve()) for p in s.paths),
            facts={**s.extra, "role": s.role},
            run=str(out.resolve()),
            protocol=protocol.to_dict(),
            key=digest([base, hashes[s.image], dict(s.extra), s.role]),
            threads=max(1, usable_cores() // workers),
            device=device,
            flat_fields=calibration,
        )
        for s in sheet.samples
    ]


def _image_rows(sheet: SampleSheet, outcomes: Mapping[str, Outcome]) -> list[ImageRow]:
    """Rows of ``images.csv`` in the order of names, sheet problems among them."""
    from islet_imaging.quality import Flag
    from islet_imaging.run.called import ImageRow

    rows = []
    for s in sheet.samples:
        o = outcomes[s.image]
        rows.append(
            ImageRow(
                s.image,
                s.condition,
                s.batch,
                s.role,
                o.status,
                o.message,
                tuple(Flag.from_dict(f) for f in o.flags),
                o.record,
                dict(s.extra),
                # a run is opened from anywhere
                tuple(str(p.resolve()) for p in s.paths),
            )
        )
    rows += [
        ImageRow(p.image, p.condition, p.batch, p.role, "failed", p.message, (), {}, {}, ())
        for p in sheet.problems
    ]
    return sorted(rows, key=lambda r: r.image)


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Append the library's log to a file while the block runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
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
        handler.close()
