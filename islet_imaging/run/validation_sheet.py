"""Cells of a run that people label, so that wrong calls can be corrected for.

The idea: ``validation.csv`` in a run folder names cells that chance picked; people fill its column
``label``, or call these cells in a review of the run, and every later summary puts the fraction
corrected for wrong calls beside the raw one.  A label finds its cell by where it lies, so it
survives scoring anew.
It fails, naming the line, when a label is neither ``positive`` nor ``negative``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from islet_imaging.errors import IsletImagingError
from islet_imaging.run.files import plain_text, write_table
from islet_imaging.run.folder import Run

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.review.journal import Edit
    from islet_imaging.run.called import CalledRun
    from islet_imaging.run.rows import ImageRow
    from islet_imaging.statistics import Summary

log = logging.getLogger(__name__)

FILE = "validation.csv"
COLUMNS = ("image", "cell", "y_px", "x_px", "marker", "label", "rater")


def draw_validation_sheet(
    run: Run | str | Path, marker: str | None = None, *, n: int = 500, seed: int = 0
) -> Path:
    """Draw cells of a run for people to label, into ``validation.csv`` of its folder.

    Parameters
    ----------
    run : Run or path
        A run folder.
    marker : str, optional
        The marker to label; by default the protocol's first.
    n : int
        Cells; with 500, some 200 of each kind are labelled where a third or more are positive.
    seed : int
        Decides the draw.

    Returns
    -------
    Path
        The sheet: ``image, cell, y_px, x_px, marker, label, rater``, the last two to be filled.
        Rows of other markers are kept.

    Raises
    ------
    IsletImagingError
        If the marker is not in the run, or labels of it would be lost.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from islet_imaging import score_folder
    >>> from islet_imaging.phantom import write_experiment
    >>> folder = Path(tempfile.mkdtemp())
    >>> sheet = write_experiment(folder / "stainings", n_conditions=1, n_batches=1, n_islets=1,
    ...                          preset="easy_confocal",
    ...                          controls=False, shape=(448, 448), seed=3)
    >>> run = score_folder(folder / "stainings", folder / "run", workers=1)
    >>> draw_validation_sheet(run, "INS", n=10).name
    'validation.csv'
    """
    from islet_imaging.run.image_checks import checked_rows, raw_cells
    from islet_imaging.statistics import draw_validation

    opened = run if isinstance(run, Run) else Run.open(run)
    protocol = opened.protocol
    marker = marker or next(iter(protocol.markers), None)
    if marker is None or marker not in protocol.markers:
        raise IsletImagingError(
            f"{opened.path}: there is no marker {marker!r} in this run; it has "
            f"{', '.join(protocol.markers) or 'none'}"
        )
    path = opened.path / FILE
    kept = read_sheet(path)
    own = kept["marker"] == marker
    if (kept.loc[own, "label"] != "").any():
        raise IsletImagingError(
            f"{path} holds labels of {marker} already; move the file away to draw anew"
        )
    rows = checked_rows(opened)
    cells = sample_cells(raw_cells(opened), rows)
    drawn = draw_validation(
        cells, marker, n=n, denominator=protocol.statistics.denominator, seed=seed
    )
    sheet = drawn.merge(cells[["image", "cell", "y_px", "x_px"]], on=["image", "cell"], how="left")
    sheet = sheet.assign(marker=marker, label="", rater="")[list(COLUMNS)]
    write_table(path, _joined(kept[~own], sheet))
    return path


def _joined(*tables: pd.DataFrame) -> pd.DataFrame:
    """Tables one below the other; empty ones have no say in the columns' types."""
    import pandas as pd

    full = [t for t in tables if len(t)]
    return pd.concat(full, ignore_index=True) if full else tables[0]


