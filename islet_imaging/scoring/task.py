"""The work on one image, as a task that any process or machine can take.

The idea: a task is plain values, reads files and writes files into the run folder, and gives back
how the image fared; nothing else has to be sent about.  What it leaves under ``.work`` is enough
to go on from after a stop, and carries a key of everything it depends on.
It fails for the run only where the run folder cannot be written; a bad image is an outcome.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from islet_imaging.errors import Cancelled, IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.run.files import (
    RunWriteError,
    inside,
    label_path,
    work_table,
    write_labels,
    write_parquet,
)
from islet_imaging.run.measurements import (
    all_facts,
    forget_record,
    pixel_hashes,
    proven_outcome,
    same_files,
    write_record,
)

log = logging.getLogger(__name__)


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
    #: stamps of the files that the pixels come from, as the key knows them, by path
    stamps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: files of nuclei and cells that are given, by what they are
    given: Mapping[str, str] = field(default_factory=dict)
    #: networks by name, with what the key knows them by
    networks: Mapping[str, str] = field(default_factory=dict)
    #: what the key is the hash of, part by part
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """How one image fared."""

    image: str
    status: str
    message: str = ""
    flags: list[dict[str, Any]] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)


def measure_task(task: Task, cancelled: Callable[[], bool] | None = None) -> Outcome:
    """Measure one image and keep the result in the run folder; never raises for a bad image.

    Parameters
    ----------
    task : Task
        What to measure.
    cancelled : callable, optional
        Asked between steps; True stops the work.

    Raises
    ------
    RunWriteError
        If the run folder cannot be written.
    Cancelled
        If ``cancelled`` says so.
    """
    from islet_imaging.network.weights import package_hashes
    from islet_imaging.reading import read_image
    from islet_imaging.scoring.image import measure_image

    folder = Path(task.run)
    paths = [Path(p) for p in task.stamps]
    scratch: Path | None = None
    try:
        # label files of a slide; one name, so that what a killed run left is used up
        scratch = inside(folder / ".work", f"{task.image}.slide")
        protocol = Protocol.from_dict(task.protocol)
        before = all_facts(paths)
        if not same_files(paths, task.stamps):
            raise IsletImagingError(
                f"{task.image}: its file, or one of its labels, was changed after the run began; "
                "score again"
            )
        if package_hashes(task.networks) != dict(task.networks):
            raise IsletImagingError(
                f"{task.image}: a network was exchanged after the run began; score again"
            )
        image = read_image(
            [Path(f) for f in task.files] if len(task.files) > 1 else Path(task.files[0]),
            protocol=protocol,
            name=task.image,
        )
        measured = measure_image(
            image,
            protocol,
            nuclei=task.given.get("nuclei"),
            cells=task.given.get("cells"),
            flat_fields=_read_calibration(task.flat_fields),
            facts=task.facts,
            threads=task.threads,
            device=task.device,
            scratch=scratch,
            cancelled=cancelled,
        )
        pixels = pixel_hashes(image.channel, image.channel_names, image.shape)
        if all_facts(paths) != before:
            raise IsletImagingError(
                f"{task.image}: its file was changed while it was measured; score again"
            )
        # what lies there of an earlier scoring proves nothing from here on
        forget_record(folder, task.image)
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
                "pixels": pixels,
            },
        )
        write_record(folder, task.image, task.key, asdict(outcome), task.parts)
        return outcome
    except (RunWriteError, Cancelled):
        raise
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
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _read_calibration(path: str | None) -> dict[str, Any] | None:
    if path is None:
        return None
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def finished(task: Task) -> Outcome | None:
    """The outcome kept from an earlier run, if it is of the same input, protocol and version."""
    kept = proven_outcome(Path(task.run), task.image, task.key)
    try:
        return None if kept is None else Outcome(**kept)
    except TypeError:
        return None
