"""Every example of every docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import islet_imaging

#: what some modules need and a plain installation lacks
EXTRAS = {"torch", "safetensors", "onnx", "napari", "qtpy", "superqt", "anndata", "distributed"}


def modules(package: str) -> list[str]:
    """Names of a package and of all modules below it, found without importing any of them."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    below = pkgutil.walk_packages(spec.submodule_search_locations, f"{package}.")
    return [package, *(m.name for m in below if not m.name.endswith("__main__"))]


def load(name: str) -> ModuleType:
    """The module; the test is skipped where an extra that it needs is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in EXTRAS:
            pytest.skip(f"{name} needs {error.name}")
        raise


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="numpy 1 prints otherwise"
)
@pytest.mark.parametrize("name", [*modules("islet_imaging"), *modules("napari_islet_imaging")])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # what an example writes stays out of the checkout
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder(exclude_empty=True).find(load(name), name)
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.REPORT_NDIFF | doctest.NORMALIZE_WHITESPACE
    )
    said: list[str] = []
    for example in found:
        runner.run(example, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", islet_imaging.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    thing = getattr(islet_imaging, name)
    if isinstance(thing, ModuleType):  # a package that is called like its function
        thing = getattr(thing, name)
    own = doctest.DocTestFinder(exclude_empty=True).find(thing, name)
    assert any(e.examples for e in own), f"{name} has no example that runs"


@pytest.mark.parametrize("name", modules("islet_imaging"))
def test_an_example_is_one_that_runs(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    for heading in Path(spec.origin).read_text("utf-8").split(" Examples\n")[1:]:
        section = heading.split('"""')[0]
        assert ">>> " in section, f"{name}: an example that nothing runs: {section.strip()}"


def test_a_wrong_example_fails() -> None:
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner().run(wrong, out=lambda _: None).failed == 1
