"""The package itself: quick and silent to import, and its public names are there."""

from __future__ import annotations

import subprocess
import sys

import islet_imaging


def in_a_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_import_is_light_and_silent() -> None:
    heavy = "{'torch', 'napari', 'qtpy', 'pandas', 'matplotlib', 'skimage', 'onnxruntime', 'scipy'}"
    code = f"import sys, islet_imaging; print(sorted(set(sys.modules) & {heavy}))"
    assert in_a_fresh_python(code).strip() == "[]"


def test_importing_the_core_never_loads_napari() -> None:
    rooms = ("scoring.folder", "scoring.results", "report", "cli")
    names = ", ".join(f"islet_imaging.{room}" for room in rooms)
    code = (
        f"import sys, {names}; print([m for m in ('napari', 'qtpy', 'torch') if m in sys.modules])"
    )
    assert in_a_fresh_python(code).strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert sorted(islet_imaging.__all__) == sorted(islet_imaging._WHERE)
    for name in islet_imaging.__all__:
        assert callable(getattr(islet_imaging, name)), name


def test_phantom_is_the_function_whatever_was_imported_before() -> None:
    code = (
        "import islet_imaging.phantom.presets, islet_imaging; "
        "print(islet_imaging.phantom('ffpe20x', seed=1, shape=(64, 64)).image.shape)"
    )
    assert in_a_fresh_python(code).strip() == "(64, 64)"
