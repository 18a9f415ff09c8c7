"""Calls at another threshold."""

from __future__ import annotations

import pytest

pytest.importorskip("psygnal")
from napari_islet_imaging.session.staining import thresholds
from napari_islet_imaging.session.tally import tally
from napari_islet_imaging.session.what_if import ThresholdView


def test_at_its_own_value_the_threshold_gives_the_run_s_calls(session):
    session.open_image(session.image_names[0])
    fitted = thresholds(session)["INS"]
    seen = ThresholdView(session.table, "INS", fitted, "INS_own", unsure_low=0.2, unsure_high=0.8)
    found = seen.at(seen.value)
    assert (found.calls == session.table["INS_call"].to_numpy()).all()
    assert found.fraction == pytest.approx(tally(session.table, "INS").fraction)
    higher = [seen.at(seen.value * k).fraction for k in (0.5, 1, 1.5, 3, 10)]
    assert higher == sorted(higher, reverse=True)
    low, high = seen.band(seen.value)
    assert low < seen.value < high
