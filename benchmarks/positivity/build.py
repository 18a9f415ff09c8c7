"""Render the benchmark's images once and keep their tables of cells.

The idea: rendering and segmentation take minutes, scoring seconds; tables are kept in a folder
outside the repository (``--cache``), one per staining run, kind of nuclei and change of the image.
It fails if the phantom changes and the folder is not emptied.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from baselines import area_fraction
from images import PRESETS, RUNS, SEED, cells_table, render
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.phantom import Phantom

MARKERS = ("INS", "GCG")
#: changes of an image that should change nothing, for one run of each preset
CHANGES = ("gain_half", "gain_double", "offset", "8bit", "pixel_size", "rotation")


def build(cache: Path, nuclei: tuple[str, ...] = ("true", "own"), seed: int = SEED) -> None:
    """Fill ``cache`` with what is not there yet; each seed needs one of its own."""
    cache.mkdir(parents=True, exist_ok=True)
    for preset in PRESETS:
        for run in range(len(RUNS)):
            kinds = [k for k in nuclei if not _path(cache, preset, run, k).exists()]
            changes = CHANGES if run == 1 and "true" in nuclei else ()
            changes = [c for c in changes if not _path(cache, preset, run, c).exists()]
            if not kinds and not changes:
                continue
            made = render(preset, run, seed=seed)
            for kind in kinds:
                _save([_plain(m, n, r, kind) for n, r, m in made], _path(cache, preset, run, kind))
            for change in changes:
                tables = [_changed(m, n, r, change) for n, r, m in made]
                _save(tables, _path(cache, preset, run, change))
            print(f"{preset} run {RUNS[run].name}: {', '.join([*kinds, *changes])}", flush=True)


def load(cache: Path, preset: str, run: int, kind: str) -> pd.DataFrame:
    """One staining run's cells, samples and controls."""
    import pandas as pd

    return pd.read_parquet(_path(cache, preset, run, kind))


def _path(cache: Path, preset: str, run: int, kind: str) -> Path:
    return cache / f"{preset}-{RUNS[run].name}-{kind}.parquet"


def _save(tables: list[pd.DataFrame], path: Path) -> None:
    import pandas as pd

    pd.concat(tables, ignore_index=True).to_parquet(path)


def _plain(made: Phantom, name: str, role: str, kind: str) -> pd.DataFrame:
    labels = None
    if kind == "own":
        from islet_imaging.segmentation.nuclei import segment_nuclei

        labels = segment_nuclei(
            made.image.channel("DAPI"), pixel_size_um=made.image.require_pixel_size()
        )
    table = cells_table(made, name, nuclei=labels)
    return _finish(table, made, name, role, labels)


def _finish(
    table: pd.DataFrame,
    made: Phantom,
    name: str,
    role: str,
    labels: NDArray[np.int32] | None,
) -> pd.DataFrame:
    """Add the role, the 2 um ring of a baseline, the area fraction and the image's true counts."""
    from islet_imaging.measurement.measure import measure_cells
    from islet_imaging.segmentation.cells import grow_cells

    image, truth = made.image, made.truth
    size = image.require_pixel_size()
    nuclei = truth.nuclei if labels is None else labels
    thin = grow_cells(nuclei, ring_um=2.0, gap_um=0.0, pixel_size_um=size)
    channels = {c: image.channel(c) for c in image.channel_names}
    ring = measure_cells(nuclei, thin, channels, dna="DAPI", pixel_size_um=size)
    tissue = grow_cells(truth.nuclei, ring_um=3.0, gap_um=0.0, pixel_size_um=size) > 0
    cells = truth.cells
    real = cells[cells["visible"] & ~cells["pyknotic"] & ~cells["touches_border"]]
    extra: dict[str, Any] = {"role": role, "true_n": len(real)}
    for marker in MARKERS:
        extra[f"{marker}_ring2_mean"] = ring[f"{marker}_ring_mean"].to_numpy()
        extra[f"{marker}_otsu_area"] = area_fraction(image.channel(marker), tissue)
        extra[f"true_fraction_{marker}"] = float(real[f"{marker}_expressed"].mean())
    both = real["INS_expressed"] & real["GCG_expressed"]
    return table.assign(**extra, true_fraction_both=float(both.mean()))


def _changed(made: Phantom, name: str, role: str, change: str) -> pd.DataFrame:
    """True nuclei measured on changed pixels."""
    from dataclasses import replace

    image, truth = made.image, made.truth
    stack = {c: image.channel(c).astype(np.float64) for c in image.channel_names}
    nuclei, size = truth.nuclei, image.require_pixel_size()
    if change == "gain_half":
        stack = {c: 100 + 0.5 * (v - 100) for c, v in stack.items()}
    elif change == "gain_double":
        stack = {c: 100 + 2.0 * (v - 100) for c, v in stack.items()}
    elif change == "offset":
        stack = {c: v + 150 for c, v in stack.items()}
    elif change == "8bit":
        # one scale for the run: 12-bit range to 8 bit, as a camera in 8-bit mode gives
        top = 4095.0 if max(v.max() for v in stack.values()) > 255 else 255.0
        stack = {c: np.clip(np.round(v * 255 / top), 0, 255) for c, v in stack.items()}
    elif change == "rotation":
        stack = {c: np.rot90(v) for c, v in stack.items()}
        nuclei = np.ascontiguousarray(np.rot90(nuclei))
    elif change == "pixel_size":
        # twice the pixel: sums of 2x2, labels by their upper left pixel
        h, w = (n // 2 * 2 for n in nuclei.shape)
        stack = {
            c: v[:h, :w].reshape(h // 2, 2, w // 2, 2).mean(axis=(1, 3)) for c, v in stack.items()
        }
        nuclei, size = np.ascontiguousarray(nuclei[:h:2, :w:2]), 2 * size
    moved = replace(made, truth=replace(truth, nuclei=nuclei))
    array = {c: np.ascontiguousarray(v, dtype=np.float32) for c, v in stack.items()}
    table = cells_table(moved, name, array=array, pixel_size_um=size)
    return table.assign(role=role)
