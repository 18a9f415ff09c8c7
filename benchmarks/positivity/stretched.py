"""Images stretched one by one for display: ``stretched.py --cache FOLDER``.

The idea: six images of a preset from 0 to 100 % positive, of which two show both populations,
are a staining run; each gets a gain and an offset of its own, as auto-contrast gives.  The cells
are those of ``shares.py``: what the network sees does not change with gain and offset
(``results/invariance.md``), so intensities are changed in the tables.  Counted are images with a
threshold of their own, those placed by the others of the run, and those without a number.
It fails to speak of clipping and of curves; the preset ``abused_8bit`` of ``run.py`` draws both.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from images import PRESETS
from run import markdown, reported
from shares import TEXTURES, load

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).parent / "results"
SEEDS = (80_000, 380_000)
#: shares of the images that show both populations, and of those that show one
BOTH = ((0.2, 0.4), (0.4, 0.8), (0.2, 0.8), (0.05, 0.4))
ONE = (0.0, 0.02, 0.95, 1.0)
STRETCHED = (
    "nucleus_mean", "ring_mean", "ring_median", "ring_p10", "ring_p25", "ring_p75", "sector_p25",
    "sector_blend", "background", "neighbour_mean", "neighbour_max",
)  # fmt: skip


def stretch(cells: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Cells of one image at a gain and an offset of its own."""
    gain = np.exp(rng.normal(0, 0.5))
    offset = rng.normal(0, 0.2) * cells["INS_sector_p25"].median()
    changed = {f"INS_{c}": gain * cells[f"INS_{c}"] + offset for c in STRETCHED}
    light = {"INS_network_own": gain * cells["INS_network_own"]}
    return cells.assign(**changed, **light, INS_saturated=0.01)


def rows(cache: Path, preset: str, seed: int) -> list[dict[str, Any]]:
    """One row per image."""
    from islet_imaging.positivity import call_marker, fit_marker, image_threshold
    from islet_imaging.protocol import Channel, Protocol

    protocol = Protocol((Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")))
    out = []
    for texture in TEXTURES:
        rng = np.random.default_rng([seed, *preset.encode(), *texture.encode()])
        table = load(cache, preset, texture, seed)
        table = table.assign(excluded=table["ignore"])
        samples = table[table["role"] == "sample"]
        names = {share: sorted(set(g["image"])) for share, g in samples.groupby("share")}
        controls = [g.assign(INS_saturated=0.01) for _, g in
                    table[table["role"] == "control"].groupby("image")]  # fmt: skip
        for turn, both in enumerate(BOTH):
            picked = [names[share][turn % 2] for share in (*both, *ONE)]
            run = [stretch(samples[samples["image"] == name], rng) for name in picked]
            fitted = fit_marker(run, controls, "INS", protocol)
            for cells in run:
                called = call_marker(cells, "INS", fitted, protocol)
                called = called[~called["ignore"]]
                own = image_threshold(cells, fitted)
                how = "none"
                if own.estimable:
                    how = "the run's" if "of the run" in own.reason else "own"
                off = 100 * float(reported(called).mean() - called["truth_INS"].mean())
                out.append(
                    {
                        "preset": preset,
                        "share_pct": 100 * float(cells["share"].iloc[0]),
                        "levels": how,
                        "off_pp": off if own.estimable else np.nan,
                        "unsure_pct": 100 * float((called["INS_call"] == "unsure").mean()),
                    }
                )
    return out


def summary(images: pd.DataFrame, by: str) -> pd.DataFrame:
    """How images of a kind got their number, and how far it is off."""
    with_number = images[images["levels"] != "none"]
    grouped = with_number.assign(size=with_number["off_pp"].abs()).groupby(
        [by, "levels"], sort=False
    )
    out = grouped.agg(
        images=("size", "size"),
        off_pp=("off_pp", "mean"),
        mean_size_pp=("size", "mean"),
        worst_pp=("size", "max"),
        unsure_pct=("unsure_pct", "mean"),
    ).reset_index()
    none = images.assign(none=images["levels"] == "none").groupby(by)["none"].mean()
    return out.assign(without_number_pct=100 * out[by].map(none)).sort_values([by, "levels"])


def main() -> None:
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder for tables of cells")
    args = parser.parse_args()
    images = pd.DataFrame(
        [r for preset in PRESETS for seed in SEEDS if _made(preset, seed)
         for r in rows(args.cache, preset, seed)]
    )  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = (
        "Runs of six images, each at a gain and an offset of its own; two of them show both "
        "populations. `levels`: of this image alone, or of the run's others (its background and "
        "the population that it shows being its own).\n\n"
        f"{markdown(summary(images, 'share_pct'))}\nBy preset:\n\n"
        f"{markdown(summary(images, 'preset'))}"
    )
    (RESULTS / "stretched.md").write_text(text, encoding="utf-8")
    print(text)


def _made(preset: str, seed: int) -> bool:
    """The seeds that weights were looked at are made for all presets but the stretched one."""
    return preset != "abused_8bit" or seed == SEEDS[0]


if __name__ == "__main__":
    main()
