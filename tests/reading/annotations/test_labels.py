"""Label images of other tools: what is read, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from islet_imaging.errors import IsletImagingError
from islet_imaging.reading.annotations import checked_labels, read_labels_for

SHAPE = (40, 60)


def labels() -> np.ndarray:
    """Three nuclei, two of which touch, with a gap in the numbers."""
    out = np.zeros(SHAPE, np.uint16)
    out[5:15, 5:15] = 1
    out[5:15, 15:24] = 2
    out[20:33, 40:50] = 9
    return out


def png(path: Path, array: np.ndarray) -> Path:
    import imagecodecs

    path.write_bytes(imagecodecs.png_encode(array))
    return path


def seg_npy(path: Path, masks: object) -> Path:
    """As Cellpose writes it: a dictionary in an array of objects."""
    colours = np.zeros((3, 3), np.uint8)
    found = {
        "outlines": np.zeros(SHAPE, np.uint16),
        "colors": colours,
        "masks": masks,
        "chan_choose": [0, 0],
        "filename": "C:/images/a.tif",
        "flows": [np.zeros((1, 4, 4, 3), np.uint8), np.zeros((2, 3), np.float32), []],
        "ismanual": np.zeros(3, bool),
        "diameter": np.float64(17.5),
        "est_diam": 30.0,
    }
    np.save(path, found)  # type: ignore[arg-type]
    return path


def test_label_images_of_every_kind_are_the_same(tmp_path: Path) -> None:
    want = labels()
    tifffile.imwrite(tmp_path / "a.tif", want)
    tifffile.imwrite(tmp_path / "b.tif", want.astype(np.int32)[None])
    np.save(tmp_path / "c.npy", want)
    files = [
        tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.npy",
        png(tmp_path / "d.png", want), seg_npy(tmp_path / "d_seg.npy", want),
        seg_npy(tmp_path / "e_seg.npy", np.asfortranarray(want.astype(np.uint32))),
    ]  # fmt: skip
    for path in files:
        found = read_labels_for(path, SHAPE)
        assert found.dtype == np.int32
        assert np.array_equal(found, want), path.name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_protocol_are_read_without_running(tmp_path: Path, protocol: int) -> None:
    import io
    import pickle

    from islet_imaging.reading.annotations.plain_pickle import as_array, read_plain

    stream = io.BytesIO(pickle.dumps({"masks": labels()}, protocol=protocol))
    found = read_plain(stream)["masks"]
    if protocol == 2:  # text that a function would turn into bytes
        with pytest.raises(ValueError, match="without its bytes"):
            as_array(found)
    else:
        assert np.array_equal(as_array(found), labels())


def test_a_hostile_seg_npy_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path(trace).touch, ()  # type: ignore[return-value]

    np.save(tmp_path / "a_seg.npy", {"masks": Hostile()})  # type: ignore[arg-type]
    with pytest.raises(IsletImagingError, match=r"without running the file.*save the masks"):
        read_labels_for(tmp_path / "a_seg.npy", SHAPE)
    assert not trace.exists()


def test_a_seg_npy_without_masks_says_what_to_do(tmp_path: Path) -> None:
    np.save(tmp_path / "a_seg.npy", {"outlines": labels()})  # type: ignore[arg-type]
    with pytest.raises(IsletImagingError, match="no masks in it"):
        read_labels_for(tmp_path / "a_seg.npy", SHAPE)
    good = seg_npy(tmp_path / "b_seg.npy", labels()).read_bytes()
    (tmp_path / "c_seg.npy").write_bytes(good[: len(good) // 2])
    with pytest.raises(IsletImagingError, match=r"c_seg\.npy"):
        read_labels_for(tmp_path / "c_seg.npy", SHAPE)


def square(y: float, x: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def feature(kind: str, ring: list[list[float]], **more: object) -> dict[str, object]:
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": kind},
        **more,
    }


def test_qupath_cells_have_a_nucleus_of_their_own(tmp_path: Path) -> None:
    nucleus = {"type": "Polygon", "coordinates": [square(4, 6, 3)]}
    found = [
        feature("annotation", square(0, 0, 40)),
        feature("cell", square(2, 4, 8), nucleusGeometry=nucleus),
        feature("cell", square(20, 30, 10), nucleusGeometry=nucleus | {
            "coordinates": [square(22, 33, 4)]}),
    ]  # fmt: skip
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": found}))
    nuclei = read_labels_for(path, SHAPE)
    assert np.bincount(nuclei.ravel())[1:].tolist() == [9, 16]
    assert (nuclei[4:7, 6:9] == 1).all()
    cells = read_labels_for(path, SHAPE, "cells")
    assert np.bincount(cells.ravel())[1:].tolist() == [64, 100]


def test_what_is_exported_comes_back(tmp_path: Path) -> None:
    """Outlines along pixel edges hold exactly the pixels that they were drawn around."""
    roifile = pytest.importorskip("roifile")
    from islet_imaging.export.outline import label_polygons

    rng = np.random.default_rng(0)
    want = np.zeros(SHAPE, np.int32)
    for k, (y, x) in enumerate([(10, 12), (11, 25), (28, 40)], start=1):
        yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
        want[(np.hypot(yy - y, xx - x) < 6 + rng.random())] = k
    rois, features = [], []
    for polygon in label_polygons(want).values():
        rois.append(roifile.ImagejRoi.frompoints(polygon.astype(np.int32)))
        features.append(feature("detection", polygon.tolist()))
    roifile.roiwrite(tmp_path / "a.zip", rois)
    (tmp_path / "a.geojson").write_text(json.dumps(features))
    for name in ("a.zip", "a.geojson"):
        assert np.array_equal(read_labels_for(tmp_path / name, SHAPE), want), name


def test_rois_that_enclose_nothing_are_refused(tmp_path: Path) -> None:
    roifile = pytest.importorskip("roifile")
    roi = roifile.ImagejRoi.frompoints(np.array([[1, 1], [5, 5], [9, 2]]))
    roi.roitype = roifile.ROI_TYPE.POINT
    roi.tofile(tmp_path / "a.roi")
    with pytest.raises(IsletImagingError, match=r"ROI 1 .* is a point, which encloses nothing"):
        read_labels_for(tmp_path / "a.roi", SHAPE)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (labels()[:, :50], "labels of 40 x 50 px for an image of 40 x 60 px"),
        (labels().T, "labels of 60 x 40 px for an image of 40 x 60 px; they are turned by 90"),
        (labels().astype(np.float32), "labels are float32"),
        (np.zeros(SHAPE, int), "empty, all pixels are 0"),
        (labels() > 0, "a black-and-white mask"),
        (np.stack([labels()] * 2), r"one plane .* not of shape \(2, 40, 60\)"),
        (labels().astype(int) - 1, "a label is -1"),
        (labels().astype(np.int64) * 10**7, "a label is 90000000, more than"),
    ],
)
def test_what_is_no_label_image_is_refused(array: np.ndarray, says: str) -> None:
    with pytest.raises(IsletImagingError, match=says) as told:
        checked_labels(array, SHAPE, "nuclei", "a.tif")
    assert str(told.value).startswith("a.tif: nuclei: ")
    assert "\n" not in str(told.value)


def test_a_black_and_white_mask_is_no_label_image() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    for y, x in ((3, 3), (3, 20), (20, 20)):
        mask[y : y + 8, x : x + 8] = 255
    with pytest.raises(IsletImagingError, match="black-and-white"):
        checked_labels(mask, SHAPE)


def test_one_number_in_two_places_is_refused_and_loose_pixels_are_not() -> None:
    twice = labels()
    twice[30:38, 2:12] = 9
    with pytest.raises(IsletImagingError, match="label 9 lies in two places"):
        checked_labels(twice, SHAPE)
    loose = labels()
    loose[17, 20] = 1
    assert np.array_equal(checked_labels(loose, SHAPE), loose)
    dying = labels()  # in two pieces, as the truth of phantoms has them
    dying[30:33, 5:8] = dying[36:39, 9:12] = 4
    assert np.array_equal(checked_labels(dying, SHAPE), dying)


def test_other_refusals_name_the_file(tmp_path: Path) -> None:
    for name, says in (
        ("missing.tif", "there is no such file"),
        ("empty.tif", "the file is empty"),
        ("text.geojson", "no GeoJSON"),
        ("points.geojson", "object 1 is a Point, not an outline"),
        ("far.geojson", "object 1 has no pixel within the image of 40 x 60 px"),
        ("twice.geojson", "objects 1 and 2 lie on one another"),
        ("none.geojson", "empty, no outline in it"),
    ):
        path = tmp_path / name
        point = {"type": "Point", "coordinates": [3, 4]}
        written = {
            "empty.tif": "",
            "text.geojson": "nuclei",
            "points.geojson": json.dumps([{"type": "Feature", "geometry": point}]),
            "far.geojson": json.dumps([feature("detection", square(400, 400, 9))]),
            "twice.geojson": json.dumps([feature("cell", square(4, 4, 9))] * 2),
            "none.geojson": json.dumps({"type": "FeatureCollection", "features": []}),
        }
        if name in written:
            path.write_text(written[name])
        with pytest.raises(IsletImagingError, match=says) as told:
            read_labels_for(path, SHAPE)
        assert name in str(told.value)


def test_colour_pictures_of_masks_are_refused(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", np.zeros((*SHAPE, 3), np.uint8) + 9)
    with pytest.raises(IsletImagingError, match="not a coloured picture"):
        read_labels_for(path, SHAPE)
