"""Real stainings with a truth: ``python benchmarks/real/run.py [--data FOLDER]``, one command.

The idea: no insulin staining with human calls is public, so other markers and tissues stand in:
calls by people, by a classifier that a person trained, or biology (two markers that exclude each
other).  The library scores each image as a user would, without a control; Otsu on the ring mean
and the ring mean's own ranking stand beside it on the same cells, and the agreement of people where
a set of labels names more than one.  Writes ``results/nuclei``, ``calls`` and ``tables``, each as
CSV, and all in ``results.md``.
It fails to say anything of insulin, and each set is one tissue of one laboratory.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from sets import PIXEL_SIZES_UM, ImageSet, image_sets, table_markers

from islet_imaging.positivity import fit_threshold, scores
from islet_imaging.protocol import Channel, Compartment, Protocol, Reading
from islet_imaging.statistics.counting import closed

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.scoring.measured import ScoredImage

RESULTS = Path(__file__).parent / "results"
#: a person's click and a nucleus are one cell within this distance, px
NEAR_PX = 8.0


def main() -> None:
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ISLET_IMAGING_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default), help="the data folder")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
    args = parser.parse_args()
    sets = list(image_sets(args.data / "real"))
    if not sets:
        raise SystemExit(f"{args.data / 'real'}: no real stainings; give --data")
    nuclei, calls = [], []
    for one in sets:
        nuclei += [nuclei_row(one, size) for size in (None, *PIXEL_SIZES_UM)]
        calls += call_rows(one)
    found = {"nuclei": pd.DataFrame(nuclei), "calls": pd.DataFrame(calls)}
    glioma = args.data / "real" / "vectra_glioma" / "cells.parquet"
    if glioma.is_file():
        found["tables"] = pd.DataFrame(table_rows(pd.read_parquet(glioma)))
    args.out.mkdir(parents=True, exist_ok=True)
    parts = []
    for name, table in found.items():
        table.to_csv(args.out / f"{name}.csv", index=False, float_format="%.4f")
        parts.append(f"## {name}\n\n{markdown(table)}")
    text = "\n".join(parts)
    (args.out / "results.md").write_text(text, encoding="utf-8")
    print(text)


def protocol_of(one: ImageSet, pixel_size_um: float) -> Protocol:
    """What a user would state: what each channel is, and the pixel size."""
    channels = [Channel(one.dna, "dna")]
    for name, where in one.markers.items():
        # a compartment that the library does not know yet is the next best one
        place: Any = where if where in get_args(Compartment) else "cytoplasm"
        channels.append(Channel(name, compartment=place))
    return Protocol(tuple(channels), reading=Reading(pixel_size_um=pixel_size_um))


def nuclei_row(one: ImageSet, size: float | None) -> dict[str, Any]:
    """How many nuclei are found at a stated pixel size, and what is said of that size."""
    from islet_imaging.network.scale import Scale
    from islet_imaging.quality.scale import scale_flags
    from islet_imaging.segmentation.nuclei import NucleiMethod, nuclei_scale, segment_nuclei

    dna = one.channels[one.dna]
    found = segment_nuclei(dna, pixel_size_um=size)
    scale = nuclei_scale(lambda y, x: dna[y, x], dna.shape, Scale(size), NucleiMethod())
    flags = [] if size is None else list(scale_flags(scale, protocol_of(one, size)))
    low, high = one.nuclei
    return {
        "set": one.name,
        "stated_um_per_px": size,
        "nuclei": int(found.max()),
        "expected": f"{low} to {high}",
        "right": bool(low <= found.max() <= high),
        "seen_um": scale.seen_um,
        "flags": "; ".join(f"{f.code} ({f.severity})" for f in flags),
    }


def call_rows(one: ImageSet) -> list[dict[str, Any]]:
    """The library's calls and Otsu's on every marker of an image."""
    from islet_imaging import IsletImage, score_image

    names = [one.dna, *one.markers]
    pixels = np.stack([one.channels[name] for name in names])
    image = IsletImage.from_array(pixels, names, one.pixel_size_um, name=one.name)
    scored = score_image(image, protocol_of(one, one.pixel_size_um))
    table = scored.cells[~scored.cells["excluded"].astype(bool)].reset_index(drop=True)
    rows = []
    for marker, where in one.markers.items():
        truth, people = one.truth(marker, table["y_px"], table["x_px"], NEAR_PX)
        known = np.isfinite(truth)
        level = ring_level(table, marker, where)
        common = {
            "set": one.name,
            "marker": marker,
            "compartment": where,
            "n_cells": int(known.sum()) if known.any() else len(table),
            "truth_pct": 100 * float(truth[known].mean()) if known.any() else one.expected(marker),
            "truth_is": one.source,
            "people_agree_pct": people,
        }
        for method, call in (
            ("islet-imaging", ours(scored, table, marker)),
            ("otsu_ring_mean", otsu(level)),
        ):
            row = {**common, "method": method, **share(call, common["truth_pct"], known)}
            t, p = truth[known] > 0.5, call["probability"][known]
            row["auc"] = scores.auc(t, p) if known.any() else np.nan
            row["auc_ring_mean"] = scores.auc(t, level[known]) if known.any() else np.nan
            row["balanced_accuracy"] = (
                scores.balanced_accuracy(t, p > 0.5) if known.any() else np.nan
            )
            row["double_positive_pct"] = doubles(one, scored, table, marker, method)
            rows.append(row)
    return rows


def ours(scored: ScoredImage, table: pd.DataFrame, marker: str) -> dict[str, Any]:
    """The library's calls of one marker."""
    return {
        "probability": table[f"{marker}_probability"].to_numpy(float),
        "call": table[f"{marker}_call"].to_numpy(str),
        "estimable": scored.thresholds[marker].estimable,
    }


