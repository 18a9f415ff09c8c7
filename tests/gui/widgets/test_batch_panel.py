"""The panel that scores a folder, and images of a run that still goes on."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")
from qtpy.QtCore import QPoint, Qt

from tests.gui.driving import settle

pytestmark = [
    pytest.mark.gui,
    # napari, vispy and Qt deprecate among themselves
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture
def half_a_run(run, tmp_path):
    """A folder of two images of which one is measured."""
    from islet_imaging.errors import Cancelled
    from islet_imaging.scoring.folder import score_folder

    folder, out, told = run.source, tmp_path / "half", []
    with pytest.raises(Cancelled):
        score_folder(
            folder,
            out,
            workers=1,
            progress=lambda done, total, what: told.append(what),
            cancelled=lambda: any(told),
        )
    return folder, out, [t for t in told if t]


def test_provisional_calls_are_the_run_s_own_when_all_is_measured(half_a_run):
    from napari_islet_imaging.viewer import words
    from napari_islet_imaging.viewer.provisional import provisional_calls

    from islet_imaging.errors import IsletImagingError
    from islet_imaging.scoring.folder import score_folder

    folder, out, (first,) = half_a_run
    found = provisional_calls(folder, out, first, [first])
    assert (found.n_images, found.n_all) == (1, 2)
    text = words.provisional(found)
    assert "Provisional" in text
    assert "1 of 2 images" in text
    assert "will change" in text
    other = next(p.name for p in folder.iterdir() if p.name != first)
    with pytest.raises(IsletImagingError, match="could not be measured"):
        provisional_calls(folder, out, other, [first])
    run = score_folder(folder, out, workers=1)
    found = provisional_calls(folder, out, first, [first, other])
    final = run.cells[run.cells["image"] == first]
    assert found.table["INS_call"].tolist() == final["INS_call"].tolist()
    np.testing.assert_allclose(found.table["INS_probability"], final["INS_probability"])


def test_a_folder_can_be_typed(viewer, qtbot, tmp_path):
    from napari_islet_imaging.widgets.batch import BatchWidget

    folder = tmp_path / "images"
    folder.mkdir()
    widget = BatchWidget(viewer)
    viewer.window.add_dock_widget(widget, name="batch")
    qtbot.keyClicks(widget.folder_edit, str(folder))
    assert widget.out_edit.text() == str(tmp_path / "images-scored")
    widget.out_edit.clear()
    qtbot.keyClicks(widget.out_edit, "mine")
    widget.folder_edit.setText(str(tmp_path))
    assert widget.out_edit.text() == "mine"


def test_what_would_be_done_is_listed_and_nothing_is_written(viewer, run, qtbot, tmp_path):
    from napari_islet_imaging.widgets.batch import BatchWidget

    widget = BatchWidget(viewer)
    viewer.window.add_dock_widget(widget, name="batch")
    widget.ledger_button.click()
    assert "Choose a folder" in widget.status.text()
    first = sorted(p.name for p in run.source.iterdir())[0]
    widget.folder_edit.setText(str(run.source))
    widget.out_edit.setText(str(tmp_path / "out"))
    widget.exclude_edit.setText(f"{first}, *nothing*")
    widget.ledger_button.click()
    assert not widget.score_button.isEnabled()
    qtbot.waitUntil(lambda: "Nothing was written" in widget.status.text(), timeout=120000)
    assert widget.status.text().startswith("1 to measure (1 new), 1 left out; ")
    listed = [widget.list.item(k).text() for k in range(widget.list.count())]
    assert listed[0].startswith("measure ")
    assert listed[1] == f"leave out  {first}: matches {first!r} of reading.exclude"
    assert widget.score_button.isEnabled()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_image_is_looked_at_while_its_folder_still_runs(viewer, half_a_run, qtbot):
    from napari_islet_imaging.widgets.batch import BatchWidget

    folder, out, _ = half_a_run
    widget = BatchWidget(viewer)
    viewer.window.add_dock_widget(widget, name="batch")
    widget.folder_edit.setText(str(folder))
    widget.out_edit.setText(str(out))
    for left in out.glob(".work/*.json"):
        left.unlink()  # both are measured anew, so that both are told
    widget.workers_box.setValue(1)
    widget.score()
    qtbot.waitUntil(lambda: widget.list.count() == 1, timeout=300000)
    widget.look(widget.list.item(0).text())
    qtbot.waitUntil(lambda: "rovisional" in widget.looked.text(), timeout=300000)
    qtbot.waitUntil(lambda: "the run is complete" in widget.looked.text(), timeout=300000)
    assert "INS+" in widget.looked.text()
    assert "provisional calls" not in [layer.name for layer in viewer.layers]
    assert {"DAPI", "INS", "GCG", "calls"} <= {layer.name for layer in viewer.layers}
    qtbot.mouseClick(widget.review_button, Qt.MouseButton.LeftButton)
    settle(1)
    qtbot.mouseClick(widget.review_button, Qt.MouseButton.LeftButton)
    settle(0.5)
    assert list(viewer.window.dock_widgets) == ["batch", "Review cells (Islet imaging)"]
    # scored again, the open panel and the layers are those of the new run
    review = viewer.window.dock_widgets["Review cells (Islet imaging)"]
    names = [layer.name for layer in viewer.layers]
    before = widget.session
    widget.score()
    qtbot.waitUntil(lambda: widget.session not in (None, before), timeout=300000)
    settle(2)
    assert review.session is widget.session
    assert [layer.name for layer in viewer.layers] == names
    assert review.view.layer("calls") is not None
    # a blinded reviewer finds no name in the list either
    review.blinded_box.setChecked(True)
    shown = [widget.list.item(k).text() for k in range(widget.list.count())]
    assert set(shown) == {"image 1", "image 2"}
    assert widget.looked.text() == ""


def test_own_nuclei_whole_cells_and_regions_of_a_folder(viewer, qtbot, tmp_path):
    """The rows of the panel do what the shell's options do; provisional calls are of them too."""
    import json

    import tifffile
    from napari_islet_imaging.viewer.provisional import read_provisional
    from napari_islet_imaging.viewer.work import score_folder as job
    from napari_islet_imaging.widgets.batch import BatchWidget

    from islet_imaging import Run, score_folder
    from tests.scoring.test_drawn_regions import DRAWN
    from tests.scoring.test_given_folders import PROTOCOL, discs
    from tests.scoring.test_three_ways import same_cells
    from tests.stainings import staining, write

    images = tmp_path / "images"
    for folder in ("masks", "whole"):
        (images / folder).mkdir(parents=True)
    (tmp_path / "drawn").mkdir()
    for k, name in enumerate("ab"):
        write(images / f"{name}.ome.tif", staining(k, 0.5))
        tifffile.imwrite(images / "masks" / f"{name}_cp_masks.tif", discs(7))
        tifffile.imwrite(images / "whole" / f"cells-{name}.tif", discs(12))
        (tmp_path / "drawn" / f"{name}.geojson").write_text(json.dumps(DRAWN))
    (tmp_path / "protocol.yaml").write_text(PROTOCOL.dump())
    widget = BatchWidget(viewer)
    viewer.window.add_dock_widget(widget, name="batch")
    widget.folder_edit.setText(str(images))
    widget.out_edit.setText(str(tmp_path / "window"))
    widget.protocol_edit.setText(str(tmp_path / "protocol.yaml"))
    given = {
        "nuclei": str(images / "masks"),
        "cells": str(images / "whole" / "cells-{image}.tif"),
        "regions": str(tmp_path / "drawn"),
    }
    for what, place in given.items():
        qtbot.keyClicks(widget.given_edits[what], place)
    widget.ledger_button.click()
    qtbot.waitUntil(lambda: "Nothing was written" in widget.status.text(), timeout=120000)
    assert widget.status.text().startswith("2 to measure (2 new)")
    asked = widget._asked()
    told = []
    job({**asked, "workers": 1}, lambda done, total, what: told.append(what), lambda: False)
    shell = score_folder(images, tmp_path / "shell", protocol=PROTOCOL, workers=1, **given)
    window = Run.open(tmp_path / "window")
    same_cells(window.cells, shell.cells)
    assert window.islets["region"].tolist() == ["A", "islet 2"] * 2
    assert (window.labels("a.ome.tif") == discs(7)).all()
    found, _ = read_provisional(asked, "a.ome.tif", tuple(t for t in told if t))
    assert (found.n_images, found.n_all) == (2, 2)
    final = window.cells[window.cells["image"] == "a.ome.tif"]
    assert len(found.table) == len(final) == 49


