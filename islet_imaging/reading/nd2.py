"""Nikon ND2 through the ``nd2`` library (``pip install 'islet-imaging[formats]'``).

The idea: a frame holds all channels of one position and focal plane; it is mapped, not read, so a
region costs what it covers.  A position is an image.  A size is taken only where the file says that
it is calibrated, as the library gives 1 um elsewhere.  A colour camera's samples lie blue, green,
red (https://github.com/vibbits/nis2pyr, and the wavelengths that Nikon's software states for them).
It fails, with an `ImageReadError`, when the library is not installed, on several positions where
none is named, on time series, on frames that were never taken (an acquisition that was stopped),
which the library fills with zeros, and on lossy compression, which it does not undo.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ImageReadError
from islet_imaging.protocol import Limits
from islet_imaging.reading.guard import check_declared, check_planes, check_read, guarded
from islet_imaging.reading.metadata import Facts, shown_colour, worded
from islet_imaging.reading.pages import bounds
from islet_imaging.reading.source import COLOURS, FileChannel, Source, pick_scene, scene_names


@dataclass(frozen=True)
class Nd2Planes:
    """Reads regions of frames; the file is opened for each read, as this travels."""

    path: Path
    #: rows, columns, channels and samples of a frame
    frame: tuple[int, int, int, int]
    #: number of the frame of every focal plane
    frames: tuple[int, ...]
    limits: Limits

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:
        """Pixels (Y, X) of a channel's plane."""
        height, width, channels, samples = self.frame
        y0, y1, x0, x1 = bounds(region, (height, width))
        number, sample = divmod(channel, samples)
        # colours lie blue, green, red
        sample = samples - 1 - sample
        with guarded(self.path), _opened(self.path) as file:
            frame = file.read_frame(self.frames[plane])
            # the library drops axes of one
            sizes = (channels, height, width, samples)
            frame = frame[tuple(slice(None) if n != 1 else None for n in sizes)]
            part = frame[number, y0:y1, x0:x1, sample]
            check_read(self.path, part.nbytes, self.limits)
            # what is mapped cannot be written to; what the library made up can, and is zeros
            if frame.flags.writeable and not frame.any():
                raise ImageReadError(
                    f"{self.path}: frame {self.frames[plane] + 1} is not in the file: the "
                    "acquisition was stopped before it, or the file is incomplete. Leave this "
                    "position out, or export what there is as OME-TIFF"
                )
            # a copy, as the map ends with the file
            part = np.array(part)
        return part


def _opened(path: Path) -> Any:
    try:
        import nd2
    except ImportError:
        raise ImageReadError(
            f"{path}: ND2 files need the nd2 library: pip install 'islet-imaging[formats]', or "
            "export as OME-TIFF"
        ) from None
    return nd2.ND2File(path)


def scenes_of_nd2(path: Path) -> tuple[str, ...]:
    """Names of a file's positions, in their order; one for a file without."""
    with guarded(path), _opened(path) as file:
        return _scenes(file)


def _scenes(file: Any) -> tuple[str, ...]:
    """A name for each position: what it was called at the microscope, else ``XYPos:0``..."""
    for loop in file.experiment:
        if loop.type == "XYPosLoop":
            points = loop.parameters.points
            return scene_names([p.name or f"XYPos:{i}" for i, p in enumerate(points)])
    return scene_names([""])