def otsu(level: Any) -> dict[str, Any]:
    """Calls by Otsu's threshold on a level."""
    from skimage.filters import threshold_otsu

    positive = level > threshold_otsu(level[np.isfinite(level)])
    return {
        "probability": positive.astype(float),
        "call": np.where(positive, "positive", "negative"),
        "estimable": True,
    }


def ring_level(table: pd.DataFrame, marker: str, where: str) -> Any:
    """Mean of the ring, or of the nucleus for a marker of the nucleus."""
    name = "nucleus_mean" if where == "nucleus" else "ring_mean"
    level = table[f"{marker}_{name}"].fillna(table[f"{marker}_nucleus_mean"])
    return level.to_numpy(float)


def share(call: Mapping[str, Any], truth_pct: float, known: Any) -> dict[str, Any]:
    """The fraction as tables give it, of cells with a truth where there are any."""
    use = known if known.any() else np.ones(len(known), bool)
    kind, p = call["call"][use], call["probability"][use]
    got = 100 * float(np.where(kind == "unsure", p, kind == "positive").mean())
    low, high = float((kind == "positive").mean()), float((kind != "negative").mean())
    # as in the tables of a run: bounds that are too far apart are no number
    stands = bool(call["estimable"] and closed([low], [high])[0])
    shown = got if stands else np.nan
    return {
        "status": "estimated" if stands else "not estimable",
        "got_pct": shown,
        "off_pp": shown - truth_pct,
        "unsure_pct": 100 * float((kind == "unsure").mean()),
        "low_pct": 100 * low,
        "high_pct": 100 * high,
    }


def doubles(
    one: ImageSet, scored: ScoredImage, table: pd.DataFrame, marker: str, method: str
) -> float:
    """Cells positive for both of a pair that exclude each other, % of all; NaN without a pair."""
    other = one.excludes.get(marker)
    if other is None:
        return float("nan")
    both = []
    for name in (marker, other):
        by = otsu(ring_level(table, name, one.markers[name]))
        call = ours(scored, table, name) if method == "islet-imaging" else by
        both.append(call["call"] == "positive")
    return 100 * float((both[0] & both[1]).mean())


def table_rows(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Thresholds on tables of other software: the share of positive cells per tissue core."""
    from skimage.filters import threshold_otsu

    rows = []
    for marker, column in table_markers().items():
        for core, part in cells[cells["labelled"]].groupby("core"):
            level = part[column].to_numpy(float)
            truth = part[f"is_{marker}"].to_numpy(bool)
            for method in ("mixture", "otsu"):
                value = float(threshold_otsu(level))
                if method == "mixture":
                    fitted = fit_threshold(level, feature=column, method="mixture")
                    value = float(fitted.value) if fitted.value is not None else np.nan
                got = 100 * float((level > value).mean()) if np.isfinite(value) else np.nan
                rows.append(
                    {
                        "marker": marker,
                        "column": column,
                        "core": core,
                        "method": method,
                        "n_cells": len(level),
                        "people_pct": 100 * float(truth.mean()),
                        "got_pct": got,
                        "off_pp": got - 100 * float(truth.mean()),
                        "auc": scores.auc(truth, level),
                    }
                )
    return rows


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, numbers to three digits."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    for values in table.itertuples(index=False):
        shown = ["" if v != v else f"{v:.3g}" if isinstance(v, float) else str(v) for v in values]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
