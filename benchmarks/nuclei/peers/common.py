"""What every peer's script does around its own call: read cases, write labels and seconds.

Every peer wants to know how large nuclei are.  "known": the image's median nucleus diameter is
told, as it is to us.  "auto": nothing is told, and the diameter is what a careful user would
measure, the median one of the spots above Otsu's threshold.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage as ndi
from skimage.filters import gaussian, threshold_otsu

MIN_AREA_PX = 15
"""Spots below this area are noise; the masks' small objects do not count either."""


def foreground(dna: np.ndarray) -> np.ndarray:
    """Pixels above Otsu's threshold after a light blur, holes filled."""
    smooth = gaussian(dna.astype(float), 1.0, preserve_range=True)
    if smooth.max() <= smooth.min():
        return np.zeros(dna.shape, bool)
    return ndi.binary_fill_holes(smooth > threshold_otsu(smooth))


def estimated_diameter(dna: np.ndarray) -> float:
    """Median diameter in px of the spots above Otsu's threshold, as of circles of their area."""
    areas = np.bincount(ndi.label(foreground(dna), np.ones((3, 3)))[0].ravel())[1:]
    areas = areas[areas >= MIN_AREA_PX]
    return 2 * float(np.sqrt(np.median(areas) / np.pi)) if len(areas) else 16.0


def run(segment: Callable[[np.ndarray, float], np.ndarray]) -> None:
    """Segment all cases of a folder; `segment` gets the image and the diameter in px."""
    folder, mode, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    seconds = {}
    for case in json.loads((folder / "cases.json").read_text()):
        dna = np.load(folder / f"{case['id']}.npy")
        begun = time.perf_counter()
        diameter = case["diameter_px"] if mode == "known" else estimated_diameter(dna)
        labels = segment(dna, diameter)
        seconds[case["id"]] = time.perf_counter() - begun
        np.save(out / f"{case['id']}.npy", np.asarray(labels).astype(np.int32))
    (out / "seconds.json").write_text(json.dumps(seconds))
