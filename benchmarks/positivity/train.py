"""Fit the weights of ``islet_imaging/positivity/weights.py`` on random phantoms.

``python benchmarks/positivity/train.py --cache FOLDER --runs 150`` renders staining runs (three
samples of different composition and two controls each, optics and stains drawn at random), reads
their levels by the library's own functions and prints the weights of a ridge logistic.  A third of
the runs is read without controls.  Runs stretched for display are left out.
The seeds differ from those of the accuracy table.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from images import cells_table
from numpy.typing import NDArray

from islet_imaging.positivity.scores import auc

if TYPE_CHECKING:
    import pandas as pd

SEED = 500_000
#: runs are learned from if the own level separates their cells this well
ANSWERABLE = 0.95
COMPOSITION = (
    "insulin_fraction",
    "glucagon_fraction",
    "somatostatin_fraction",
    "bihormonal_fraction",
    "enterochromaffin_fraction",
    "arrangement",
    "arrangement_strength",
)


def render_run(run: int) -> pd.DataFrame:
    """Cells of one random staining run with what is true of them."""
    import pandas as pd

    from islet_imaging.phantom import phantom, random_parameters

    rng = np.random.default_rng(SEED + run)
    base = random_parameters(rng, shape=(400, 400), channels=("DAPI", "INS", "GCG"), scene="islets")
    tables = []
    for k in range(3):
        other = random_parameters(rng)
        drawn = replace(base, **{name: getattr(other, name) for name in COMPOSITION})
        made = phantom(drawn, seed=SEED + 200_000 + 10 * run + k)
        tables.append(cells_table(made, f"s{k}").assign(role="sample"))
    control = ("secondary_only", "no_insulin")[run % 2]
    for k in range(2):
        made = phantom(replace(base, control=control), seed=SEED + 200_005 + 10 * run + k)
        tables.append(cells_table(made, f"c{k}").assign(role="control"))
    kept = [t for t in tables if len(t)]
    table = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()
    return table.assign(run=run, control=control, stretched=base.rescale_8bit)


def features(table: pd.DataFrame, marker: str, with_control: bool) -> pd.DataFrame | None:
    """The three inputs of the logistic for the cells of one run that count."""
    import pandas as pd

    from islet_imaging.positivity.fitting import fit_cells
    from islet_imaging.positivity.levels import level_of
    from islet_imaging.positivity.spillover import neighbourhood, own_level

    table = table.assign(excluded=table["ignore"])
    samples = table[table["role"] == "sample"].reset_index(drop=True)
    control = table[table["role"] == "control"] if with_control else None
    if (~samples["excluded"]).sum() < 60:
        return None
    column = f"{marker}_sector_p25"
    fit = fit_cells(samples, column, control=control, bootstrap=0)
    level = level_of(samples, column)
    own = own_level(level - fit.spill_zero, neighbourhood(samples), (fit.spill_near, fit.spill_far))
    spill = np.maximum(level - fit.spill_zero - own, 0)
    mix = fit.mix_slope * (np.arcsinh(own / fit.mix_soft) - fit.mix_cut)
    made = pd.DataFrame(
        {
            "level": np.log(np.maximum(own, 0) / fit.bright + 0.05 + 0.1 * spill / fit.bright),
            "noise": np.arcsinh(own / fit.soft),
            "mix": np.arcsinh(mix / 2),
            "own": own,
            "truth": samples[f"truth_{marker}"].to_numpy(dtype=float),
        }
    )
    if fit.positive_fraction is None:
        return None
    return made[~samples["excluded"].to_numpy() & np.isfinite(level)]


def fit(x: NDArray[np.float64], truth: NDArray[np.float64], weight: NDArray[np.float64]):
    """Ridge logistic; coefficients and constant."""
    from scipy.optimize import minimize

    mean, sd = x.mean(0), x.std(0) + 1e-9
    z = np.column_stack([(x - mean) / sd, np.ones(len(x))])
    weight = weight / weight.sum()

    def loss(b: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        s = z @ b
        p = 1 / (1 + np.exp(-s))
        value = float(weight @ (np.logaddexp(0, s) - truth * s) + 3e-4 * (b[:-1] ** 2).sum())
        return value, z.T @ (weight * (p - truth)) + 6e-4 * np.append(b[:-1], 0)

    b = minimize(loss, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B").x
    slope = b[:-1] / sd
    return np.append(slope, b[-1] - slope @ mean)


def main() -> None:
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=150)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    parts = []
    for run in range(args.runs):
        path = args.cache / f"random-{run}.parquet"
        if not path.exists():
            render_run(run).to_parquet(path)
        table = pd.read_parquet(path)
        if not len(table) or table["stretched"].iloc[0]:
            continue
        for marker in ("INS", "GCG"):
            hidden = rng.random() < 0.3
            glucagon = marker == "GCG" and table["control"].iloc[0] == "no_insulin"
            made = features(table, marker, not (hidden or glucagon))
            # where the own level does not tell, a softer logistic would be learned for everybody
            if made is not None and auc(made["truth"], made["own"]) >= ANSWERABLE:
                # a run counts by the square root of its cells
                parts.append(made.assign(weight=1 / np.sqrt(len(made))))
    cells = pd.concat(parts, ignore_index=True)
    columns = ["level", "noise", "mix"]
    found = fit(cells[columns].to_numpy(), cells["truth"].to_numpy(), cells["weight"].to_numpy())
    print("WEIGHTS", dict(zip([*columns, "constant"], found.round(3).tolist(), strict=True)))
    print(f"from {len(cells)} cells of {len(parts)} stains of {args.runs} runs")


if __name__ == "__main__":
    main()
