"""Own nuclei and regions in a real window: chosen, drawn, scored, kept, opened again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")
from islet_imaging import Run, read_image, score_folder, score_image
from islet_imaging.review.journal import Journal
from tests.gui.driving import settle
from tests.scoring.test_given_folders import discs
from tests.scoring.test_three_ways import same_cells
from tests.stainings import staining, write

pytestmark = [
    pytest.mark.gui,
    pytest.mark.filterwarnings("default"),  # napari, vispy and Qt deprecate among themselves
]


def shoot(viewer, name):
    """A picture of the window, where somebody asks for pictures."""
    if folder := os.environ.get("ISLET_IMAGING_SHOTS"):
        settle(0.4)
        Path(folder).mkdir(parents=True, exist_ok=True)
        viewer.window._qt_window.grab().save(str(Path(folder) / f"{name}.png"))


@pytest.fixture
def panel(viewer, tmp_path):
    """The score panel on a stained image with a file."""
    from napari_islet_imaging.widgets.score import ScoreWidget

    path = tmp_path / "islet.ome.tif"
    write(path, staining(1, 0.5))
    viewer.open(path, plugin="islet-imaging")
    widget = ScoreWidget(viewer)
    viewer.window.add_dock_widget(widget, name="score")
    widget.out_edit.setText(str(tmp_path / "run"))
    return widget


def scored(panel, qtbot, start=None):
    (start or panel.score)()
    assert panel.job is not None, panel.status.text()
    qtbot.waitUntil(lambda: not panel._running(), timeout=120_000)
    qtbot.waitUntil(panel.review_button.isVisible, timeout=60_000)
    settle(0.3)
    return Run.open(panel.session.run.path)


def texts(panel):
    return [button.text() for button in panel.own.draw_buttons.values()]


def polygon(viewer, corners):
    """Add a closed shape to the layer that is being drawn in, as a hand would leave it."""
    viewer.layers.selection.active.add(np.array(corners, float), shape_type="polygon")
    viewer.layers.selection.active.mode = "select"


def test_own_nuclei_and_regions_are_scored_kept_and_opened_again(panel, viewer, qtbot, tmp_path):
    viewer.add_labels(discs(7).astype(np.int32), name="my nuclei", scale=(0.5, 0.5))
    choices = [panel.own.nuclei.box.itemText(k) for k in range(panel.own.nuclei.box.count())]
    assert choices == ["find them", "my nuclei", "from a file…"]
    panel.own.nuclei.box.setCurrentText("my nuclei")
    # two islets and a fold, in the layers that the buttons make; layers are scaled in um
    qtbot.mouseClick(panel.own.draw_buttons["islet"], _left())
    assert viewer.layers.selection.active.name == "Islets"
    polygon(viewer, [[0, 0], [0, 90], [199, 90], [199, 0]])
    polygon(viewer, [[0, 110], [0, 199], [120, 199], [120, 110]])
    qtbot.mouseClick(panel.own.draw_buttons["left_out"], _left())
    polygon(viewer, [[100, 20], [100, 60], [140, 60], [140, 20]])
    assert texts(panel) == ["Islets (2)", "Left out (1)"]
    shoot(viewer, "1-drawn")
    run = scored(panel, qtbot)
    shoot(viewer, "2-scored")
    assert (run.labels("islet.ome.tif") == discs(7)).all()
    assert run.islets["region"].tolist() == ["islet 1", "islet 2"]
    assert run.cells["flags"].str.contains("left_out").sum() == 2
    (edit,) = Journal(run.corrections).edits()
    assert edit.action == "regions"
    # thresholds of before the regions were drawn were stated by nobody
    assert not run.summary["note"].str.contains("thresholds").any()
    assert edit.who == panel.session.reviewer
    # one image, one protocol: the script and the shell say the same
    path = tmp_path / "islet.ome.tif"
    asked = run.protocol.replace(fitted={}, fitted_from={})
    regions = run.regions()["islet.ome.tif"]
    alone = score_image(read_image(path, protocol=asked), asked, nuclei=discs(7), regions=regions)
    same_cells(alone.cells, run.cells)
    text = panel.result.text()
    share = run.images["INS_fraction"][0]
    assert f"{100 * share:.1f}" in text
    assert texts(panel) == ["Islets (2)", "Left out (1)"]
    assert "16 outside of the drawn islets count apart" in text
    # a region is moved and used at once, without measuring again
    islets = next(x for x in viewer.layers if x.name == "Islets")
    assert list(islets.features["name"]) == ["islet 1", "islet 2"]
    islets.selected_data = {1}
    islets.remove_selected()
    run = scored(panel, qtbot, panel.use_regions)
    assert run.islets["region"].tolist() == ["islet 1"]
    assert [x.name for x in viewer.layers if x.name.startswith("Islets")] == ["Islets"]
    shoot(viewer, "3-changed")
    assert len(Journal(run.corrections).edits()) == 2


@pytest.mark.slow
def test_regions_of_a_run_are_shown_when_it_is_opened(panel, viewer, qtbot, tmp_path):
    """Brought from QuPath's GeoJSON; scored again from the shell they stay."""
    import json

    from napari_islet_imaging import open_review

    from tests.scoring.test_drawn_regions import DRAWN

    (tmp_path / "regions").mkdir()
    file = tmp_path / "regions" / "islet.geojson"
    file.write_text(json.dumps(DRAWN))
    panel.own.bring(file)
    assert texts(panel) == ["Islets (2)", "Left out (1)"]
    window = scored(panel, qtbot)
    assert window.islets["region"].tolist() == ["A", "islet 2"]
    images = tmp_path / "images"
    images.mkdir()
    (images / "islet.ome.tif").write_bytes((tmp_path / "islet.ome.tif").read_bytes())
    shell = score_folder(
        images, tmp_path / "shell", protocol=window.protocol.replace(fitted={}, fitted_from={}),
        regions=tmp_path / "regions",
    )  # fmt: skip
    columns = ["condition", "batch", "corrected_by"]
    same_cells(
        shell.cells.drop(columns=columns, errors="ignore"),
        window.cells.drop(columns=columns, errors="ignore"),
    )
    viewer.layers.clear()
    open_review(viewer, shell, reviewer="ana")
    settle(0.5)
    drawn = {
        x.name: list(x.features["name"]) for x in viewer.layers if type(x).__name__ == "Shapes"
    }
    assert drawn == {"Islets": ["A", "islet 2"], "Left out": ["fold"]}
    assert viewer.layers.selection.active.name == "calls"  # clicks still choose cells
    shoot(viewer, "4-opened")


