"""Seconds from an image to its calls, warm, with either way to find nuclei; and the cold start.

    python benchmarks/speed/end_to_end.py

Writes ``results/end_to_end.md``. Run it on a quiet machine.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from islet_imaging import IsletImage, phantom, score_image
from islet_imaging.protocol import Channel, Nuclei, Protocol

SIDE = 2048
NAMES = ("DAPI", "INS", "GCG", "SST")


def picture() -> IsletImage:
    """A phantom of 1024 x 1024 px and 4 channels, laid out four times."""
    made = phantom("ffpe20x", seed=5, shape=(1024, 1024), channels=NAMES).image
    planes = np.stack([np.tile(made.channel(n), (2, 2)) for n in NAMES])
    return IsletImage.from_array(planes, NAMES, made.pixel_size_um)


def cold(command: list[str]) -> float:
    """Seconds of a command in a fresh Python; the fastest of three."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return min(times)


def main() -> None:
    """Time and write the table."""
    image = picture()
    rows = []
    for method in ("classical", "network"):
        protocol = Protocol(
            channels=(Channel("DAPI", "dna"), *(Channel(n) for n in NAMES[1:])),
            nuclei=Nuclei(method=method),
        )
        times = []
        for _ in range(4):
            begun = time.perf_counter()
            scored = score_image(image, protocol)
            times.append(time.perf_counter() - begun)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        rows.append((method, len(scored.cells), times[0], min(times[1:]), peak))
    python = sys.executable
    bare = cold([python, "-c", "pass"])
    imported = cold([python, "-c", "import islet_imaging"]) - bare
    command = cold([python, "-m", "islet_imaging", "--version"])
    lines = [
        "# From an image to its calls",
        "",
        f"Written by `python benchmarks/speed/end_to_end.py`. {os.cpu_count()} cores, "
        f"{platform.machine()}, load before the run {os.getloadavg()[0]:.1f}. A phantom of "
        f"{SIDE} x {SIDE} px, {len(NAMES)} channels of 16 bits, {image.pixel_size_um} um/px, in "
        "memory; `score_image` with everything it does.",
        "",
        "| nuclei | cells | first, s | warm, s | peak memory so far, GB |",
        "|---|---|---|---|---|",
        *(f"| {m} | {n} | {c:.2f} | {w:.2f} | {g:.2f} |" for m, n, c, w, g in rows),
        "",
        f"`import islet_imaging`: {imported:.3f} s beyond Python's own start. "
        f"`islet-imaging --version`: {command:.2f} s.",
        "",
    ]
    target = Path(__file__).parent / "results" / "end_to_end.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
