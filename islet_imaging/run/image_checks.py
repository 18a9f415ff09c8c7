"""Images of a run held against each other: exposure, focus, duplicates, overlap.

The idea: `quality.check_folder` compares numbers; here they are taken from the measured images of a
run folder, and what it finds goes to the images: flags, or a failed image where no threshold of the
staining run holds for it.
It fails to judge a slide with one dye only by what it lacks; such flags are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from islet_imaging.protocol import Protocol
from islet_imaging.run.folder import work_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from islet_imaging.quality import Flag
    from islet_imaging.run.called import ImageRow

#: what makes a threshold of the staining run invalid for an image
STOPS = ("exposure_mismatch",)
#: what says nothing of a picture with one dye only
OF_SAMPLES = (
    "few_cells",
    "swapped_channels",
    "partly_out_of_focus",
    "empty_channel",
    "exposure_mismatch",
)


def check_rows(
    run: Path, rows: Sequence[ImageRow], protocol: Protocol
) -> tuple[list[ImageRow], list[Flag]]:
    """Hold the images against each other; those that must not be pooled become failed.

    Parameters
    ----------
    run : Path
        The run folder with its measured images.
    rows : sequence of ImageRow
        As measured.
    protocol : Protocol
        Holds the limits.

    Returns
    -------
    rows : list of ImageRow
        With the flags of the comparison; an image whose settings differ from its controls' is
        ``failed``, since no threshold holds for both.
    flags : list of Flag
        Those that concern the folder as a whole.
    """
    from islet_imaging.quality import check_folder

    scored = [r for r in rows if r.status == "scored"]
    found = check_folder(
        [
            {
                "image": r.image,
                "batch": r.batch,
                "role": r.role,
                "metadata": r.record["metadata"],
                "numbers": r.record["numbers"],
                "nuclei": _nuclei(run, r.image),
            }
            for r in scored
        ],
        protocol=protocol,
    )
    by_image: dict[str | None, list[Flag]] = {}
    for flag in found:
        by_image.setdefault(flag.image, []).append(flag)
    checked = []
    for row in rows:
        own = by_image.get(row.image, [])
        stop = [f for f in own if f.code in STOPS and f.severity == "block"]
        if stop:
            row = dataclasses.replace(row, status="failed", message=stop[0].message)
        flags = [f for f in (*row.flags, *own) if not (_single(row) and f.code in OF_SAMPLES)]
        checked.append(dataclasses.replace(row, flags=tuple(flags)))
    return checked, by_image.get(None, [])


def _single(row: ImageRow) -> bool:
    return row.role.startswith("single_stain") or row.extra.get("control_kind") == "unstained"


def _nuclei(run: Path, image: str) -> dict[str, NDArray[np.float64]]:
    """Where the nuclei of an image lie, um, and the DNA light of those that are not cut."""
    import pandas as pd

    names = ["y_um", "x_um", "dna_integrated", "nucleus_area_um2", "touches_border"]
    table = pd.read_parquet(work_table(run, image, "cells"), columns=names)
    area = table["nucleus_area_um2"]
    light = (table["dna_integrated"] / area).where(
        ~table["touches_border"].astype(bool) & (area > 0.6 * area.median())
    )
    columns = {"y_um": table["y_um"], "x_um": table["x_um"], "light": light}
    return {name: column.to_numpy(dtype=float) for name, column in columns.items()}
