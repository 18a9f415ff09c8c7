"""The real stainings that the benchmark reads, and what is true of them.

The idea: a set is one image with the names and compartments of its channels, how many nuclei a
person expects, and its truth: calls by position, or a share that biology gives.  The two sets that
come with the data folder are described here; any other folder with a ``set.yaml`` is read too, so
that a laboratory can add its own without touching code::

    image: tile.tif                # channels first, or OME-TIFF
    channels: [DAPI, GRZB, CD3]    # in the order of the file
    compartments: {GRZB: cytoplasm, CD3: membrane}
    pixel_size_um: 0.5
    nuclei: [1500, 2500]           # fewest and most that a person would count
    excludes: {CD4: CD8}           # pairs that no cell shows both of
    labels: labels.csv             # y_px, x_px, marker, positive (0 or 1), rater

It fails with a plain error where a named file is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd

#: pixel sizes that are stated, rightly or wrongly, of every image
PIXEL_SIZES_UM = (0.25, 0.325, 0.377, 0.45, 0.5, 0.65)


@dataclass(frozen=True)
class ImageSet:
    """One image with what is known of it.

    Attributes
    ----------
    name : str
    dna : str
        Its DNA channel.
    channels : mapping of str to (Y, X)
        Pixels by name.
    markers : mapping of str to str
        Compartment of each marker.
    pixel_size_um : float
        As the laboratory states it, or a usual one where nobody does.
    nuclei : (int, int)
        Fewest and most nuclei that a person would count.
    source : str
        Who says what is true.
    excludes : mapping of str to str
        Pairs of markers that no cell shows both of.
    shares : mapping of str to float
        Share of positive cells where biology gives no more than that, %.
    labels : DataFrame, optional
        ``y_px, x_px, marker, positive, rater``.
    """

    name: str
    dna: str
    channels: Mapping[str, NDArray[Any]]
    markers: Mapping[str, str]
    pixel_size_um: float
    nuclei: tuple[int, int]
    source: str
    excludes: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    labels: pd.DataFrame | None = None

    def expected(self, marker: str) -> float:
        """Share of positive cells that biology gives, %; NaN where it gives none."""
        return self.shares.get(marker, float("nan"))

    def truth(
        self, marker: str, y_px: ArrayLike, x_px: ArrayLike, near_px: float
    ) -> tuple[NDArray[np.float64], float]:
        """What people say of each cell, and how often two of them agree.

        Returns
        -------
        truth : (N,) float
            1, 0 or NaN; of several raters the majority, NaN for a tie.
        agree_pct : float
            Over pairs of raters and cells both called; NaN with one rater.
        """
        from scipy.spatial import cKDTree

        cells = np.column_stack([np.asarray(y_px, float), np.asarray(x_px, float)])
        nothing = np.full(len(cells), np.nan)
        labels = self.labels
        if labels is None or not len(cells):
            return nothing, float("nan")
        said = []
        for _, own in labels[labels["marker"] == marker].groupby("rater"):
            # each label goes to its nearest nucleus, each nucleus to its nearest label
            tree, points = cKDTree(cells), own[["y_px", "x_px"]].to_numpy(float)
            distance, at = tree.query(points, distance_upper_bound=near_px)
            order = np.argsort(-distance)
            order = order[np.isfinite(distance[order])]
            one = nothing.copy()
            one[at[order]] = own["positive"].to_numpy(float)[order]
            said.append(one)
        if not said:
            return nothing, float("nan")
        every = np.stack(said)
        known = np.isfinite(every).any(axis=0)
        mean = nothing.copy()
        mean[known] = np.nanmean(every[:, known], axis=0)
        same = [a[both] == b[both] for a, b in combinations(every, 2)
                if (both := np.isfinite(a) & np.isfinite(b)).any()]  # fmt: skip
        agree = 100 * float(np.concatenate(same).mean()) if same else float("nan")
        return np.where(mean == 0.5, np.nan, np.round(mean)), agree


def image_sets(folder: Path) -> Iterator[ImageSet]:
    """All sets of a data folder."""
    if (folder / "codex_tonsil").is_dir():
        yield _codex(folder / "codex_tonsil")
    if (folder / "vectra_fihc4").is_dir():
        yield _fihc4(folder / "vectra_fihc4")
    for described in sorted(folder.glob("*/set.yaml")):
        yield _described(described)


def table_markers() -> dict[str, str]:
    """The best single column of each marker of the glioma tables."""
    return {
        "tamm": "opal480_nucleus_mean",
        "ki67": "opal520_nucleus_mean",
        "leukocyte": "opal540_nucleus_mean",
        "oligodendrocyte": "opal570_nucleus_mean",
        "pvc": "opal620_cytoplasm_mean",
        "glioma": "opal650_nucleus_mean",
        "endothelial": "opal690_cytoplasm_mean",
    }


def _codex(folder: Path) -> ImageSet:
    import tifffile

    pixels = tifffile.imread(folder / "codex.ome.tif")
    names = ("DAPI", "CD4", "CD8", "FOXP3", "BCL6")
    return ImageSet(
        "codex_tonsil",
        "DAPI",
        dict(zip(names, pixels, strict=True)),
        {"CD4": "membrane", "CD8": "membrane", "FOXP3": "nucleus", "BCL6": "nucleus"},
        0.5,
        (2600, 3600),
        "biology",
        {"CD4": "CD8", "CD8": "CD4"},
        {"FOXP3": 5.0},
    )


def _fihc4(folder: Path) -> ImageSet:
    import pandas as pd
    import tifffile

    pixels = tifffile.imread(folder / "fihc4.ome.tif")
    calls = pd.read_csv(folder / "calls.csv")
    of = {"CY5": "B", "FITC": "Helper T", "A594": "Cytotoxic T"}
    labels = pd.concat(
        [
            calls[["y_px", "x_px"]].assign(
                marker=marker,
                positive=(calls["phenotype"] == kind).astype(int),
                rater="classifier",
            )
            for marker, kind in of.items()
        ],
        ignore_index=True,
    )
    return ImageSet(
        "vectra_fihc4",
        "DAPI",
        dict(zip(("DAPI", "A594", "CY3", "CY5", "FITC"), pixels, strict=True)),
        dict.fromkeys(of, "membrane"),
        0.497,
        (270, 560),
        "a classifier that a person trained",
        labels=labels,
    )


def _described(path: Path) -> ImageSet:
    import pandas as pd
    import tifffile
    import yaml

    about: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    pixels = tifffile.imread(path.parent / about["image"])
    names = list(about["channels"])
    labels = None
    if "labels" in about:
        labels = pd.read_csv(path.parent / about["labels"])
        if "rater" not in labels:
            labels["rater"] = "person"
    low, high = about["nuclei"]
    return ImageSet(
        path.parent.name,
        about.get("dna", names[0]),
        dict(zip(names, pixels, strict=True)),
        about["compartments"],
        float(about["pixel_size_um"]),
        (int(low), int(high)),
        about.get("source", "people"),
        about.get("excludes", {}),
        about.get("shares", {}),
        labels,
    )
