"""Nuclei: megapixels per second at 0.5 um per px, engines and peers, one command.

    python benchmarks/nuclei/throughput.py --peers

Writes ``results/throughput.csv`` and ``results/throughput.md``.  Run it on a quiet machine: every
row is one rendered picture, warm, the best of several repeats, on all usable cores unless it says
otherwise.  Methods take turns, InstanSeg aside, which is slow, so that a slow minute is not one
method's.  On a busy machine only the processor seconds mean something, and they only roughly.

Methods are timed whole, on a picture at 0.5 um per px whose nuclei measure 15 px (7.5 um); StarDist
is its network alone.  Peers get a quarter of the picture, since they are slow.  Engines are timed
on a block as the network sees it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from methods import PEERS, SPEED_PEERS, peer_environment, python_of

from islet_imaging._types import Work, usable_cores
from islet_imaging.network.engine import OnnxEngine, shared_engine
from islet_imaging.network.nuclei import segment_nuclei_network
from islet_imaging.network.weights import load_model
from islet_imaging.phantom import phantom

sys.path.insert(0, str(PEERS))
from timing import best

RESULTS = Path(__file__).parent / "results"
PIXEL_UM = 0.5
OURS = "islet-nuclei"
CORES = usable_cores()
TURNS = 3


class Table:
    """Rows of the table, printed as they come."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.rows: list[dict[str, Any]] = []

    def add(
        self, group: str, what: str, threads: int, pixels: int, times: tuple[float, float]
    ) -> None:
        """Add what `best` found for so many pixels; of several turns the best is kept."""
        row: dict[str, Any] = {"group": group, "what": what, "threads": threads}
        speed, cpu = pixels / 1e6 / times[0], times[1] / (pixels / 1e6)
        print(row, round(speed, 3), round(cpu, 3), flush=True)
        for before in self.rows:
            if row.items() <= before.items():
                before["mpx_per_s"] = max(before["mpx_per_s"], speed)
                before["cpu_s_per_mpx"] = min(before["cpu_s_per_mpx"], cpu)
                return
        self.rows.append({**row, "mpx_per_s": speed, "cpu_s_per_mpx": cpu})

    def write(self) -> None:
        """Write both files; ratios are to the first row of a group."""
        table = pd.DataFrame(self.rows)
        first = table.groupby("group", sort=False)[["mpx_per_s", "cpu_s_per_mpx"]].transform(
            "first"
        )
        table["first_is_times_faster"] = first["mpx_per_s"] / table["mpx_per_s"]
        table["times_the_cpu_of_first"] = table["cpu_s_per_mpx"] / first["cpu_s_per_mpx"]
        table = table.round(3)
        RESULTS.mkdir(exist_ok=True)
        table.to_csv(RESULTS / "throughput.csv", index=False)
        load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
        lines = [
            f"Picture of {self.side} px; load of the machine at the end {load}, {CORES} cores. "
            "Where the load is more than the cores, only `cpu_s_per_mpx` of one thread holds.",
            "",
        ]
        lines += ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
        lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.to_numpy()]
        (RESULTS / "throughput.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="InstanSeg, StarDist and OpenVINO too")
    parser.add_argument(
        "--venvs", type=Path, default=Path(tempfile.gettempdir()) / "islet-imaging-peers"
    )
    parser.add_argument(
        "--side", type=int, default=2048, help="of the picture, px; peers get a quarter of it"
    )
    args = parser.parse_args()
    made = phantom(
        "wholemount",
        seed=77,
        shape=(args.side // 2, args.side // 2),
        channels=("DAPI",),
        pixel_size_um=PIXEL_UM,
    )
    quarter = made.image.channel("DAPI")
    block = np.random.default_rng(0).random((1, 1, 512, 512), dtype=np.float32)
    table = Table(args.side)
    with tempfile.TemporaryDirectory() as folder:
        image, part = Path(folder) / "image.npy", Path(folder) / "block.npy"
        np.save(image, quarter)
        np.save(part, block)
        # scikit-image knows one thread
        quick = [("otsu_watershed", 1), ("stardist", CORES), ("stardist", 1)]
        for turn in range(TURNS):
            _methods(table, quarter)
            slow = [("instanseg", CORES), ("instanseg", 1)] if turn == 0 else []
            for name, threads in dict.fromkeys([*quick, *slow] if args.peers else ()):
                times = _peer(name, args.venvs, image, threads)
                table.add("method", name, threads, quarter.size, times)
        _engines(table, block)
        if args.peers:
            onnx = str(load_model(OURS).onnx_path)
            # left to itself it computes in bfloat16 where the processor can
            for hint, threads in itertools.product(("bf16", "f32"), dict.fromkeys((CORES, 1))):
                times = _peer("openvino", args.venvs, part, threads, onnx, hint)
                table.add("engine", f"OpenVINO, {hint}", threads, block.size, times)
    table.write()


def _methods(table: Table, quarter: np.ndarray) -> None:
    dna = np.tile(quarter, (2, 2))
    diameter = 7.5 / PIXEL_UM
    model = load_model(OURS)
    single = OnnxEngine(model.weights("weights.onnx"), model.settings)
    for engine, what in (
        (shared_engine(OURS, "cpu"), "all of it"),
        (single, "all of it, float32"),
    ):
        for threads in dict.fromkeys((CORES, 1)):
            times = best(
                lambda n=threads, e=engine: segment_nuclei_network(
                    dna, e, diameter_px=diameter, work=Work(threads=n)
                )
            )
            table.add("method", f"{OURS}, {what}", threads, dna.size, times)


def _engines(table: Table, block: np.ndarray) -> None:
    """The network alone: ONNX Runtime as shipped, then with more threads, then torch."""
    model = load_model(OURS)

    def add(what: str, threads: int, call: Callable[[], object]) -> None:
        table.add("engine", what, threads, block.size, best(call))

    shipped = shared_engine(OURS, "cpu")
    add("ONNX Runtime, integers, as shipped", 1, lambda: shipped.run(block))
    single = OnnxEngine(model.weights("weights.onnx"))
    add("ONNX Runtime, float32", 1, lambda: single.run(block))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    session = onnxruntime.InferenceSession(str(model.onnx_path), options)
    add("ONNX Runtime, float32", CORES, lambda: session.run(None, {"image": block}))
    try:
        import torch
    except ImportError:
        print("torch is not installed: left out")
        return
    net = model.torch_module()
    x = torch.from_numpy(block)
    for layout, name in (
        (torch.contiguous_format, "torch"),
        (torch.channels_last, "torch, channels last"),
    ):
        there = net.to(memory_format=layout)
        laid = x.contiguous(memory_format=layout)
        for threads in dict.fromkeys((CORES, 1)):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                add(name, threads, lambda n=there, y=laid: n(y))


def _peer(name: str, venvs: Path, image: Path, threads: int, *more: str) -> tuple[float, float]:
    peer = SPEED_PEERS[name]
    out = subprocess.run(
        [python_of(name, peer, venvs), PEERS / peer.script, image, str(threads), *more],
        check=True,
        env={**peer_environment(name, peer, venvs), "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
    ).stdout
    found = json.loads(out.splitlines()[-1])
    return found["seconds"], found["cpu_seconds"]


if __name__ == "__main__":
    main()
