"""How often `out_of_domain` is a false alarm: ``python benchmarks/quality/domain.py``.

The idea: images of DNA that are fine (real ones with human masks, real tissue, phantoms) must not
raise the flag; channels that are no DNA stain, and DNA far out of focus, should.  Writes
``domain.csv``, one row per image, and prints shares.
It fails to say how right the nuclei of an image are that raises nothing.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.network.engine import shared_engine
from islet_imaging.network.scale import Scale, find_scale
from islet_imaging.phantom import PRESETS, phantom
from islet_imaging.quality.scale import DOUBT

Shown = tuple[str, str, NDArray[Any], float]


def fine(data: Path) -> Iterator[Shown]:
    """DNA images: kind, name, pixels, and a pixel size at which nuclei have 7.5 um."""
    import tifffile

    with (data / "nuclei" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["dataset"] == "dsb2018_fluo":
            continue
        image = tifffile.imread(data / "nuclei" / row["image"])
        image = image[..., 0] if image.ndim == 3 else image
        yield row["dataset"], row["image"], image, 7.5 / float(row["median_diam_px"])
    yield "real tissue", "codex", tifffile.imread(data / "real/codex_tonsil/codex.ome.tif")[0], 0.8
    yield "real tissue", "fihc4", tifffile.imread(data / "real/vectra_fihc4/fihc4.ome.tif")[0], 0.5
    for preset in PRESETS:
        for seed in (1, 2):
            made = phantom(preset, seed=970_500 + seed, shape=(448, 448), channels=("DAPI",))
            yield "phantoms", f"{preset} {seed}", made.array[0], made.parameters.pixel_size_um


def unlike(data: Path) -> Iterator[Shown]:
    """Other channels taken for DNA, and DNA out of focus."""
    import tifffile

    codex = tifffile.imread(data / "real/codex_tonsil/codex.ome.tif")
    for name, plane in zip(("CD4", "CD8", "FOXP3", "BCL6"), codex[1:], strict=True):
        yield "another marker, real", f"codex {name}", plane, 0.8
    for path in sorted((data / "marker/double_positive_nuclei/Example-Images").glob("*.tif")):
        for k, plane in enumerate(tifffile.imread(path)[1:], 1):
            yield "another channel, real", f"{path.stem} {k}", plane, 0.569
    for preset in PRESETS:
        made = phantom(preset, seed=970_501, shape=(448, 448), channels=("DAPI", "INS"))
        yield "insulin, phantoms", preset, made.array[1], made.parameters.pixel_size_um
        blurred = phantom(preset, seed=970_501, shape=(448, 448), defocus_um=10.0)
        yield "10 um out of focus", preset, blurred.array[0], made.parameters.pixel_size_um


def main() -> None:
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ISLET_IMAGING_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default), help="the data folder")
    args = parser.parse_args()
    engine = shared_engine("islet-nuclei")
    rows = []
    for is_fine, images in ((True, fine(args.data)), (False, unlike(args.data))):
        for kind, name, pixels, size in images:
            found = find_scale(lambda y, x, a=pixels: a[y, x], pixels.shape, engine, Scale(size))
            raised = found.doubt is not None and found.doubt > DOUBT
            rows.append(
                {
                    "fine": is_fine,
                    "kind": kind,
                    "image": name,
                    "n_seen": found.n_seen,
                    "doubt": np.nan if found.doubt is None else found.doubt,
                    "raised": raised,
                }
            )
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).parent / "domain.csv", index=False, float_format="%.3f")
    groups = table.assign(judged=table["doubt"].notna()).groupby(["fine", "kind"], sort=False)
    print(groups.agg(images=("image", "size"), judged=("judged", "sum"), raised=("raised", "sum")))


if __name__ == "__main__":
    main()
