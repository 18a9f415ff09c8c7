"""The order of the rooms: every import points down the list, and no import runs in a circle.

Imports inside functions and those for types alone count too: they tie rooms together all the same.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: from the ground up: a room may use those before it, and files of its own
LIBRARY = (
    "_version", "errors", "_callable_package", "_types", "image", "protocol",
    "terms",
    "arrays", "reading", "correction", "network", "segmentation", "measurement", "positivity",
    "quality", "statistics", "review", "experiment", "run", "export", "report", "scoring",
    "phantom", "network.training", "__init__", "demo", "doctor", "cli", "__main__",
)  # fmt: skip
#: of the plugin, likewise; all of the library lies below
PLUGIN = ("session", "files", "viewer", "widgets", "__init__")


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package by its full name; a package's own file as ``name.__init__``."""
    return {
        ".".join(path.relative_to(package.parent).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
    }


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules that one module imports, wherever in it the import stands."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            asked = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            asked = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        for full in asked:
            # the longest part of the dotted name that is a module
            parts = full.split(".")
            for n in range(len(parts), 0, -1):
                stem = ".".join(parts[:n])
                if stem in known:
                    yield stem
                    break
                if f"{stem}.__init__" in known:
                    yield f"{stem}.__init__"
                    break


def graph(packages: list[Path]) -> dict[str, set[str]]:
    known = {name: path for package in packages for name, path in modules(package).items()}
    return {
        name: {found for found in imports(name, path, known) if found != name}
        for name, path in known.items()
    }


def room(module: str, order: tuple[str, ...]) -> str:
    """The entry of an order that a module belongs to: the longest that its name begins with."""
    inside = module.split(".", 1)[1]
    fits = [r for r in order if inside == r or inside.startswith(f"{r}.")]
    assert fits, f"{module}: stands in no room; put it in one, or its room in the order"
    return max(fits, key=len)


def upward(edges: dict[str, set[str]], package: str, order: tuple[str, ...]) -> list[str]:
    """Imports from a room of one that comes later in the order."""
    own = [name for name in edges if name.startswith(f"{package}.")]
    return [
        f"{name} imports {used}"
        for name in own
        for used in sorted(edges[name])
        if used.startswith(f"{package}.")
        and order.index(room(used, order)) > order.index(room(name, order))
    ]


def circle(edges: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def edges() -> dict[str, set[str]]:
    return graph([ROOT / "islet_imaging", ROOT / "plugins" / "napari_islet_imaging"])


def test_every_import_of_the_library_points_down(edges: dict[str, set[str]]) -> None:
    assert upward(edges, "islet_imaging", LIBRARY) == []


def test_every_import_of_the_plugin_points_down(edges: dict[str, set[str]]) -> None:
    assert upward(edges, "napari_islet_imaging", PLUGIN) == []


def test_only_the_verb_that_opens_napari_knows_the_plugin(edges: dict[str, set[str]]) -> None:
    found = [
        name
        for name, used in edges.items()
        if name.startswith("islet_imaging.") and any(u.startswith("napari_") for u in used)
    ]
    assert found == ["islet_imaging.cli.review"]


def test_no_import_runs_in_a_circle(edges: dict[str, set[str]]) -> None:
    assert circle(edges) == []


@pytest.mark.parametrize(
    "planted",
    [
        "from islet_imaging.scoring.image import score_image",
        "import islet_imaging.cli.app",
        "def late():\n    from islet_imaging.run import Run",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..report import build",
    ],
)
def test_a_planted_upward_import_is_found(planted: str, tmp_path: Path) -> None:
    package = tmp_path / "islet_imaging"
    for name in ("arrays/label_file", "scoring/image", "cli/app", "run/__init__", "report/build"):
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", "utf-8")
    (package / "arrays" / "label_file.py").write_text(planted, "utf-8")
    found = upward(graph([package]), "islet_imaging", LIBRARY)
    assert len(found) == 1
    assert found[0].startswith("islet_imaging.arrays.label_file imports")


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "islet_imaging"
    package.mkdir()
    (package / "one.py").write_text("def f():\n    from islet_imaging.two import g", "utf-8")
    (package / "two.py").write_text("from islet_imaging import one", "utf-8")
    assert circle(graph([package]))


def test_few_modules_lie_flat() -> None:
    flat = [p.stem for p in (ROOT / "islet_imaging").glob("*.py")]
    # Python's own two aside
    assert len(set(flat) - {"__init__", "__main__"}) <= 8


def test_no_file_asks_to_be_split() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for top in ("islet_imaging", "plugins")
        for path in sorted((ROOT / top).rglob("*.py"))
        if (lines := len(path.read_text("utf-8").splitlines())) > 500
    }
    assert long == {}
