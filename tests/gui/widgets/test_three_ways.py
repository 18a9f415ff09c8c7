"""The window on the image of `tests.scoring.test_three_ways`: the same cells and calls."""

from __future__ import annotations

import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")
from islet_imaging import Run, read_image, score_image
from tests.scoring.test_three_ways import same_cells
from tests.stainings import staining, write


@pytest.mark.gui
@pytest.mark.filterwarnings("default")  # napari, vispy and Qt deprecate among themselves
def test_the_window_agrees_with_the_script(viewer, qtbot, tmp_path):
    from napari_islet_imaging.widgets.score import ScoreWidget

    path = tmp_path / "islet.ome.tif"
    write(path, staining(1, 0.5))
    viewer.open(path, plugin="islet-imaging")
    widget = ScoreWidget(viewer)
    viewer.window.add_dock_widget(widget, name="score")
    widget.out_edit.setText(str(tmp_path / "run"))
    widget.score()
    qtbot.waitUntil(lambda: (tmp_path / "run" / "provenance.json").is_file(), timeout=120_000)
    qtbot.waitUntil(lambda: not widget._running(), timeout=60_000)
    qtbot.waitUntil(widget.review_button.isVisible, timeout=60_000)  # its layers have arrived
    run = Run.open(tmp_path / "run")
    asked = run.protocol.replace(fitted={})
    scored = score_image(read_image(path, protocol=asked), asked)
    assert len(scored.cells) > 30
    same_cells(scored.cells, run.cells)
