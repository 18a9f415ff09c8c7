"""Nuclei: megapixels per second at 0.5 um per px, engines and peers, one command.

    python benchmarks/nuclei/throughput.py [--peers]

Writes ``results/throughput.csv``.  Run it on a quiet machine: everything is timed on the same
picture (2048x2048, rendered), warm, the best of several repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from methods import PEERS, python_of

from islet_imaging.network.engine import shared_engine, usable_cores
from islet_imaging.network.inference import segment_nuclei_network
from islet_imaging.network.weights import load_model
from islet_imaging.phantom import phantom

HERE = Path(__file__).parent
SIDE = 2048


def best(call: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of some calls after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument(
        "--venvs", type=Path, default=Path(tempfile.gettempdir()) / "islet-imaging-peers"
    )
    args = parser.parse_args()
    made = phantom("wholemount", seed=77, shape=(SIDE // 2, SIDE // 2), channels=("DAPI",))
    dna = np.tile(made.image.channel("DAPI"), (2, 2))
    mpx = dna.size / 1e6
    rows = []

    def add(what: str, seconds: float, pixels: float = mpx) -> None:
        rows.append({"what": what, "mpx_per_s": round(pixels / seconds, 3)})
        print(rows[-1], flush=True)

    diameter = 7.5 / 0.5
    add("islet-nuclei, all of it", best(lambda: segment_nuclei_network(dna, diameter_px=diameter)))
    add(
        "islet-nuclei, all of it, 1 thread",
        best(lambda: segment_nuclei_network(dna, diameter_px=diameter, threads=1)),
    )
    block = np.random.default_rng(0).random((1, 1, 512, 512), dtype=np.float32)
    small = block.size / 1e6
    add(
        "network only, ONNX Runtime, 1 thread",
        best(lambda: shared_engine("islet-nuclei", "cpu").run(block)),
        small,
    )
    _other_engines(block, small, add)
    if args.peers:
        for name, script in (
            ("instanseg", "instanseg_throughput.py"),
            ("stardist", "stardist_throughput.py"),
        ):
            python = python_of(name, args.venvs)
            shim = {"PYTHONPATH": str(args.venvs / name / "shim"), "PATH": os.environ["PATH"]}
            with tempfile.TemporaryDirectory() as folder:
                np.save(Path(folder) / "0.npy", dna[:1024, :1024])
                out = subprocess.run(
                    [python, PEERS / script, folder], check=True, env=shim, capture_output=True
                )
            add(name, json.loads(out.stdout.splitlines()[-1])["seconds"], 1024 * 1024 / 1e6)
    pd.DataFrame(rows).to_csv(HERE / "results" / "throughput.csv", index=False)


def _other_engines(block: np.ndarray, small: float, add: Callable[..., None]) -> None:
    model = load_model("islet-nuclei")
    cores = usable_cores()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores
    session = onnxruntime.InferenceSession(str(model.onnx_path), options)
    add(
        f"network only, ONNX Runtime, {cores} threads",
        best(lambda: session.run(None, {"image": block})),
        small,
    )
    try:
        import torch
    except ImportError:
        print("torch is not installed: left out")
    else:
        torch.set_num_threads(cores)
        net = model.torch_module().to(memory_format=torch.channels_last)
        x = torch.from_numpy(block).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            add(f"network only, torch channels-last, {cores} threads", best(lambda: net(x)), small)
    try:
        import openvino
    except ImportError:
        print("openvino is not installed: left out")
    else:
        compiled = openvino.Core().compile_model(
            str(model.onnx_path), "CPU", {"INFERENCE_NUM_THREADS": cores}
        )
        add(f"network only, OpenVINO, {cores} threads", best(lambda: compiled(block)), small)


if __name__ == "__main__":
    main()
