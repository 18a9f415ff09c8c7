"""Images of a run held against each other: exposure, focus, duplicates, overlap.

The idea: `quality.check_folder` compares numbers; here they are taken from the measured images of a
run folder, and what it finds goes to the images as flags.  An image with a blocking flag is left
out of every count: one copy of a duplicate stays, a swapped channel makes no fraction.
It fails to judge a slide with one dye only by what it lacks; such flags are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging.protocol import Protocol
from islet_imaging.run.called import IMAGES_AT_ONCE, Each, call_run
from islet_imaging.run.folder import Run
from islet_imaging.run.measurements import load_arrow, require
from islet_imaging.run.rows import rows_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.positivity import Threshold
    from islet_imaging.quality import Flag
    from islet_imaging.run.rows import ImageRow

#: blocking flags that forbid intensities, or one marker's share, and leave the image's other calls
OF_INTENSITIES = ("saturated", "bleed_through")
_NOT_USED = (
    "{}: this control is brighter than its samples' dark cells, or clipped as they are: it is not "
    "comparable with them. The threshold rests on the samples alone, and no cell of the control is "
    "called. Take controls with the samples' settings, and leave their contrast as it is."
)
#: what says nothing of a picture with one dye only
OF_SAMPLES = (
    "few_cells",
    "no_nuclei",
    "swapped_channels",
    "partly_out_of_focus",
    "empty_channel",
    "exposure_mismatch",
    # a picture without the DNA dye holds nothing to take for nuclei
    "out_of_domain",
    "nuclei_unlike_others",
    "implausible_nuclei",
    "nucleus_size_differs",
)


def check_rows(
    run: Path, rows: Sequence[ImageRow], protocol: Protocol, each: Each = starmap
) -> tuple[list[ImageRow], list[Flag]]:
    """Hold the images against each other; those with a blocking flag are left out.

    Parameters
    ----------
    run : Path
        The run folder with its measured images.
    rows : sequence of ImageRow
        As measured.
    protocol : Protocol
        Holds the limits.
    each : callable
        Where the measurements are read, as in `islet_imaging.run.called.call_run`.

    Returns
    -------
    rows : list of ImageRow
        With the flags of the comparison; an image with a blocking flag is ``skipped``, with the
        flag as its message, unless the protocol says ``quality: {blocked: keep}``.
    flags : list of Flag
        Those that concern the folder as a whole.
    """
    from islet_imaging.quality import check_folder

    scored = [r for r in rows if r.status == "scored"]
    jobs = [(run, scored[k : k + IMAGES_AT_ONCE]) for k in range(0, len(scored), IMAGES_AT_ONCE)]
    facts = [one for some in each(_facts, jobs) for one in some]
    found = check_folder(facts, protocol=protocol)
    del facts
    by_image: dict[str | None, list[Flag]] = {}
    for flag in found:
        by_image.setdefault(flag.image, []).append(flag)
    checked = []
    for row in rows:
        own = by_image.get(row.image, [])
        flags = [f for f in (*row.flags, *own) if not (_single(row) and f.code in OF_SAMPLES)]
        row = dataclasses.replace(row, flags=tuple(flags))
        # one control may well be filed with several batches; it is counted nowhere
        harmless = (*OF_INTENSITIES, *(("duplicate",) if row.role != "sample" else ()))
        stop = [f for f in flags if f.severity == "block" and f.code not in harmless]
        leave_out = protocol.quality.blocked == "leave_out" and not _single(row)
        if stop and leave_out and row.status == "scored":
            message = f"left out ({stop[0].code}): {stop[0].message}"
            row = dataclasses.replace(row, status="skipped", message=message)
        checked.append(row)
    return checked, by_image.get(None, [])


def with_threshold_flags(
    rows: Sequence[ImageRow], thresholds: Mapping[str, Mapping[str, Threshold]]
) -> tuple[list[ImageRow], list[Flag]]:
    """Flags of staining runs without a threshold, and of controls to blame or not used.

    Parameters
    ----------
    rows : sequence of ImageRow
        Images of the run.
    thresholds : mapping
        ``{staining: {marker: Threshold}}``.

    Returns
    -------
    rows : list of ImageRow
        Controls that hold positive cells have the flag ``control_not_negative``, those that are
        not comparable with their samples ``control_not_used``.
    flags : list of Flag
        ``no_threshold``, one per staining run and marker without.
    """
    from islet_imaging.quality import Flag

    of_image: dict[str, list[Flag]] = {}
    found = []
    for staining, by_marker in thresholds.items():
        for marker, threshold in by_marker.items():
            if threshold.estimable:
                if threshold.per_image and not threshold.used.control_images:
                    for row in rows:
                        if row.staining == staining and _controls(row, marker):
                            flag = Flag("control_not_used", "warning", _NOT_USED.format(marker),
                                        marker, row.image)  # fmt: skip
                            of_image.setdefault(row.image, []).append(flag)
                continue
            where = f" of {staining}" if staining else ""
            found.append(
                Flag(
                    "no_threshold",
                    "block",
                    f"{marker}: no threshold can be estimated for the images{where}, so no share "
                    f"of positive cells is given: {threshold.reason}.",
                    marker,
                )
            )
            for image in threshold.cut.suspects:
                message = f"{marker}: {threshold.reason}."
                flag = Flag("control_not_negative", "block", message, marker, image)
                of_image.setdefault(image, []).append(flag)
    checked = [
        dataclasses.replace(r, flags=(*r.flags, *of_image[r.image])) if r.image in of_image else r
        for r in rows
    ]
    return checked, found


def _controls(row: ImageRow, marker: str) -> bool:
    """Whether a scored image is a stained negative control of a marker."""
    ours = row.role in ("negative_control", f"negative_control:{marker}")
    return ours and row.status == "scored" and not _single(row)


def checked_rows(run: Run) -> list[ImageRow]:
    """The images of a finished run as its tables know them."""
    return check_rows(run.path, rows_of(run.provenance), run.protocol)[0]


def raw_cells(run: Run) -> pd.DataFrame:
    """The cells of a run as the tool called them, also where its tables hold corrections already.

    Parameters
    ----------
    run : Run
        A run folder.

    Returns
    -------
    DataFrame
    """
    cells = run.cells
    if "corrected_by" not in cells:
        return cells
    return call_run(run.path, checked_rows(run), run.protocol, corrections=False).raw


def current_cells(run: Run) -> pd.DataFrame:
    """The cells of a run with every correction that its journal holds by now.

    Parameters
    ----------
    run : Run
        A run folder.

    Returns
    -------
    DataFrame
    """
    if not run.corrections_pending:
        return run.cells
    return call_run(run.path, checked_rows(run), run.protocol).corrected


def _single(row: ImageRow) -> bool:
    return row.role.startswith("single_stain") or row.extra.get("control_kind") == "unstained"


def _facts(run: Path, rows: Sequence[ImageRow]) -> list[dict[str, Any]]:
    """What some images are held against others by, in any process that sees the run folder."""
    from islet_imaging.quality import ImageNumbers

    found = []
    for row, nuclei in zip(rows, _nuclei(run, rows), strict=True):
        record = require(run, row).outcome["record"]
        found.append({
            "image": row.image,
            "batch": row.staining,
            "role": row.role,
            "metadata": record["metadata"],
            "numbers": ImageNumbers.from_dict(record["numbers"]),
            "scale": record.get("scale"),
            "nuclei": nuclei,
        })  # fmt: skip
    return found


def _nuclei(run: Path, rows: Sequence[ImageRow]) -> list[dict[str, NDArray[np.float64]]]:
    """Where the nuclei of images lie, um, and the DNA light of those that are not cut."""
    columns = ("nucleus_area_um2", "dna_integrated", "touches_border", "y_um", "x_um")
    found = []
    for row in rows:
        table = load_arrow(run, row, "cells", columns)
        area, light, cut, y_um, x_um = (c.to_numpy() for c in table.columns)
        whole = ~cut.astype(bool) & (area > 0.6 * (np.nanmedian(area) if len(area) else np.nan))
        found.append(np.stack([y_um, x_um, np.where(whole, light / area, np.nan)]))
    # one block: small arrays among what is read and dropped would keep the room of it all
    ends = np.cumsum([part.shape[1] for part in found])[:-1]
    parts = np.split(np.concatenate(found, axis=1), ends, axis=1)
    return [dict(zip(("y_um", "x_um", "light"), part, strict=True)) for part in parts]
