"""Seconds and memory of every pixel step.

Run: python benchmarks/speed/run.py [--out benchmarks/speed]

Writes ``results.md``: seconds per step for a phantom of 2048 x 2048 px and 4 channels (warm: the
second of two rounds), peak memory of that process, growth from 1024 to 4096 px squared, and the
time to measure 100,000 cells with 3 markers.  CPU seconds stand beside seconds on the wall, as a
machine that has other work to do makes only the latter longer; the load is printed too.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

CHANNELS = ("DAPI", "INS", "GCG", "CPEP")
STEPS = ("correct", "nuclei (classical)", "cells", "islets", "measure", "all steps")


def picture(side: int) -> tuple[dict[str, np.ndarray], float]:
    """A phantom, repeated to the size asked for."""
    from islet_imaging.phantom import phantom

    made = phantom("ffpe20x", seed=7101, shape=(1024, 1024), channels=CHANNELS, n_islets=8)
    n = -(-side // 1024)
    stack = {name: np.tile(made.image.channel(name), (n, n))[:side, :side] for name in CHANNELS}
    return stack, float(made.image.pixel_size_um or 0.32)


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, seconds on the wall, seconds of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def steps(side: int) -> dict[str, Any]:
    """Time every step on one image; warm."""
    from islet_imaging.correction.image import correct_image
    from islet_imaging.measurement.measure import measure_cells, neighbour_pairs
    from islet_imaging.protocol import Correction
    from islet_imaging.segmentation.cells import grow_cells
    from islet_imaging.segmentation.islets import islets_table, segment_islets
    from islet_imaging.segmentation.nuclei import segment_nuclei

    stack, size = picture(side)
    small = {name: pixels[:256, :256] for name, pixels in stack.items()}
    how = Correction(offset="auto", background="local", bleed_matrix={"INS": {"GCG": 0.02}})
    for images in (small, stack):
        rows = {}
        (pixels, _), *rows["correct"] = timed(
            lambda i=images: correct_image(i, how, pixel_size_um=size)
        )
        nuclei, *rows["nuclei (classical)"] = timed(
            lambda p=pixels: segment_nuclei(p["DAPI"], pixel_size_um=size, method="classical")
        )
        cells, *rows["cells"] = timed(
            lambda n=nuclei: grow_cells(n, ring_um=3.0, pixel_size_um=size)
        )

        def islets_of(n: np.ndarray = nuclei) -> np.ndarray:
            islets = segment_islets(n, pixel_size_um=size)
            islets_table(n, islets, pixel_size_um=size)
            return islets

        islets, *rows["islets"] = timed(islets_of)

        def measured(
            n: np.ndarray = nuclei,
            c: np.ndarray = cells,
            i: np.ndarray = islets,
            p: dict[str, np.ndarray] = pixels,
        ) -> Any:
            neighbour_pairs(c)
            return measure_cells(n, c, p, dna="DAPI", pixel_size_um=size, islets=i)

        table, *rows["measure"] = timed(measured)
    rows["all steps"] = [sum(v[k] for v in rows.values()) for k in (0, 1)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"side": side, "cells": len(table), "rows": rows, "peak_gb": peak}


def many_cells() -> dict[str, Any]:
    """Measure 100,000 cells with 3 markers, 5000 x 5000 px, 16-bit."""
    from islet_imaging.measurement.measure import measure_cells
    from islet_imaging.segmentation.cells import grow_cells

    side, step = 5056, 16
    y, x = np.indices((side, side), dtype=np.int32)
    nuclei = (y // step) * (side // step) + x // step + 1
    away = (y % step - 7.5) ** 2 + (x % step - 7.5) ** 2
    nuclei = np.where((away <= 5.5**2) & (nuclei <= 100_000), nuclei, 0).astype(np.int32)
    rng = np.random.default_rng(0)
    channels = {n: rng.integers(0, 4096, (side, side), dtype=np.uint16) for n in CHANNELS}
    cells = grow_cells(nuclei, ring_um=3.0, pixel_size_um=0.5)
    crop = (slice(0, 300), slice(0, 300))
    measure_cells(
        nuclei[crop],
        cells[crop],
        {n: p[crop] for n, p in channels.items()},
        dna="DAPI",
        pixel_size_um=0.5,
    )
    table, wall, cpu = timed(
        lambda: measure_cells(nuclei, cells, channels, dna="DAPI", pixel_size_um=0.5)
    )
    return {"cells": len(table), "wall": wall, "cpu": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    load = os.getloadavg()[0]
    results = []
    for side in (1024, 2048, 4096):
        # a fresh process each, so that peak memory is that image's own
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            results.append(pool.submit(steps, side).result())
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        many = pool.submit(many_cells).result()
    lines = [
        "# Speed of the pixel steps",
        "",
        "Written by `python benchmarks/speed/run.py`. "
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"numpy {np.__version__}; load before the run {load:.1f}. 4 channels of 16 bits, 0.32 "
        "um/px, a phantom repeated; seconds on the wall, CPU seconds in brackets.",
        "",
        "| step | " + " | ".join(f"{r['side']} x {r['side']}" for r in results) + " |",
        "|---|" + "---|" * len(results),
    ]
    for name in STEPS:
        cells = [f"{r['rows'][name][0]:.2f} ({r['rows'][name][1]:.2f})" for r in results]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    per = [r["rows"]["all steps"][1] / (r["side"] / 1024) ** 2 for r in results]
    lines += [
        "| CPU seconds per megapixel | " + " | ".join(f"{v:.2f}" for v in per) + " |",
        "| cells | " + " | ".join(str(r["cells"]) for r in results) + " |",
        "| peak memory, GB | " + " | ".join(f"{r['peak_gb']:.2f}" for r in results) + " |",
        "",
        f"Measuring {many['cells']:,} cells with 3 markers, 5056 x 5056 px: "
        f"{many['wall']:.2f} s ({many['cpu']:.2f} s of CPU).",
        "",
    ]
    (out / "results.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
