"""A display for the GUI tests: the one there is, or an Xvfb of our own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def _load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_run():
    """The synthetic run folder of the benchmarks."""
    root = Path(__file__).parents[2]
    return _load("synthetic_run", root / "benchmarks" / "napari" / "synthetic_run.py").make_run


@pytest.fixture
def run(make_run, tmp_path):
    """A fresh small run: two images of 0.3 um per pixel."""
    from islet_imaging.run.folder import Run

    return Run.open(make_run(tmp_path, images=2, shape=(360, 400), n_cells=60, pixel_size_um=0.3))


@pytest.fixture
def session(run):
    pytest.importorskip("psygnal", reason="the plugin needs napari: pip install '.[all]'")
    from napari_islet_imaging.session.review import ReviewSession

    return ReviewSession(run, reviewer="ana")


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """Something to draw on; skips where there is nothing."""
    pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
    if sys.platform != "linux" or os.environ.get("DISPLAY"):
        yield os.environ.get("DISPLAY", "native")
        return
    if shutil.which("Xvfb") is None:
        pytest.skip("no display and no Xvfb: the GUI tests need one (apt install xvfb)")
    read, write = os.pipe()
    # it ends with its last client, so that Qt never sees it die, and runs on its own, so that
    # nobody has to wait for it
    screen = ["-screen", "0", "1600x1000x24", "-terminate"]
    subprocess.run(
        ["setsid", "--fork", "Xvfb", *screen, "-displayfd", str(write)],
        pass_fds=(write,),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as stream:
        number = stream.readline().strip()
    if not number:
        pytest.skip("Xvfb did not start")
    os.environ["DISPLAY"] = f":{number}"
    yield os.environ["DISPLAY"]


@pytest.fixture
def viewer(display, request):
    """A real napari window, closed and checked for leaks at the end."""
    make = request.getfixturevalue("make_napari_viewer")
    opened = make(show=True)
    opened.window.resize(1300, 850)
    return opened


@pytest.fixture
def review(viewer, run):
    """A review of the small run, docked in the window."""
    from napari_islet_imaging import open_review

    from tests.gui.driving import settle

    widget = open_review(viewer, run, reviewer="ana")
    settle(0.2)
    return widget
