"""Nothing is sent and nothing is left: a network's run, seen from outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
