"""A run's cells, called: what the tables, the report, the exports and napari are made of.

The idea: what the images said lies in the run folder; from it and the sample sheet thresholds are
fitted per staining run, cells are called, and the journal of human corrections is laid over them.
Whoever asks for a run's calls gets them here, so that no two places can disagree.
It fails, and says to score again, when the kept measurements are gone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging.protocol import Protocol, negative_for
from islet_imaging.run.cell_parts import (
    HELD,
    PLACES,
    CellParts,
    Each,
    Part,
    narrow,
    write_part,
)
from islet_imaging.run.measurements import load_arrow, load_work
from islet_imaging.run.proof import digest
from islet_imaging.run.rows import ImageRow, rows_of

__all__ = [
    "CalledRun",
    "Each",
    "ImageRow",
    "call_run",
    "fit_run",
    "load_work",
    "rows_of",
    "threshold_origin",
]

#: images whose cells are called in one piece of work
IMAGES_AT_ONCE = 16
#: beside a marker's own, the columns that its threshold is fitted by
FITTED_BY = ("image", "excluded", "y_px", "x_px", "y_um", "x_um")

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.positivity import Threshold
    from islet_imaging.review.journal import Edit
    from islet_imaging.review.replay import Corrected
    from islet_imaging.statistics.tally import Tally

FIRST_COLUMNS = (
    "image",
    "islet",
    "region",
    "cell",
    "y_px",
    "x_px",
    "y_um",
    "x_um",
    "nucleus_area_um2",
)
LAST_COLUMNS = ("phenotype", "excluded", "flags", "corrected_by")


@dataclasses.dataclass(frozen=True)
class CalledRun:
    """Every cell of a run called, before and after human corrections.

    Parameters
    ----------
    raw, corrected : DataFrame
        Cells as the tool called them, and with corrections laid over them; the same table where
        there are none.  With ``parts`` only a few columns.
    unmatched : list of Edit
        Corrections that were not applied.
    thresholds : dict
        ``{staining: {marker: Threshold}}``.
    protocol : Protocol
        With these thresholds, and what they were fitted on.
    edits : tuple of Edit
        The journal.
    told : tuple of str
        What there is to say of the corrections, in sentences.
    counts : mapping
        How many corrections there are, of each kind that was not applied as it stands.
    not_used : tuple of str
        Stainings whose thresholds the protocol states, fitted on other images or settings.
    parts : CellParts, optional
        Where all columns of the corrected cells lie.
    tallies : tuple of Tally, optional
        What the cells add up to, as scored and after corrections; with ``parts``.
    """

    raw: pd.DataFrame
    corrected: pd.DataFrame
    unmatched: list[Edit]
    thresholds: dict[str, dict[str, Threshold]]
    protocol: Protocol
    edits: tuple[Edit, ...] = ()
    told: tuple[str, ...] = ()
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    not_used: tuple[str, ...] = ()
    parts: CellParts | None = None
    tallies: tuple[Tally, Tally] | None = None

    def cells_of(self, image: str) -> pd.DataFrame:
        """All columns of one image's corrected cells."""
        if self.parts is not None:
            return self.parts.of(image)
        return self.corrected[self.corrected["image"] == image]


# ---------------------------------------------------------------- thresholds and calls


@dataclasses.dataclass(frozen=True)
class FittedRun:
    """Thresholds of every staining run, what each came from, and what was stated and not used."""

    thresholds: dict[str, dict[str, Threshold]]
    origins: dict[str, dict[str, str]]
    not_used: tuple[str, ...]


