"""A run's cells, called: what the tables, the report, the exports and napari are made of.

The idea: what the images said lies in the run folder; from it and the sample sheet thresholds are
fitted per staining run, cells are called, and the journal of human corrections is laid over them.
Whoever asks for a run's calls gets them here, so that no two places can disagree.
It fails, and says to score again, when the kept measurements are gone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Protocol, negative_for
from islet_imaging.run.folder import work_table

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.positivity import Threshold
    from islet_imaging.quality import Flag
    from islet_imaging.review.journal import Edit

FIRST_COLUMNS = ("image", "islet", "cell", "y_px", "x_px", "y_um", "x_um", "nucleus_area_um2")
LAST_COLUMNS = ("phenotype", "excluded", "flags")


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """What the run knows of one image beside its cells."""

    image: str
    condition: str
    batch: str
    role: str
    status: str
    message: str
    flags: tuple[Flag, ...]
    record: Mapping[str, Any]
    extra: Mapping[str, Any]
    files: tuple[str, ...] = ()

    @property
    def staining(self) -> str:
        """What was stained together with the image: the sheet's ``staining``, else its batch."""
        return str(self.extra.get("staining") or self.batch)


@dataclasses.dataclass(frozen=True)
class CalledRun:
    """Every cell of a run called, before and after human corrections."""

    raw: pd.DataFrame
    corrected: pd.DataFrame
    unmatched: list[Edit]
    thresholds: dict[str, dict[str, Threshold]]
    protocol: Protocol
    edits: tuple[Edit, ...] = ()


def load_work(run: Path, image: str, name: str) -> pd.DataFrame:
    """A table that measuring an image left: "cells", "pairs" or "islets"."""
    import pandas as pd

    path = work_table(run, image, name)
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise IsletImagingError(
            f"{path}: the measurements of {image!r} are gone or damaged ({error}); "
            "score the folder again into the same run folder"
        ) from error


# ---------------------------------------------------------------- thresholds and calls


def fit_run(
    run: Path, rows: Sequence[ImageRow], protocol: Protocol
) -> dict[str, dict[str, Threshold]]:
    """Fit the thresholds of every staining run, or take those the protocol states.

    Images with one ``staining`` in the sample sheet, by default one batch, are a staining run.
    Negative controls that name neither serve every staining run without its own.

    Parameters
    ----------
    run : Path
        The run folder with its measured images.
    rows : sequence of ImageRow
        Scored images.
    protocol : Protocol
        With ``fitted`` thresholds for staining runs that shall not be fitted again.

    Returns
    -------
    dict
        ``{staining: {marker: Threshold}}``.
    """
    from islet_imaging.positivity import Threshold
    from islet_imaging.positivity.staining_run import fit_stains

    scored = [r for r in rows if r.status == "scored"]
    thresholds: dict[str, dict[str, Threshold]] = {}
    for staining in sorted({r.staining for r in scored}):
        stated = protocol.fitted.get(staining, {})
        known = {m: Threshold.from_dict(stated[m]) for m in protocol.markers if m in stated}
        if len(known) == len(protocol.markers):
            thresholds[staining] = known
            continue
        own = [r for r in scored if r.staining == staining]
        samples = [r for r in own if r.role in ("sample", "positive_control")]
        controls = {
            marker: [r for r in own if negative_for(r.role, marker)]
            or [r for r in scored if negative_for(r.role, marker) and not r.staining]
            for marker in protocol.markers
        }
        tables = {
            name: load_work(run, name, "cells")
            for name in sorted({r.image for rows in (samples, *controls.values()) for r in rows})
        }
        fitted = fit_stains(
            [tables[r.image] for r in samples],
            {marker: [tables[r.image] for r in rows] for marker, rows in controls.items()},
            protocol,
        )
        thresholds[staining] = {**fitted, **known}
    return thresholds


def call_run(run: Path, rows: Sequence[ImageRow], protocol: Protocol) -> CalledRun:
    """Fit, call every cell of every scored image, and lay the journal's corrections over it."""
    import pandas as pd

    from islet_imaging.positivity.staining_run import call_image
    from islet_imaging.review.journal import Journal
    from islet_imaging.review.replay import apply_corrections

    thresholds = fit_run(run, rows, protocol)
    parts = [
        call_image(load_work(run, r.image, "cells"), thresholds[r.staining], protocol)
        for r in rows
        if r.status == "scored"
    ]
    fitted = {
        staining: {m: t.to_dict() for m, t in by_marker.items()}
        for staining, by_marker in thresholds.items()
    }
    protocol = protocol.replace(fitted=fitted)
    if not parts:
        empty = pd.DataFrame({c: [] for c in (*FIRST_COLUMNS, *LAST_COLUMNS)})
        return CalledRun(empty, empty, [], thresholds, protocol)
    raw = pd.concat(parts, ignore_index=True)
    raw = raw[in_order(raw.columns)]
    edits = Journal(run / "corrections.jsonl").edits()
    if not edits:
        return CalledRun(raw, raw, [], thresholds, protocol)
    corrected = apply_corrections(raw, edits)
    cells = corrected.cells
    columns = [c for c in cells.columns if c != "corrected_by"]
    return CalledRun(
        raw,
        cells[[*in_order(columns), "corrected_by"]],
        corrected.unmatched,
        thresholds,
        protocol,
        tuple(edits),
    )


def in_order(columns: Iterable[str]) -> list[str]:
    """Columns of the cells table as readers know them: who and where, what, and verdicts."""
    columns = list(columns)
    first = [c for c in FIRST_COLUMNS if c in columns]
    last = [c for c in LAST_COLUMNS if c in columns]
    middle = [c for c in columns if c not in first and c not in last]
    return [*first, *middle, *last]


def rows_of(provenance: Mapping[str, Any]) -> list[ImageRow]:
    """The image rows a provenance holds."""
    from islet_imaging.quality import Flag

    return [
        ImageRow(
            **{
                **row,
                "flags": tuple(Flag.from_dict(f) for f in row["flags"]),
                "files": tuple(row["files"]),
            }
        )
        for row in provenance["images"]
    ]
