"""Bleed-through and illumination, fitted over a folder before anything is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from islet_imaging.errors import IsletImagingError
from islet_imaging.experiment.calibration import fit_bleed_matrix, fit_flat_fields
from islet_imaging.experiment.sample_sheet import Sample
from islet_imaging.protocol import Channel, Correction, Protocol
from tests.stainings import staining, write

CHANNELS = (Channel("DAPI", "dna"), Channel("INS"), Channel("GCG"))


def sample(path: Path, role: str = "sample") -> Sample:
    return Sample(path.name, (path,), batch="b", role=role)


def single_stain(path: Path, bleed: float) -> Sample:
    _, ins = staining(4, 0.6).astype(float)
    light = ins - 120
    rng = np.random.default_rng(1)
    planes = [np.full_like(light, 100), 100 + light, 100 + bleed * light]
    noisy = np.stack([p + rng.normal(0, 3, p.shape) for p in planes]).clip(0)
    write(path, noisy.astype(np.uint16), names=["DAPI", "INS", "GCG"])
    return sample(path, "single_stain:INS")


def test_bleed_through_is_found(tmp_path: Path) -> None:
    protocol = Protocol(channels=CHANNELS, correction=Correction(bleed_through="controls"))
    fitted = fit_bleed_matrix(protocol, [single_stain(tmp_path / "ins.ome.tif", 0.08)])
    assert fitted.correction.bleed_matrix["INS"]["GCG"] == pytest.approx(0.08, abs=0.01)
    # a matrix that is stated is not fitted again
    assert fit_bleed_matrix(fitted, []) == fitted


def test_missing_single_stains_are_said() -> None:
    protocol = Protocol(channels=CHANNELS, correction=Correction(bleed_through="controls"))
    with pytest.raises(IsletImagingError, match="single_stain"):
        fit_bleed_matrix(protocol, [])


def test_off_means_untouched() -> None:
    protocol = Protocol(channels=CHANNELS)
    assert fit_bleed_matrix(protocol, []) is protocol
    assert fit_flat_fields(protocol, []) is None


def test_a_flat_field_is_fitted_over_the_folder(tmp_path: Path) -> None:
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    gain = 1 - 0.3 * (y**2 + x**2) / 2
    rows = []
    for k in range(8):
        path = tmp_path / f"{k}.ome.tif"
        write(path, (staining(k, 0.5) * gain).astype(np.uint16))
        rows.append(sample(path))
    protocol = Protocol(channels=CHANNELS[:2], correction=Correction(flat_field="auto", offset=0.0))
    fields = fit_flat_fields(protocol, rows)
    assert fields is not None
    found = fields["DAPI"]
    assert np.corrcoef(found.ravel(), gain.ravel())[0, 1] > 0.9


def test_a_flat_field_image_is_relative_to_the_protocol(tmp_path: Path) -> None:
    write(tmp_path / "flat.ome.tif", np.full((1, 30, 40), 900, np.uint16), names=["even slide"])
    protocol = Protocol(channels=CHANNELS, correction=Correction(flat_field="flat.ome.tif"))
    fields = fit_flat_fields(protocol, [], base=tmp_path)
    assert fields is not None
    assert set(fields) == {"DAPI", "INS", "GCG"}
