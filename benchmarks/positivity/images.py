"""The images that calls are measured on: six presets, three staining runs each, seeds of their own.

The idea: a staining run is four samples of different insulin fractions and its negative controls;
among the samples of the first run one has no insulin at all; the second run is drawn by the
held-out texture code; true bihormonal fractions are 0, 2 and 10 %.  Tables of cells come from the
true outlines of nuclei, or from the library's own.
It fails to say anything about real stainings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.phantom import Phantom

PRESETS = (
    "easy_confocal",
    "ffpe20x",
    "cryo10um_widefield",
    "wholemount",
    "hcs0.65",
    "abused_8bit",
)
#: seeds from here on are for the published table only
SEED = 60_000
SHAPE = (1024, 1024)


@dataclass(frozen=True)
class Plan:
    """One staining run: what is on its slides."""

    name: str
    fractions: tuple[float, ...]
    bihormonal: float
    texture: str
    controls: tuple[str, ...]


RUNS = (
    Plan("a", (0.0, 0.15, 0.40, 0.75), 0.0, "standard", ("secondary_only",) * 2),
    Plan(
        "b",
        (0.05, 0.30, 0.50, 0.90),
        0.02,
        "heldout",
        ("no_insulin", "no_insulin", "secondary_only"),
    ),
    Plan("c", (0.10, 0.25, 0.40, 0.60), 0.10, "standard", ("secondary_only",) * 2),
)


def shares(insulin: float, bihormonal: float) -> dict[str, float]:
    """Shares of cell types for a wanted insulin fraction (bihormonal cells among them)."""
    both = min(bihormonal, insulin)
    rest = 1.0 - insulin
    glucagon = min(0.12, 0.5 * rest)
    somatostatin = min(0.05, 0.5 * (rest - glucagon))
    return {
        "insulin_fraction": insulin - both,
        "bihormonal_fraction": both,
        "glucagon_fraction": glucagon,
        "somatostatin_fraction": somatostatin,
        "enterochromaffin_fraction": min(0.10, (rest - glucagon - somatostatin) / 3),
    }


def render(preset: str, run: int, *, seed: int = SEED, shape: tuple[int, int] = SHAPE,
           **changes: Any) -> list[tuple[str, str, Phantom]]:  # fmt: skip
    """``(name, role, phantom)`` of each image of a staining run; a control's role is its kind."""
    from islet_imaging.phantom import phantom

    plan = RUNS[run]
    base = seed + 1000 * PRESETS.index(preset) + 100 * run
    out = []
    for k, fraction in enumerate(plan.fractions):
        made = phantom(
            preset, seed=base + k, shape=shape, texture=plan.texture,
            **shares(fraction, plan.bihormonal), **changes,
        )  # fmt: skip
        out.append((f"{preset}-{plan.name}-s{k}", "sample", made))
    for k, kind in enumerate(plan.controls):
        made = phantom(
            preset, seed=base + 50 + k, shape=shape, texture=plan.texture, control=kind,
            **changes,
        )  # fmt: skip
        out.append((f"{preset}-{plan.name}-c{k}", kind, made))
    return out


def cells_table(
    made: Phantom,
    name: str,
    *,
    nuclei: NDArray[np.int32] | None = None,
    array: dict[str, NDArray[Any]] | None = None,
    pixel_size_um: float | None = None,
    model: str = "islet-positivity",
) -> pd.DataFrame:
    """Measured cells of one phantom with what is true of each.

    Parameters
    ----------
    made : Phantom
        The image and its truth.
    name : str
        For the column ``image``.
    nuclei : ndarray of int32, optional
        Labels to measure; the true outlines if not given.  Others are matched to true nuclei by
        the largest overlap, of at least half of the smaller.
    array, pixel_size_um : optional
        Changed pixels, at another pixel size (of the true nuclei as well).
    model : str
        Name or folder of the positivity network.

    Returns
    -------
    DataFrame
        The cells table, and ``true_cell`` (0 where there is none), ``truth_<marker>``,
        ``true_islet``, ``ignore`` (dead, at the border, or on a nucleus that counts for nothing).
    """
    from islet_imaging.measurement.measure import measure_cells
    from islet_imaging.network.engine import shared_engine
    from islet_imaging.network.positivity import network_columns, network_logits
    from islet_imaging.segmentation.cells import grow_cells

    image, truth = made.image, made.truth
    size = image.require_pixel_size() if pixel_size_um is None else pixel_size_um
    labels = truth.nuclei if nuclei is None else nuclei
    channels = array or {c: image.channel(c) for c in image.channel_names}
    cells = grow_cells(labels, ring_um=3.0, gap_um=0.0, pixel_size_um=size)
    table = measure_cells(labels, cells, channels, dna="DAPI", pixel_size_um=size)
    markers = {c: v for c, v in channels.items() if c != "DAPI"}
    engine = shared_engine(model)
    logits = network_logits(channels["DAPI"], markers, labels, engine=engine, pixel_size_um=size)
    table = table.assign(**network_columns(table["cell"].to_numpy(), logits))
    table = table.drop(columns="image", errors="ignore")
    table.insert(0, "image", name)
    if nuclei is None:
        true_cell = table["cell"].to_numpy()
        partial = np.zeros(len(table), bool)
    else:
        true_cell, partial = _match(labels, truth, table["cell"].to_numpy())
    known = truth.cells.set_index("cell").reindex(true_cell)
    found = known["visible"].notna().to_numpy()
    pyknotic = known["pyknotic"].eq(True).to_numpy()
    extra = {
        "true_cell": np.where(found, true_cell, 0),
        "true_islet": known["islet"].fillna(0).to_numpy(dtype=np.int64),
        "ignore": pyknotic | partial | table["touches_border"].to_numpy(bool),
    }
    for marker in (c for c in image.channel_names if c != "DAPI"):
        extra[f"truth_{marker}"] = known[f"{marker}_expressed"].eq(True).to_numpy()
    return table.assign(**extra)


def _match(
    labels: NDArray[np.int32], truth: Any, names: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """True nucleus under each label, and whether it lies on a nucleus that does not count."""
    area = np.bincount(labels.ravel(), minlength=int(names.max(initial=0)) + 1)

    def best(other: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        both = (labels > 0) & (other > 0)
        key = labels[both].astype(np.int64) << 32 | other[both].astype(np.int64)
        pair, count = np.unique(key, return_counts=True)
        order = np.argsort(count, kind="stable")
        owner, size = np.zeros(area.size, np.int64), np.zeros(area.size, np.int64)
        mine = (pair >> 32)[order]
        owner[mine], size[mine] = (pair & 0xFFFFFFFF)[order], count[order]
        return owner[names], size[names]

    owner, overlap = best(truth.nuclei)
    true_area = np.bincount(truth.nuclei.ravel(), minlength=int(owner.max(initial=0)) + 1)
    smaller = np.minimum(area[names], np.maximum(true_area[owner], 1))
    matched = (owner > 0) & (overlap >= 0.5 * smaller)
    _, ghost = best(truth.partial_nuclei)
    partial = ~matched & (ghost >= 0.3 * area[names])
    return np.where(matched, owner, 0), partial
