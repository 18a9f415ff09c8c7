from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytest.importorskip("npe2")
MANIFEST = Path(__file__).parents[2] / "plugins" / "napari_islet_imaging" / "napari.yaml"


@pytest.fixture
def manifest():
    from npe2 import PluginManifest

    return PluginManifest.from_file(MANIFEST)


def test_name_is_that_of_the_distribution(manifest):
    assert manifest.name == "islet-imaging"


def test_every_command_exists(manifest):
    pytest.importorskip("qtpy")
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(importlib.import_module(module), name)), command.id


def test_no_key_of_ours_is_napari_s():
    pytest.importorskip("napari")
    from napari.utils.shortcuts import default_shortcuts
    from napari_islet_imaging.widgets.review import KEYS

    taken = {str(k).upper() for keys in default_shortcuts.values() for k in keys}
    assert not taken & {k.upper() for k in KEYS.values()}
    assert len(set(KEYS.values())) == len(KEYS)


def test_the_plugin_never_depends_on_a_qt_binding():
    source = MANIFEST.parent
    for path in source.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "PyQt" not in text, path
        assert "PySide" not in text, path
        assert "_qt_viewer" not in text, path


def test_the_core_imports_neither_napari_nor_qt():
    core = Path(__file__).parents[2] / "islet_imaging"
    for path in core.rglob("*.py"):
        if path.name == "review.py" and path.parent.name == "cli":
            continue  # the shell's door into napari
        for line in path.read_text("utf-8").splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in ("napari", "qtpy", "napari_islet_imaging"), (
                    path
                )


def test_files_and_session_know_nothing_of_qt():
    for room in ("files", "session"):
        for path in (MANIFEST.parent / room).rglob("*.py"):
            assert "qtpy" not in path.read_text("utf-8"), path
