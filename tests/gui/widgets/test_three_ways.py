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
    one_number_everywhere(viewer, widget, run, scored)


def one_number_everywhere(viewer, score, run, scored):
    """Score, Understand, Review, table, the run's files and the script say one number."""
    from napari_islet_imaging.session.shares import image_row, islet_rows
    from napari_islet_imaging.session.tally import tally
    from napari_islet_imaging.viewer import words
    from napari_islet_imaging.widgets.cells import CellsWidget
    from napari_islet_imaging.widgets.review import ReviewWidget
    from napari_islet_imaging.widgets.shares import SharesWidget

    session = score.chosen.session
    name = session.open.name
    # nuclei that are reshaped are measured with the lengths that these were found with
    found = session.open.scale
    assert found.source == "usual"
    assert found.n_seen > 30
    images = run.images.set_index("image")
    for marker in session.protocol.markers:
        told = images.loc[name, f"{marker}_fraction"]
        assert image_row(session, name).tallies[marker].fraction == told
        assert tally(scored.cells, marker, run.protocol.statistics.denominator).fraction == told
    islets = run.table("islets").set_index("islet")
    rows = list(islet_rows(session))
    assert len(rows) == len(islets) > 0
    for row in rows:
        for marker, found in row.tallies.items():
            for kind, value in (("", found.fraction), ("_low", found.low), ("_high", found.high)):
                told = islets.loc[row.islet, f"{marker}_fraction{kind}"]
                assert value == told or (value != value and told != told)
    line = words.of_marker(session, session.marker)
    understand, table = CellsWidget(viewer, session), SharesWidget(viewer, session)
    review = ReviewWidget(viewer, session)
    for shown in (score.result, understand.headline, review.headline):
        assert shown.text().startswith(line)
    share = words.share(session.counts.now(name, session.marker))
    assert f"{session.marker}+ {share}<" in line
    assert table.images.item(0, 1).text() == share
