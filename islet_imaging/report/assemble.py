"""From a called run to what its report shows: thresholds with their data, islets, comparisons.

The idea: the report computes nothing and the run's tables hold no pictures; this is the one place
where the two meet.  Islets for the gallery are chosen by rule (the median islet of each batch, then
those with most unsure cells), never by eye.
It fails softly: an image that cannot be read again leaves its islet out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise, starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging.errors import IsletImagingError
from islet_imaging.report.data import GalleryEntry, ReportData
from islet_imaging.report.gallery import gallery_entry, image_limits, shown_region

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.protocol import Protocol
    from islet_imaging.quality import Flag
    from islet_imaging.run.called import CalledRun, Each
    from islet_imaging.run.rows import ImageRow
    from islet_imaging.statistics import Summary

log = logging.getLogger(__name__)

#: islets shown: enough for a look at every batch of a usual experiment, small enough to mail
GALLERY = 12


def report_data(
    *,
    run: Path,
    rows: Sequence[ImageRow],
    called: CalledRun,
    summary: Summary | None,
    raw_summary: Summary | None,
    conditions: pd.DataFrame,
    batches: pd.DataFrame,
    images: pd.DataFrame,
    islets: pd.DataFrame,
    folder_flags: Sequence[Flag],
    validation: pd.DataFrame | None,
    provenance: Mapping[str, Any],
    study: Mapping[str, pd.DataFrame],
    each: Each = starmap,
) -> ReportData:
    """Gather everything a report shows.

    Parameters
    ----------
    run : Path
        The run folder.
    rows : sequence of ImageRow
        Every image of the run.
    called : CalledRun
        Cells, thresholds and the protocol with what was fitted.
    summary, raw_summary : Summary or None
        With and without human corrections; None where no cell was found.
    conditions, batches, images, islets : DataFrame
        The run's tables as written.
    folder_flags : sequence of Flag
        What images say against each other.
    study : mapping of str to DataFrame
        Of `study_tables`: comparisons, composition, variance, levels.
    validation : DataFrame or None
        Raw beside corrected fractions, where people labelled cells that chance picked.
    provenance : mapping
        Of the run.
    each : callable
        Where pictures are made, as in `islet_imaging.run.called.call_run`.

    Returns
    -------
    ReportData
    """
    import dataclasses

    image_flags = [dataclasses.replace(f, image=r.image) for r in rows for f in r.flags]
    shown = {k: v for k, v in provenance.items() if k not in ("images", "inputs")}
    return ReportData(
        protocol=called.protocol,
        summary=conditions,
        batches=batches,
        images=images,
        islets=islets,
        cells=called.corrected,
        levels=None if summary is None else study["levels"],
        variance=None if summary is None else study["variance"],
        sentences=_equivalents(rows, called.protocol, islets),
        composition=None if summary is None else study["composition"],
        comparisons=None if not len(study["comparisons"]) else study["comparisons"],
        thresholds=_thresholds(rows, called),
        gallery=_gallery(run, rows, called, islets, each),
        flags=[*folder_flags, *image_flags],
        provenance=shown,
        corrections=_corrections(called, summary, raw_summary),
        validation=validation,
        pixel_sizes_um=[
            r.pixel_size_um for r in rows if r.status == "scored" and r.pixel_size_um is not None
        ],
    )


def _equivalents(rows: Sequence[ImageRow], protocol: Protocol, islets: pd.DataFrame) -> list[str]:
    """Islet equivalents per condition, for whole aggregates only."""
    from islet_imaging.segmentation.islets import islet_equivalents

    if protocol.islets.preparation != "whole" or not len(islets):
        return []
    found = []
    for condition in dict.fromkeys(r.condition for r in rows if r.role == "sample"):
        images = {r.image for r in rows if r.condition == condition and r.role == "sample"}
        whole = islets[islets["image"].isin(images) & ~islets["touches_border"].astype(bool)]
        sizes = islet_equivalents(whole["diameter_um"], preparation="whole")
        found.append(f"{condition or 'All images'}: {sizes}; those cut by the frame left out.")
    return found


def _thresholds(rows: Sequence[ImageRow], called: CalledRun) -> list[dict[str, Any]]:
    """Each fitted threshold with the cells it was fitted on and its sensitivity."""
    import dataclasses

    import numpy as np
    import pandas as pd

    from islet_imaging.positivity import threshold_sensitivity
    from islet_imaging.protocol import negative_for

    cells = called.raw
    features = {t.feature for found in called.thresholds.values() for t in found.values()}
    values = {f: cells[f].to_numpy() for f in features & set(cells.columns)}
    of = {r.image: r for r in rows}
    # by number: comparing a word for each of many cells, for each threshold, takes long
    image, names = pd.factorize(cells["image"])
    roles = sorted({r.role for r in rows})
    role = np.array([roles.index(of[i].role) for i in names], dtype=int)[image]
    stainings = list(called.thresholds)
    at = {name: k for k, name in enumerate(stainings)}
    group = np.array([at.get(of[i].staining, -1) for i in names], dtype=int)[image]
    group[cells["excluded"].to_numpy(dtype=bool)] = -1
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(stainings) + 1))
    found = []
    for name, (start, end) in zip(stainings, pairwise(starts), strict=True):
        own = order[start:end]
        for marker, threshold in called.thresholds[name].items():
            counted = [r == "sample" for r in roles], [negative_for(r, marker) for r in roles]
            sample, control = (
                values[threshold.feature][own[np.array(of_role)[role[own]]]]
                if threshold.feature in values
                else np.empty(0)
                for of_role in counted
            )
            sensitivity = threshold_sensitivity(sample, threshold)
            found.append(
                {
                    "batch": name,
                    "marker": marker,
                    **{
                        k: getattr(threshold, k)
                        for k in ("feature", "method", "value", "low", "high", "status", "reason")
                    },
                    "fragile": sensitivity is not None and sensitivity.fragile,
                    "sample_values": sample,
                    "control_values": control,
                    "sensitivity": None
                    if sensitivity is None
                    else {
                        k: np.asarray(v) if isinstance(v, tuple) else v
                        for k, v in dataclasses.asdict(sensitivity).items()
                    },
                }
            )
    return found


def _corrections(called: CalledRun, summary: Summary | None, raw: Summary | None) -> dict[str, Any]:
    if called.corrected is called.raw or summary is None or raw is None:
        return {}
    changed = called.corrected["corrected_by"].fillna("").astype(str)
    people = changed[changed != ""]
    before = raw.conditions.set_index(["condition", "marker"])["fraction"]
    after = summary.conditions.set_index(["condition", "marker"])["fraction"]
    return {
        "cells": len(people),
        "people": int(people.nunique()),
        "by": {str(k): int(v) for k, v in people.value_counts().items()},
        "not_found": len(called.unmatched),
        "raw": {
            f"{condition} {marker}".strip(): [float(b), float(a)]
            for condition, marker, b, a in zip(
                *(before.index.get_level_values(k) for k in (0, 1)),
                before,
                after.reindex(before.index),
                strict=True,
            )
        },
    }


def _gallery(
    run: Path, rows: Sequence[ImageRow], called: CalledRun, islets: pd.DataFrame, each: Each
) -> list[GalleryEntry]:
    of = {r.image: r for r in rows}
    if not called.protocol.markers or not len(called.corrected):
        return []
    marker = called.protocol.markers[0]
    chosen = _choose(islets, of, marker)
    # an image is opened once, however many of its islets are shown
    shown: dict[str, list[int]] = {}
    for image, islet in chosen:
        shown.setdefault(image, []).append(islet)
    jobs = [
        (run, of[image], own, called.cells_of(image), called.protocol, marker)
        for image, own in shown.items()
    ]
    made: dict[tuple[str, int], GalleryEntry] = {}
    for (image, own), entries in zip(shown.items(), each(_entries, jobs), strict=True):
        if isinstance(entries, str):
            log.warning("not in the gallery: %s", entries)
        else:
            made |= {(image, islet): e for islet, e in zip(own, entries, strict=True)}
    return [made[one] for one in chosen if one in made]


def _entries(
    run: Path,
    row: ImageRow,
    islets: Sequence[int],
    cells: pd.DataFrame,
    protocol: Protocol,
    marker: str,
) -> list[GalleryEntry] | str:
    """Pictures of one image, in any process that sees the files; or why there are none."""
    from islet_imaging.run.folder import read_labels
    from islet_imaging.run.measurements import check_unchanged, require

    try:
        check_unchanged(run, row)
        stained = read_row(row, protocol)
        size, dna = stained.require_pixel_size(), protocol.dna
        require(run, row, "nuclei_labels")
        dna_limits, marker_limits = image_limits(stained, dna), image_limits(stained, marker)
        entries = []
        for islet in islets:
            region = shown_region(cells, islet, stained.shape, size)
            nuclei = read_labels(run, row.image, region=region)
            entry = gallery_entry(
                image=row.image,
                marker=marker,
                dna=stained.channel(dna, region),
                marker_plane=stained.channel(marker, region),
                nuclei=nuclei,
                cells=cells,
                pixel_size_um=size,
                islet=islet,
                region=(slice(0, nuclei.shape[0]), slice(0, nuclei.shape[1])),
                dna_limits=dna_limits,
                marker_limits=marker_limits,
                condition=row.condition,
                batch=row.batch,
                role=row.role,
            )
            entries.append(entry)
    except IsletImagingError as error:
        return str(error)
    return entries


def read_row(row: ImageRow, protocol: Any) -> Any:
    """The stained image behind a row of a run."""
    from islet_imaging.reading import read_image

    return read_image([Path(f) for f in row.files], protocol=protocol, name=row.image)


def _choose(islets: pd.DataFrame, of: Mapping[str, ImageRow], marker: str) -> list[tuple[str, int]]:
    """The islets shown: the median one of each batch in turn, then images without islets."""
    table = islets.copy()
    chosen: list[tuple[str, int]] = []
    if len(table) and f"{marker}_fraction" in table:
        table["condition"] = table["image"].map(lambda i: of[i].condition)
        table["batch"] = table["image"].map(lambda i: of[i].batch)
        table = table[table["image"].map(lambda i: of[i].role == "sample")]
        table = table.dropna(subset=[f"{marker}_fraction"])
        ranked = []
        for _, group in table.groupby(["condition", "batch"], sort=True):
            middle = group[f"{marker}_fraction"].median()
            # the two middle ones of an even number are as far from it, but for the last digit
            away = (group[f"{marker}_fraction"] - middle).abs().round(9)
            order = away.sort_values(kind="stable").index
            ranked += [(n, group.loc[k]) for n, k in enumerate(order)]
        # every batch's median islet first, then every batch's next
        ranked.sort(key=lambda pair: pair[0])
        chosen = [(str(r["image"]), int(r["islet"])) for _, r in ranked]
    with_islets = {image for image, _ in chosen}
    bare = [i for i, r in of.items() if r.status == "scored" and r.role == "sample"]
    chosen += [(i, 0) for i in bare if i not in with_islets]
    return chosen[:GALLERY]
