"""The protocol: what is written is read back, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from islet_imaging.errors import ProtocolError
from islet_imaging.protocol import Cells, Channel, Positivity, Protocol, Reading

BASE = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS"), Channel("NKX6.1")))


def test_yaml_round_trip_is_exact(tmp_path: Path) -> None:
    protocol = BASE.replace(
        reading=Reading(pixel_size_um=0.325, projection="plane", plane=3),
        positivity={"INS": Positivity(method="manual", threshold=1 / 3)},
        fitted={"b1": {"INS": {"value": 0.1 + 0.2}}},
    )
    path = tmp_path / "protocol.yaml"
    path.write_text(protocol.dump(), encoding="utf-8")
    assert Protocol.load(path) == protocol


@given(ring=st.floats(0.5, 20), gap=st.floats(0, 0.4))
def test_round_trip_keeps_every_float(ring: float, gap: float) -> None:
    protocol = BASE.replace(cells=Cells(ring_um=ring, gap_um=gap))
    assert Protocol.from_dict(yaml.safe_load(protocol.dump())) == protocol


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"chanels": []}, "chanels"),
        ({"cells": {"ring": 3}}, "ring"),
        ({"cells": {"ring_um": "wide"}}, "ring_um"),
        ({"cells": {"ring_um": True}}, "ring_um"),
        ({"nuclei": {"method": "magic"}}, "magic"),
        ({"positivity": {"GCG": {}}}, "GCG"),
        ({"channels": [{"name": "INS"}]}, "dna"),
        ({"channels": [{"role": "dna"}]}, "name"),
        ({"channels": [{"name": "A", "role": "dna"}, {"name": "A"}]}, "unique"),
        ({"reading": {"projection": "plane"}}, "plane"),
        ({"reading": {"pixel_size_um": 0}}, "pixel_size_um"),
        ({"positivity": {"INS": {"method": "manual"}}}, "threshold"),
        ({"statistics": {"denominator": "CHGA"}}, "CHGA"),
        ({"format": "islet-imaging/9"}, "islet-imaging/9"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(ProtocolError, match=named):
        Protocol.from_dict({**BASE.to_dict(), **change})


@pytest.mark.parametrize("text", ["", "- 1", "{", "a: [", "\x00"])
def test_files_that_are_no_protocol_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProtocolError, match=r"p\.yaml"):
        Protocol.load(path)


def test_yaml_booleans_mean_off() -> None:
    data = yaml.safe_load(BASE.dump().replace("'off'", "off"))
    assert Protocol.from_dict(data) == BASE


def test_fingerprint_ignores_fitted_thresholds_only() -> None:
    fitted = BASE.replace(fitted={"b": {"INS": {"value": 1.0}}})
    assert fitted.fingerprint() == BASE.fingerprint()
    assert BASE.replace(cells=Cells(ring_um=2)).fingerprint() != BASE.fingerprint()


def test_feature_follows_the_compartment() -> None:
    protocol = BASE.replace(
        channels=(Channel("DAPI", "dna"), Channel("INS"), Channel("NKX6.1", compartment="nucleus"))
    )
    assert protocol.feature("INS") == "INS_sector_p25"
    assert protocol.feature("NKX6.1") == "NKX6.1_nucleus_mean"


def test_auto_is_the_network_for_what_it_was_shown():
    channels = (
        Channel("DAPI", "dna"),
        Channel("INS"),
        Channel("GCG"),
        Channel("PDX1", compartment="nucleus"),
    )
    other = {"GCG": Positivity(feature="ring_p10")}
    protocol = Protocol(channels, positivity=other)
    assert [protocol.method(m) for m in protocol.markers] == ["network", "levels", "levels"]
    assert protocol.asked == {"islet-positivity": ["INS"]}
    assert protocol.models == ("islet-nuclei", "islet-positivity")
    with pytest.raises(ProtocolError, match="nucleus"):
        Protocol(channels, positivity={"PDX1": Positivity(method="network")})
    with pytest.raises(ProtocolError, match="sector_p25"):
        Positivity(method="network", feature="ring_mean")
