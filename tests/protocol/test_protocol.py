"""The protocol: what is written is read back, and what is wrong is named."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from islet_imaging.errors import ProtocolError
from islet_imaging.protocol import FORMAT, Cells, Channel, Positivity, Protocol, Reading
from tests.mutations import mutated

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
        ({"correction": {"offset": 1e9}}, "offset"),
        ({"correction": {"offset": -5}}, "offset"),
        ({"correction": {"offset": float("nan")}}, "offset"),
        ({"correction": {"background_um": -1}}, "background_um"),
        ({"correction": {"background_um": float("inf")}}, "background_um"),
        ({"correction": {"bleed_matrix": {"GFP": {"INS": 0.1}}}}, "GFP"),
        ({"correction": {"bleed_matrix": {"INS": {"INS": 0.1}}}}, "itself"),
        ({"correction": {"bleed_matrix": {"INS": {"NKX6.1": 1.5}}}}, "share"),
        ({"islets": {"min_cells": -5}}, "min_cells"),
        ({"islets": {"max_gap_um": 10**400}}, "max_gap_um"),
        ({"quality": {"min_cells": -5}}, "min_cells"),
        ({"quality": {"exposure_ratio": float("nan")}}, "exposure_ratio"),
        ({"quality": {"border_fraction": 7}}, "border_fraction"),
        ({"acquisition": {"section_um": 0}}, "section_um"),
        ({"reading": {"projection": "plane", "plane": -1}}, "plane"),
        ({"cells": {1: 2, "1": 3}}, "read the same"),
        ({"positivity": {"INS": {"min_control_cells": 0}}}, "min_control_cells"),
        ({"channels": [{"name": "D" * 5000, "role": "dna"}]}, "100 characters"),
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


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("cells: {ring_um: 2}\ncells: {ring_um: 3}", "'cells' is given twice"),
        ("cells: {ring_um: 2, ring_um: 3}", "'ring_um' is given twice"),
        ("cells: {ring_um: .nan}", "ring_um"),
        ("a: " + "[" * 5000, "nested"),
        ("a: " + "{b: " * 200 + "1" + "}" * 200, "nested"),
        ("x: &a [*a]", "unfolds"),
        (
            "a0: &a0 [x, x]\n"
            + "\n".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}, *a{k - 1}]" for k in range(1, 30)),
            "unfolds",
        ),
        ("cells: {ring_um: " + "9" * 5000 + "}", "p.yaml"),
        ("2026-13-45: 1", "p.yaml"),
        ("!!python/object/apply:os.system ['true']", "p.yaml"),
        ("? [a]\n: 1", "p.yaml"),
    ],
)
def test_yaml_that_deceives_is_refused(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProtocolError, match=named):
        Protocol.load(path)


@given(seed=st.integers(0, 2**32), n=st.integers(1, 8))
def test_a_mutated_protocol_loads_or_is_named(tmp_path: Path, seed: int, n: int) -> None:
    """Bytes changed, doubled and cut by a seeded generator: a protocol or a sentence."""
    path = tmp_path / "p.yaml"
    path.write_bytes(mutated(BASE.dump().encode(), seed, n))
    with contextlib.suppress(ProtocolError):
        loaded = Protocol.load(path)
        assert Protocol.from_dict(loaded.to_dict()) == loaded


def test_an_older_format_is_read_and_written_as_the_present_one() -> None:
    old = {**BASE.to_dict(), "format": "islet-imaging/1"}
    old.pop("fitted_from")
    assert Protocol.from_dict(old) == BASE
    assert Protocol.from_dict(old).to_dict()["format"] == FORMAT


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
    assert protocol.network_markers == {"islet-positivity": ["INS"]}
    assert protocol.models == ("islet-nuclei", "islet-positivity")
    with pytest.raises(ProtocolError, match="nucleus"):
        Protocol(channels, positivity={"PDX1": Positivity(method="network")})
    with pytest.raises(ProtocolError, match="sector_p25"):
        Positivity(method="network", feature="ring_mean")
