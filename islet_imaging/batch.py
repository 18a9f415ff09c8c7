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
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging import __version__
from islet_imaging.errors import Cancelled, IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.run import (
    TABLES,
    Run,
    atomic_path,
    label_path,
    work_table,
    write_labels,
    write_parquet,
    write_text,
)

if TYPE_CHECKING:
    from islet_imaging.results import ImageRow
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
    facts: Mapping[str, str]
    run: str
    protocol: Mapping[str, Any]
    key: str
    threads: int
    device: str
    flat_fields: str | None

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
    # label files of a slide; one name, so that what a killed run left is used up
    scratch = task.work.with_name(task.work.name + ".slide")
    try:
        protocol = Protocol.from_dict(task.protocol)
        image = read_image(
            [Path(f) for f in task.files] if len(task.files) > 1 else Path(task.files[0]),
            protocol=protocol,
            name=task.image,
        )
        measured = measure_image(
            image,
            protocol,
            flat_fields=_read_calibration(task.flat_fields),
            facts=task.facts,
            threads=task.threads,
            device=task.device,
            scratch=scratch,
        )
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
            write_parquet(work_table(folder, task.image, name), table)
        outcome = Outcome(
            task.image,
            "scored",
            flags=[f.to_dict() for f in measured.flags],
            record={
                **measured.record,
                "numbers": measured.numbers.to_dict(),
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
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read_calibration(path: str | None) -> dict[str, Any] | None:
    if path is None:
        return None
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _finished(task: Task) -> Outcome | None:
    """The outcome kept from an earlier run, if it is of the same input, protocol and version."""
    try:
        kept = json.loads(task.work.with_name(task.work.name + ".json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    files = [work_table(Path(task.run), task.image, n) for n in ("cells", "pairs", "islets")]
    files += [label_path(Path(task.run), task.image, k) for k in ("nuclei", "islets")]
    if kept.pop("key", None) != task.key or not all(f.is_file() for f in files):
        return None
    return Outcome(**kept)


# ---------------------------------------------------------------- the folder


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _worker_count(workers: int | None, images: int) -> int:
    if workers is not None:
        return max(1, workers)
    # a pool costs seconds to start: not for a handful of images
    return 1 if images < 4 else min(_cores(), images)


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
    from islet_imaging.calibration import fit_bleed_matrix, fit_flat_fields
    from islet_imaging.drafting import protocol_of_folder
    from islet_imaging.results import provenance_of, write_run
    from islet_imaging.samples import read_samples, samples_without_sheet

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
            f"{folder}: no images found; TIFF, PNG, JPEG, and with the formats extra CZI, LIF and "
            "ND2 are looked for, in sub-folders too"
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
        inputs = _hash_inputs(sheet, folder, out)
        whole = _digest([inputs, protocol.to_dict(), _sheet_facts(sheet), __version__])
        if (done := _same_run(out, whole)) is not None:
            log.info("nothing changed since this run was made: kept as it is")
            return done
        protocol = fit_bleed_matrix(protocol, sheet.samples)
        fields = fit_flat_fields(protocol, sheet.samples, base=base)
        calibration = _write_calibration(out, fields)
        count = _worker_count(workers, len(sheet.samples))
        tasks = _plan(out, protocol, sheet, inputs, count, device, calibration)
        outcomes = {t.image: found for t in tasks if (found := _finished(t)) is not None}
        finished = len(outcomes)
        if finished:
            log.info("%d images are finished already and kept", finished)

        def tell(image: str) -> None:
            nonlocal finished
            finished += 1
            if progress is not None:
                progress(finished, len(tasks), image)

        if progress is not None:
            progress(finished, len(tasks), "")
        waiting = [t for t in tasks if t.image not in outcomes]
        outcomes.update(
            _run_tasks(waiting, workers=count, executor=executor, tell=tell, cancelled=cancelled)
        )
        for outcome in outcomes.values():
            if outcome.status == "failed":
                log.warning("failed: %s", outcome.message)
        rows = _image_rows(sheet, outcomes)
        facts = provenance_of(
            folder=folder, protocol=protocol, rows=rows, inputs=inputs, drafted=drafted
        )
        facts["whole"] = whole
        facts["sheet"] = None if samples is None else str(samples)
        run = write_run(out, protocol, facts)
        log.info("done: %s", run.path / "report.html")
        return run


# ---------------------------------------------------------------- what a run is made of


def _hash_inputs(sheet: SampleSheet, folder: Path, out: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 of every file; one that has not changed since the last run is not read again."""
    try:
        known = json.loads((out / "provenance.json").read_text("utf-8"))["inputs"]
    except (OSError, ValueError, KeyError):
        known = {}
    found: dict[str, dict[str, Any]] = {}
    for sample in sheet.samples:
        for path in sample.paths:
            name = path.relative_to(folder).as_posix()
            try:
                stat = path.stat()
                facts = {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
                before = known.get(name, {})
                if {k: before.get(k) for k in facts} == facts:
                    found[name] = before
                else:
                    found[name] = {**facts, "sha256": hash_file(path)}
            except OSError as error:
                # the same fault is met, and named, when the image is read
                found[name] = {"error": str(error)}
    return found


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
    hashes = {s.image: [inputs_of(inputs, p) for p in s.paths] for s in sheet.samples}
    field_hash = hash_file(Path(calibration)) if calibration else None
    base = _digest([plain, __version__, WORK_VERSION, model_hashes(), field_hash])
    cores = _cores()
    return [
        Task(
            image=s.image,
            files=tuple(str(p.resolve()) for p in s.paths),
            facts={**s.extra, "role": s.role},
            run=str(out.resolve()),
            protocol=protocol.to_dict(),
            key=_digest([base, hashes[s.image], dict(s.extra), s.role]),
            threads=max(1, cores // workers),
            device=device,
            flat_fields=calibration,
        )
        for s in sheet.samples
    ]


def inputs_of(inputs: Mapping[str, Mapping[str, Any]], path: Path) -> str:
    """The hash of one input file, by its path."""
    for name, facts in inputs.items():
        if path.as_posix().endswith(name):
            return str(facts.get("sha256", facts.get("error")))
    return ""


def _image_rows(sheet: SampleSheet, outcomes: Mapping[str, Outcome]) -> list[ImageRow]:
    """Rows of ``images.csv`` in the order of names, sheet problems among them."""
    from islet_imaging.quality import Flag
    from islet_imaging.results import ImageRow

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
                tuple(str(p) for p in s.paths),
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
