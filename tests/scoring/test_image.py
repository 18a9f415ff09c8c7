"""One image that stands alone: the same numbers as in a folder, progress, cancel, errors."""

from __future__ import annotations

import numpy as np
import pytest

from islet_imaging.errors import Cancelled, ChannelError, PixelSizeError
from islet_imaging.image import IsletImage
from islet_imaging.protocol import Channel, Correction, Nuclei, Positivity, Protocol
from islet_imaging.scoring.image import score_image
from tests.stainings import staining

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical")
)


def image(seed: int, positive: float, size: float | None = 0.5, name: str = "a") -> IsletImage:
    return IsletImage.from_array(staining(seed, positive), ["DAPI", "INS"], size, name=name)


def test_calls_follow_the_stain() -> None:
    controls = [image(k, 0.0, name=f"c{k}") for k in (7, 8)]
    scored = score_image(image(1, 0.5), PROTOCOL, controls=controls)
    assert set(np.unique(scored.nuclei)) - {0} == set(scored.cells["cell"])
    counted = scored.cells[~scored.cells["excluded"]]
    assert (counted["INS_call"] == "positive").mean() == pytest.approx(0.5, abs=0.2)
    bright = counted["INS_ring_median"] > 400
    assert (counted.loc[bright, "INS_call"] == "positive").all()
    assert not (counted.loc[~bright, "INS_call"] == "positive").any()
    assert (counted["INS_reason"].str.len() > 0).all()


def test_stated_thresholds_are_used() -> None:
    first = score_image(image(1, 0.5), PROTOCOL)
    again = score_image(image(1, 0.5), PROTOCOL, thresholds=first.thresholds)
    assert again.cells.equals(first.cells)


def test_a_manual_threshold_rules() -> None:
    manual = PROTOCOL.replace(positivity={"INS": Positivity(method="manual", threshold=1e5)})
    scored = score_image(image(1, 0.9), manual)
    assert not (scored.cells["INS_call"] == "positive").any()


def test_progress_ends_at_one_and_never_goes_back() -> None:
    told: list[float] = []
    score_image(image(1, 0.5), PROTOCOL, progress=lambda done, _: told.append(done))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_cancel_stops_between_steps() -> None:
    told: list[float] = []
    with pytest.raises(Cancelled):
        score_image(
            image(1, 0.5),
            PROTOCOL,
            progress=lambda done, _: told.append(done),
            cancelled=lambda: len(told) >= 3,
        )
    assert len(told) == 3


def test_what_is_missing_is_named() -> None:
    with pytest.raises(PixelSizeError, match="pixel size"):
        score_image(image(1, 0.5, size=None), PROTOCOL)
    other = PROTOCOL.replace(channels=(Channel("DAPI", "dna"), Channel("GCG")))
    with pytest.raises(ChannelError, match="GCG"):
        score_image(image(1, 0.5), other)
    with pytest.raises(TypeError, match="from_array"):
        score_image(staining(1, 0.5), PROTOCOL)


@pytest.mark.parametrize("fill", [0, 500])
def test_images_without_cells_are_flagged_not_refused(fill: int) -> None:
    blank = IsletImage.from_array(np.full((2, 120, 90), fill, np.uint16), ["DAPI", "INS"], 0.5)
    scored = score_image(blank, PROTOCOL)
    assert len(scored.cells) == 0
    assert scored.flags
    assert {"INS_call", "INS_probability", "phenotype"} <= set(scored.cells.columns)


def test_clipping_is_counted_on_the_stored_pixels() -> None:
    stack = staining(1, 0.5)
    stack[1][stack[1] > 700] = 4095
    clipped = IsletImage.from_array(stack, ["DAPI", "INS"], 0.5)
    corrected = PROTOCOL.replace(correction=Correction(offset=100.0))
    for protocol in (PROTOCOL, corrected):
        cells = score_image(clipped, protocol).cells
        bright = cells["INS_ring_mean"] > 1500
        assert bright.any()
        assert (cells.loc[bright, "INS_saturated"] > 0.1).all()
        assert (cells.loc[cells["INS_ring_p75"] < 400, "INS_saturated"] < 0.05).all()