def test_what_cannot_be_is_told_before_scoring(panel, viewer):
    viewer.add_labels(discs(7)[:150].astype(np.int32), name="cut")
    panel.own.nuclei.box.setCurrentText("cut")
    panel.score()
    assert "layer 'cut': nuclei: labels of 150 x 200 px for an image of 200 x 200 px" in (
        panel.status.text()
    )
    panel.own.nuclei.box.setCurrentText("find them")
    viewer.add_shapes([np.array([[5, 5], [60, 60]])], shape_type="line", name="Left out")
    panel.score()
    assert "is a line, which encloses nothing" in panel.status.text()
    assert panel.job is None


def test_controls_have_own_nuclei_where_there_are_some_and_else_it_is_told(panel, viewer, tmp_path):
    import csv

    import tifffile

    from islet_imaging.scoring.results import resummarise

    dark = [tmp_path / "control_1.ome.tif", tmp_path / "control_2.ome.tif"]
    for k, path in enumerate(dark):
        write(path, staining(5 + k, 0.0))
    tifffile.imwrite(tmp_path / "islet_masks.tif", discs(7))
    tifffile.imwrite(tmp_path / "control_1_cp_masks.tif", discs(6))
    panel.use_controls(dark)
    assert panel.status.text() == ""  # all nuclei are found: nothing to say
    panel.own.nuclei.use_file(tmp_path / "islet_masks.tif")
    panel.own.nuclei.box.textActivated.emit("islet_masks.tif")
    assert panel.status.text() == (
        "Nuclei of controls: control_1_cp_masks.tif. Nuclei of control_2.ome.tif will be found "
        "here, unlike yours. To use your own there too, put a file such as control_2_masks.tif "
        "beside it."
    )
    panel._start = lambda *_: None  # what the job would be is enough
    panel.score()
    with (tmp_path / "run" / "samples.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    given = [Path(row["nuclei"]).name for row in rows]
    assert given == ["islet_masks.tif", "control_1_cp_masks.tif", ""]
    # scored so, every number says it, in the tables and in the window
    from napari_islet_imaging.session.review import ReviewSession
    from napari_islet_imaging.viewer import words

    run = score_folder(
        tmp_path, tmp_path / "run", samples=tmp_path / "run" / "samples.csv", workers=1,
        protocol=panel.current_protocol(),
    )  # fmt: skip
    said = "nuclei of 2 of 3 images were given, of the others they were found"
    assert run.summary["note"].str.contains(said).all()
    assert resummarise(run.path).summary["note"].str.count(said).eq(1).all()
    session = ReviewSession(run, reviewer="ana")
    assert any(said in note for note in words.notes(session))
    # with masks of all there is nothing to say
    tifffile.imwrite(tmp_path / "control_2_masks.tif", discs(6))
    assert "found here" not in panel.own.of_controls(dark)


def test_whole_cells_are_scored_in_the_window_as_in_a_script(panel, viewer, qtbot, tmp_path):
    viewer.add_labels(discs(6).astype(np.int32), name="my nuclei", scale=(0.5, 0.5))
    viewer.add_labels(discs(9).astype(np.int32), name="my cells", scale=(0.5, 0.5))
    panel.own.nuclei.box.setCurrentText("my nuclei")
    assert panel.own.cells.box.currentText() == "rings"
    panel.own.cells.box.setCurrentText("my cells")
    # masks of a control that say no more are its nuclei; whole cells there must be called so
    import tifffile

    dark = tmp_path / "control_1.ome.tif"
    write(dark, staining(5, 0.0))
    tifffile.imwrite(tmp_path / "control_1_masks.tif", discs(6))
    assert panel.own.of_controls([dark]) == (
        "Nuclei of controls: control_1_masks.tif. Whole cells of control_1.ome.tif will be rings "
        "around nuclei, unlike yours. To use your own there too, put a file such as "
        "control_1_cells.tif beside it."
    )
    tifffile.imwrite(tmp_path / "control_1_cells.tif", discs(9))
    assert "Whole cells of controls: control_1_cells.tif." in panel.own.of_controls([dark])
    (tmp_path / "control_1_cells.tif").unlink()
    run = scored(panel, qtbot)
    asked = run.protocol.replace(fitted={}, fitted_from={})
    image = read_image(tmp_path / "islet.ome.tif", protocol=asked)
    same_cells(score_image(image, asked, nuclei=discs(6), cells=discs(9)).cells, run.cells)
    # an image of a run is scored again with the whole cells it was scored with
    assert panel.own.cells.box.currentText() in ("my cells", "those of its run")


def _left():
    from qtpy.QtCore import Qt

    return Qt.MouseButton.LeftButton
