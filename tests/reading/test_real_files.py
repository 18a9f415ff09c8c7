"""The real stainings that the project has are read with the right names, scale and pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from islet_imaging.errors import ChannelError, PixelSizeError
from islet_imaging.protocol import Channel, Protocol, Reading
from islet_imaging.reading import read_image


def test_human_islet_composite(data_dir: Path) -> None:
    protocol = Protocol(
        channels=(
            Channel("DAPI", "dna", source="blue"),
            Channel("INS", source="red"),
            Channel("GCG", source="green"),
        ),
        reading=Reading(pixel_size_um=0.301),
    )
    file = data_dir / "islet/human_islet/INS_GCG_DAPI_composite.jpg"
    image = read_image(file, protocol=protocol)
    assert image.channel_names == ("DAPI", "INS", "GCG")
    assert image.shape == (2007, 2007)
    assert image.require_pixel_size() == 0.301
    assert image.metadata["rgb"]
    assert image.metadata["lossy"]
    # insulin fills the islet in the middle, glucagon less so, nuclei are everywhere
    middle = (slice(700, 1300), slice(700, 1300))
    assert image.channel("INS", middle).mean() > 2 * image.channel("INS")[:300].mean()
    with pytest.raises(PixelSizeError, match="no pixel size"):
        read_image(file).require_pixel_size()


def test_one_file_per_channel(data_dir: Path) -> None:
    folder = data_dir / "marker/cellprofiler_examples/ExamplePercentPositive/images"
    protocol = Protocol(
        channels=(
            Channel("H3", compartment="nucleus", source="d1"),
            Channel("DNA", "dna", source="d0"),
        ),
        reading=Reading(file_pattern=r"(?P<image>.+)(?P<channel>d[01])\.tif"),
    )
    files = sorted(folder.glob("*.tif"))
    for given in (files, files[::-1], files[0], files[1]):
        image = read_image(given, protocol=protocol)
        assert image.name == "AS_09125_050116030001_D03f00"
        assert image.channel_names == ("H3", "DNA")
        np.testing.assert_array_equal(
            image.channel("DNA"), read_image(files[0]).channel("channel 1")
        )
    # without a protocol the names come from the file names
    assert read_image(files).channel_names == ("d0", "d1")
    assert read_image(files).pixel_size_um is None


def test_imagej_hyperstacks(data_dir: Path) -> None:
    folder = data_dir / "marker/double_positive_nuclei/Example-Images"
    words = ["DAPI", "SOX10", "p75", "TL"]
    for file in sorted(folder.glob("*.tif")):
        image = read_image(file)
        # the labels name the image, not its channels
        assert image.channel_names == tuple(f"channel {i}" for i in range(1, 5))
        assert image.require_pixel_size() == pytest.approx(0.569, abs=1e-3)
        assert image.metadata["objective_na"] == 1.3
        assert read_image(file, channel_names=words).channel("DAPI").shape == (512, 512)
    protocol = Protocol(channels=(Channel("DAPI", "dna"), Channel("SOX10")))
    with pytest.raises(ChannelError, match="names none of its 4 channels"):
        read_image(file, protocol=protocol)
