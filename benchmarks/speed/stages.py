"""Where the seconds of one image go, of two states of the library side by side.

    python benchmarks/speed/stages.py --before 102a9b7

Writes ``results/stages.md``: an image of 2048 x 2048 px and 3 channels, read from its file and
scored, warm; each stage at its quickest over all rounds.  The states take turns, each round in a
process of its own, so that a machine that is busy for a while is busy for both.  Then what a
profiler says of each state.  Processor seconds stand beside seconds on the wall: on a busy machine
only ratios mean something.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
RESULT = Path(__file__).parent / "results" / "stages.md"
SIDE = 2048
NAMES = ("DAPI", "INS", "GCG")
NETWORKS = ("finding nuclei", "running the positivity network")
IN_NETWORKS = "of these inside the inference engine"


def write_picture(path: Path, side: int = SIDE) -> None:
    """A phantom of half the edge, laid out four times."""
    import tifffile

    from islet_imaging import phantom

    made = phantom("ffpe20x", seed=5, shape=(side // 2, side // 2), channels=NAMES).image
    planes = np.stack([np.tile(made.channel(n), (2, 2)) for n in NAMES])
    size = {"PhysicalSizeX": made.pixel_size_um, "PhysicalSizeY": made.pixel_size_um}
    meta = {"axes": "CYX", "Channel": {"Name": list(NAMES)}, **size}
    tifffile.imwrite(path, planes, ome=True, metadata=meta, compression="zlib")


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


class Stages:
    """Seconds on the wall and of the processor, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._stage, self._since = "", _clocks()
        self._lock = threading.Lock()

    def enter(self, stage: str) -> str:
        """End the stage that is running; give its name."""
        now = _clocks()
        spent = self.seconds.setdefault(self._stage, [0.0, 0.0])
        for k in (0, 1):
            spent[k] += now[k] - self._since[k]
        before, self._stage, self._since = self._stage, stage, now
        return before

    def during(self, stage: str, call: Any) -> Any:
        """``call``, as a stage of its own."""

        def timed(*args: Any, **options: Any) -> Any:
            before = self.enter(stage)
            try:
                return call(*args, **options)
            finally:
                self.enter(before)

        return timed

    def inside(self, call: Any) -> Any:
        """``call`` of several threads: its processor seconds, beside the stages."""

        def timed(*args: Any, **options: Any) -> Any:
            begun = time.thread_time()
            try:
                return call(*args, **options)
            finally:
                with self._lock:
                    self.seconds.setdefault(IN_NETWORKS, [0.0, 0.0])[1] += (
                        time.thread_time() - begun
                    )

        return timed


def child(picture: Path, repeats: int) -> None:
    """Score again and again in this process; print what it took as JSON."""
    from islet_imaging import Channel, Protocol, positivity, read_image, score_image
    from islet_imaging.network.engine import OnnxEngine

    protocol = Protocol(channels=(Channel("DAPI", "dna"), *(Channel(n) for n in NAMES[1:])))

    def once(stages: Stages | None) -> int:
        image = read_image(picture, protocol=protocol)
        tell = None if stages is None else lambda _, what: stages.enter(what)
        return len(score_image(image, protocol, progress=tell).cells)

    cells = once(None)
    fit, call, run = positivity.fit_stains, positivity.call_image, OnnxEngine.run
    best: dict[str, list[float]] = {}
    for _ in range(repeats):
        stages = Stages()
        positivity.fit_stains = stages.during("fitting thresholds", fit)
        positivity.call_image = stages.during("calling", call)
        OnnxEngine.run = stages.inside(run)
        wall, cpu = _clocks()
        stages.enter("reading and correcting")
        once(stages)
        stages.enter("")
        whole = _clocks()
        stages.seconds["all"] = [whole[0] - wall, whole[1] - cpu]
        for name, pair in stages.seconds.items():
            kept = best.setdefault(name, pair)
            best[name] = [min(a, b) for a, b in zip(kept, pair, strict=True)]
    positivity.fit_stains, positivity.call_image, OnnxEngine.run = fit, call, run
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    profiler = cProfile.Profile()
    profiler.enable()
    once(None)
    profiler.disable()
    print(
        json.dumps(
            {
                "cells": cells,
                "stages": best,
                # kilobytes on Linux, bytes on macOS
                "peak_gb": peak / (1e9 if sys.platform == "darwin" else 1e6),
                "profile": _functions(pstats.Stats(profiler)),
            }
        )
    )


