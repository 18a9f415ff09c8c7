"""Seconds from pixels to called cells, beside what a user would pick instead, in one run.

    python benchmarks/speed/beside.py

Writes ``results/beside.md``: an image of 2048 x 2048 px and 3 channels, warm, all cores, the
quickest of several; ours is timed before, between and after the others.  Peers get environments of
their own (``benchmarks/nuclei/methods.py``); what cannot be installed is named with the reason.
A small ``--side`` tries whether everything runs; its table says little.
InstanSeg gets a quarter of the image, since it is slow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "nuclei"))
from methods import (  # noqa: E402
    PEER_METHODS,
    PEERS,
    SPEED_PEERS,
    Peer,
    peer_environment,
    python_of,
)
from stages import NAMES, SIDE, write_picture  # noqa: E402

from islet_imaging import Channel, Protocol, read_image, score_image  # noqa: E402
from islet_imaging._types import usable_cores  # noqa: E402

#: peer, what it does, and the share of the image that it gets
ROWS: dict[str, tuple[Peer, str, int]] = {
    "otsu_watershed": (
        PEER_METHODS["otsu_watershed"],
        "scikit-image: Otsu, watershed, rings, regionprops, Otsu",
        1,
    ),
    "cellprofiler": (
        PEER_METHODS["cellprofiler"],
        "CellProfiler's modules for nuclei and cells, regionprops, Otsu",
        1,
    ),
    "stardist": (SPEED_PEERS["stardist"], "StarDist's network alone", 1),
    "instanseg": (SPEED_PEERS["instanseg"], "InstanSeg, rings, regionprops, Otsu", 4),
}


def ours(picture: Path, repeats: int) -> tuple[float, float]:
    """Wall and processor seconds of all we do with the file, the quickest of several."""
    protocol = Protocol(channels=(Channel("DAPI", "dna"), *(Channel(n) for n in NAMES[1:])))
    wall, cpu = [], []
    for _ in range(repeats):
        begun = time.perf_counter(), time.process_time()
        score_image(read_image(picture, protocol=protocol), protocol)
        wall.append(time.perf_counter() - begun[0])
        cpu.append(time.process_time() - begun[1])
    return min(wall), min(cpu)


def peer(name: str, stack: Path, venvs: Path) -> tuple[float, float] | str:
    """Seconds of a peer, or why there are none."""
    how, _, _ = ROWS[name]
    try:
        python = python_of(name, how, venvs)
        out = subprocess.run(
            [python, PEERS / "end_to_end.py", name, stack, str(usable_cores())],
            check=True,
            env=peer_environment(name, how, venvs),
            capture_output=True,
            text=True,
        ).stdout
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "its packages cannot be installed (the run's log says why)").strip()
        return f"not run: {said.splitlines()[-1][:200]}"
    times = json.loads(out.splitlines()[-1])
    return float(times["seconds"]), float(times["cpu_seconds"])


def main() -> None:
    """Time and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(tempfile.gettempdir()) / "islet-imaging-peers"
    parser.add_argument("--venvs", type=Path, default=default)
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--side", type=int, default=SIDE, help="edge of the image, px")
    given = parser.parse_args()
    side = given.side
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.ome.tif"
        write_picture(picture, side)
        image = read_image(picture)
        planes = np.stack([image.channel(n) for n in NAMES])
        own = [ours(picture, 3)]
        found: dict[str, tuple[float, float] | str] = {}
        for name in given.only:
            edge = side // (2 if ROWS[name][2] == 4 else 1)
            np.save(Path(folder) / "stack.npy", planes[:, :edge, :edge])
            found[name] = peer(name, Path(folder) / "stack.npy", given.venvs)
            own.append(ours(picture, 2))
            print(name, found[name], own, flush=True)
    wall, cpu = (min(pair[k] for pair in own) for k in (0, 1))
    lines = [
        "# Beside what a user would pick instead",
        "",
        f"Written by `python benchmarks/speed/beside.py`. A phantom of {side} x {side} px, "
        f"{len(NAMES)} channels of 16 bits, warm, all cores, the quickest of several. Ours reads "
        "the file and does everything, thresholds with intervals and quality flags too; the others "
        f"get arrays. {os.cpu_count()} cores, {platform.machine()}, load at the end "
        f"{os.getloadavg()[0]:.1f}: where it is more than the cores, only ratios mean something.",
        "",
        "| what | megapixels a second | times our time | times our processor seconds |",
        "|---|---|---|---|",
        f"| islet-imaging, from file to called cells | {side**2 / 1e6 / wall:.3f} | 1.00 | 1.00 |",
    ]
    for name, seconds in found.items():
        _, what, share = ROWS[name]
        if isinstance(seconds, str):
            lines.append(f"| {what} | {seconds} | | |")
            continue
        rate = side**2 / share / 1e6 / seconds[0]
        times = [share * s / o for s, o in zip(seconds, (wall, cpu), strict=True)]
        lines.append(f"| {what} | {rate:.3f} | {times[0]:.2f} | {times[1]:.2f} |")
    lines += [f"| {ROWS[n][1]} | not timed in this run | | |" for n in ROWS if n not in found]
    text = "\n".join([*lines, ""])
    (HERE / "results" / "beside.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
