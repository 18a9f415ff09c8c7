"""Fit the weights of ``islet_imaging/positivity/coefficients.py`` on random staining runs.

``python benchmarks/positivity/train.py --cache FOLDER --first 2000 --last 2093`` renders staining
runs (three samples of different composition and two controls each; everything drawn at random) that
the network was not trained on, reads their levels by the library's own functions, and prints the
weights of ridge logistics: of ``levels``, of ``network``, and of the network where no level can be
had.  What is fitted is evidence: log odds as if half of all cells were positive, so the odds of
each image's true share stand beside it.  A third of the runs is read without controls.  Runs
stretched for display tell only the last.
The seeds differ from those of the accuracy table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging.positivity.scores import auc, ece

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.network.training.positivity_phantoms import StainedImage

#: runs are learned from if the own level separates their cells this well
ANSWERABLE = 0.95
#: held for levels: a free fit's 2.1 refuses too much where most cells are positive (``shares.py``)
LEFT_OVER = 1.0
#: held for the network: an earlier fit's, which granular stains bear better than a free one
SLOPES = {"level": 1.433, "light": 1.019, "logit": 0.489}
MARKERS = ("INS", "GCG")


def image_table(image: StainedImage) -> pd.DataFrame:
    """Measured cells of one image with what is true of them."""
    import pandas as pd

    from islet_imaging.measurement.measure import measure_cells
    from islet_imaging.network.positivity import network_columns, network_logits
    from islet_imaging.segmentation.cells import grow_cells

    size = image.pixel_size_um
    channels = dict(zip(("DAPI", *MARKERS), image.channels, strict=True))
    cells = grow_cells(image.nuclei, ring_um=3.0, gap_um=0.0, pixel_size_um=size)
    table = measure_cells(image.nuclei, cells, channels, dna="DAPI", pixel_size_um=size)
    if not len(table):
        return table
    stained = {m: channels[m] for m in MARKERS}
    logits = network_logits(channels["DAPI"], stained, image.nuclei, pixel_size_um=size)
    row = pd.Series(np.arange(len(image.cells)), index=image.cells).reindex(table["cell"])
    at = row.fillna(0).astype(int).to_numpy()
    truth = {
        f"truth_{m}": image.expressed[k][at] & row.notna().to_numpy() if len(at) else []
        for k, m in enumerate(MARKERS)
        if len(image.cells)
    }
    table = table.drop(columns="image", errors="ignore").assign(
        **network_columns(table["cell"].to_numpy(), logits),
        **truth,
        image=image.name,
        role=image.role,
        excluded=row.isna().to_numpy(),
        stretched=bool(np.isnan(image.own).any()) or image.channels.dtype == np.uint8,
    )
    return table if len(image.cells) else table.iloc[:0]


def run_table(run: int, cache: Path) -> pd.DataFrame:
    """All cells of one staining run, kept in the cache."""
    import pandas as pd

    from islet_imaging.network.training.positivity_phantoms import staining_run

    path = cache / f"cells_{run}.parquet"
    if not path.exists():
        parts = [image_table(image) for image in staining_run(run, cache)]
        pd.concat([p for p in parts if len(p)] or parts[:1]).to_parquet(path)
    return pd.read_parquet(path)


def features(
    table: pd.DataFrame, marker: str, with_control: bool, method: str
) -> pd.DataFrame | None:
    """Inputs of the logistic for the cells of one run that count."""
    import pandas as pd

    from islet_imaging.positivity.fitting import fit_cells
    from islet_imaging.positivity.levels import level_of
    from islet_imaging.positivity.spillover import neighbourhood, own_level

    samples = table[table["role"] == "sample"].reset_index(drop=True)
    control = table[table["role"] != "sample"] if with_control else None
    if (~samples["excluded"]).sum() < 60:
        return None
    column = f"{marker}_sector_p25"
    fit = fit_cells(samples, column, control=control, method=method, bootstrap=0)
    if fit.populations.positive_share is None:
        return None
    level = level_of(samples, column)
    own = own_level(level - fit.spill.zero, neighbourhood(samples), fit.spill.shares)
    spill = np.maximum(level - fit.spill.zero - own, 0)
    model = fit.model
    mix = model.mix_slope * (np.arcsinh(own / model.mix_soft) - model.mix_cut)
    light = (samples[f"{marker}_network_own"] - fit.network.zero) / fit.network.bright
    made = pd.DataFrame(
        {
            "level": np.log(np.maximum(own, 0) / model.bright + 0.05 + 0.1 * spill / model.bright),
            "noise": np.arcsinh(own / model.soft),
            "mix": np.arcsinh(mix / 2),
            "left_over": -np.log1p(spill / model.bright / 0.1),
            "light": np.log(np.maximum(light, 0) + 0.05),
            "logit": np.clip(samples[f"{marker}_network_odds"], -6, 6) - fit.network.logit_zero,
            "own": own,
            "truth": samples[f"truth_{marker}"].to_numpy(dtype=float),
            "image": samples["image"].to_numpy(),
        }
    )
    made = made[~samples["excluded"].to_numpy() & np.isfinite(level)]
    return made.assign(share_odds=_share_odds(made))


def _share_odds(cells: pd.DataFrame) -> NDArray[np.float64]:
    """Log odds of the true share of positive cells of each cell's image."""
    truth = cells.groupby("image")["truth"]
    positive, n = truth.transform("sum").to_numpy(), truth.transform("size").to_numpy()
    odds: NDArray[np.float64] = np.log((positive + 0.5) / (n - positive + 0.5))
    return odds


