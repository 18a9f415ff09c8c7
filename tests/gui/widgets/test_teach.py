"""Teaching: what is shown of a new network, and what keep and discard do."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")
from qtpy.QtCore import Qt

from islet_imaging.protocol import Protocol

pytestmark = [
    pytest.mark.gui,
    # napari, vispy and Qt deprecate among themselves
    pytest.mark.filterwarnings("default"),
]
#: stands in for a taught network: any whole one does
SHIPPED = Path(__file__).parents[3] / "models" / "islet-nuclei"


def _measures(accuracy, n=60):
    return {"balanced_accuracy": accuracy, "auc": accuracy, "ece": 0.02, "n": float(n)}


@pytest.fixture
def taught(session, tmp_path, monkeypatch):
    """What the library says of a network that learned, and a folder of the user's own networks."""
    monkeypatch.setenv("ISLET_IMAGING_MODELS", str(tmp_path / "models"))
    folder = session.run.path / ".work" / "teach" / "INS-run" / "model"
    shutil.copytree(SHIPPED, folder)
    return {
        "model": str(folder),
        "marker": "INS",
        "n_corrections": 80,
        "held_out": ["a / 1", "b / 2"],
        "before": _measures(0.81),
        "after": _measures(0.92),
        "old_before": _measures(0.95),
        "old_after": _measures(0.948),
        "after_float32": _measures(0.921),
        "old_after_float32": _measures(0.948),
        "weights": "integer weights run on a processor",
    }


@pytest.fixture
def widget(viewer, session):
    from napari_islet_imaging.viewer.session_view import view_of
    from napari_islet_imaging.widgets.teach import TeachWidget

    session.open_image(session.image_names[0])
    view_of(viewer, session).show()
    widget = TeachWidget(viewer)
    viewer.window.add_dock_widget(widget, name="teach")
    return widget


def test_calls_by_hand_are_counted_as_they_are_made(widget, session):
    assert "0 cells called by hand for INS" in widget.count_label.text()
    cells = session.table["cell"].tolist()
    session.call("positive", cells[0])
    session.call("negative", cells[1])
    session.call("unsure", cells[2])
    session.call("positive", cells[3])
    session.exclude(cells[3])
    assert "2 cells called by hand for INS" in widget.count_label.text()
    assert "1 positive, 1 negative" in widget.count_label.text()


def test_a_new_network_is_compared_and_kept_under_its_name(widget, taught, qtbot, tmp_path):
    from islet_imaging.network.weights import load_model

    assert not widget.keep_button.isVisible()
    widget.name_edit.setText("INS-run")
    widget.show_result(taught)
    shown = [[widget.table.item(r, c).text() for c in range(4)] for r in range(4)]
    assert shown[0] == ["0.810", "0.920", "0.950", "0.948"]
    assert shown[3] == ["60"] * 4
    assert "Better" in widget.status.text()
    assert "+11.0 points" in widget.status.text()
    assert "integer weights run on a processor (-0.1 points to float32)" in widget.status.text()
    qtbot.mouseClick(widget.keep_button, Qt.MouseButton.LeftButton)
    assert load_model("INS-run").folder == tmp_path / "models" / "INS-run"
    assert not widget.keep_button.isVisible()
    assert widget.start_box.findText("INS-run") >= 0
    widget.save_protocol(tmp_path / "protocol.yaml")
    how = Protocol.load(tmp_path / "protocol.yaml").calling("INS")
    assert (how.method, how.model) == ("network", "INS-run")


def test_a_name_that_is_taken_is_said(widget, taught, qtbot):
    widget.name_edit.setText("islet-nuclei")
    widget.show_result(taught)
    qtbot.mouseClick(widget.keep_button, Qt.MouseButton.LeftButton)
    assert "already" in widget.status.text()
    assert widget.keep_button.isVisible()


def test_a_discarded_network_leaves_nothing(widget, taught, qtbot, tmp_path, session):
    widget.show_result(taught)
    qtbot.mouseClick(widget.discard_button, Qt.MouseButton.LeftButton)
    assert not Path(taught["model"]).exists()
    assert not (tmp_path / "models").exists()
    assert session.run.cells is not None
    assert not widget.keep_button.isVisible()


@pytest.mark.parametrize(
    ("after", "old_after", "word"),
    [(0.81, 0.95, "No different"), (0.7, 0.95, "Worse"), (0.9, 0.85, "lost 10.0 points")],
)
def test_what_did_not_help_is_said(taught, after, old_after, word):
    from napari_islet_imaging.viewer import words

    taught["after"], taught["old_after"] = _measures(after), _measures(old_after)
    assert word in words.lesson(taught)


def test_too_few_calls_are_refused_with_the_number_needed(widget, session, qtbot):
    pytest.importorskip("torch", reason="teaching needs the train extra")
    session.call("positive", int(session.table["cell"].iloc[0]))
    qtbot.mouseClick(widget.teach_button, Qt.MouseButton.LeftButton)
    assert widget.cancel_button.isEnabled()
    qtbot.waitUntil(lambda: not widget.job.running, timeout=120000)
    assert "at least 40 cells" in widget.status.text()
    assert widget.teach_button.isEnabled()


@pytest.mark.slow
def test_a_network_is_taught_by_button(widget, session, qtbot, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="teaching needs the train extra")
    monkeypatch.setenv("ISLET_IMAGING_MODELS", str(tmp_path / "models"))
    for name in session.image_names:
        session.open_image(name)
        table = session.table
        for cell, level in zip(table["cell"].tolist(), table["INS_own"].tolist(), strict=True):
            session.call("positive" if level > 500 else "negative", cell)
    widget.name_edit.setText("taught")
    qtbot.mouseClick(widget.teach_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.job.running, timeout=1_500_000)
    assert widget.result, widget.status.text()
    assert widget.result["n_corrections"] >= 40
    assert np.isfinite(float(widget.table.item(0, 1).text()))
    assert (Path(widget.result["model"]) / "README.md").is_file()
