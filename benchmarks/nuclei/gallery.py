"""Nuclei: a picture of the best and the worst images of a set.

    python benchmarks/nuclei/gallery.py --set phantom_ffpe20x --out docs/nuclei_gallery.png

Yellow: found and true edges agree; red: true only; green: found only.  Only pictures of phantoms go
into the repository: the real images stay where they are.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from islet_imaging.network.nuclei import segment_nuclei_network
from islet_imaging.network.training.nuclei_evaluation import cases, match_case

HERE = Path(__file__).parent


def edges(labels: np.ndarray) -> np.ndarray:
    """Pixels whose left or upper neighbour has another label."""
    out = np.zeros(labels.shape, bool)
    out[1:] |= labels[1:] != labels[:-1]
    out[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return out


def main() -> None:
    default = Path(os.environ.get("ISLET_IMAGING_DATA", HERE.parents[1] / ".." / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", required=True, help="names of sets, separated by commas")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--crop", type=int, default=320)
    parser.add_argument("--data", type=Path, default=default)
    args = parser.parse_args()
    scored = []
    for name in args.set.split(","):
        for case in cases(name, args.data, phantom_seeds=1):
            found = segment_nuclei_network(case[1], diameter_px=case[4])
            scored.append((match_case(case, found).f1(), case, found))
    scored.sort(key=lambda s: -s[0])
    chosen = scored if len(scored) <= 6 else [*scored[:3], *scored[-3:]]
    figure = Figure(figsize=(12, 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (f1, case, found) in zip(figure.subplots(2, 3).flat, chosen, strict=False):
        y, x = (max(0, (n - args.crop) // 2) for n in found.shape)
        part = (slice(y, y + args.crop), slice(x, x + args.crop))
        low, high = np.percentile(case[1], [0.5, 99.7])
        grey = np.clip((case[1][part] - low) / max(high - low, 1), 0, 1) ** 0.6
        picture = np.dstack([grey] * 3)
        true, ours = edges(case[2][part]), edges(found[part])
        picture[true] = (1, 0, 0)
        picture[ours] = (0, 1, 0)
        picture[true & ours] = (1, 1, 0)
        axis.imshow(picture)
        axis.set_title(f"{case[0][:24]}: F1 {f1:.2f}", fontsize=10)
        axis.axis("off")
    figure.savefig(args.out, dpi=80)


if __name__ == "__main__":
    main()
