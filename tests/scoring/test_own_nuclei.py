"""Nuclei and cells that somebody else found, scored by the default calling."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from islet_imaging import phantom
from islet_imaging.errors import IsletImagingError
from islet_imaging.image import IsletImage
from islet_imaging.protocol import Channel, Islets, Nuclei, Protocol
from islet_imaging.scoring.image import measure_image, score_image
from tests.stainings import staining

CHANNELS = (Channel("DAPI", "dna"), Channel("INS"))
PROTOCOL = Protocol(channels=CHANNELS, nuclei=Nuclei(method="classical"))


def image(size: float = 0.5) -> IsletImage:
    return IsletImage.from_array(staining(1, 0.5), ["DAPI", "INS"], size, name="a")


def rings(radius: float) -> np.ndarray:
    """Discs on the lattice of the staining, numbered with gaps."""
    y, x = np.mgrid[:200, :200]
    out = np.zeros((200, 200), np.int32)
    for k, cy in enumerate(range(20, 185, 26)):
        for j, cx in enumerate(range(20, 185, 26)):
            out[np.hypot(y - cy, x - cx) < radius] = 1 + 3 * (10 * k + j)
    return out


def test_own_nuclei_handed_back_change_no_call() -> None:
    """With the networks, every column of every cell to the last digit."""
    made = phantom("ffpe20x", seed=5, shape=(320, 320), channels=("DAPI", "INS")).image
    protocol = Protocol(channels=CHANNELS)
    first = score_image(made, protocol)
    again = score_image(made, protocol, nuclei=first.nuclei)
    assert len(first.cells) > 30
    pd.testing.assert_frame_equal(again.cells, first.cells, check_exact=True)
    pd.testing.assert_frame_equal(again.islet_table, first.islet_table, check_exact=True)
    assert [f.code for f in again.flags if f.code == "given_nuclei"]
    assert not [f.code for f in first.flags if f.code == "given_nuclei"]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.38, 0.70])
def test_true_nuclei_are_called_as_well_as_found_ones(share: float) -> None:
    made = phantom("ffpe20x", seed=3, shape=(900, 900), channels=("DAPI", "INS"),
                   insulin_fraction=share)  # fmt: skip
    truth = made.truth.cells.set_index("cell")["INS_expressed"]
    cells = score_image(made.image, Protocol(channels=CHANNELS), nuclei=made.truth.nuclei).cells
    counted = cells[~cells["excluded"]]
    true = truth.reindex(counted["cell"]).astype(float)
    assert counted["INS_probability"].mean() == pytest.approx(true.mean(), abs=0.03)


def test_numbers_and_sizes_are_those_that_were_given() -> None:
    labels = rings(7)
    scored = score_image(image(), PROTOCOL, nuclei=labels)
    assert np.array_equal(scored.nuclei, labels)
    assert scored.cells["cell"].tolist() == (np.unique(labels)[1:]).tolist()
    assert (scored.cells["INS_call"] == "positive").any()


def test_a_field_counts_nuclei_not_numbers() -> None:
    field = PROTOCOL.replace(islets=Islets(method="field"))
    found = measure_image(image(), field, nuclei=rings(7)).islet_table
    assert found["n_cells"].tolist() == [49]


def test_specks_among_given_nuclei_are_named() -> None:
    labels = rings(7)
    labels[3, 3:60:8] = 900 + np.arange(len(range(3, 60, 8)))
    codes = {f.code: f for f in score_image(image(), PROTOCOL, nuclei=labels).flags}
    assert "8 of 57 given nuclei are smaller" in codes["odd_nuclei"].message


def test_nuclei_of_another_size_bring_their_own_scale() -> None:
    """The ring follows the given nuclei where the image's own estimate is far from them."""
    found = measure_image(image(), PROTOCOL, nuclei=rings(3.2)).record["scale"]
    usual = measure_image(image(), PROTOCOL, nuclei=rings(7)).record["scale"]
    assert found["source"] == "image"
    assert found["ring_um"] < 0.7 * usual["ring_um"]


def test_whole_cells_give_the_cytoplasm() -> None:
    nuclei, cells = rings(7), rings(12)
    cells[cells > 0] = cells.max() + 5 - cells[cells > 0]  # numbers of their own
    found = measure_image(image(), PROTOCOL, nuclei=nuclei, cells=cells)
    stain = image().channel("INS").astype(float)
    for row in found.cells.itertuples():
        own = cells[round(row.y_px), round(row.x_px)]
        ring = (cells == own) & (nuclei == 0)
        assert row.INS_ring_mean == pytest.approx(stain[ring].mean())


def test_a_nucleus_in_no_cell_is_left_out_with_its_reason() -> None:
    nuclei, cells = rings(7), rings(12)
    cells[:, 100:] = 0
    found = measure_image(image(), PROTOCOL, nuclei=nuclei, cells=cells).cells
    lost = found["x_px"] > 100
    assert found.loc[lost, "excluded"].all()
    assert found.loc[lost, "flags"].str.contains("no_cell").all()
    assert not found.loc[~lost, "flags"].str.contains("no_cell").any()


def test_tiles_change_nothing() -> None:
    given = {"nuclei": rings(7), "cells": rings(16)}
    whole = measure_image(image(), PROTOCOL, **given)
    parts = measure_image(image(), PROTOCOL, tile_px=70, **given)
    pd.testing.assert_frame_equal(whole.cells, parts.cells, check_exact=True)
    assert np.array_equal(whole.islets, parts.islets)


def test_a_cell_of_two_nuclei_is_shared_out() -> None:
    from islet_imaging.segmentation.whole_cells import cells_of_nuclei, whole_cells

    nuclei, cells = np.zeros((9, 21), np.int32), np.full((9, 21), 4, np.int32)
    nuclei[4, 3], nuclei[4, 17] = 1, 2
    found = whole_cells(nuclei, cells, cells_of_nuclei(nuclei, cells))
    assert (found[:, :10] == 1).all()
    assert (found[:, 11:] == 2).all()


def test_labels_of_another_image_are_refused() -> None:
    with pytest.raises(IsletImagingError, match="labels of 200 x 100 px for an image of 200 x 200"):
        score_image(image(), PROTOCOL, nuclei=rings(7)[:, :100])
    with pytest.raises(IsletImagingError, match="cells: labels are float64"):
        score_image(image(), PROTOCOL, cells=rings(12) * 1.0)
    with pytest.raises(IsletImagingError, match="1 label images for 2 controls"):
        score_image(image(), PROTOCOL, controls=[image(), image()], control_nuclei=[rings(7)])


def test_controls_have_nuclei_of_their_own() -> None:
    dark = IsletImage.from_array(staining(2, 0.0), ["DAPI", "INS"], 0.5, name="c")
    scored = score_image(
        image(), PROTOCOL, nuclei=rings(7), controls=[dark], control_nuclei=[rings(7)]
    )
    assert scored.thresholds["INS"].used.controls == 49
