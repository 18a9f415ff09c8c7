"""Where a run may be written, and what became of the files it was made of.

The idea: a run folder is no image folder and no image folder is a run; that is checked before a
byte is written.  After measuring, the inputs are looked at again, so that no number stands for a
file that was exchanged meanwhile.
It fails to protect a folder that another program writes into.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.run.files import RunWriteError
from islet_imaging.run.proof import is_same
from islet_imaging.run.rows import ImageRow
from islet_imaging.scoring.fingerprints import Inputs, given_of
from islet_imaging.scoring.task import Outcome, Task

if TYPE_CHECKING:
    from islet_imaging.experiment.sample_sheet import SampleSheet

log = logging.getLogger(__name__)

#: where in a run folder images may lie that have no file elsewhere: layers of a viewer
INPUT = "input"

#: files of a run; a folder that holds one and is no run belongs to somebody
_OWN = ("summary.csv", "batches.csv", "images.csv", "islets.csv", "cells.csv", "cells.parquet")


def check_places(folder: Path, out: Path) -> None:
    """Raise unless the run folder may be written for this folder of images.

    Raises
    ------
    IsletImagingError
        If there is no such folder, the run folder is it or holds it, is a file, or holds tables of
        something else.
    """
    try:
        if not folder.is_dir():
            raise IsletImagingError(f"{str(folder)[:300]}: there is no such folder")
        images, run = folder.resolve(), out.resolve()
        if images.is_relative_to(run) and not images.is_relative_to(run / INPUT):
            raise IsletImagingError(
                f"{out}: the run folder must not be the folder of the images or hold it: its "
                "images could not be scored again. Give a folder of its own, such as "
                f"{images.with_name(images.name + '_run')}"
            )
        if out.exists() and not out.is_dir():
            raise IsletImagingError(f"{out}: this is a file; the run needs a folder of its own")
        known = (out / "provenance.json").exists() or (out / ".work").exists()
        taken = [] if known else [n for n in _OWN if (out / n).exists()]
        if taken:
            raise IsletImagingError(
                f"{out}: holds a {taken[0]} and is no run; it would be overwritten. Give an empty "
                "folder"
            )
    except (OSError, RuntimeError) as error:  # a loop of links, a name that is too long
        raise IsletImagingError(f"{str(folder)[:100]}, {str(out)[:100]}: {error}"[:400]) from error


def with_absolute_paths(protocol: Protocol, base: Path | None = None) -> Protocol:
    """The protocol with every file it names where it lies, so that a run repeats from elsewhere.

    Parameters
    ----------
    protocol : Protocol
        ``correction.flat_field``, ``nuclei.model`` and the ``model`` of each marker may be paths.
    base : Path, optional
        Folder that relative ones are relative to: the protocol's own; the current one by default.

    Examples
    --------
    >>> from islet_imaging.protocol import Channel, Correction
    >>> p = Protocol(channels=(Channel("DAPI", "dna"),), correction=Correction(flat_field="f.tif"))
    >>> Path(with_absolute_paths(p, Path("lab")).correction.flat_field).parts[-2:]
    ('lab', 'f.tif')
    """
    from islet_imaging.network.weights import is_model_name

    def place(text: str) -> str:
        return str(((base or Path()) / text).absolute())

    def network(text: str) -> str:
        return text if is_model_name(text) else place(text)

    how = protocol.correction
    if how.flat_field not in ("off", "auto"):
        how = dataclasses.replace(how, flat_field=place(how.flat_field))
    nuclei = dataclasses.replace(protocol.nuclei, model=network(protocol.nuclei.model))
    calls = {
        marker: dataclasses.replace(calling, model=network(calling.model))
        for marker, calling in protocol.positivity.items()
    }
    return protocol.replace(correction=how, nuclei=nuclei, positivity=calls)


def make_run_folder(out: Path) -> None:
    """Make the folder, and the mark by which listings know it as a run's from the first moment."""
    try:
        (out / ".work").mkdir(parents=True, exist_ok=True)
        (out / "run.log").touch()
    except OSError as error:
        raise RunWriteError(
            f"{str(out)[:300]}: the run folder cannot be made ({error.strerror or error}); check "
            "free space and permissions"
        ) from error


