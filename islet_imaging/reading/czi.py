"""Zeiss CZI through Zeiss's own library (``pip install 'islet-imaging[formats]'``).

The idea: pylibCZIrw gives any rectangle of any plane, of mosaics too, so a slide is read by region;
what the file says of channels and scale is taken from its XML, tolerantly: a file without scaling
has no pixel size, and is none the worse.  A channel of a colour camera is three channels.
It fails, with an `ImageReadError`, when the library is not installed, on several scenes where none
is named, and on time series.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ImageReadError
from islet_imaging.protocol import Limits
from islet_imaging.reading.guard import check_read, guarded
from islet_imaging.reading.metadata import Facts, shown_colour, worded
from islet_imaging.reading.pages import bounds
from islet_imaging.reading.source import COLOURS, FileChannel, Source, pick_scene, scene_names

_DTYPES = {"Gray8": np.uint8, "Gray16": np.uint16, "Gray32Float": np.float32,
           "Bgr24": np.uint8, "Bgr48": np.uint16, "Bgr96Float": np.float32}  # fmt: skip


@dataclass(frozen=True)
class CziPlanes:
    """Reads rectangles of planes."""

    path: Path
    #: left and top of the image in the file's own coordinates, and its width and height
    box: tuple[int, int, int, int]
    scene: int | None
    #: (first focal plane, time)
    first: tuple[int, int]
    #: channel of the file and sample of each of our channels
    where: tuple[tuple[int, int], ...]
    limits: Limits

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:
        """Pixels (Y, X) of a channel's plane."""
        left, top, width, height = self.box
        y0, y1, x0, x1 = bounds(region, (height, width))
        number, sample = self.where[channel]
        # a read gives doubles of all samples at worst
        check_read(self.path, (y1 - y0) * (x1 - x0) * 8, self.limits)
        with guarded(self.path), _opened(self.path) as file:
            pixels = file.read(
                roi=(left + x0, top + y0, x1 - x0, y1 - y0),
                plane={"C": number, "Z": self.first[0] + plane, "T": self.first[1]},
                scene=self.scene,
            )
        return np.ascontiguousarray(np.asarray(pixels)[:, :, sample])


def _opened(path: Path) -> Any:
    try:
        from pylibCZIrw import czi
    except ImportError:
        raise ImageReadError(
            f"{path}: CZI files need Zeiss's library: pip install 'islet-imaging[formats]', or "
            "export as OME-TIFF"
        ) from None
    return czi.open_czi(str(path))


def scenes_of_czi(path: Path) -> tuple[str, ...]:
    """Names of a file's scenes, in their order; one, unnamed, for a file without."""
    with guarded(path), _opened(path) as file:
        return _scenes(file, _root(file))[1]


def _root(file: Any) -> ET.Element:
    try:
        return ET.fromstring(file.raw_metadata)  # noqa: S314 - expat >= 2.4 stops entity bombs
    except (ET.ParseError, ValueError, TypeError):
        return ET.Element("ImageDocument")


def _scenes(file: Any, root: ET.Element) -> tuple[list[int | None], tuple[str, ...]]:
    """Numbers of the scenes in the file and their names."""
    numbers: list[int | None] = [*sorted(file.scenes_bounding_rectangle_no_pyramid)] or [None]
    found = {e.get("Index"): e for e in root.iter("Scene")}
    names = []
    for n in numbers:
        scene = found.get(str(n))
        shape = scene.find("Shape") if scene is not None else None
        said = [scene.get("Name", "") if scene is not None else "",
                shape.get("Name", "") if shape is not None else ""]  # fmt: skip
        names.append("-".join(dict.fromkeys(s for s in said if s)))
    return numbers, scene_names(names)


