"""The work on one image, as a task that any process or machine can take.

The idea: a task is plain values, reads files and writes files into the run folder, and gives back
how the image fared; nothing else has to be sent about.  What it leaves under ``.work`` is enough
to go on from after a stop, and carries a key of everything it depends on.
It fails for the run only where the run folder cannot be written; a bad image is an outcome.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.run.folder import label_path, work_table, write_labels, write_parquet, write_text

log = logging.getLogger(__name__)

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


def measure_task(task: Task) -> Outcome:
    """Measure one image and keep the result in the run folder; never raises for a bad image."""
    from islet_imaging.reading import read_image
    from islet_imaging.scoring.image import measure_image

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


def finished(task: Task) -> Outcome | None:
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