def fit_run(
    run: Path, rows: Sequence[ImageRow], protocol: Protocol
) -> dict[str, dict[str, Threshold]]:
    """Fit the thresholds of every staining run, or take those the protocol states for it.

    Images with one ``staining`` in the sample sheet, by default one batch, are a staining run.
    Negative controls that name neither serve every staining run without its own.

    Parameters
    ----------
    run : Path
        The run folder with its measured images.
    rows : sequence of ImageRow
        Scored images.
    protocol : Protocol
        With ``fitted`` thresholds that shall not be fitted again.  They hold for the images and
        settings they were fitted on (``fitted_from``); for others they are fitted anew.

    Returns
    -------
    dict
        ``{staining: {marker: Threshold}}``.
    """
    return fit_stainings(run, rows, protocol).thresholds


def fit_stainings(
    run: Path, rows: Sequence[ImageRow], protocol: Protocol, each: Each = starmap
) -> FittedRun:
    """As `fit_run`, with what each threshold came from."""
    from islet_imaging.positivity import Threshold
    from islet_imaging.positivity.threshold import without_cut

    scored = [r for r in rows if r.status == "scored"]
    thresholds: dict[str, dict[str, Threshold]] = {}
    origins: dict[str, dict[str, str]] = {}
    not_used: list[str] = []
    # each marker of each staining run that is to be fitted, and its images
    jobs: dict[tuple[str, str], tuple[list[ImageRow], list[ImageRow]]] = {}
    for staining in sorted({r.staining for r in scored}):
        own = [r for r in scored if r.staining == staining]
        samples = [r for r in own if r.role in ("sample", "positive_control")]
        controls = {
            marker: [r for r in own if negative_for(r.role, marker)]
            or [r for r in scored if negative_for(r.role, marker) and not r.staining]
            for marker in protocol.markers
        }
        origins[staining] = {
            marker: threshold_origin([*samples, *controls[marker]], marker, protocol)
            for marker in protocol.markers
        }
        stated = protocol.fitted.get(staining, {})
        held = protocol.fitted_from.get(staining, {})
        valid = {m for m in stated if held.get(m, "") == origins[staining].get(m)}
        if any(m in protocol.markers for m in set(stated) - valid):
            not_used.append(staining)
        thresholds[staining] = {}
        for marker in protocol.markers:
            if marker in valid:
                thresholds[staining][marker] = Threshold.from_dict(stated[marker])
            else:
                jobs[staining, marker] = samples, controls[marker]
    fitted = each(_fit_marker, [(run, protocol, m, *jobs[s, m]) for s, m in jobs])
    for ((staining, marker), (samples, _)), found in zip(jobs.items(), fitted, strict=True):
        light = "light of another dye lies in this channel, see the flags"
        foreign = any(
            f.code == "bleed_through" and f.severity == "block" and f.channel == marker
            for r in samples
            for f in r.flags
        )
        thresholds[staining][marker] = without_cut(found, light) if foreign else found
    in_turn = {s: {m: found[m] for m in protocol.markers} for s, found in thresholds.items()}
    return FittedRun(in_turn, origins, tuple(not_used))


def _fit_marker(
    run: Path,
    protocol: Protocol,
    marker: str,
    samples: Sequence[ImageRow],
    controls: Sequence[ImageRow],
) -> Threshold:
    """Fit one marker of one staining run, in any process that sees the run folder."""
    import pyarrow as pa

    from islet_imaging.positivity.fitting import fit_marker

    others = tuple(f"{m}_" for m in protocol.markers if m != marker)
    own = f"{marker}_"

    def wanted(column: str) -> bool:
        # "A" beside "A_2": the longer name is meant
        foreign = max((len(o) for o in others if column.startswith(o)), default=0)
        return column in FITTED_BY or (column.startswith(own) and len(own) > foreign)

    def cells(rows: Sequence[ImageRow]) -> list[pd.DataFrame]:
        # one table of all images: of thousands each would be copied once more
        found = [load_arrow(run, r, "cells", wanted) for r in rows]
        filled = [table for table in found if table.num_rows]
        if not filled:
            return []
        joined = pa.concat_tables(filled, promote_options="permissive")
        del found, filled
        table = joined.to_pandas(use_threads=False, split_blocks=True, self_destruct=True)
        del joined
        pa.default_memory_pool().release_unused()
        return [table]

    return fit_marker(cells(samples), cells(controls), marker, protocol)


