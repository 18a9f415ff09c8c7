"""Nothing is sent and nothing is left: a network's run, seen from outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stainings import staining, write
from tests.system_calls import needs_strace, traced

_RUN = """
import os
import numpy as np
before = dict(os.environ)
from islet_imaging.network.engine import make_engine
engine = make_engine("islet-nuclei", "cpu")
engine.run(np.zeros((1, 1, 64, 64), np.float32))
assert dict(os.environ) == before, "the environment was changed"
"""


def _run(tmp_path: Path, *before: str) -> tuple[str, list[str]]:
    """Run a network in a process of its own; what it said, and the files it left."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    # an own telemetry switch of whoever runs the tests must not help
    kept = {k: v for k, v in os.environ.items() if "TELEMETRY" not in k and "XDG" not in k}
    done = subprocess.run(
        [*before, sys.executable, "-B", "-c", _RUN],
        env={**kept, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    left = [
        str(p.relative_to(tmp_path))
        for name in ("home", "tmp")
        for p in (tmp_path / name).rglob("*")
        if p.is_file()
    ]
    return done.stderr, left


def test_a_network_leaves_no_file_and_the_environment_as_it_was(tmp_path: Path) -> None:
    assert _run(tmp_path)[1] == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_network_opens_no_socket(tmp_path: Path) -> None:
    log = tmp_path / "calls.txt"
    _run(tmp_path, "strace", "-f", "-qq", "-e", "trace=%network", "-o", str(log))
    calls = [line for line in log.read_text().splitlines() if "(AF_UNIX" not in line]
    assert [c for c in calls if "socket(" in c or "connect(" in c or "sendto(" in c] == []


def test_the_library_is_not_loaded_past_the_switch() -> None:
    root = Path(__file__).parents[2]
    found = [
        str(path.relative_to(root))
        for top in ("islet_imaging", "plugins")
        for path in (root / top).rglob("*.py")
        if "import onnxruntime" in path.read_text("utf-8")
    ]
    assert found == []


@needs_strace
def test_importing_sends_and_writes_nothing(tmp_path: Path) -> None:
    every = "import islet_imaging as i; [getattr(i, n) for n in i.__all__]"
    seen = traced([sys.executable, "-B", "-c", every], tmp_path)
    assert seen.done.returncode == 0, seen.done.stderr
    assert seen.network == []
    assert seen.outside() == []


@needs_strace
def test_scoring_with_workers_sends_nothing_and_writes_into_its_folder_only(
    tmp_path: Path,
) -> None:
    """Both networks, two workers, tables, report: the whole of ``score``."""
    for k in range(2):
        write(tmp_path / "images" / f"{k}.ome.tif", staining(k, 0.5, (120, 120)))
    command = [sys.executable, "-B", "-m", "islet_imaging", "score", "images"]
    seen = traced([*command, "--out", "run", "--workers", "2"], tmp_path)
    assert seen.done.returncode in (0, 3), seen.done.stderr
    assert "2 of 2 images scored" in seen.done.stderr + seen.done.stdout
    assert any("cells.parquet" in p.name for p in seen.written), "nothing was seen at all"
    assert seen.network == []
    home = tmp_path / "home"
    # named in docs/run_folder.md: the list of fonts that matplotlib keeps
    own = (tmp_path / "run", tmp_path / "tmp", home / ".cache" / "matplotlib")
    made = [home / ".cache", home / ".config", home / ".config" / "matplotlib"]
    assert [p for p in seen.outside(*own) if p not in made] == []
