"""The tables that say what a study found: comparisons, composition, scatter, what was sampled.

The idea: the protocol's section ``statistics`` says how conditions are compared; from it and the
summary come the tables that the report shows, so that no number of the report stands there alone.
A design that cannot be estimated leaves a row with its reason, never a missing table.
It fails where the sheet lacks a column that the design names: the row says which.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from islet_imaging.errors import IsletImagingError

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.protocol import Protocol
    from islet_imaging.run.rows import ImageRow
    from islet_imaging.statistics import ErrorRates, Summary

#: columns of the cells table that name where a cell comes from
PLACE = ("condition", "batch")


def study_tables(
    summary: Summary | None, protocol: Protocol, corrected: pd.DataFrame | None = None
) -> dict[str, pd.DataFrame]:
    """``comparisons``, ``composition``, ``variance`` and ``levels`` of a run.

    Parameters
    ----------
    summary : Summary or None
        Of the run; None where no cell was found.
    protocol : Protocol
        Says how conditions are compared.
    corrected : DataFrame or None
        Of `corrected_table`: error rates by which differences are corrected.

    Returns
    -------
    dict of str to DataFrame
        By the name of the file; empty tables have their columns.
    """
    import pandas as pd

    from islet_imaging.statistics import variance_table
    from islet_imaging.statistics.comparison import COMPARISON_COLUMNS
    from islet_imaging.statistics.composition import COMPOSITION_COLUMNS
    from islet_imaging.statistics.levels import LEVEL_COLUMNS
    from islet_imaging.statistics.variance import VARIANCE_COLUMNS

    if summary is None:
        names = {
            "comparisons": COMPARISON_COLUMNS,
            "composition": COMPOSITION_COLUMNS,
            "variance": VARIANCE_COLUMNS,
            "levels": LEVEL_COLUMNS,
        }
        return {k: pd.DataFrame(columns=list(v)) for k, v in names.items()}
    return {
        "comparisons": comparisons(summary, protocol, corrected),
        "composition": summary.phenotypes,
        "variance": variance_table(summary),
        "levels": summary.levels,
    }


def comparisons(
    summary: Summary, protocol: Protocol, corrected: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Conditions compared, and a trend fitted, as the protocol asks; reasons where they cannot be.

    Parameters
    ----------
    summary, protocol, corrected
        As in `study_tables`.
    """
    import pandas as pd

    from islet_imaging.statistics import compare_conditions, holm, trend
    from islet_imaging.statistics.comparison import COMPARISON_COLUMNS

    asked = protocol.statistics
    markers: Any = {"markers": list(asked.markers) or None, "unit": asked.unit}
    parts = []
    if len(set(summary.conditions["condition"])) > 1:

        def compare() -> pd.DataFrame:
            return compare_conditions(
                summary,
                reference=asked.reference,
                contrasts=[(pair[0], pair[1]) for pair in asked.contrasts],
                design=asked.pairing,
                blocks=asked.blocks,
                equivalence_pp=asked.equivalence_pp,
                rates=_rates(corrected),
                level=summary.level,
                **markers,
            )

        parts.append(_or_reason(compare))
    over = asked.trend
    if over is not None:
        parts.append(_or_reason(lambda: trend(summary, over, level=summary.level, **markers)))
    parts = [p for p in parts if len(p)]
    if not parts:
        return pd.DataFrame(columns=list(COMPARISON_COLUMNS))
    if len(parts) == 1:
        return parts[0]
    # columns without a value in one part would change the type of the other's
    table = pd.concat([p.dropna(axis=1, how="all") for p in parts], ignore_index=True)
    table = table.reindex(columns=list(COMPARISON_COLUMNS))
    table["p_holm"] = holm(table["p"].astype(float))
    return table


def _or_reason(make: Any) -> pd.DataFrame:
    """The table, or one row that says why there is none."""
    import pandas as pd

    from islet_imaging.statistics.comparison import COMPARISON_COLUMNS

    try:
        table: pd.DataFrame = make()
    except IsletImagingError as error:
        return pd.DataFrame([{"note": f"refused: {error}"}], columns=list(COMPARISON_COLUMNS))
    return table


def _rates(corrected: pd.DataFrame | None) -> dict[str, ErrorRates]:
    """Error rates by marker, where people labelled cells that chance picked."""
    from islet_imaging.statistics import ErrorRates

    if corrected is None:
        return {}
    known = corrected.dropna(subset=["sensitivity", "specificity"]).drop_duplicates("marker")
    return {
        str(row["marker"]): ErrorRates(
            float(row["sensitivity"]),
            float(row["specificity"]),
            float(row["n_labelled_positive"]),
            float(row["n_labelled_negative"]),
        )
        for row in known.to_dict("records")
    }


def with_sheet(
    table: pd.DataFrame, rows: Sequence[ImageRow], *, place: bool = True
) -> pd.DataFrame:
    """A table of images, islets or cells with what the sample sheet says of each image.

    Parameters
    ----------
    table : DataFrame
        With a column ``image``.
    rows : sequence of ImageRow
        The images of the run.
    place : bool
        Add condition and batch too.

    Returns
    -------
    DataFrame
        With condition, batch and every further column of the sheet behind its own; a column of the
        sheet whose name the table has already is called ``sheet_<name>``.
    """
    table = table.copy(deep=False)
    for name, value in sheet_words(table.columns, rows, place=place).items():
        table[name] = table["image"].map(value)
    return table


def sheet_words(
    columns: Collection[str], rows: Sequence[ImageRow], *, place: bool = True
) -> dict[str, dict[str, str]]:
    """What the sample sheet adds to a table that has some columns: by column and image.

    Parameters
    ----------
    columns : collection of str
        Of the table.
    rows, place
        As in `with_sheet`.
    """
    of = {r.image: r for r in rows}
    more: dict[str, dict[str, str]] = {}
    for name in PLACE if place else ():
        more[name] = {image: str(getattr(row, name)) for image, row in of.items()}
    for name in dict.fromkeys(k for r in rows for k in r.extra):
        own = f"sheet_{name}" if name in columns or name in PLACE else name
        more[own] = {image: str(row.extra.get(name, "")) for image, row in of.items()}
    return more
