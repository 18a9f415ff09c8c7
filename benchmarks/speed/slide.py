"""Memory and time of scoring a slide, end to end, on a synthetic one.

The idea: a phantom of 1000 x 1000 px is laid side by side, with another brightness in every place,
until the slide is full; it is written tile by tile, scored by `score_folder` in a process of its
own, and that process's peak resident memory is read off.  The result is one row of
``results/slide.csv``.

    python benchmarks/speed/slide.py --edge 20000 --method network --scratch /tmp/slide

It fails to show what real slides have and phantoms lay side by side have not: empty glass, folds,
and nuclei in the millions.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RESULT = Path(__file__).parent / "results" / "slide.csv"
TILE = 512
PATTERN = 1000


def write_slide(path: Path, edge: int) -> None:
    """A slide of ``edge`` x ``edge`` px, 3 channels of 16 bit, zlib tiles in an OME-BigTIFF."""
    import tifffile

    from islet_imaging import phantom

    image = phantom("ffpe20x", seed=1, shape=(PATTERN, PATTERN)).image
    planes = [image.channel(name).astype(np.float32) for name in image.channel_names[:3]]

    def tiles() -> Iterator[NDArray[np.uint16]]:
        for plane in planes:
            for top in range(0, edge, TILE):
                y = np.arange(top, top + TILE)
                for left in range(0, edge, TILE):
                    x = np.arange(left, left + TILE)
                    place = (y // PATTERN)[:, None] * 7 + (x // PATTERN)[None, :] * 13
                    gain = (0.8 + 0.04 * (place % 11)).astype(np.float32)
                    pixels = plane[np.ix_(y % PATTERN, x % PATTERN)] * gain
                    yield np.clip(pixels, 0, 65535).astype(np.uint16)

    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path,
        tiles(),
        shape=(len(planes), edge, edge),
        dtype=np.uint16,
        tile=(TILE, TILE),
        bigtiff=True,
        compression="zlib",
        compressionargs={"level": 1},
        ome=True,
        metadata={
            "axes": "CYX",
            "Channel": {"Name": list(image.channel_names[:3])},
            "PhysicalSizeX": image.pixel_size_um,
            "PhysicalSizeY": image.pixel_size_um,
        },
    )


def score(folder: Path, out: Path, method: str) -> None:
    """Score in this process and print what it took, as JSON."""
    from islet_imaging import Protocol, score_folder
    from islet_imaging.experiment.drafting import protocol_of_folder

    plain = protocol_of_folder(folder).to_dict()
    protocol = Protocol.from_dict({**plain, "nuclei": {**plain["nuclei"], "method": method}})
    begun = time.perf_counter()
    run = score_folder(folder, out, protocol=protocol, workers=1)
    seconds = time.perf_counter() - begun
    image = run.images.iloc[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "status": image["status"],
                "n_cells": int(image["n_cells"]),
                "n_islets": int(image["n_islets"]),
                "seconds": round(seconds, 1),
                "cpu_seconds": round(time.process_time(), 1),
                # kilobytes on Linux, bytes on macOS
                "peak_gb": round(peak / (1e9 if sys.platform == "darwin" else 1e6), 2),
            }
        )
    )


def main() -> None:
    """Make the slide where it is missing, score it, add a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=20_000)
    parser.add_argument("--method", default="network", choices=["network", "classical"])
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--score", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.score:
        score(*given.score, given.method)
        return
    folder = given.scratch / f"{given.edge}"
    if not (folder / "slide.ome.tif").is_file():
        write_slide(folder / "slide.ome.tif", given.edge)
    out = given.scratch / f"run-{given.edge}-{given.method}-{int(time.time())}"
    command = [sys.executable, __file__, "--scratch", str(given.scratch), "--method", given.method]
    done = subprocess.run(
        [*command, "--score", str(folder), str(out)], check=True, capture_output=True, text=True
    )
    row = {
        "edge_px": given.edge,
        "channels": 3,
        "method": given.method,
        **json.loads(done.stdout.strip().splitlines()[-1]),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "",
        "load_after": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    new = not RESULT.is_file()
    with RESULT.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, row.keys())
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row)


if __name__ == "__main__":
    main()
