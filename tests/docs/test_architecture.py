"""The page and the picture of the architecture name the rooms that there are."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import islet_imaging
from tests.test_house import LIBRARY, PLUGIN

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def rooms() -> set[str]:
    return {name for name in LIBRARY if not name.startswith("_")}


def test_the_page_names_every_room() -> None:
    tables = PAGE.split("## The way of an image")[0]
    named = set(re.findall(r"`([a-z_/]+)`", tables))
    assert {name.replace(".", "/") for name in rooms()} <= named
    assert {name for name in PLUGIN if not name.startswith("_")} <= named


def test_what_is_looked_for_is_there() -> None:
    table = PAGE.split("## Where is it?")[1]
    plugin = ROOT / "plugins" / "napari_islet_imaging"
    for name in re.findall(r"`([a-z_/]+(?:\.py|/))`", table):
        assert any((root / name).exists() for root in (ROOT / "islet_imaging", plugin)), name


def test_the_picture_shows_every_room_and_no_import_runs_up_in_it() -> None:
    spec = importlib.util.spec_from_file_location("make_house", ROOT / "docs" / "make_house.py")
    assert spec is not None
    assert spec.loader is not None
    make_house = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_house)
    make_house.check()
    drawn = (ROOT / "docs" / "images" / "house.svg").read_text("utf-8")
    for name in rooms():
        assert f">{name.replace('.', '/')}</text>" in drawn, f"{name}: run docs/make_house.py again"


def test_the_version_is_the_same_wherever_it_stands() -> None:
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert cited is not None
    assert cited[1] == islet_imaging.__version__