def _functions(stats: Any, most: int = 25) -> list[list[Any]]:
    """The functions that take longest themselves."""
    rows = []
    for (file, line, name), (_, calls, own, total, _) in stats.stats.items():
        where = name if file == "~" else f"{'/'.join(Path(file).parts[-2:])}:{line} {name}"
        rows.append([where, calls, own, total])
    return sorted(rows, key=lambda r: -r[2])[:most]


@contextmanager
def tree_of(revision: str) -> Iterator[Path]:
    """A checkout of another state, beside this one."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT)]
        subprocess.run([*git, "worktree", "add", "-q", "--detach", there, revision], check=True)
        try:
            yield there
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", there], check=True)


def _run(tree: Path, picture: Path, repeats: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", str(picture), "--repeats", str(repeats)]
    out = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(tree)}
    ).stdout
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def _merge(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    best = dict(rounds[-1])
    best["stages"] = {
        name: [min(r["stages"][name][k] for r in rounds) for k in (0, 1)] for name in best["stages"]
    }
    best["peak_gb"] = max(r["peak_gb"] for r in rounds)
    return best


def _text(before: dict[str, Any], after: dict[str, Any], revision: str, rounds: str) -> str:
    def row(name: str, pairs: list[list[float]]) -> str:
        ratio = pairs[1][0] / pairs[0][0] if pairs[0][0] else pairs[1][1] / pairs[0][1]
        cells = [f"{v:.3f}" if v else "" for pair in pairs for v in pair]
        return f"| {name} | " + " | ".join(cells) + f" | {ratio:.2f} |"

    both = (before["stages"], after["stages"])
    parts = [n for n in both[1] if n not in ("", "all", "done", IN_NETWORKS)]
    nets = [[sum(s[n][k] for n in NETWORKS) for k in (0, 1)] for s in both]
    rest = [
        [sum(s[n][k] for n in s if n in parts and n not in NETWORKS) for k in (0, 1)] for s in both
    ]
    lines = [
        "# Where the seconds of one image go",
        "",
        f"Written by `python benchmarks/speed/stages.py --before {revision}`. A phantom of "
        f"{SIDE} x {SIDE} px, {len(NAMES)} channels of 16 bits, {after['cells']} cells, read "
        f"from its OME-TIFF and scored, warm; the quickest of {rounds}, states in turn. "
        f"{os.cpu_count()} cores, {platform.machine()}, load at the end "
        f"{os.getloadavg()[0]:.1f}: "
        "where it is more than the cores, only ratios mean something.",
        "",
        "| stage | before, wall s | before, CPU s | now, wall s | now, CPU s | ratio |",
        "|---|---|---|---|---|---|",
        *(row(name, [s.get(name, [0.0, 0.0]) for s in both]) for name in parts),
        row("the stages of both networks", nets),
        row(IN_NETWORKS, [s[IN_NETWORKS] for s in both]),
        row("everything else", rest),
        row("**all**", [s["all"] for s in both]),
        "",
        f"Peak memory of the process: {before['peak_gb']:.2f} GB before, {after['peak_gb']:.2f} GB "
        f"now. Everything else takes {rest[1][0] / nets[1][0]:.2f} times the wall seconds of the "
        f"networks' stages ({rest[1][1] / nets[1][1]:.2f} times their CPU seconds).",
    ]
    for name, found in ((f"before ({revision})", before), ("now", after)):
        lines += ["", f"## Profile, {name}", "", "Functions by their own seconds, main thread; "]
        lines[-1] += "a lock that is acquired waits for networks in other threads."
        lines += ["", "| function | calls | own s | with what it calls, s |", "|---|---|---|---|"]
        lines += [f"| `{w}` | {c} | {o:.3f} | {t:.3f} |" for w, c, o, t in found["profile"]]
    return "\n".join([*lines, ""])


def main() -> None:
    """Take turns, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--before", default="102a9b7", help="revision to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=4, help="in each round")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.repeats)
        return
    with tempfile.TemporaryDirectory() as folder, tree_of(given.before) as tree:
        picture = Path(folder) / "picture.ome.tif"
        write_picture(picture)
        found: tuple[list[dict[str, Any]], ...] = ([], [])
        for _ in range(given.rounds):
            for where, rows in zip((tree, ROOT), found, strict=True):
                rows.append(_run(where, picture, given.repeats))
                print(where.name, rows[-1]["stages"]["all"], flush=True)
    rounds = f"{given.rounds} rounds of {given.repeats}"
    text = _text(_merge(found[0]), _merge(found[1]), given.before, rounds)
    RESULT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