def open_nd2(path: Path, *, limits: Limits, scene: str | None = None) -> Source:
    """Open an ND2 file, or one position of it, as a `Source`.

    Parameters
    ----------
    path : Path
        The file.
    limits : Limits
        What a file may ask for.
    scene : str, optional
        Name of the position.

    Returns
    -------
    Source

    Raises
    ------
    ImageReadError
        If the file is no image of channels, focal planes, Y and X, or cannot be read.
    """
    with guarded(path), _opened(path) as file:
        names = _scenes(file)
        number = pick_scene(path, names, scene)
        stored, dtype = file.attributes, np.dtype(file.dtype)
        for axis, size in file.sizes.items():
            if axis not in "PZCYXS" and size > 1:
                what = "time points" if axis == "T" else f"steps along {axis}"
                raise ImageReadError(f"{path}: {size} {what}; save one file for each")
        if stored.compressionType == "lossy":
            raise ImageReadError(f"{path}: its pixels are compressed with loss, in a way that is "
                                 "not read here; export as OME-TIFF")  # fmt: skip
        # of this position, in the order of focal planes
        at = [(i, own) for i, own in enumerate(file.loop_indices or ({},))
              if own.get("P", 0) == number]  # fmt: skip
        frames = tuple(i for i, own in sorted(at, key=lambda each: each[1].get("Z", 0)))
        n = stored.channelCount or 1
        samples = stored.componentCount // n
        if stored.componentCount not in (n, 3 * n):
            raise ImageReadError(f"{path}: {samples} samples in a channel; export as OME-TIFF")
        frame = (stored.heightPx, stored.widthPx, n, samples)
        n_bytes = len(frames) * int(np.prod(frame, dtype=object)) * dtype.itemsize
        check_planes(path, len(frames), limits)
        check_declared(path, n_bytes, path.stat().st_size, limits)
        facts = _facts(file.metadata, n, _exposures(file))
    colours = samples == 3
    channels = []
    for name, more in zip(facts.names, facts.channel_facts, strict=True):
        if not colours:
            channels.append(FileChannel(name, (), more))
            continue
        for colour in COLOURS:
            both = f"{name} {colour}".strip()
            alone = n == 1 and bool(name)
            channels.append(FileChannel(colour if alone else both, (both,) if alone else (), more))
    return Source(
        paths=(path,),
        channels=tuple(channels),
        n_planes=len(frames),
        shape=frame[:2],
        dtype=dtype,
        read=Nd2Planes(path, frame, frames, limits),
        names_source="ND2" if any(facts.names) else "colours of the file" if colours else "",
        pixel_size_um=facts.pixel_size_um,
        pixel_size_source="ND2" if facts.pixel_size_um else facts.doubt,
        metadata={
            "format": "ND2",
            "bits": dtype.itemsize * 8,
            "significant_bits": stored.bitsPerComponentSignificant,
            "rgb": colours,
            "lossy": False,
            **facts.metadata,
        },
        channel_axis="colours" if colours else "channels",
    )


def _exposures(file: Any) -> dict[int, float]:
    """Exposure time in seconds by a channel's place among the camera's settings."""
    if file.version < (3, 0):
        return {}
    key = "ImageMetadataSeqLV|0"
    stored = file.unstructured_metadata(strip_prefix=False, include={key})[key]
    planes = stored.get("SLxPictureMetadata", stored).get("sPicturePlanes", {})
    found = {}
    for name, setting in planes.get("sSampleSetting", {}).items():
        milliseconds = setting.get("dExposureTime")
        if name[1:].isdigit() and isinstance(milliseconds, float) and milliseconds > 0:
            found[int(name[1:])] = milliseconds / 1000
    return found


def _facts(metadata: Any, n: int, exposures: dict[int, float]) -> Facts:
    """Names, wavelengths, exposure, lens and scale; nothing where the file does not state them."""
    facts = Facts()
    listed = list(getattr(metadata, "channels", None) or ())
    if len(listed) != n:
        facts.names, facts.channel_facts = [""] * n, [{} for _ in range(n)]
    else:
        for own in (c.channel for c in listed):
            more: dict[str, Any] = {
                "exposure_s": exposures.get(own.index),
                "emission_nm": own.emissionLambdaNm,
                "excitation_nm": own.excitationLambdaNm,
                "colour": shown_colour(own.color.r << 16 | own.color.g << 8 | own.color.b),
            }
            facts.names.append(worded(str(own.name or "")))
            facts.channel_facts.append({k: v for k, v in more.items() if v})
    if listed:
        volume, lens = listed[0].volume, listed[0].microscope
        x, y = volume.axesCalibration[:2]
        facts.size((float(y), float(x)) if all(volume.axesCalibrated[:2]) else None)
        said = {
            "objective": lens.objectiveName,
            "objective_magnification": lens.objectiveMagnification,
            "objective_na": lens.objectiveNumericalAperture,
        }
        facts.metadata = {k: v for k, v in said.items() if v}
    return facts
