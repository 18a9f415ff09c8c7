"""What a user offers the window: pictures, stacks, files of channels, moved runs, two runs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")
import tifffile
from napari_islet_imaging.files.reader import get_reader

from tests.gui.driving import settle

pytestmark = [
    pytest.mark.gui,
    # napari, vispy and Qt deprecate among themselves
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture
def score(viewer):
    from napari_islet_imaging.widgets.score import ScoreWidget

    widget = ScoreWidget(viewer)
    viewer.window.add_dock_widget(widget, name="score")
    return widget


def _pixels(seed, shape=(64, 72)):
    return np.random.default_rng(seed).integers(0, 900, shape).astype(np.uint16)


def test_a_picture_is_left_to_napari_and_can_be_split_by_colour(viewer, score, tmp_path):
    import imageio.v3 as iio
    from npe2 import PluginManager

    path = tmp_path / "picture.jpg"
    iio.imwrite(path, np.zeros((48, 64, 3), np.uint8) + np.uint8(90))
    claims = {r.plugin_name for r in PluginManager.instance().iter_compatible_readers([str(path)])}
    assert "islet-imaging" not in claims
    assert get_reader(str(path)) is None
    viewer.open(str(path))
    settle(0.1)
    assert "split it into its channels" in score.status.text()
    assert score.split_button.isVisible()
    score.split_colours()
    assert score.image_box.currentText() == "picture"
    assert [x.name for x in viewer.layers if x.visible] == ["red", "green", "blue"]
    assert score.channels.rowCount() == 3
    score.size_edit.setText("0.3")
    score.score()  # what a colour is stained with is asked, not guessed
    assert score.job is None
    assert score.status.text()


def test_a_tiff_that_does_not_say_its_axes_opens_as_it_lies(viewer, score, tmp_path):
    path = tmp_path / "pages.tif"
    tifffile.imwrite(path, _pixels(1, (5, 40, 50)), photometric="minisblack", metadata=None)
    viewer.open(str(path), plugin="islet-imaging")
    assert viewer.layers[0].data.shape == (5, 40, 50)
    assert "Split Stack" in score.status.text()


def test_a_z_stack_offers_its_planes(viewer, score, tmp_path):
    path = tmp_path / "stack.ome.tif"
    stack = np.stack([np.stack([_pixels(z + 10 * c) for z in range(4)]) for c in range(2)])
    tifffile.imwrite(
        path,
        stack,
        ome=True,
        photometric="minisblack",
        metadata={
            "axes": "CZYX",
            "Channel": {"Name": ["DAPI", "INS"]},
            "PhysicalSizeX": 0.3,
            "PhysicalSizeY": 0.3,
        },
    )
    viewer.open(str(path), plugin="islet-imaging")
    assert [x.data.shape for x in viewer.layers] == [(4, 64, 72)] * 2
    assert score.planes_box.isVisible()
    assert score.size_edit.text() == "0.3"
    assert score.current_protocol().reading.projection == "max"
    score.planes_box.setCurrentText("the plane on the screen")
    viewer.dims.set_current_step(0, 2)
    reading = score.current_protocol().reading
    assert (reading.projection, reading.plane) == ("plane", 2)


def test_files_of_one_channel_each_are_one_image(viewer, score, tmp_path):
    names = {"DAPI": 1, "INS": 2, "GCG": 3}
    for islet in ("islet1", "islet2"):
        for name, seed in names.items():
            tifffile.imwrite(
                tmp_path / f"{islet}_{name}.tif",
                _pixels(seed),
                imagej=True,
                resolution=(1 / 0.3, 1 / 0.3),
                metadata={"unit": "um"},
            )
    viewer.open([str(tmp_path / f"islet1_{n}.tif") for n in names], plugin="islet-imaging")
    # what the file does not say of its channel, its name does
    assert [x.name for x in viewer.layers] == list(names)
    assert [x.colormap.name for x in viewer.layers] == ["blue", "green", "magenta"]
    viewer.open([str(tmp_path / f"islet2_{n}.tif") for n in names], plugin="islet-imaging")
    shown = [score.image_box.itemText(k) for k in range(score.image_box.count())]
    assert shown == ["islet1", "islet2"]
    folders = []
    for name in shown:
        score.image_box.setCurrentText(name)
        roles = [(c.name, c.role) for c in score.channels.channels()]
        assert roles == [("DAPI", "dna"), ("INS", "marker"), ("GCG", "marker")]
        folders.append(score.out_edit.text())
    assert folders == [str(tmp_path / "islet1-scored"), str(tmp_path / "islet2-scored")]


def test_a_run_whose_images_moved_is_found_again(viewer, run, tmp_path):
    from napari_islet_imaging.widgets.review import ReviewWidget

    from islet_imaging import Run

    # run and images travelled together
    facts = run.provenance
    assert len(facts["images"][0]["inputs"]) == 1
    together = tmp_path / "elsewhere"
    together.mkdir()
    shutil.move(run.source, together / run.source.name)
    shutil.copytree(run.path, together / "run")
    widget = ReviewWidget(viewer)
    viewer.window.add_dock_widget(widget, name="review")
    widget.open_run(together / "run")
    _until(lambda: widget.session is not None and widget.session.focus > 0)
    assert "Find" not in widget.message.text()
    # the run alone: asked for, and taken only if it is the same file
    viewer.layers.clear()
    other = ReviewWidget(viewer)
    viewer.window.add_dock_widget(other, name="other")
    other.open_run(Run.open(run.path).path)
    _until(lambda: other.find_button.isVisible())
    assert "not where it was scored" in other.message.text()
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    for file in (together / run.source.name).iterdir():
        tifffile.imwrite(fakes / file.name, np.zeros((3, 360, 400), np.uint16))
    other.find_images(fakes)
    assert other.find_button.isVisible()
    other.find_images(together)
    _until(lambda: other.session.focus > 0)
    assert not other.find_button.isVisible()


def test_a_second_run_takes_the_place_of_the_first(viewer, make_run, tmp_path):
    from napari_islet_imaging.widgets.review import ReviewWidget

    runs = [
        make_run(tmp_path / name, images=1, shape=(200, 220), n_cells=20, pixel_size_um=0.3)
        for name in ("a", "b")
    ]
    viewer.open(str(runs[0]), plugin="islet-imaging")
    review = ReviewWidget(viewer)
    viewer.window.add_dock_widget(review, name="review")
    first = review.session
    viewer.open(str(runs[1]), plugin="islet-imaging")
    settle(0.1)
    assert review.session is not first
    assert review.session.run.path == runs[1]
    for layer in viewer.layers:
        session = layer.metadata["islet_imaging"]["session"]
        assert session is review.session or not layer.visible


def test_an_image_stained_for_dna_only_counts_nuclei(viewer, tmp_path):
    from napari_islet_imaging.viewer import words
    from napari_islet_imaging.widgets.cells import CellsWidget
    from napari_islet_imaging.widgets.review import ReviewWidget

    from islet_imaging import Channel, Protocol, phantom, score_folder

    folder = tmp_path / "images"
    folder.mkdir()
    made = phantom("ffpe20x", seed=3, shape=(256, 256)).image
    tifffile.imwrite(
        folder / "dna.ome.tif",
        made.channel("DAPI")[None],
        ome=True,
        photometric="minisblack",
        metadata={
            "axes": "CYX",
            "Channel": {"Name": ["DAPI"]},
            "PhysicalSizeX": made.pixel_size_um,
            "PhysicalSizeY": made.pixel_size_um,
        },
    )
    protocol = Protocol(channels=(Channel("DAPI", "dna"),))
    run = score_folder(folder, tmp_path / "run", protocol=protocol, workers=1)
    viewer.open(str(run.path), plugin="islet-imaging")
    review, cells = ReviewWidget(viewer), CellsWidget(viewer)
    for name, panel in (("review", review), ("cells", cells)):
        viewer.window.add_dock_widget(panel, name=name)
    settle(0.2)
    session = review.session
    n = int((~session.table["excluded"].astype(bool)).sum())
    assert f"<b>{n} nuclei</b>" in review.headline.text()
    assert n == int(run.images["n_cells"].iloc[0])
    counted = ~session.table["excluded"].astype(bool)
    session.set_focus(int(session.table.loc[counted, "cell"].iloc[0]))
    review.act("positive")  # there is nothing to call
    assert not session.edits
    assert "nothing to call" in review.message.text()
    review.act("exclude")
    assert f"<b>{n - 1} nuclei</b>" in words.result(session)


def _until(condition, seconds=60):
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        settle(0.05)


def test_a_second_file_is_not_scored_as_the_first(viewer, qtbot, tmp_path):
    """Beside an image that is not scored it is told; beside a scored one the form turns to it."""
    from napari_islet_imaging.session.review import ReviewSession
    from napari_islet_imaging.viewer.layers import layers_of
    from napari_islet_imaging.viewer.session_view import view_of
    from napari_islet_imaging.widgets.score import ScoreWidget

    from islet_imaging import score_folder
    from tests.gui.driving import settle
    from tests.scoring.test_given_folders import PROTOCOL
    from tests.stainings import staining, write

    for k, name in enumerate(("one", "two", "three")):
        write(tmp_path / name / f"{name}.ome.tif", staining(k, 0.5))
    run = score_folder(tmp_path / "one", tmp_path / "run", protocol=PROTOCOL, workers=1)
    panel = ScoreWidget(viewer)
    viewer.window.add_dock_widget(panel, name="score")
    viewer.open(tmp_path / "two" / "two.ome.tif", plugin="islet-imaging")
    panel.nucleus_edit.setText("9")
    viewer.open(tmp_path / "three" / "three.ome.tif", plugin="islet-imaging")
    assert panel.image_box.currentText() == "two.ome.tif"
    assert panel.nucleus_edit.text() == "9"
    assert panel.status.text() == (
        "'three.ome.tif' was opened as well: choose it above to score it."
    )
    viewer.layers.clear()
    session = ReviewSession(run, reviewer="ana")
    session.open_image("one.ome.tif")
    view_of(viewer, session).show()
    settle(0.5)
    assert panel.image_box.currentText() == "one.ome.tif"
    assert "INS+" in panel.result.text()
    seen = {x.name for x in viewer.layers if x.visible}
    viewer.open(tmp_path / "two" / "two.ome.tif", plugin="islet-imaging")
    assert panel.image_box.currentText() == "two.ome.tif"
    assert panel.result.text() == ""
    assert not any(x.visible for x in layers_of(viewer, session))
    assert sum(x.visible for x in viewer.layers) == 2
    # chosen again, the first is as it was
    panel.image_box.setCurrentText("one.ome.tif")
    panel.image_box.activated.emit(panel.image_box.currentIndex())
    assert {x.name for x in layers_of(viewer, session) if x.visible} == seen
    assert sum(x.visible for x in viewer.layers) == len(seen)
    # another name, as of a blinded reviewer, is no other image
    session.set_blinded(True)
    settle(0.3)
    assert panel.image_box.currentText() == "image 1"
    assert panel.chosen.session is session
    assert panel.result.text().startswith("Blinded")
    session.set_blinded(False)
    settle(0.3)
    assert panel.image_box.currentText() == "one.ome.tif"
    # what another tool makes of a layer is no image that was opened
    viewer.add_image(viewer.layers[0].data * 2.0, name="blurred")
    assert panel.image_box.currentText() == "one.ome.tif"
    # a colour picture beside it offers to be split
    viewer.add_image(np.zeros((40, 40, 3), np.uint8), rgb=True, name="picture")
    assert panel.split_button.isVisible()
    assert panel.status.text().startswith("A colour picture: split it")
    assert [x.name for x in viewer.layers if x.visible] == ["picture"]
    panel.image_box.activated.emit(panel.image_box.currentIndex())
    assert {x.name for x in viewer.layers if x.visible} == seen


def test_a_file_of_one_channel_is_what_its_name_says(viewer, tmp_path):
    """Not what the channel of the file before it was."""
    import tifffile
    from napari_islet_imaging.widgets.score import ScoreWidget

    from tests.stainings import staining

    for k, name in enumerate(("DAPI", "INS")):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / f"p{k}_{name}.tif", staining(k, 0.5)[k])
    panel = ScoreWidget(viewer)
    viewer.window.add_dock_widget(panel, name="score")
    panel.size_edit.setText("0.5")
    viewer.open(tmp_path / "DAPI" / "p0_DAPI.tif", plugin="islet-imaging")
    (dna,) = panel.channels.channels()
    assert (dna.name, dna.role, dna.source) == ("DAPI", "dna", "channel 1")
    viewer.layers.clear()
    viewer.open(tmp_path / "INS" / "p1_INS.tif", plugin="islet-imaging")
    (ins,) = panel.channels.channels()
    assert (ins.name, ins.role, ins.compartment) == ("INS", "marker", "cytoplasm")
