"""Flags on the stated scale: what nuclei are a ruler for."""

from __future__ import annotations

import numpy as np
import pytest

from islet_imaging import IsletImage
from islet_imaging.network.scale import FoundScale
from islet_imaging.phantom import phantom
from islet_imaging.protocol import Cells, Channel, Islets, Nuclei, Protocol
from islet_imaging.quality.scale import scale_flags, size_flags
from islet_imaging.scoring.image import measure_image
from islet_imaging.scoring.measured import MeasuredImage

CHANNELS = (Channel("DAPI", "dna"), Channel("INS"))


def seen(um: float, *, stated: float | None = None) -> list[tuple[str, str]]:
    protocol = Protocol(CHANNELS, nuclei=Nuclei(diameter_um=stated))
    scale = FoundScale(15.0, um / 0.5, 400, "stated" if stated else "usual", 0.5)
    return [(f.code, f.severity) for f in scale_flags(scale, protocol)]


@pytest.mark.parametrize(
    ("um", "stated", "expected"),
    [
        (6.5, None, []),
        (4.1, None, []),
        (14.5, None, []),
        (3.5, None, [("implausible_nuclei", "warning")]),
        (1.8, None, [("implausible_nuclei", "block")]),
        (20.0, None, [("implausible_nuclei", "warning")]),
        (40.0, None, [("implausible_nuclei", "block")]),
        (6.5, 7.5, []),
        (13.0, 12.0, []),
        (5.0, 7.5, [("nucleus_size_differs", "warning")]),
        (11.0, 7.5, [("nucleus_size_differs", "warning")]),
        (3.0, 7.5, [("nucleus_size_differs", "block")]),
        (17.0, 7.5, [("nucleus_size_differs", "block")]),
    ],
)
def test_flags_by_diameter(
    um: float, stated: float | None, expected: list[tuple[str, str]]
) -> None:
    assert seen(um, stated=stated) == expected


def test_too_few_nuclei_say_nothing() -> None:
    protocol = Protocol(CHANNELS)
    assert not list(scale_flags(FoundScale(15.0, None, 0, "usual", 0.5), protocol))
    assert not list(scale_flags(None, protocol))


def test_doubt_is_out_of_domain() -> None:
    protocol = Protocol(CHANNELS)

    def codes(doubt: float | None) -> list[str]:
        scale = FoundScale(15.0, 13.0, 300, "usual", 0.5, doubt)
        return [f.code for f in scale_flags(scale, protocol)]

    assert codes(None) == codes(0.3) == []
    assert codes(0.5) == ["out_of_domain"]


def test_a_record_without_doubt_is_read() -> None:
    scale = FoundScale(15.0, 13.0, 300, "usual", 0.5, 0.2)
    assert FoundScale.from_dict(scale.to_dict()) == scale
    old = {k: v for k, v in scale.to_dict().items() if k != "doubt"}
    assert FoundScale.from_dict(old).doubt is None


def test_likely_causes_are_named() -> None:
    protocol = Protocol(CHANNELS)

    def message(um: float) -> str:
        scale = FoundScale(9.0, 10.0, 400, "image", um / 10.0)
        return next(iter(scale_flags(scale, protocol))).message

    assert "binning" in message(3.3)
    assert "unit" in message(0.3)


def test_an_image_unlike_its_staining_run_is_named() -> None:
    rows = [
        {"image": name, "scale": {"seen_um": um}}
        for name, um in (("a", 6.4), ("b", 6.8), ("c", 3.3), ("d", 6.5))
    ]
    flags = list(size_flags(rows, "b1"))
    assert [(f.code, f.image) for f in flags] == [("nuclei_unlike_others", "c")]
    assert not list(size_flags([{"image": "a", "scale": None}, *rows[:2]], "b1"))


def test_a_wrong_pixel_size_changes_no_cell_and_is_said() -> None:
    made = phantom("ffpe20x", seed=3, shape=(512, 512), equatorial=True)
    protocol = Protocol((Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")))

    def measured(size: float, protocol: Protocol = protocol) -> MeasuredImage:
        image = IsletImage.from_array(made.array, made.image.channel_names, size, name="x")
        return measure_image(image, protocol)

    right, wrong, same = measured(0.32), measured(0.08), measured(0.07)
    assert not {f.code for f in right.flags} & {"implausible_nuclei", "nucleus_size_differs"}
    assert right.record["scale"]["source"] == "usual"
    assert right.record["scale"]["ring_um"] == 3.0
    assert right.record["scale"]["max_gap_um"] == 12.0
    stated = Protocol(
        protocol.channels,
        nuclei=Nuclei(min_area_um2=8.0, max_area_um2=400.0),
        cells=Cells(ring_um=3.0),
        islets=Islets(max_gap_um=12.0),
    )
    assert measured(0.32, stated).cells.equals(right.cells)
    assert [f.severity for f in wrong.flags if f.code == "implausible_nuclei"] == ["block"]
    assert len(wrong.cells) == pytest.approx(len(right.cells), rel=0.15)
    assert (wrong.nuclei == same.nuclei).all()
    # the ring is that of the nuclei in pixels, so the same cells are called
    name = "INS_ring_mean"
    assert np.allclose(wrong.cells[name], same.cells[name], equal_nan=True, rtol=0.02)
