"""A threshold that is tried shows what scoring with it gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("psygnal")
from napari_islet_imaging.session.drawing import CallOutlines
from napari_islet_imaging.session.review import ReviewSession
from napari_islet_imaging.session.trial import unsure_band, with_cut

from islet_imaging import Run, phantom, score_folder


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A run that was scored from pixels, of two images of one staining run."""
    import tifffile

    folder = tmp_path_factory.mktemp("pixels") / "images"
    folder.mkdir()
    for seed in (3, 4):
        made = phantom("ffpe20x", seed=seed, shape=(320, 320)).image
        tifffile.imwrite(
            folder / f"islet {seed}.ome.tif",
            np.stack([made.channel(c) for c in made.channel_names]),
            ome=True,
            photometric="minisblack",
            metadata={
                "axes": "CYX",
                "Channel": {"Name": list(made.channel_names)},
                "PhysicalSizeX": made.pixel_size_um,
                "PhysicalSizeY": made.pixel_size_um,
            },
        )
    return score_folder(folder, folder.parent / "run", workers=1)


def test_scoring_with_the_tried_threshold_gives_the_shown_number(scored, tmp_path):
    session = ReviewSession(scored, reviewer="ana")
    name = session.image_names[0]
    session.open_image(name)
    corrected = session.table["cell"].tolist()[:2]
    for cell in corrected:  # what people said does not move with the threshold
        session.call("positive", cell)
    own = session.thresholds()["INS"].value
    for factor in (0.5, 2.5):
        tried = session.try_threshold(own * factor)
        protocol = with_cut(session.protocol, "INS", tried.cut)
        again = score_folder(scored.source, tmp_path / str(factor), protocol=protocol, workers=1)
        (tmp_path / str(factor) / "corrections.jsonl").write_bytes(scored.corrections.read_bytes())
        rescored = ReviewSession(Run.open(again.path), reviewer="bo")
        assert rescored.tables[name]["INS_call"].tolist() == tried.table["INS_call"].tolist()
        np.testing.assert_array_equal(
            rescored.tables[name]["INS_probability"], tried.table["INS_probability"]
        )
        found = dataclasses.asdict(rescored.counts.now(name, "INS"))
        shown = dataclasses.asdict(tried.tally)
        assert found.pop("status") == shown.pop("status")
        assert found == pytest.approx(shown, rel=1e-12, nan_ok=True)
    scored.corrections.unlink()


def test_untouched_every_count_is_that_of_the_tables(scored):
    session = ReviewSession(scored)
    for row in scored.images.itertuples():
        for marker in session.protocol.markers:
            counted = session.counts.of(session.tables[row.image], marker)
            held = getattr(row, f"{marker}_fraction")
            assert counted.fraction == pytest.approx(held, rel=1e-12, nan_ok=True)
            for bound in ("low", "high"):
                held = getattr(row, f"{marker}_fraction_{bound}")
                assert getattr(counted, bound) == pytest.approx(held, rel=1e-12)


def test_a_trial_is_drawn_and_ends_with_what_it_is_about(session):
    outlines = CallOutlines(session)
    told = []
    session.trial_changed.connect(lambda: told.append(session.trial))
    session.open_image(session.image_names[0])
    own = session.thresholds()["INS"].value
    lines = session.open.outlines.copy()

    name = session.open.name

    def try_it():
        session.try_threshold(own * 4)
        assert session.trial.tally.n_positive < session.counts.now(name, "INS").n_positive
        assert (session.open.outlines == 2).sum() < (lines == 2).sum()

    try_it()
    session.end_trial()
    np.testing.assert_array_equal(session.open.outlines, lines)
    for end in (
        lambda: session.set_marker("GCG"),
        lambda: session.set_marker("INS"),
        lambda: session.call("positive", int(session.table["cell"].iloc[0])),
        lambda: session.undo(),
        lambda: session.open_image(session.image_names[1]),
    ):
        if session.marker == "INS":
            try_it()
        end()
        assert session.trial is None
    assert told
    assert outlines.session.open is session.open
    assert not [e for e in session.edits if e.action not in ("call", "undo")]


def test_the_unsure_band_lies_around_the_threshold(session):
    session.open_image(session.image_names[0])
    fitted = session.thresholds()["INS"]
    low, high = unsure_band(fitted, session.table["INS_own"].to_numpy(float), 0.2, 0.8)
    assert low < fitted.value < high
    # higher thresholds never call more cells positive
    shares = [session.try_threshold(fitted.value * k).tally.low for k in (0.5, 1, 3, 10)]
    assert shares == sorted(shares, reverse=True)
