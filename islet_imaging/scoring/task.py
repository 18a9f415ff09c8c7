"""The work on one image, as a task that any process or machine can take.

The idea: a task is plain values, reads files and writes files into the run folder, and gives back
how the image fared; nothing else has to be sent about.  What it leaves under ``.work`` is enough
to go on from after a stop, and carries a key of everything it depends on.
It fails for the run only where the run folder cannot be written; a bad image is an outcome.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging._types import Spread, usable_cores
from islet_imaging.errors import Cancelled, IsletImagingError
from islet_imaging.image import WHOLE_PX
from islet_imaging.protocol import Protocol
from islet_imaging.run.files import (
    RunWriteError,
    inside,
    label_path,
    work_table,
    write_arrow,
    write_labels,
)
from islet_imaging.run.measurements import (
    all_facts,
    forget_record,
    pixel_hashes,
    proven_outcome,
    same_files,
    write_record,
)

if TYPE_CHECKING:
    from islet_imaging.image import IsletImage
    from islet_imaging.scoring.measured import MeasuredImage
    from islet_imaging.scoring.regions import ImageRegions

log = logging.getLogger(__name__)

#: of a record, what is held in memory for every image of a folder
TOLD = ("pixels", "pixel_size_um", "shape_px", "scale")


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

    def told(self) -> Outcome:
        """What a run knows of its images all at once; the rest lies in the run folder."""
        kept = {k: v for k, v in self.record.items() if k in TOLD}
        return replace(self, record=kept)


def measure_task(
    task: Task, cancelled: Callable[[], bool] | None = None, spread: Spread | None = None
) -> Outcome:
    """Measure one image and keep the result in the run folder; never raises for a bad image.

    Parameters
    ----------
    task : Task
        What to measure.
    cancelled : callable, optional
        Asked between steps; True stops the work.
    spread : callable, optional
        Computes parts of a large image elsewhere.

    Raises
    ------
    RunWriteError
        If the run folder cannot be written.
    Cancelled
        If ``cancelled`` says so.
    """
    from islet_imaging.network.weights import package_hashes
    from islet_imaging.scoring.image import measure_image

    folder = Path(task.run)
    paths = [Path(p) for p in task.stamps]
    scratch: Path | None = None
    try:
        # label files of a slide; one name, so that what a killed run left is used up
        scratch = scratch_of(task)
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
        image = read_task(task, protocol)
        if image.shape[0] * image.shape[1] <= WHOLE_PX:
            # hashed and measured: each plane is read once
            image = image.held(c.name for c in protocol.channels if c.role != "ignore")
        hashes = None
        if spread is not None:
            scratch.mkdir(parents=True, exist_ok=True)
            # of the whole file, by those who would wait while the driver looks for the scale
            hashes = spread(hashes_of_channel, [(name,) for name in image.channel_names])
        measured = measure_image(
            image,
            protocol,
            nuclei=task.given.get("nuclei"),
            cells=task.given.get("cells"),
            flat_fields=read_calibration(task.flat_fields),
            facts=task.facts,
            threads=task.threads,
            device=task.device,
            scratch=scratch,
            spread=spread,
            cancelled=cancelled,
        )
        if hashes is None:
            pixels = _pixels(image, measured)
        else:
            pixels = sorted(h for found in hashes for h in found)
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
                threads=task.threads or usable_cores(),
            )
        for name, table in (
            ("cells", measured.cells),
            ("pairs", measured.pairs),
            ("islets", measured.islet_table),
        ):
            write_arrow(work_table(folder, task.image, name), table)
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
        write_record(folder, task.image, task.key, vars(outcome), task.parts)
        return outcome.told()
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


def _pixels(image: IsletImage, measured: MeasuredImage) -> list[str]:
    """`pixel_hashes` of all channels; what the quality check hashed is not hashed again."""
    known = {}
    whole = image.shape[0] * image.shape[1] <= WHOLE_PX
    if whole and "burned_in" not in measured.record["correction"]:  # else of other pixels
        known = {name: c.digest for name, c in measured.numbers.channels.items()}
    others = [n for n in image.channel_names if n not in known]
    own = [known[n] for n in image.channel_names if n in known]
    return sorted([*own, *pixel_hashes(image.channel, others, image.shape)])


def scratch_of(task: Task) -> Path:
    """Where a large image's label files lie while it is measured."""
    return inside(Path(task.run) / ".work", f"{task.image}.slide")


def read_task(task: Task, protocol: Protocol) -> IsletImage:
    """The image of a task, lazily."""
    from islet_imaging.reading import read_image

    # as a list: a file that was left out, or is still being written, is not looked for
    return read_image([Path(f) for f in task.files], protocol=protocol, name=task.image)


def is_large(task: Task) -> bool:
    """Whether an image is worked on in parts; one that cannot be read is not."""
    # a header is read only where the files could hold so much
    if sum(int(stamp.get("bytes", 0)) for stamp in task.stamps.values()) < WHOLE_PX // 3:
        return False
    try:
        shape = read_task(task, Protocol.from_dict(task.protocol)).shape
    except Exception:  # what is wrong with it is said when it is measured
        return False
    return shape[0] * shape[1] > WHOLE_PX


def hashes_of_channel(regions: ImageRegions, name: str) -> list[str]:
    """`pixel_hashes` of one channel."""
    return pixel_hashes(regions.image.channel, (name,), regions.shape)


def part_of(task: Task, function: Callable[..., Any], item: tuple[Any, ...]) -> Any:
    """Compute a part of a large image, in any process that sees the run folder.

    Parameters
    ----------
    task : Task
        The image; opened once in every thread.
    function : callable
        ``function(regions, *item)``, a function of a module.
    item : tuple
        Its further arguments.
    """
    if getattr(_open, "key", None) != (task.run, task.image, task.key):
        from islet_imaging.scoring.regions import ImageRegions

        protocol = Protocol.from_dict(task.protocol)
        _open.regions = ImageRegions(
            read_task(task, protocol),
            protocol,
            flat_fields=read_calibration(task.flat_fields),
            scratch=scratch_of(task),
            device=task.device,
            there=True,
        )
        _open.key = (task.run, task.image, task.key)
    return function(_open.regions, *item)


#: the large image that a thread is computing parts of
_open = threading.local()


def read_calibration(path: str | None) -> dict[str, Any] | None:
    """The illumination that was fitted over all images, by channel; None where there is none."""
    if path is None:
        return None
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def finished(task: Task) -> Outcome | None:
    """The outcome kept from an earlier run, if it is of the same input, protocol and version."""
    kept = proven_outcome(Path(task.run), task.image, task.key)
    try:
        return None if kept is None else Outcome(**kept).told()
    except TypeError:
        return None