@dataclasses.dataclass(frozen=True)
class _Called:
    """Some images' cells as called, after corrections where the run has any, and where they lie."""

    raw: pd.DataFrame
    corrected: Corrected | None
    part: Part | None = None
    tallies: tuple[Tally, Tally] | None = None


def _call_images(
    run: Path,
    protocol: Protocol,
    rows: Sequence[ImageRow],
    thresholds: Mapping[str, Mapping[str, Threshold]],
    edits: Sequence[Edit] | None,
    into: Path | None,
    held: Callable[[pd.DataFrame], pd.DataFrame],
) -> _Called:
    """Call the cells of some images, in any process that sees the run folder.

    ``edits`` are those of these images, None where the run has none; ``into`` is a file for the
    whole rows, of which only sums and the columns that are ``held`` come back then.
    """
    from islet_imaging.positivity.staining_run import call_image
    from islet_imaging.review.replay import apply_corrections
    from islet_imaging.statistics.tally import tally

    cells = _joined(
        [call_image(load_work(run, r, "cells"), thresholds[r.staining], protocol) for r in rows]
    )
    done = None
    if edits is not None:
        there = set(cells["image"])
        own = [e for e in edits if e.image in there]
        done = apply_corrections(cells, own, pixels={r.image: r.pixels for r in rows if r.pixels})
        done.cells = done.cells[in_order(done.cells.columns)]
    if into is None:
        return _Called(cells, done)
    part = write_part(into, cells if done is None else done.cells)
    of: Any = {"markers": protocol.markers, "denominator": protocol.statistics.denominator}
    raw = corrected = tally(cells, **of)
    if done is not None:
        corrected = tally(done.cells, **of)
        done.cells = held(done.cells)
    return _Called(held(cells), done, part, (raw, corrected))


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    # images without a cell say nothing of the columns' types
    table = pd.concat([p for p in parts if len(p)] or [parts[0]], ignore_index=True)
    if "region" in table:  # drawn in some of the images
        table["region"] = table["region"].fillna("").astype(object)
    ordered = in_order(table.columns)
    return table if ordered == list(table.columns) else table[ordered]


def threshold_origin(rows: Sequence[ImageRow], marker: str, protocol: Protocol) -> str:
    """Hash of what a threshold is fitted on: measurements, roles, and how the marker is called."""
    images = sorted([r.image, r.key, r.role, *([r.regions] if r.regions else [])] for r in rows)
    how = [dataclasses.asdict(x) for x in (protocol.channel(marker), protocol.calling(marker))]
    return digest([images, how])