def read_sheet(path: Path) -> pd.DataFrame:
    """The labels of a sheet as text, an empty table where there is no file.

    Parameters
    ----------
    path : Path
        A CSV with ``image, cell, label``, and where known ``marker, rater, y_px, x_px``.
    """
    import pandas as pd

    if not path.is_file():
        return pd.DataFrame({c: pd.Series(dtype=object) for c in COLUMNS})
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise IsletImagingError(f"{path}: not a readable CSV: {error}") from error
    missing = [c for c in ("image", "cell", "label") if c not in table]
    if missing:
        raise IsletImagingError(f"{path}: the column {missing[0]!r} is missing")
    for column in COLUMNS:
        if column not in table:
            table[column] = ""
        table[column] = [plain_text(str(v).strip()) for v in table[column]]
    for column in ("cell", "y_px", "x_px"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        bad = table.index[numbers.isna() & ((table[column] != "") | (column == "cell"))]
        if len(bad):
            raise IsletImagingError(
                f"{path}, line {bad[0] + 2}: {column} is {table.loc[bad[0], column]!r}, no number"
            )
        table[column] = numbers
    table["label"] = table["label"].str.lower()
    bad = table.index[~table["label"].isin(["", "positive", "negative", "unsure", "skip"])]
    if len(bad):
        raise IsletImagingError(
            f"{path}, line {bad[0] + 2}: the label is {table.loc[bad[0], 'label']!r}; it must be "
            "positive, negative, or empty (or unsure, skip) where nobody can tell"
        )
    found: pd.DataFrame = table[list(COLUMNS)]
    return found


def add_labels(run: Run, labels: Path, *, marker: str | None = None) -> Path:
    """Take a sheet of labels made elsewhere into a run's ``validation.csv``.

    Parameters
    ----------
    run : Run
        The run.
    labels : Path
        See `read_sheet`; its rows replace those of the same markers and raters.
    marker : str, optional
        What was labelled, where the sheet has no column ``marker``; by default the first.
    """
    import numpy as np

    markers = run.protocol.markers
    given = read_sheet(labels)
    given.loc[given["marker"] == "", "marker"] = marker or next(iter(markers), "")
    stray = set(given["marker"]) - set(markers)
    if stray:
        raise IsletImagingError(f"{labels}: this run has no marker {sorted(stray)[0]!r}")
    path = run.path / FILE
    kept = read_sheet(path)
    new = set(zip(given["marker"], given["rater"], strict=True))
    keys = zip(kept["marker"], kept["rater"], strict=True)
    stays = np.array([key not in new for key in keys], bool) & (kept["label"] != "").to_numpy()
    write_table(path, _joined(kept[stays], given))
    return path


def sample_cells(cells: pd.DataFrame, rows: Sequence[ImageRow]) -> pd.DataFrame:
    """The cells of sample images, with their batch."""
    batch = {r.image: r.batch for r in rows if r.role == "sample"}
    own = cells[cells["image"].isin(list(batch))]
    return own.assign(batch=own["image"].map(batch))


def validation_labels(run: Path, cells: pd.DataFrame, edits: Sequence[Edit]) -> pd.DataFrame:
    """Every label of the cells that were drawn, from the sheet and from reviews.

    Parameters
    ----------
    run : Path
        The run folder.
    cells : DataFrame
        The run's cells as scored.
    edits : sequence of Edit
        The run's journal: a person's call of a drawn cell is a label, a call of any other cell is
        not, since people go looking for those.

    Returns
    -------
    DataFrame
        ``image, cell, marker, label, rater`` with the cell's present number; empty without a sheet.
    """
    import pandas as pd

    from islet_imaging.review.reviewers import final_calls

    sheet = read_sheet(run / FILE)
    locate = _Locator(cells)
    found: dict[tuple[str, int, str, str], str] = {}
    drawn: set[tuple[str, int, str]] = set()
    lost = 0
    for row in sheet.to_dict("records"):
        image, marker = str(row["image"]), str(row["marker"])
        cell = locate(image, int(row["cell"]), float(row["y_px"]), float(row["x_px"]))
        if cell is None:
            lost += 1
            continue
        drawn.add((image, cell, marker))
        if row["label"] in ("positive", "negative"):
            found[image, cell, marker, str(row["rater"])] = str(row["label"])
    if lost:
        log.warning("%s: %d labels are of cells that are not there now", FILE, lost)
    for who in dict.fromkeys(e.who for e in edits):
        for edit in final_calls(edits, who=who).values():
            cell = locate(edit.image, edit.cell, edit.y_px, edit.x_px)
            if cell is None or (edit.image, cell, edit.marker) not in drawn:
                continue
            if edit.after in ("positive", "negative"):
                # what somebody wrote into the sheet stands above the same person's review
                found.setdefault((edit.image, cell, edit.marker, who), str(edit.after))
    return pd.DataFrame(
        [(*key, label) for key, label in found.items()],
        columns=["image", "cell", "marker", "rater", "label"],
    )


class _Locator:
    """Finds a cell of a sheet or journal among the cells as they are scored now."""

    def __init__(self, cells: pd.DataFrame) -> None:
        from islet_imaging.review.replay import Replay

        self._images = {str(k): Replay(g) for k, g in cells.groupby("image", sort=False)}

    def __call__(self, image: str, cell: int, y_px: float, x_px: float) -> int | None:
        there = self._images.get(image)
        if there is None:
            return None
        if y_px == y_px and x_px == x_px:
            at = there.find(cell, y_px, x_px)
            return None if at is None else int(there.cells["cell"].iloc[at])
        # a sheet of cell numbers alone
        return cell if (there.cells["cell"] == cell).any() else None


def corrected_table(
    run: Path, called: CalledRun, rows: Sequence[ImageRow], summary: Summary | None
) -> pd.DataFrame | None:
    """The table of ``corrected.csv``; None without labelled cells.

    Parameters
    ----------
    run : Path
        The run folder.
    called : CalledRun
        Its cells as scored, its journal and its protocol.
    rows : sequence of ImageRow
        Its images.
    summary : Summary or None
        Of the cells as scored.
    """
    from islet_imaging.statistics import corrected_fractions

    if summary is None or not (run / FILE).is_file():
        return None
    labels = validation_labels(run, called.raw, called.edits)
    labels = labels[labels["marker"].isin(called.protocol.markers)]
    if labels.empty:
        return None
    return corrected_fractions(summary, sample_cells(called.raw, rows), labels)
