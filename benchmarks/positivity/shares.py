"""The fraction at every true share of positive cells: ``shares.py --cache FOLDER``.

The idea: unsure cells are mostly positive where most cells are, and mostly negative where few are;
a fraction that does not know the share shrinks towards the middle.  Each row is one preset and one
true share from 0 to 100 %: two samples of that share are a staining run, with its two controls and
without, once with each texture code.  Seeds are of their own.
It fails to speak of real stainings: accuracy here is accuracy on synthetic images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from images import PRESETS, cells_table, shares

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).parent / "results"
SHARES = (0.0, 0.02, 0.05, 0.20, 0.40, 0.80, 0.95, 1.0)
TEXTURES = ("standard", "heldout")
SHAPE = (1024, 1024)
#: seeds of the published table; others are for development
SEED = 90_000


def load(cache: Path, preset: str, texture: str, seed: int) -> pd.DataFrame:
    """Measured cells of all shares and controls of a preset, with the truth; kept in ``cache``."""
    import pandas as pd

    from islet_imaging.phantom import phantom

    path = cache / f"shares_{preset}_{texture}_{seed}.parquet"
    if path.exists():
        return pd.read_parquet(path)
    base = seed + 1000 * PRESETS.index(preset) + 500 * TEXTURES.index(texture)
    how: dict[str, Any] = {"shape": SHAPE, "texture": texture}
    parts = []
    for k, share in enumerate(SHARES):
        for twin in range(2):
            made = phantom(preset, seed=base + 10 * k + twin, **how, **shares(share, 0.0))
            table = cells_table(made, f"{share:g}-{twin}")
            parts.append(table.assign(share=share, role="sample"))
    for twin in range(2):
        made = phantom(preset, seed=base + 100 + twin, control="secondary_only", **how)
        parts.append(cells_table(made, f"control-{twin}").assign(share=np.nan, role="control"))
    out = pd.concat(parts, ignore_index=True)
    out.to_parquet(path)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder for tables of cells")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--build-only", action="store_true")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    for preset in PRESETS:
        for texture in TEXTURES:
            load(args.cache, preset, texture, args.seed)
            print(preset, texture, flush=True)


if __name__ == "__main__":
    main()