def call_run(
    run: Path,
    rows: Sequence[ImageRow],
    protocol: Protocol,
    *,
    corrections: bool = True,
    each: Each = starmap,
    into: Path | None = None,
    counted: bool = False,
) -> CalledRun:
    """Fit, call every cell of every scored image, and lay the journal's corrections over it.

    Parameters
    ----------
    run : Path
        The run folder.
    rows : sequence of ImageRow
        Its images.
    protocol : Protocol
        How to call.
    corrections : bool
        Whether to lay people's corrections over the calls.
    each : callable
        ``each(function, items)`` gives ``function(*item)`` for each item, in order; where fitting
        and calling are done.  It changes no number.
    into : Path, optional
        A folder for all columns of the cells (`CalledRun.parts`); only sums over them and a few
        columns are held in memory then.
    counted : bool
        Hold too what cells are counted by, and where they lie.
    """
    from islet_imaging.review.journal import Journal, effective
    from islet_imaging.review.regions import exchanged_told, without_regions
    from islet_imaging.review.replay import Corrected, apply_corrections
    from islet_imaging.statistics.tally import joined

    journal = Journal(run / "corrections.jsonl")
    every = journal.edits() if corrections else []
    edits = without_regions(every)
    now = {r.image: r.pixels for r in rows if r.pixels}
    strange = exchanged_told(every, now)
    found = fit_stainings(run, rows, protocol, each)
    scored = [r for r in rows if r.status == "scored"]
    of: dict[str, list[Edit]] = {}
    for edit in effective(edits):
        of.setdefault(edit.image, []).append(edit)
    features = {t.feature for by_marker in found.thresholds.values() for t in by_marker.values()}
    held = partial(_counted if counted else _held, features=features)
    jobs = []
    for k in range(0, len(scored), IMAGES_AT_ONCE):
        some = scored[k : k + IMAGES_AT_ONCE]
        of_these = {r.staining: found.thresholds[r.staining] for r in some}
        own = [e for r in some for e in of.get(r.image, ())] if edits else None
        file = None if into is None else into / f"{k:09d}.arrow"
        jobs.append((run, protocol, some, of_these, own, file, held))
    called: list[_Called] = list(each(_call_images, jobs))
    fitted = {
        staining: {m: t.to_dict() for m, t in by_marker.items()}
        for staining, by_marker in found.thresholds.items()
    }
    protocol = protocol.replace(fitted=fitted, fitted_from=found.origins)
    parts = [c.part for c in called if c.part is not None]
    corrected = [c.corrected for c in called if c.corrected is not None]
    sums = [c.tallies for c in called if c.tallies is not None]
    tallies = None
    if sums:
        before = joined([s[0] for s in sums])
        tallies = before, joined([s[1] for s in sums]) if edits else before
    raw = _raw([c.raw for c in called])
    called.clear()  # cells of many images are not held twice
    if corrected:
        done = Corrected(_joined([c.cells for c in corrected]), None, [])
        for one in corrected:
            done.add(one)
        there = set(raw["image"])
        done.unmatched += [e for image, own in of.items() if image not in there for e in own]
        corrected.clear()
    else:
        done = apply_corrections(raw, edits, pixels=now) if edits else Corrected(raw, None, [])
    return CalledRun(
        raw,
        done.cells[in_order(done.cells.columns)] if edits else raw,
        done.not_applied,
        found.thresholds,
        protocol,
        tuple(edits),
        (*damage_told(journal.damaged), *strange, *done.told()),
        {"edits": len(edits), "damaged_lines": len(journal.damaged), **done.counts()}
        if edits or journal.damaged
        else {},
        found.not_used,
        CellParts(parts, in_order) if parts else None,
        tallies,
    )


def _held(cells: pd.DataFrame, features: Collection[str]) -> pd.DataFrame:
    return cells[[c for c in cells.columns if c in HELD or c in features]]


def _counted(cells: pd.DataFrame, features: Collection[str]) -> pd.DataFrame:
    return narrow(cells, (*features, *PLACES))


def _raw(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    if parts:
        return _joined(parts)
    names = (c for c in (*FIRST_COLUMNS, *LAST_COLUMNS) if c not in ("region", "corrected_by"))
    return pd.DataFrame({c: [] for c in names})


def damage_told(lines: Sequence[int]) -> list[str]:
    """What to say of lines of a journal that cannot be read."""
    if not lines:
        return []
    shown = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
    one = len(lines) == 1
    return [
        f"{len(lines)} line{'' if one else 's'} of corrections.jsonl cannot be read "
        f"(line {shown}): what {'it' if one else 'they'} said is not in the numbers"
    ]


def in_order(columns: Iterable[str]) -> list[str]:
    """Columns of the cells table as readers know them: who and where, what, and verdicts."""
    columns = list(columns)
    first = [c for c in FIRST_COLUMNS if c in columns]
    last = [c for c in LAST_COLUMNS if c in columns]
    middle = [c for c in columns if c not in first and c not in last]
    return [*first, *middle, *last]
