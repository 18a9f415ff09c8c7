"""A whole window, seen from outside: nothing is sent, and what is left is what napari keeps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.stainings import staining, write
from tests.system_calls import needs_strace, traced


@pytest.mark.slow
@pytest.mark.gui
@needs_strace
def test_a_window_that_scores_sends_nothing_and_keeps_what_napari_keeps(
    display: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.ome.tif", staining(1, 0.5))
    script = Path(__file__).with_name("window_scoring.py")
    seen = traced(
        [sys.executable, "-B", script, tmp_path / "a.ome.tif", tmp_path / "run"], tmp_path
    )
    assert seen.done.returncode == 0, seen.done.stderr
    assert (tmp_path / "run" / "report.html").exists()
    assert seen.network == []
    home = tmp_path / "home"
    # named in docs/run_folder.md: what napari, Qt, matplotlib and the graphics driver keep
    kept = [home / ".cache" / name for name in ("napari", "matplotlib", "fontconfig")]
    kept += [home / ".config" / name for name in ("napari", "matplotlib")]
    kept += (home / ".cache").glob("qtshadercache*")
    others = [
        p
        for p in seen.outside(tmp_path / "run", tmp_path / "tmp", *kept)
        # the driver's, in the home of the account; and the compiled code of libraries
        if "mesa_shader_cache" not in p.parts and p.name != "__pycache__"
    ]
    assert [p for p in others if p not in (home / ".cache", home / ".config")] == []
