"""Images, runs and nuclei, into napari and out of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")


pytestmark = [
    pytest.mark.gui,
    # napari, vispy and Qt deprecate among themselves
    pytest.mark.filterwarnings("default"),
]


def test_a_run_opens_with_scale_units_locks_and_features(viewer, run):
    viewer.open(str(run.path), plugin="islet-imaging")
    layers = {layer.name: layer for layer in viewer.layers}
    assert {"DAPI", "INS", "GCG", "islets", "nuclei", "calls"} <= set(layers)
    for layer in layers.values():
        assert tuple(layer.scale) == (0.3, 0.3)
        assert [str(u) for u in layer.units] in (["micrometer"] * 2, ["um"] * 2)
    nuclei = layers["nuclei"]
    assert (nuclei.features["index"] == nuclei.features["cell"]).all()
    from napari_islet_imaging.widgets.review import ReviewWidget

    viewer.window.add_dock_widget(ReviewWidget(viewer))
    if hasattr(type(nuclei), "locked"):
        assert layers["INS"].locked
        assert not nuclei.locked
    # an image of other pixels lies over it in um
    other = viewer.add_image(np.zeros((36, 40)), scale=(3.0, 3.0), units=("um", "um"))
    assert np.allclose(other.extent.world[1], layers["INS"].extent.world[1], atol=3.0)


def test_a_stained_image_opens_named_coloured_and_scaled(viewer, run):
    path = run.provenance["images"][0]["files"][0]
    viewer.open(path, plugin="islet-imaging")
    assert [layer.name for layer in viewer.layers] == ["DAPI", "INS", "GCG"]
    assert [layer.colormap.name for layer in viewer.layers] == ["blue", "green", "magenta"]
    assert tuple(viewer.layers["INS"].scale) == (0.3, 0.3)


def test_nuclei_with_their_calls_are_written(viewer, run, tmp_path):
    import pandas as pd
    import tifffile

    viewer.open(str(run.path), plugin="islet-imaging")
    path = tmp_path / "corrected.tif"
    written = viewer.layers["nuclei"].save(str(path), plugin="islet-imaging")
    assert len(written) == 2
    np.testing.assert_array_equal(tifffile.imread(path), viewer.layers["nuclei"].data)
    table = pd.read_csv(path.with_suffix(".csv"))
    assert "INS_call" in table
    with tifffile.TiffFile(path) as stored:
        tags = stored.pages[0].tags
        assert tags["XResolution"].value[0] / tags["XResolution"].value[1] == pytest.approx(
            1e4 / 0.3, rel=1e-3
        )