def test_a_folder_is_watched_while_it_fills_and_is_the_run_of_a_plain_score(
    viewer, qtbot, tmp_path
):
    from napari_islet_imaging.widgets.batch import BatchWidget

    from islet_imaging import score_folder
    from tests.scoring.test_watch import PROTOCOL
    from tests.stainings import staining, write

    images = tmp_path / "images"
    write(images / "a.ome.tif", staining(1, 0.5, (100, 100)))
    write(tmp_path / "b.ome.tif", staining(2, 0.5, (100, 100)))
    (tmp_path / "protocol.yaml").write_text(PROTOCOL.dump())
    widget = BatchWidget(viewer)
    widget.settle_s = 0.4
    viewer.window.add_dock_widget(widget, name="batch")
    widget.folder_edit.setText(str(images))
    widget.out_edit.setText(str(tmp_path / "window"))
    widget.protocol_edit.setText(str(tmp_path / "protocol.yaml"))
    widget.workers_box.setValue(1)
    box = QPoint(8, widget.watch_box.height() // 2)
    qtbot.mouseClick(widget.watch_box, Qt.MouseButton.LeftButton, pos=box)
    assert widget.watch_box.isChecked()
    qtbot.mouseClick(widget.score_button, Qt.MouseButton.LeftButton)
    assert widget.cancel_button.text() == "Stop watching"

    def listed():
        return [widget.list.item(k).text() for k in range(widget.list.count())]

    def seen(text):
        said = widget.status.text()
        return text in said and "Watching for more" in said and widget.session is not None

    qtbot.waitUntil(lambda: seen("1 of 1 images scored"), timeout=120000)
    assert listed() == ["a.ome.tif"]
    before = widget.session
    # half of a file is no image
    whole = (tmp_path / "b.ome.tif").read_bytes()
    part = images / "b.ome.tif"
    part.write_bytes(whole[:4000])
    with part.open("ab") as stream:
        stream.write(whole[4000:])
    qtbot.waitUntil(
        lambda: seen("2 of 2 images scored") and widget.session is not before, timeout=120000
    )
    assert listed() == ["a.ome.tif", "b.ome.tif"]
    assert list(widget.session.tables) == ["a.ome.tif", "b.ome.tif"]
    assert not widget.progress.isVisible()
    assert widget.review_button.isEnabled()
    qtbot.mouseClick(widget.cancel_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "Watching has ended" in widget.status.text(), timeout=30000)
    assert widget.status.text().startswith("2 of 2 images scored. Report: ")
    assert (widget.cancel_button.text(), widget.score_button.isEnabled()) == ("Cancel", True)
    plain = score_folder(images, tmp_path / "plain", protocol=PROTOCOL, workers=1)
    for name in ("cells.csv", "summary.csv"):
        assert (tmp_path / "window" / name).read_bytes() == (plain.path / name).read_bytes()


def test_a_watched_folder_without_images_says_why_and_can_be_stopped(viewer, qtbot, tmp_path):
    from napari_islet_imaging.widgets.batch import BatchWidget

    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "notes.txt").write_text("to come")
    widget = BatchWidget(viewer)
    widget.settle_s = 0.2
    viewer.window.add_dock_widget(widget, name="batch")
    widget.folder_edit.setText(str(tmp_path / "images"))
    widget.watch_box.setChecked(True)
    widget.score()
    qtbot.waitUntil(lambda: "Nothing to score yet" in widget.status.text(), timeout=120000)
    assert "Watching for more" in widget.status.text()
    widget.cancel()
    qtbot.waitUntil(lambda: widget.status.text().startswith("Stopped."), timeout=30000)
    assert widget.score_button.isEnabled()
