"""Brought regions with holes and further parts, moved and changed in a real window."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")
from napari_islet_imaging.viewer.region_layers import joined, outlines_in, parted

from islet_imaging.reading.annotations.outlines import inside
from tests.gui.driving import settle
from tests.stainings import staining, write

pytestmark = [
    pytest.mark.gui,
    pytest.mark.filterwarnings("default"),  # napari, vispy and Qt deprecate among themselves
]
WHOLE = (slice(0, 200), slice(0, 200))


def corners(y, x, side):
    """A closed square as GeoJSON has it: x before y, corners of pixels."""
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


#: an islet with a hole and a second part
ISLET = {
    "type": "Feature",
    "geometry": {
        "type": "MultiPolygon",
        "coordinates": [
            [corners(10, 10, 80), corners(30, 30, 20)],
            [corners(110, 20, 40)],
        ],
    },
    "properties": {"objectType": "annotation", "name": "A", "classification": {"name": "Islet"}},
}


def filled(squares):
    """Pixels of squares (y, x, side), later ones counted out where they lie in earlier ones."""
    out = np.zeros((200, 200), bool)
    for y, x, side in squares:
        out[y : y + side, x : x + side] ^= True
    return out


@pytest.fixture
def panel(viewer, tmp_path):
    from napari_islet_imaging.widgets.score import ScoreWidget

    write(tmp_path / "islet.ome.tif", staining(1, 0.5))
    (tmp_path / "islet.geojson").write_text(json.dumps([ISLET]))
    viewer.open(tmp_path / "islet.ome.tif", plugin="islet-imaging")
    widget = ScoreWidget(viewer)
    viewer.window.add_dock_widget(widget, name="score")
    widget.out_edit.setText(str(tmp_path / "run"))
    widget.own.bring(tmp_path / "islet.geojson")
    return widget


def mask(viewer, panel):
    (one,) = outlines_in(viewer, panel.chosen)
    return inside(one.rings, WHOLE), len(one.rings)


def test_a_moved_region_keeps_its_hole_and_its_second_part(panel, viewer):
    (layer,) = (x for x in viewer.layers if x.name == "Islets")
    assert len(layer.data) == 1
    before, n = mask(viewer, panel)
    assert n == 3
    assert (before == filled([(10, 10, 80), (30, 30, 20), (110, 20, 40)])).all()
    # moved with napari's own tool: all of it goes along, 10 px down and 20 to the right
    layer.mode = "select"
    layer.selected_data = {0}
    layer._data_view.shift(0, np.array([10.0, 20.0]))
    layer.refresh()
    now, n = mask(viewer, panel)
    assert n == 3
    assert (now == filled([(20, 30, 80), (40, 50, 20), (120, 40, 40)])).all()
    # a click in the hole is none on the region
    assert layer.get_value((50, 60), world=False) == (None, None)
    assert layer.get_value((25, 40), world=False) == (0, None)


def test_what_is_seen_counts_when_corners_are_moved(panel, viewer, qtbot):
    """An outer corner moves: hole and part stay. A corner at a seam moves: what is seen."""
    (layer,) = (x for x in viewer.layers if x.name == "Islets")
    path = layer.data[0].copy()
    far = int(np.argmax(path[:4].sum(axis=1)))
    assert far != 0
    path[far] += (20, 0)
    layer.data = [(path, "polygon")]
    settle()
    now, n = mask(viewer, panel)
    assert n == 3
    assert not now[30:50, 30:50].any()
    assert now[110:150, 20:60].all()
    assert now[95, 85]
    torn = path.copy()
    torn[0] += (-4, -4)
    layer.data = [(torn, "polygon")]
    now, n = mask(viewer, panel)
    assert n == 1
    assert not now[32:48, 32:48].any()
    # as napari itself fills it
    assert (now != layer.to_masks((200, 200))[0]).mean() < 0.02


def test_rings_survive_being_joined():
    rng = np.random.default_rng(0)
    for n in range(1, 5):
        rings = [rng.uniform(0, 200, (int(rng.integers(3, 9)), 2)) for _ in range(n)]
        path = joined(rings)
        assert (inside([path], WHOLE) == inside(rings, WHOLE)).all()
        back = parted(path * 0.32 + 7)
        assert len(back) == n
        for one, other in zip(rings, back, strict=True):
            np.testing.assert_allclose(one * 0.32 + 7, other)


def test_the_run_keeps_holes_of_a_region_that_was_moved(panel, viewer, qtbot):
    """Scored, moved, used: the tables count what lies in the moved region, without the hole."""
    from islet_imaging import Run

    def scored(start):
        start()
        assert panel.job is not None, panel.status.text()
        qtbot.waitUntil(lambda: not panel._running(), timeout=120_000)
        qtbot.waitUntil(panel.review_button.isVisible, timeout=60_000)
        settle(0.3)
        return Run.open(panel.session.run.path)

    run = scored(panel.score)
    assert len(run.regions()["islet.ome.tif"][0].rings) == 3
    (layer,) = (x for x in viewer.layers if x.name == "Islets")
    assert layer.nshapes == 1
    layer._data_view.shift(0, np.array([10.0, 20.0]))
    layer.refresh()
    run = scored(panel.use_regions)
    where = filled([(20, 30, 80), (40, 50, 20), (120, 40, 40)])
    cells = run.cells
    y, x = (cells[c].round().astype(int) for c in ("y_px", "x_px"))
    assert ((cells["islet"] > 0).to_numpy() == where[y, x]).all()
    assert where[y, x].sum() > 5
