"""Islets and regions to leave out that somebody drew: script, folder, journal, tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from islet_imaging import Protocol, Run, read_image, resummarise, score_folder, score_image
from islet_imaging.cli import app
from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Channel, Islets, Nuclei, Positivity
from islet_imaging.reading.annotations import Outline, read_regions
from islet_imaging.review.journal import Edit, Journal
from islet_imaging.review.regions import region_edit
from tests.reading.annotations.test_labels import feature, square
from tests.scoring.test_three_ways import same_cells
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical")
)


def region(y: float, x: float, side: float, *, name: str = "", kind: str = "") -> dict[str, object]:
    """An annotation as QuPath writes it."""
    made = feature("annotation", square(y, x, side))
    properties = made["properties"]
    assert isinstance(properties, dict)
    properties |= ({"name": name} if name else {}) | (
        {"classification": {"name": kind, "color": [1, 2, 3]}} if kind else {}
    )
    return made


#: left half: two islets, with a fold in the first; the rest is outside
DRAWN = [
    region(0, 0, 95, name="A", kind="Islet"),
    region(105, 0, 95),
    region(10, 10, 30, name="fold", kind="Ignore*"),
    feature("detection", square(0, 0, 10)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    write(root / "images" / "a.ome.tif", staining(1, 0.5))
    (root / "regions").mkdir()
    (root / "regions" / "a.geojson").write_text(json.dumps(DRAWN))
    return root


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    protocol = folder / "protocol.yaml"
    protocol.write_text(PROTOCOL.replace(islets=Islets(method="drawn")).dump())
    done = CliRunner().invoke(
        app,
        ["score", str(folder / "images"), "-o", str(folder / "run"), "--protocol", str(protocol),
         "--regions", str(folder / "regions")],
    )  # fmt: skip
    assert done.exit_code in (0, 3), done.output
    assert "nuclei outside of the drawn islets count apart" in done.output
    return Run.open(folder / "run")


def test_every_nucleus_is_where_it_was_drawn(run: Run) -> None:
    cells = run.cells
    y, x = cells["y_px"], cells["x_px"]
    fold = (y >= 10) & (y < 40) & (x >= 10) & (x < 40)
    first = (y < 95) & (x < 95) & ~fold
    second = (y >= 105) & (x < 95)
    want = np.select([fold, first, second], ["fold", "A", "islet 2"], "outside")
    assert cells["region"].tolist() == want.tolist()
    assert cells["islet"].tolist() == np.select([first, second], [1, 2], 0).tolist()
    assert (cells["flags"].str.contains("left_out") == fold).all()
    assert cells.loc[fold, "excluded"].all()
    assert not cells.loc[want == "outside", "flags"].str.contains("left_out").any()
    labels = run.labels("a.ome.tif", "islets")
    assert labels[50, 50] == 1
    assert labels[20, 20] == 0
    assert labels[150, 50] == 2
    assert labels[150, 150] == 0


def test_tables_and_report_say_it(run: Run) -> None:
    cells = run.cells
    live = cells[~cells["excluded"]]
    inside = live[live["region"] != "outside"]
    share = inside["INS_probability"].where(inside["INS_call"] == "unsure").fillna(
        (inside["INS_call"] == "positive").astype(float)
    )  # fmt: skip
    row = run.images.iloc[0]
    assert row["n_cells"] == len(inside)
    assert row["n_islets"] == 2
    assert row["INS_fraction"] == pytest.approx(share.mean())
    assert row["n_outside"] == len(live) - len(inside)
    assert 0 <= row["INS_outside_fraction"] <= 1
    assert run.islets["region"].tolist() == ["A", "islet 2"]
    assert run.islets["n_cells"].sum() == len(inside)
    note = run.summary["note"][0]
    assert "in a region to leave out" in note
    assert f"{row['n_outside']} nuclei outside of the drawn islets count apart" in note
    assert "2 drawn (A, islet 2)" in (run.path / "report.html").read_text("utf-8")


def test_the_script_says_the_same_to_the_last_digit(run: Run, folder: Path) -> None:
    image = read_image(folder / "images" / "a.ome.tif", protocol=PROTOCOL)
    scored = score_image(image, run.protocol, regions=folder / "regions" / "a.geojson",
                         thresholds=None)  # fmt: skip
    same_cells(scored.cells, run.cells)
    assert scored.cells["region"].tolist() == run.cells["region"].tolist()
    assert np.array_equal(scored.islets, run.labels("a.ome.tif", "islets"))


def test_regions_stand_in_the_journal_and_can_be_taken_back(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    plain = score_folder(folder / "images", tmp_path / "plain", protocol=PROTOCOL)
    drawn = score_folder(folder / "images", out, protocol=PROTOCOL, regions=folder / "regions")
    journal = Journal(out / "corrections.jsonl")
    (edit,) = journal.edits()
    assert edit.who == "file a.geojson"
    assert set(edit.pixels) == set(drawn.pixels["a.ome.tif"])
    assert "corrected_by" not in drawn.cells
    again = score_folder(folder / "images", out, protocol=PROTOCOL, regions=folder / "regions")
    assert len(journal.edits()) == 1
    pd.testing.assert_frame_equal(again.cells, drawn.cells)
    # somebody draws another islet in the window
    ring = np.array([[120.0, 120.0], [120.0, 199.0], [199.0, 199.0], [199.0, 120.0]])
    mine = journal.append(region_edit("ana", "a.ome.tif", [Outline((ring,), "mine", "islet")]))
    assert resummarise(out).islets["region"].tolist() == ["mine"]
    kept = score_folder(folder / "images", out, protocol=PROTOCOL, regions=folder / "regions")
    assert kept.islets["region"].tolist() == ["mine"]
    # both are taken back: what was measured is there again, to the last bit
    for one in (mine, edit):
        journal.append(Edit("ana", "a.ome.tif", "undo", undoes=one.id))
    back = resummarise(out)
    same_cells(back.cells, plain.cells)
    assert back.cells["islet"].tolist() == plain.cells["islet"].tolist()
    assert "region" not in back.cells
    assert np.array_equal(back.labels("a.ome.tif", "islets"), plain.labels("a.ome.tif", "islets"))
    pd.testing.assert_frame_equal(back.islets, plain.islets)
    assert back.summary["fraction"].tolist() == plain.summary["fraction"].tolist()


def test_only_left_out_leaves_islets_to_be_found(folder: Path) -> None:
    image = read_image(folder / "images" / "a.ome.tif", protocol=PROTOCOL)
    plain = score_image(image, PROTOCOL)
    half = np.array([[-0.5, -0.5], [-0.5, 99.5], [199.5, 99.5], [199.5, -0.5]])
    scored = score_image(image, PROTOCOL, regions=[Outline((half,), "exocrine", "left_out")])
    gone = scored.cells["x_px"] < 99.5
    assert scored.cells.loc[gone, "excluded"].all()
    assert (scored.cells.loc[gone, "islet"] == 0).all()
    assert not (scored.islets[:, :99] > 0).any()
    assert (scored.cells.loc[~gone, "region"] == "").all()
    assert plain.islets[:, :99].any()
    field = PROTOCOL.replace(islets=Islets(method="field"))
    whole = score_image(image, field, regions=[Outline((half,), "exocrine", "left_out")])
    assert whole.islet_table["n_cells"].tolist() == [int((~gone).sum())]


def test_left_out_cells_make_no_threshold(folder: Path) -> None:
    """Debris that glows must not say what a positive cell is."""
    shape = (460, 300)
    stack = staining(1, 0.5, shape)
    stack[1, :100] = 40000
    from islet_imaging.image import IsletImage

    image = IsletImage.from_array(stack, ["DAPI", "INS"], 0.5, name="a")
    top = np.array([[-0.5, -0.5], [-0.5, 299.5], [112.5, 299.5], [112.5, -0.5]])
    regions = [Outline((top,), "debris", "left_out")]
    levels = PROTOCOL.replace(positivity={"INS": Positivity(method="levels")})
    scored = score_image(image, levels, regions=regions)
    clean = IsletImage.from_array(staining(1, 0.5, shape), ["DAPI", "INS"], 0.5, name="a")
    want = score_image(clean, levels, regions=regions)
    below = scored.cells["y_px"] > 125
    assert scored.thresholds["INS"].value < 500 < score_image(image, levels).thresholds["INS"].value
    assert scored.cells[below]["INS_call"].tolist() == want.cells[below]["INS_call"].tolist()
    assert not scored.cells[below]["INS_call"].eq("unsure").all()


def test_drawn_islets_are_asked_for(folder: Path, tmp_path: Path) -> None:
    drawn = PROTOCOL.replace(islets=Islets(method="drawn"))
    images = score_folder(folder / "images", tmp_path / "run", protocol=drawn).images
    assert images["status"].tolist() == ["skipped"]
    assert images["message"][0].startswith("left out (no_regions)")
    (tmp_path / "regions").mkdir()
    (tmp_path / "regions" / "a.geojson").write_text(json.dumps([region(0, 0, 50, kind="Stroma")]))
    told = score_folder(
        folder / "images", tmp_path / "run2", protocol=drawn, regions=tmp_path / "regions"
    ).images["message"][0]
    assert "region 1 has the class 'Stroma', which is neither an islet nor to be left out" in told


def test_tiles_of_a_slide_are_drawn_alike() -> None:
    from islet_imaging.segmentation.drawn_islets import DrawnRegions

    theta = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    blob = np.column_stack([90 + 70 * np.sin(theta), 110 + 90 * np.cos(theta)])
    hole = np.column_stack([90 + 20 * np.sin(theta), 110 + 20 * np.cos(theta)])
    drawn = DrawnRegions([Outline((blob, hole), "A", "islet")], (180, 230))
    whole = drawn.islets_in((slice(0, 180), slice(0, 230)))
    assert whole[90, 110] == 0
    for rows in (slice(0, 77), slice(77, 180)):
        for columns in (slice(0, 101), slice(101, 230)):
            assert np.array_equal(drawn.islets_in((rows, columns)), whole[rows, columns])
    y, x = (v.ravel().astype(float) for v in np.mgrid[:180, :230])
    assert np.array_equal(drawn.at(y, x)[0], whole.ravel())


@pytest.mark.parametrize(
    ("kind", "name", "means"),
    [
        ("Islet", "", "islet"), ("islets", "", "islet"), ("Region*", "", "islet"),
        ("", "0012-0345", "islet"), ("", "Fold 2", "left_out"), ("Ignore*", "", "left_out"),
        ("Exclude", "", "left_out"), ("Exocrine", "A", "left_out"), ("Other*", "", "left_out"),
        ("", "", "islet"), ("left_out", "", "left_out"),
    ],
)  # fmt: skip
def test_words_say_what_a_region_is(tmp_path: Path, kind: str, name: str, means: str) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps([region(2, 2, 20, kind=kind, name=name)]))
    (found,) = read_regions(path, (60, 60))
    assert found.kind == means


def test_regions_of_rois_and_of_label_images(tmp_path: Path) -> None:
    roifile = pytest.importorskip("roifile")
    rois = []
    for k, name in enumerate(("0001-0002", "ignore debris")):
        roi = roifile.ImagejRoi.frompoints(np.array([[2, 2], [20, 2], [20, 20], [2, 20]]) + 20 * k)
        roi.name = name
        rois.append(roi)
    roifile.roiwrite(tmp_path / "a.zip", rois)
    found = read_regions(tmp_path / "a.zip", (60, 60))
    assert [(o.name, o.kind) for o in found] == [
        ("0001-0002", "islet"), ("ignore debris", "left_out")
    ]  # fmt: skip
    labels = np.zeros((60, 60), np.uint8)
    labels[5:30, 5:30] = 4
    labels[10:20, 10:20] = 0
    tifffile.imwrite(tmp_path / "a_islets.tif", labels)
    from islet_imaging.segmentation.drawn_islets import DrawnRegions

    (islet,) = found = read_regions(tmp_path / "a_islets.tif", (60, 60))
    assert islet.name == "islet 1"  # a black-and-white mask: patches are islets
    drawn = DrawnRegions(found, (60, 60)).islets_in((slice(0, 60), slice(0, 60)))
    assert np.array_equal(drawn > 0, labels > 0)
    labels[40:50, 40:50] = 7
    labels[52:55, 5:9] = 7  # an islet in two parts
    tifffile.imwrite(tmp_path / "b_islets.tif", labels)
    found = read_regions(tmp_path / "b_islets.tif", (60, 60))
    assert [o.name for o in found] == ["islet 4", "islet 7"]
    drawn = DrawnRegions(found, (60, 60)).islets_in((slice(0, 60), slice(0, 60)))
    assert np.array_equal(drawn == 2, labels == 7)


def test_regions_outside_or_of_no_area_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    for found, says in (
        ([region(200, 200, 30)], "region 1 lies outside the image of 60 x 60 px"),
        ([feature("detection", square(0, 0, 9))], "no region in it"),
    ):
        path.write_text(json.dumps(found))
        with pytest.raises(IsletImagingError, match=says):
            read_regions(path, (60, 60))