def open_czi(path: Path, *, limits: Limits, scene: str | None = None) -> Source:
    """Open a CZI file, or one scene of it, as a `Source`."""
    with guarded(path), _opened(path) as file:
        root = _root(file)
        numbers, names = _scenes(file, root)
        number = numbers[pick_scene(path, names, scene)]
        extent = dict(file.total_bounding_box_no_pyramid)
        types = dict(file.pixel_types)
        rectangles = file.scenes_bounding_rectangle_no_pyramid
    (left, right), (top, bottom) = extent["X"], extent["Y"]
    if number is not None:
        r = rectangles[number]
        left, top, right, bottom = r.x, r.y, r.x + r.w, r.y + r.h
    sizes = {a: high - low for a, (low, high) in extent.items()}
    for axis, size in sizes.items():
        if axis not in "CZXY" and size > 1:
            what = {"T": "time points"}.get(axis, f"steps along {axis}")
            raise ImageReadError(f"{path}: {size} {what}; save one file for each")
    first_c = extent.get("C", (0, 1))[0]
    facts = _facts(root, max(1, sizes.get("C", 1)))
    where, channels = _channels(facts, types, first_c)
    dtypes = {_DTYPES.get(str(t)) for t in types.values()}
    if None in dtypes or not dtypes:
        raise ImageReadError(f"{path}: pixels of type {sorted(map(str, types.values()))}; export "
                             "as 8 or 16 bit grey")  # fmt: skip
    dtype = np.result_type(*(np.dtype(d) for d in dtypes if d is not None))
    colours = any("Bgr" in str(t) for t in types.values())
    box = (left, top, right - left, bottom - top)
    compression = root.findtext(".//Image/OriginalCompressionMethod") or ""
    return Source(
        paths=(path,),
        channels=channels,
        n_planes=max(1, sizes.get("Z", 1)),
        shape=(box[3], box[2]),
        dtype=np.dtype(dtype),
        read=CziPlanes(
            path,
            box,
            number,
            (extent.get("Z", (0, 1))[0], extent.get("T", (0, 1))[0]),
            where,
            limits,
        ),
        names_source="CZI" if any(facts.names) else "colours of the file" if colours else "",
        pixel_size_um=facts.pixel_size_um,
        pixel_size_source="CZI" if facts.pixel_size_um else facts.doubt,
        metadata={
            "format": "CZI",
            "bits": np.dtype(dtype).itemsize * 8,
            "rgb": colours,
            "lossy": "jpg" in compression.casefold(),
            **facts.metadata,
        },
        channel_axis="colours" if colours else "channels",
    )


def _channels(
    facts: Facts, types: dict[int, str], first: int
) -> tuple[tuple[tuple[int, int], ...], tuple[FileChannel, ...]]:
    """The file's channel and sample of each of ours: a colour camera's samples are B, G, R."""
    where, channels = [], []
    for i, (name, aliases, more) in enumerate(
        zip(facts.names, facts.aliases, facts.channel_facts, strict=True)
    ):
        if "Bgr" not in str(types.get(first + i, types.get(i, ""))):
            where.append((first + i, 0))
            channels.append(FileChannel(name, aliases, more))
            continue
        for sample, colour in enumerate(COLOURS):
            where.append((first + i, 2 - sample))
            both = f"{name} {colour}".strip()
            if len(facts.names) == 1:
                channels.append(FileChannel(colour, (both,) if name else (), more))
            else:
                channels.append(FileChannel(both, (), more))
    return tuple(where), tuple(channels)


def _facts(root: ET.Element, n: int) -> Facts:
    """Names, dyes, exposure and scale from the file's XML."""
    facts = Facts()
    listed = root.findall("./Metadata/Information/Image/Dimensions/Channels/Channel")
    shown = root.findall("./Metadata/DisplaySetting/Channels/Channel")
    for i in range(n):
        own = listed[i] if i < len(listed) else ET.Element("Channel")
        other = next((s for s in shown if s.get("Id") and s.get("Id") == own.get("Id")), None)
        if other is None:
            other = shown[i] if i < len(shown) else ET.Element("Channel")
        words = [own.get("Name"), other.get("Name"), own.findtext("Fluor"),
                 other.findtext("DyeName"), other.findtext("ShortName")]  # fmt: skip
        said = list(dict.fromkeys(w for w in (worded(str(w or "")) for w in words) if w))
        facts.names.append(said[0] if said else "")
        facts.aliases.append(tuple(said[1:]))
        more: dict[str, Any] = {}
        for key, tag, factor in (
            ("exposure_s", "ExposureTime", 1e-9),
            ("emission_nm", "EmissionWavelength", 1.0),
            ("excitation_nm", "ExcitationWavelength", 1.0),
        ):
            try:
                more[key] = float(own.findtext(tag) or "x") * factor
            except ValueError:
                continue
        stated = re.fullmatch(
            r"#(?:[0-9A-Fa-f]{2})?([0-9A-Fa-f]{6})", other.findtext("Color") or ""
        )
        if stated and (colour := shown_colour(int(stated[1], 16))):
            more["colour"] = colour
        facts.channel_facts.append(more)
    scale = {}
    for item in root.iterfind("./Metadata/Scaling/Items/Distance"):
        try:
            scale[item.get("Id", "")] = float(item.findtext("Value") or "x") * 1e6
        except ValueError:
            continue
    y, x = scale.get("Y"), scale.get("X")
    facts.size((round(y, 9), round(x, 9)) if x and y else None)
    lens = root.find("./Metadata/Information/Instrument/Objectives/Objective")
    if lens is not None:
        for key, tag in (("objective_magnification", "NominalMagnification"),
                         ("objective_na", "LensNA")):  # fmt: skip
            try:
                facts.metadata[key] = float(lens.findtext(tag) or "x")
            except ValueError:
                continue
        if lens.get("Name"):
            facts.metadata["objective"] = str(lens.get("Name"))
    return facts
