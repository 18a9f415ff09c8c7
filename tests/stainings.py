"""Plain stained images that are made in milliseconds, for tests of what happens to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile


def staining(seed: int, positive: float, shape: tuple[int, int] = (200, 200)) -> np.ndarray:
    """A plain image of round nuclei on a lattice, some of them in a bright ring."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    dna = np.full(shape, 100.0)
    ins = np.full(shape, 120.0)
    for cy in range(20, shape[0] - 15, 26):
        for cx in range(20, shape[1] - 15, 26):
            d = np.hypot(y - cy - rng.uniform(-2, 2), x - cx - rng.uniform(-2, 2))
            dna[d < 7] = 1500
            if rng.random() < positive:
                ins[(d >= 6) & (d < 12)] = 900 * rng.lognormal(0, 0.2)
    stack = np.stack([dna, ins])
    return np.asarray(rng.poisson(stack), np.uint16)


def write(path: Path, stack: np.ndarray, names: list[str] | None = None, size: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "axes": "CYX",
        "Channel": {"Name": names or ["DAPI", "INS"]},
        "PhysicalSizeX": size,
        "PhysicalSizeY": size,
    }
    tifffile.imwrite(path, stack, ome=True, metadata=metadata)
