"""A made-up run for the tests of the report: four batches, two conditions, hostile names."""

from __future__ import annotations

import numpy as np
import pandas as pd

from islet_imaging.protocol import Acquisition, Channel, Protocol
from islet_imaging.quality import Flag
from islet_imaging.report import ReportData, gallery_entry

EVIL = '<script>alert("x")</script> & $\\frac{1}{0}$'


def protocol() -> Protocol:
    return Protocol(
        channels=(
            Channel("DAPI", "dna"),
            Channel("INS", stain="guinea-pig anti-insulin, 1:500"),
            Channel("GCG"),
        ),
        acquisition=Acquisition(modality="widefield", section_um=5),
    )


def picture(seed: int = 0, size: int = 220) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """DNA, marker and nuclei of a packed round islet at 0.5 um/px."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    marker = np.full((size, size), 100.0)
    k = 0
    for cy in range(20, size - 20, 18):
        for cx in range(20, size - 20, 18):
            py, px = cy + rng.normal(0, 1.5), cx + rng.normal(0, 1.5)
            if (py - size / 2) ** 2 + (px - size / 2) ** 2 > (size / 2.3) ** 2:
                continue
            k += 1
            r2 = (y - py) ** 2 + (x - px) ** 2
            labels[r2 < 49] = k
            if rng.random() < 0.5:
                marker += 800 * np.exp(-((np.sqrt(r2) - 8) ** 2) / 9)
    dna = 100 + 900.0 * (labels > 0)
    dna = rng.poisson(dna).astype(np.uint16)
    return dna, rng.poisson(marker).astype(np.uint16), labels


def tables(seed: int = 0) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    cells, images, islets, batches, summary = [], [], [], [], []
    for condition, base in (("control medium", 0.4), (EVIL, 0.55)):
        total = {m: [] for m in ("INS", "GCG")}
        for b in range(1, 5):
            batch = f"diff-{b}"
            image = f"{batch}/{'ctl' if base < 0.5 else 'drug'}_{b}.tif"
            level = np.clip(base + rng.normal(0, 0.06), 0.05, 0.95)
            own = []
            for islet in range(1, 9):
                n = int(rng.integers(60, 200))
                p = np.clip(level + rng.normal(0, 0.1), 0.02, 0.98)
                probability = np.where(rng.random(n) < p, rng.beta(20, 1, n), rng.beta(1, 20, n))
                calls = np.select(
                    [probability > 0.8, probability < 0.2], ["positive", "negative"], "unsure"
                )
                own.append(
                    pd.DataFrame(
                        {
                            "image": image,
                            "islet": islet,
                            "cell": np.arange(n) + 1000 * islet,
                            "INS_ring_p25": 100 + 900 * probability * rng.lognormal(0, 0.5, n),
                            "INS_probability": probability,
                            "INS_call": calls,
                            "phenotype": np.where(calls == "positive", "INS+", "none"),
                            "excluded": rng.random(n) < 0.05,
                            "flags": np.where(rng.random(n) < 0.05, "pyknotic", ""),
                        }
                    )
                )
                islets.append(
                    {"image": image, "islet": islet, "n_cells": n, "INS_fraction": p,
                     "GCG_fraction": 0.12}
                )  # fmt: skip
            frame = pd.concat(own)
            cells.append(frame)
            for marker, value in (("INS", frame["INS_probability"].mean()), ("GCG", 0.1 + b / 100)):
                total[marker].append(value)
                batches.append(
                    {"condition": condition, "batch": batch, "marker": marker, "n_islets": 8,
                     "n_cells": len(frame), "n_positive": int(value * len(frame)), "n_unsure": 12,
                     "fraction": value, "fraction_low": value - 0.02, "fraction_high": value + 0.02}
                )  # fmt: skip
            images.append(
                {"image": image, "condition": condition, "batch": batch, "role": "sample",
                 "status": "scored", "message": "", "n_cells": len(frame), "n_islets": 8,
                 "INS_fraction": total["INS"][-1], "flags": "thick_section", "pixel_size_um": 0.325}
            )  # fmt: skip
        for marker, values in total.items():
            mean, half = float(np.mean(values)), 3.18 * float(np.std(values, ddof=1)) / 2
            summary.append(
                {"condition": condition, "marker": marker, "n_batches": 4, "n_islets": 32,
                 "n_cells": 4000, "fraction": mean, "ci_low": mean - half, "ci_high": mean + half,
                 "interval": "over batches", "note": ""}
            )  # fmt: skip
    images.append(
        {"image": "broken.tif", "condition": EVIL, "batch": "diff-4", "role": "sample",
         "status": "failed", "message": "broken.tif: the file ends early", "n_cells": np.nan,
         "n_islets": np.nan, "INS_fraction": np.nan, "flags": "", "pixel_size_um": np.nan}
    )  # fmt: skip
    return {
        "cells": pd.concat(cells, ignore_index=True),
        "images": pd.DataFrame(images),
        "islets": pd.DataFrame(islets),
        "batches": pd.DataFrame(batches),
        "summary": pd.DataFrame(summary),
    }


def report_data(seed: int = 0) -> ReportData:
    made = tables(seed)
    rng = np.random.default_rng(seed + 1)
    sample = made["cells"]["INS_ring_p25"].to_numpy()
    cut = 330.0
    grid = cut * np.arange(0.8, 1.21, 0.05)
    dna, marker, labels = picture(seed)
    entries = []
    for k in range(3):
        n = int(labels.max())
        shown = pd.DataFrame(
            {
                "cell": np.arange(1, n + 1),
                "islet": 1,
                "y_px": [float(np.mean(np.nonzero(labels == i)[0])) for i in range(1, n + 1)],
                "x_px": [float(np.mean(np.nonzero(labels == i)[1])) for i in range(1, n + 1)],
                "excluded": rng.random(n) < 0.05,
                "INS_probability": rng.random(n),
                "INS_call": rng.choice(["positive", "negative", "unsure"], n, p=[0.45, 0.45, 0.1]),
                "INS_reason": "above the cut",
            }
        )
        entries.append(
            gallery_entry(
                image=EVIL if k == 2 else f"diff-{k}/ctl.tif",
                marker="INS",
                dna=dna,
                marker_plane=marker,
                nuclei=labels,
                cells=shown,
                pixel_size_um=0.5,
                islet=1,
                condition="control medium",
                batch=f"diff-{k + 1}",
            )
        )
    thresholds = [
        {
            "batch": f"diff-{b}",
            "marker": "INS",
            "feature": "INS_ring_p25",
            "method": "control",
            "value": None if b == 4 else cut,
            "low": None if b == 4 else 300.0,
            "high": None if b == 4 else 372.0,
            "status": "not_estimable" if b == 4 else "ok",
            "reason": "no separable population" if b == 4 else "2,000 cells of 3 controls",
            "control_values": None if b == 3 else 120 * rng.lognormal(0, 0.3, 2000),
            "sample_values": sample,
            "sensitivity": None
            if b == 4
            else {
                "cut": grid,
                "fraction": [(sample > g).mean() for g in grid],
                "slope_pp": 6.1 if b == 2 else 1.4,
            },
            "fragile": b == 2,
        }
        for b in range(1, 5)
    ]
    flags = [
        Flag("thick_section", "warning", "A section of 10 um seen in widefield: ...", None, i)
        for i in made["images"]["image"][:7]
    ]
    flags.append(Flag("duplicate", "block", f"{EVIL} holds the same pixels as b.tif", None, EVIL))
    conditions = list(made["summary"]["condition"].unique())
    return ReportData(
        protocol=protocol(),
        levels=pd.DataFrame(
            {
                "condition": conditions,
                "n_batches": [4, 4],
                "n_images": [4, 5],
                "n_islets": [32, 32],
                "n_cells": [3900, 4100],
                "n_excluded": [200, 210],
                "cells_per_islet": [121.0, 127.5],
            }
        ),
        composition=pd.DataFrame(
            {
                "condition": [c for c in conditions for _ in range(3)],
                "kind": "phenotype",
                "class": ["INS+", "GCG+", "none"] * 2,
                "n_batches": 4,
                "n_cells": [1600, 400, 1900] * 2,
                "fraction": [0.41, 0.1, 0.49] * 2,
                "ci_low": [0.3, 0.05, 0.4] * 2,
                "ci_high": [0.5, 0.16, 0.6] * 2,
            }
        ),
        comparisons=pd.DataFrame(
            {
                "marker": ["INS"],
                "condition": [EVIL],
                "reference": [conditions[0]],
                "design": ["paired"],
                "n_batches": [4],
                "n_reference": [4],
                "fraction": [0.51],
                "fraction_reference": [0.39],
                "effect_pp": [14.2],
                "effect_low_pp": [3.3],
                "effect_high_pp": [25.1],
                "odds_ratio": [1.7],
                "p": [0.024],
                "p_holm": [0.048],
            }
        ),
        thresholds=thresholds,
        gallery=entries,
        flags=flags,
        provenance={
            "islet_imaging": "0.1.0",
            "made": "2026-11-22T22:00:00Z",
            "python": "3.11.7",
            "inputs": {"a.tif": "00" * 32},
            "command": f"islet-imaging score {EVIL}",
        },
        corrections={
            "cells": 12,
            "people": 1,
            "by": {EVIL: 12},
            "not_found": 1,
            "raw": {"control medium INS": [0.41, 0.387]},
        },
        **made,
    )