def sweep(out: Path) -> None:
    """Take away what a killed run left half written; whoever calls holds the lock."""
    for part in (*out.glob(".*.part*"), *(p for d in ("labels", ".work")
                                          for p in (out / d).rglob(".*.part*"))):  # fmt: skip
        with contextlib.suppress(OSError):
            part.unlink()


def without_run(sheet: SampleSheet, out: Path) -> SampleSheet:
    """The sheet without images that lie in the run folder: those are its own label images."""
    run = out.resolve()
    if not run.exists():
        return sheet
    folders: dict[Path, bool] = {}

    def of_run(path: Path) -> bool:
        return path.is_relative_to(run) and not path.is_relative_to(run / INPUT)

    def lies_in_run(path: Path) -> bool:
        if path.is_symlink():
            return of_run(path.resolve())
        # resolving every file of a large folder takes seconds
        if path.parent not in folders:
            folders[path.parent] = of_run(path.parent.resolve())
        return folders[path.parent]

    inside = {s.image for s in sheet.samples if any(lies_in_run(p) for p in s.paths)}
    if not inside:
        return sheet
    log.info("%d files in the run folder %s are no input", len(inside), out)
    kept = tuple(s for s in sheet.samples if s.image not in inside)
    return dataclasses.replace(sheet, samples=kept)


def check_inputs(
    inputs: Inputs, protocol: Protocol, sheet: SampleSheet, outcomes: dict[str, Outcome]
) -> None:
    """Fail the images whose files are not those that were stamped any more.

    Raises
    ------
    IsletImagingError
        If something was fitted over all images, so that no number is left that one could believe.
    """
    changed = []
    for sample in sheet.samples:
        stamps = inputs.of(sample)
        if all(is_same(p, stamps[str(p)]) for p in inputs.measured(sample) if str(p) in stamps):
            continue
        changed.append(sample.image)
        if outcomes[sample.image].status == "scored":
            outcomes[sample.image] = Outcome(
                sample.image,
                "failed",
                f"{sample.image}: its file, or one of its labels, was changed while the run went; "
                "score again",
            )
    how = protocol.correction
    if changed and (how.flat_field == "auto" or how.bleed_through == "controls"):
        raise IsletImagingError(
            f"{changed[0]}: changed while the run went, and corrections were fitted over all "
            "images; score again"
        )


def image_rows(
    sheet: SampleSheet,
    outcomes: Mapping[str, Outcome],
    tasks: Mapping[str, Task],
    inputs: Inputs,
) -> list[ImageRow]:
    """Rows of ``images.csv`` in the order of names, sheet problems among them."""
    from islet_imaging.quality import Flag

    rows = []
    for s in sheet.samples:
        o = outcomes[s.image]
        scored = o.status == "scored"
        rows.append(
            ImageRow(
                image=s.image,
                condition=s.condition,
                batch=s.batch,
                role=s.role,
                status=o.status,
                message=o.message,
                flags=tuple(Flag.from_dict(f) for f in o.flags) if scored else (),
                extra=dict(s.extra),
                # a run is opened from anywhere
                files=tuple(str(p.absolute()) for p in s.paths),
                inputs=tuple(inputs.hashes(s)),
                given={
                    what: {"file": str(path), "sha256": inputs.given(s)[what]}
                    for what, path in given_of(s).items()
                },
                key=tasks[s.image].key if scored else "",
                pixels=tuple(o.record.get("pixels", ())) if scored else (),
                pixel_size_um=o.record.get("pixel_size_um") if scored else None,
                shape_px=tuple(o.record.get("shape_px", ())) if scored else (),
                scale=dict(o.record.get("scale") or {}) if scored else {},
            )
        )
    rows += [
        ImageRow(
            image=p.image,
            condition=p.condition,
            batch=p.batch,
            role=p.role,
            status="failed",
            message=p.message,
        )
        for p in sheet.problems
    ]
    return sorted(rows, key=lambda r: r.image)
