"""Every name that exists has words: the dictionary is held against the code, not against itself."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from islet_imaging import terms
from islet_imaging.measurement.measure import CELL_COLUMNS, MARKER_FEATURES
from islet_imaging.protocol import Channel, Protocol

CORE = Path(__file__).parents[1] / "islet_imaging"
TREES = {path: ast.parse(path.read_text("utf-8")) for path in sorted(CORE.rglob("*.py"))}


def calls(name: str):
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name:
                yield node


def raised_flags() -> set[str]:
    """Codes of every Flag that the library makes."""
    found = set()
    for node in calls("Flag"):
        first = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "code")]
        found |= {n.value for a in first for n in ast.walk(a) if isinstance(n, ast.Constant)}
    return {code for code in found if isinstance(code, str)}


def cell_flags() -> set[str]:
    """Codes that the quality checks give to cells, and those of people's exclusions."""
    found = set()
    for node in ast.walk(TREES[CORE / "quality" / "cell_flags.py"]):
        if (
            isinstance(node, ast.Subscript)
            and getattr(node.value, "id", "") == "codes"
            and isinstance(node.slice, ast.Constant)
        ):
            found.add(node.slice.value)
    return found | reasons()


def reasons() -> set[str]:
    """Codes that take a cell out of every share: by the quality checks, and by people."""
    tree = TREES[CORE / "quality" / "cell_flags.py"]
    function = next(
        n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "excluded_by"
    )
    found = {
        e.value
        for n in ast.walk(function)
        if isinstance(n, ast.Set)
        for e in n.elts
        if isinstance(e, ast.Constant)
    }
    assert len(found) > 3
    return found | reasons_of_people()


def reasons_of_people() -> set[str]:
    found = set()
    for path, tree in TREES.items():
        if path.parent.name != "review":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "set_excluded":
                found |= {d.value for d in node.args.kw_defaults if isinstance(d, ast.Constant)}
            if isinstance(node, ast.keyword) and node.arg == "reason":
                found |= {n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)}
    return found


def test_every_flag_of_an_image_has_words():
    codes = raised_flags()
    assert len(codes) > 20
    assert codes - set(terms.IMAGE_FLAGS) == set()
    assert set(terms.IMAGE_FLAGS) - codes == set()


def test_every_flag_of_a_cell_has_words():
    codes = cell_flags()
    assert {"border", "by_hand", "painted_out"} <= codes
    assert codes == set(terms.CELL_FLAGS)


def test_every_reason_for_not_counting_has_words():
    assert reasons() == set(terms.NOT_COUNTED)


@pytest.mark.parametrize("compartment", ["cytoplasm", "nucleus", "membrane"])
def test_every_column_of_cells_has_words(compartment, make_run_columns):
    protocol = Protocol(
        channels=(Channel("DAPI", "dna"), Channel("INS_own", compartment=compartment))
    )
    assert {*CELL_COLUMNS, *make_run_columns} <= set(terms.CELL_COLUMNS)
    for ending in MARKER_FEATURES:
        assert terms.column(f"INS_own_{ending}", protocol) != f"INS_own_{ending}"
    place = terms.PLACES[compartment]
    assert terms.column("INS_own_own", protocol) == f"INS_own {place}, own light"


@pytest.fixture(scope="module")
def make_run_columns():
    """Columns that the dictionary of columns describes for cells, of no marker."""
    page = (CORE.parent / "docs" / "columns.md").read_text("utf-8")
    part = page.split("## `cells.csv`")[1].split("\n## ")[0]
    names = [
        name
        for line in part.splitlines()
        if line.startswith("| `")
        for name in line.split("|")[1].replace("`", "").replace(" ", "").split(",")
    ]
    assert len(names) > 30
    markers = [n.removeprefix("<marker>_") for n in names if n.startswith("<marker>")]
    assert set(markers) == set(terms.MARKER_COLUMNS)
    return [n for n in names if not n.startswith("<marker>")]


def messages() -> list[str]:
    """Texts of the library that speak of a setting in the protocol's own syntax."""
    found = []
    for tree in TREES.values():
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(v.value if isinstance(v, ast.Constant) else "X" for v in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            if id(node) not in docs and text.count("`") >= 2 and text.count("`") % 2 == 0:
                found.append(text)
    return found


def test_no_message_shows_a_protocol_s_syntax():
    texts = messages()
    assert len(texts) > 20
    for text in texts:
        shown = terms.plain(text)
        assert not re.search(r"`|\{\w+:|: \.\.\.", shown), shown


def test_a_reason_is_the_one_that_took_the_cell_out():
    assert terms.not_counted(["border;pyknotic"]) == {"cut by the border": 1}
    assert terms.not_counted(["border;pyknotic"], border=False) == {"dying": 1}
    assert terms.not_counted(["border;painted_out"]) == {"painted out": 1}
    assert terms.told({"dying": 3}) == "not counted: 3 (3 dying)"
