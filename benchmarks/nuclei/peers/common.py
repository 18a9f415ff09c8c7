"""What every peer's script does around its own call: read cases, write labels and seconds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def run(segment: Callable[[np.ndarray, float | None], np.ndarray]) -> None:
    """Segment all cases of a folder; `segment` gets the image and the diameter in px or None."""
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    out = Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    seconds = {}
    for case in json.loads((folder / "cases.json").read_text()):
        dna = np.load(folder / f"{case['id']}.npy")
        begun = time.perf_counter()
        labels = segment(dna, case["diameter_px"] if mode == "known" else None)
        seconds[case["id"]] = time.perf_counter() - begun
        np.save(out / f"{case['id']}.npy", np.asarray(labels).astype(np.int32))
    (out / "seconds.json").write_text(json.dumps(seconds))