def fit(
    x: NDArray[np.float64],
    truth: NDArray[np.float64],
    weight: NDArray[np.float64],
    share_odds: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Ridge logistic beside the shares' odds; coefficients, none negative, and constant."""
    from scipy.optimize import minimize

    mean, sd = x.mean(0), x.std(0) + 1e-9
    z = np.column_stack([(x - mean) / sd, np.ones(len(x))])
    weight = weight / weight.sum()

    def loss(b: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        s = z @ b + share_odds
        p = 1 / (1 + np.exp(-s))
        value = float(weight @ (np.logaddexp(0, s) - truth * s) + 3e-4 * (b[:-1] ** 2).sum())
        return value, z.T @ (weight * (p - truth)) + 6e-4 * np.append(b[:-1], 0)

    # more light, or a clearer pattern, never speaks against a cell; light taken away never for it
    bounds = [(0.0, None)] * x.shape[1] + [(None, None)]
    b = minimize(loss, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x
    slope = b[:-1] / sd
    return np.append(slope, b[-1] - slope @ mean)


def collect(cache: Path, runs: range, method: str) -> pd.DataFrame:
    """Cells of all runs and markers that a method learns from."""
    import pandas as pd

    rng = np.random.default_rng(0)
    parts = []
    for run in runs:
        table = run_table(run, cache)
        hidden = rng.random(len(MARKERS)) < 0.3
        if not len(table) or (method != "logit" and table["stretched"].iloc[0]):
            continue
        for marker, alone in zip(MARKERS, hidden, strict=True):
            # a slide without insulin has glucagon: no control for that
            other = marker == "GCG" and (table["role"] == "no_insulin").any()
            if method == "logit":
                cells = table[~table["excluded"] & table[f"{marker}_network_odds"].notna()]
                made = pd.DataFrame(
                    {
                        "logit": np.clip(cells[f"{marker}_network_odds"], -6, 6),
                        "truth": cells[f"truth_{marker}"].astype(float),
                        "image": cells["image"],
                    }
                )
                made = made.assign(share_odds=_share_odds(made))
            else:
                made = features(table, marker, not (alone or other), method)
                # where the level does not tell, a softer logistic would be learned for everybody
                if (
                    made is None
                    or not auc(made["truth"], made["own"] if method == "levels" else made["light"])
                    >= ANSWERABLE
                ):
                    continue
            # a run counts by the square root of its cells
            parts.append(made.assign(weight=1 / np.sqrt(max(len(made), 1)), stain=len(parts)))
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--first", type=int, default=2000)
    parser.add_argument("--last", type=int, default=2093)
    args = parser.parse_args()
    runs = range(args.first, args.last)
    for method, columns in (
        ("levels", ["level", "noise", "mix"]),
        ("network", ["left_over"]),
        ("logit", ["logit"]),
    ):
        cells = collect(args.cache, runs, method)
        x, truth = cells[columns].to_numpy(), cells["truth"].to_numpy()
        odds = cells["share_odds"].to_numpy()
        if method == "levels":
            odds = odds + LEFT_OVER * cells["left_over"].to_numpy()
        if method == "network":
            odds = odds + cells[list(SLOPES)].to_numpy() @ np.array(list(SLOPES.values()))
        found = fit(x, truth, cells["weight"].to_numpy(), odds)
        p = 1 / (1 + np.exp(-(x @ found[:-1] + found[-1] + odds)))
        each = [auc(t["truth"], p[t.index]) for _, t in cells.groupby("stain")]
        print(method, dict(zip([*columns, "constant"], found.round(3).tolist(), strict=True)))
        print(
            f"  {len(cells)} cells of {len(each)} stains; mean AUC {np.nanmean(each):.4f}, "
            f"ECE {ece(truth, p):.4f}, unsure {100 * np.mean((p > 0.2) & (p < 0.8)):.1f} %"
        )


if __name__ == "__main__":
    main()
