"""Every format is read back by its own library and compared with the run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from islet_imaging.errors import IsletImagingError
from islet_imaging.export import export


def _area_and_centre(ring):
    x, y = ring[:-1].T
    x1, y1 = np.roll(x, -1), np.roll(y, -1)
    cross = x * y1 - x1 * y
    area = cross.sum() / 2
    return abs(area), ((x + x1) * cross).sum() / (6 * area), ((y + y1) * cross).sum() / (6 * area)


def test_unknown_format_names_those_there_are(run, tmp_path):
    with pytest.raises(IsletImagingError, match="geojson, roi, anndata, ome-zarr"):
        export(run, tmp_path, format="xml")


def test_geojson_reads_back_as_qupath_objects(run, corrected, tmp_path):
    paths = export(run, tmp_path, format="geojson")
    assert len(paths) == 2
    cells = run.cells
    for path in paths:
        name = path.name.replace(".geojson", ".ome.tif")
        found = json.loads(path.read_text("utf-8"))["features"]
        nuclei = {
            int(f["properties"]["name"].split()[1]): f
            for f in found
            if f["properties"]["objectType"] == "detection"
        }
        table = cells[cells["image"] == name].set_index("cell")
        assert set(nuclei) == set(table.index)
        for cell, feature in nuclei.items():
            (ring,) = feature["geometry"]["coordinates"]
            assert ring[0] == ring[-1]
            assert len({tuple(p) for p in ring}) == len(ring) - 1
            area, x, y = _area_and_centre(np.array(ring))
            # 0.3 um pixels: exported coordinates are px, areas and centres agree with the table
            assert area * 0.3**2 == pytest.approx(table.loc[cell, "nucleus_area_um2"])
            assert x - 0.5 == pytest.approx(table.loc[cell, "x_px"], abs=0.01)
            assert y - 0.5 == pytest.approx(table.loc[cell, "y_px"], abs=0.01)
        assert len({f["id"] for f in found}) == len(found)
        assert any(f["properties"]["objectType"] == "annotation" for f in found)
    image, cell = corrected
    path = tmp_path / image.replace(".ome.tif", ".geojson")
    features = json.loads(path.read_text("utf-8"))["features"]
    edited = next(f for f in features if f["properties"]["name"] == f"cell {cell}")
    assert "INS" in edited["properties"]["classification"]["name"]
    assert edited["properties"]["measurements"]["INS_probability"] == 1.0


def test_roi_zip_reads_back_with_roifile(run, tmp_path):
    roifile = pytest.importorskip("roifile")
    paths = export(run, tmp_path, format="roi")
    cells = run.cells
    rois = roifile.roiread(paths[0])
    table = cells[cells["image"] == "islet_1.ome.tif"].set_index("cell")
    assert len(rois) == len(table)
    for roi in rois:
        cell = int(roi.name.split()[0])
        x, y = np.asarray(roi.coordinates(), float).T
        area = abs(0.5 * (np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
        assert area * 0.3**2 == pytest.approx(table.loc[cell, "nucleus_area_um2"])
    export(run, tmp_path, format="roi")  # again: replaced, not added to
    assert len(roifile.roiread(paths[0])) == len(table)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_anndata_reads_back(run, corrected, tmp_path):
    anndata = pytest.importorskip("anndata")
    (path,) = export(run, tmp_path, format="anndata")
    found = anndata.read_h5ad(path)
    cells = run.cells
    assert found.shape == (len(cells), 2)
    assert list(found.var_names) == ["INS", "GCG"]
    # the light that is the cell's own, not what its ring holds of the neighbours'
    np.testing.assert_allclose(found.X[:, 0], cells["INS_own"].to_numpy(np.float32))
    assert found.var.loc["INS", "feature"] == "INS_own"
    assert not np.allclose(found.X[:, 0], cells["INS_ring_mean"])
    np.testing.assert_allclose(found.obsm["spatial"][:, 1], cells["y_um"])
    image, cell = corrected
    assert found.obs.loc[f"{image}:{cell}", "INS_call"] == "positive"
    assert found.obs.loc[f"{image}:{cell}", "corrected_by"] == "ana"
    assert set(found.obs["condition"]) == {"control", "treated"}
    assert "folder" in json.loads(found.uns["islet_imaging"]["provenance"])


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_omezarr_reads_back(run, tmp_path):
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    paths = export(run, tmp_path, format="ome-zarr")
    nodes = list(Reader(parse_url(paths[0]))())
    image = run.read_image("islet_1.ome.tif")
    np.testing.assert_array_equal(
        np.asarray(nodes[0].data[0]), np.stack([image.channel(c) for c in image.channel_names])
    )
    assert nodes[0].metadata["channel_names"] == list(image.channel_names)
    scale = nodes[0].metadata["coordinateTransformations"][0][0]["scale"]
    assert scale == [1.0, 0.3, 0.3]
    nuclei = next(n for n in nodes if "nuclei" in str(n.metadata.get("name")))
    np.testing.assert_array_equal(np.asarray(nuclei.data[0]), run.labels("islet_1.ome.tif"))


def test_omezarr_is_valid_by_its_models(run, tmp_path):
    models = pytest.importorskip("ome_zarr_models.v05")
    zarr = pytest.importorskip("zarr")
    paths = export(run, tmp_path, format="ome-zarr")
    group = zarr.open_group(paths[0], mode="r")
    checked = models.Image.from_zarr(group)
    assert checked.labels is not None
    names = checked.labels.ome_attributes.labels
    assert names == ["nuclei", "islets"]
    models.ImageLabel.from_zarr(group["labels/nuclei"])
