"""What a folder run is asked to do, settled before any of it is done.

The idea: protocol, sample sheet, inputs, networks and versions are stamped once; from the stamps
come the key of the run, one task per image with its own key, and the answer whether a finished run
is this very one.  Scoring does what the plan says, the ledger only reads it, so what is announced
and what is done cannot differ.
It fails for what concerns the whole run: no images, or an unusable sheet or protocol.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.run.files import atomic_path
from islet_imaging.run.folder import PROVENANCE_FORMAT, Run
from islet_imaging.run.measurements import proven_outcome
from islet_imaging.run.proof import digest, hash_file
from islet_imaging.run.rows import rows_of
from islet_imaging.scoring.fingerprints import Inputs, given_of, image_parts, run_key, shared_parts
from islet_imaging.scoring.places import check_places, with_absolute_paths, without_run
from islet_imaging.scoring.task import Task

if TYPE_CHECKING:
    from islet_imaging.experiment.sample_sheet import SampleSheet

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be scored, how, and into which run folder."""

    folder: Path
    out: Path
    protocol: Protocol
    sheet: SampleSheet
    #: whether the protocol was drafted from the folder
    drafted: bool


def requested(
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
) -> Request:
    """Read sheet and protocol, drafting what is not given; parameters as in `score_folder`.

    Parameters
    ----------
    waiting : collection of Path
        Files that are still being written and count as not there.

    Raises
    ------
    IsletImagingError
        If there is nothing to score, or the sheet or protocol cannot be used.
    """
    from islet_imaging.experiment.drafting import protocol_of_folder
    from islet_imaging.experiment.given_files import left_out, with_given, with_places
    from islet_imaging.experiment.sample_sheet import read_samples, samples_without_sheet

    folder, out = Path(folder), Path(out)
    check_places(folder, out)
    given = {"nuclei": nuclei, "cells": cells, "regions": regions}
    base = None
    drafted = protocol is None
    if protocol is None:
        drawn = left_out(folder, *given.values())
        protocol = protocol_of_folder(folder, include or (), [*(exclude or ()), *drawn], waiting)
    elif not isinstance(protocol, Protocol):
        base = Path(protocol).parent
        protocol = Protocol.load(protocol)
    protocol = with_patterns(with_absolute_paths(protocol, base), include, exclude)
    protocol = with_places(protocol, folder, given)
    if samples is None:
        sheet = samples_without_sheet(folder, protocol, waiting)
    else:
        sheet = read_samples(samples, folder, protocol, waiting)
    sheet = with_given(without_run(sheet, out), folder, protocol)
    if not sheet.samples and not sheet.problems:
        reading = protocol.reading
        asked = {
            "files must match": reading.file_pattern,
            "reading.include is": ", ".join(reading.include),
            "reading.exclude is": ", ".join(reading.exclude),
        }
        raise IsletImagingError(
            f"{folder}: no images found; TIFF, SVS, NDPI, QPTIFF, PNG, JPEG, and with the formats "
            "extra CZI, LIF and ND2 are looked for, in sub-folders too"
            + "".join(f"; {words} {text!r}" for words, text in asked.items() if text)
        )
    return Request(folder, out, protocol, sheet, drafted)


def with_patterns(
    protocol: Protocol, include: Sequence[str] | None, exclude: Sequence[str] | None
) -> Protocol:
    """The protocol with other patterns of what is scored; None leaves its own.

    Examples
    --------
    >>> from islet_imaging import Channel, Protocol
    >>> with_patterns(Protocol((Channel("DAPI", "dna"),)), None, ["*_old*"]).reading.exclude
    ('*_old*',)
    """
    changes: dict[str, Any] = {}
    if include is not None:
        changes["include"] = tuple(include)
    if exclude is not None:
        changes["exclude"] = tuple(exclude)
    if not changes:
        return protocol
    return protocol.replace(reading=dataclasses.replace(protocol.reading, **changes))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done, and the key of it all."""

    out: Path
    protocol: Protocol
    sheet: SampleSheet
    inputs: Inputs
    networks: dict[str, str]
    flat_field: str
    device: str
    key: str


def make_plan(request: Request, device: str, *, inputs: Inputs) -> Plan:
    """Stamp everything that changes a number, before any of it is used."""
    from islet_imaging.network.engine import device_of
    from islet_imaging.network.weights import package_hashes

    protocol, sheet = request.protocol, request.sheet
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
    return Plan(request.out, protocol, sheet, inputs, networks, flat_field, where, key)


def tasks_of(plan: Plan, kept_in: Path) -> tuple[Protocol, list[Task]]:
    """What is fitted over all images first, and one task per image with its key.

    Parameters
    ----------
    plan : Plan
        What is to be done.
    kept_in : Path
        Folder for what was fitted; the run's ``.work`` where it is to be used.
    """
    from islet_imaging.experiment.calibration import fit_bleed_matrix, fit_flat_fields

    out, sheet = plan.out, plan.sheet
    protocol = fit_bleed_matrix(plan.protocol, sheet.samples)
    calibration = _write_calibration(kept_in, fit_flat_fields(protocol, sheet.samples))
    flat_field = plan.flat_field
    if calibration:
        flat_field = hash_file(Path(calibration))
    plain = protocol.to_dict()
    shared = shared_parts(protocol, plan.networks, flat_field, plan.device)
    run = str(out.absolute())
    tasks = []
    for s in sheet.samples:
        parts = image_parts(s, plan.inputs, shared)
        tasks.append(
            Task(
                image=s.image,
                files=tuple(str(p.absolute()) for p in s.paths),
                facts={**s.extra, "role": s.role},
                run=run,
                protocol=plain,
                key=digest(parts),
                threads=1,
                device=plan.device,
                flat_fields=calibration,
                stamps=plan.inputs.of(s),
                given={what: str(path) for what, path in given_of(s).items()},
                networks=plan.networks,
                parts=parts,
            )
        )
    return protocol, tasks


def same_run(out: Path, key: str) -> Run | None:
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


def _write_calibration(folder: Path, fields: Mapping[str, Any] | None) -> str | None:
    if fields is None:
        return None
    import numpy as np

    path = folder.absolute() / "flat_fields.npz"
    with atomic_path(path) as part, part.open("wb") as stream:
        np.savez(stream, **fields)
    return str(path)
