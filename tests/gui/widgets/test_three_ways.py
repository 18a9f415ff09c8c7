"""The window on the image of `tests.scoring.test_three_ways`: the same cells and calls."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
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


@pytest.mark.gui
@pytest.mark.filterwarnings("default")
def test_an_image_of_a_run_is_scored_again_as_its_run_was(viewer, tmp_path):
    """Own nuclei, whole cells, planes, methods and compartments of a run from the shell stay."""
    import tifffile
    from napari_islet_imaging import open_review
    from napari_islet_imaging.widgets.score import ScoreWidget

    from islet_imaging import score_folder
    from islet_imaging.protocol import (
        Cells,
        Channel,
        Correction,
        Nuclei,
        Positivity,
        Protocol,
        Reading,
    )
    from tests.gui.driving import settle
    from tests.scoring.test_given_folders import discs

    images = tmp_path / "images"
    (images / "masks").mkdir(parents=True)
    (tmp_path / "cells").mkdir()
    pixels = staining(1, 0.5)
    stack = (pixels[None] * [[[[0.5]]], [[[1.0]]]]).astype("uint16")
    tifffile.imwrite(
        images / "a.ome.tif", stack, ome=True, photometric="minisblack",
        metadata={"axes": "ZCYX", "Channel": {"Name": ["DAPI", "mystery"]},
                  "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )  # fmt: skip
    tifffile.imwrite(images / "masks" / "a_masks.tif", discs(7))
    tifffile.imwrite(tmp_path / "cells" / "a_masks.tif", discs(12))
    protocol = Protocol(
        channels=(Channel("DAPI", "dna"), Channel("M", source="mystery", compartment="membrane")),
        reading=Reading(projection="max", include=("*a*",)),
        nuclei=Nuclei(diameter_um=6.5),
        cells=Cells(gap_um=0.2),
        correction=Correction(offset=20.0),
        positivity={"M": Positivity(method="levels", unsure_low=0.3)},
    )
    run = score_folder(
        images, tmp_path / "run", protocol=protocol, workers=1,
        nuclei=images / "masks", cells=tmp_path / "cells",
    )  # fmt: skip
    viewer.window.remove_dock_widget(open_review(viewer, run, reviewer="ana"))
    settle(0.3)
    panel = ScoreWidget(viewer)
    viewer.window.add_dock_widget(panel, name="score")
    assert panel.chosen.session is not None
    assert panel.own.nuclei.box.currentText() == "those of its run"
    assert panel.nucleus_edit.text() == "6.5"
    asked = []
    panel._start = lambda kind, job, *_: asked.append((kind, job))
    panel.score()
    assert panel.status.text() == ""
    ((_, job),) = asked
    again = score_folder(
        job["folder"], tmp_path / "again", samples=job["samples"], workers=1,
        protocol=Protocol.from_dict(job["protocol"]),
    )  # fmt: skip
    same = [c for c in run.cells if c not in ("condition", "batch")]
    pd.testing.assert_frame_equal(again.cells[same], run.cells[same])
    # what is said in the form holds: nuclei are found, of any size
    panel.own.nuclei.box.setCurrentText("find them")
    panel.nucleus_edit.clear()
    asked.clear()
    panel.score()
    ((_, job),) = asked
    assert Protocol.from_dict(job["protocol"]).nuclei == Nuclei()
    header = Path(job["samples"]).read_text("utf-8").splitlines()[0]
    assert header == "file,condition,batch,role,cells"
    # masks that have gone are told, and nothing is scored instead
    panel.own.nuclei.box.setCurrentText("those of its run")
    (images / "masks" / "a_masks.tif").unlink()
    asked.clear()
    panel.score()
    assert not asked
    assert "was scored with nuclei of the file" in panel.status.text()


@pytest.mark.gui
@pytest.mark.filterwarnings("default")
def test_nuclei_of_one_image_are_not_those_of_another(viewer, tmp_path):
    import numpy as np
    from napari_islet_imaging.widgets.score import ScoreWidget

    from tests.scoring.test_given_folders import discs

    for k, name in enumerate("ab"):
        write(tmp_path / f"{name}.ome.tif", staining(k, 0.5))
    viewer.open(tmp_path / "a.ome.tif", plugin="islet-imaging")
    panel = ScoreWidget(viewer)
    viewer.window.add_dock_widget(panel, name="score")
    viewer.add_labels(discs(7).astype(np.int32), name="my nuclei")
    panel.own.nuclei.box.setCurrentText("my nuclei")
    viewer.open(tmp_path / "b.ome.tif", plugin="islet-imaging")
    assert panel.own.nuclei.box.currentText() == "my nuclei"  # the form is of a as yet
    panel.image_box.setCurrentText("b.ome.tif")
    assert panel.own.nuclei.box.currentText() == "find them"
