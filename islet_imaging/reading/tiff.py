"""TIFF in all its dialects: OME, ImageJ, plain pages, samples, BigTIFF, slide scanners.

The idea: tifffile finds the series and its axes; here the axes are brought down to channels,
planes, Y and X, or refused by name.  Nothing is guessed: a sequence of pages that no metadata
explains is only taken for channels when the caller names that many.  Tags are checked against the
size of the file before a pixel is touched.
It fails, with an `ImageReadError`, on time series, mosaics, several scenes, palettes, CMYK,
bilevel and complex images, and truncated files.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging.errors import ImageReadError
from islet_imaging.protocol import Limits
from islet_imaging.reading.guard import check_declared, check_planes
from islet_imaging.reading.ome import speaks_of_files
from islet_imaging.reading.pages import LOSSY, check_pixels, check_segments, intensity_samples
from islet_imaging.reading.source import Source, no_scene
from islet_imaging.reading.tiff_facts import channels_of, facts_of, name_planes
from islet_imaging.reading.tiff_planes import TiffPlanes
from islet_imaging.reading.tiff_set import open_set

if TYPE_CHECKING:
    from tifffile import TiffFile

_AXES = {
    "T": "time points", "P": "positions", "M": "mosaic tiles", "R": "tiles", "V": "events",
    "A": "angles", "E": "excitation wavelengths", "H": "lifetimes", "L": "exposures",
}  # fmt: skip
#: formats whose first series is the slide and whose others are its label and thumbnail
_SLIDES = {"lsm", "svs", "ndpi", "scn", "qpi", "bif", "philips", "avs", "indica", "ventana"}
_CUT = re.compile(r"invalid (?:page|value) offset|corrupted page list")


def open_tiff(path: Path, *, limits: Limits, scene: str | None = None) -> Source:
    """Open a TIFF file as a `Source`; no pixel is decoded.

    Parameters
    ----------
    path : Path
        The file.
    limits : Limits
        What a file may ask for.
    scene : str, optional
        Which image of a file that holds several.

    Returns
    -------
    Source

    Raises
    ------
    ImageReadError
        If this is not an image of channels, planes, Y and X.
    """
    if (path.parent / "NDTiff.index").is_file():
        raise ImageReadError(
            f"{path}: one file of an NDTiff set, whose index alone says which page is which "
            "channel, plane and position. Save it as an OME-TIFF (Micro-Manager: save as image "
            "stack file)"
        )
    planes = TiffPlanes(path, limits)
    with planes.opened() as tif:
        xml = tif.ome_metadata if tif.is_ome else None
        if xml and speaks_of_files(xml):
            return open_set(tif, xml, path, scene=scene, limits=limits)
        no_scene(path, scene)
        source = _describe(tif, path, planes)
        # tifffile steps over tags and pages that lie beyond the file's end
        if any(_CUT.search(note) for note in planes.notes):
            raise ImageReadError(
                f"{path}: truncated: parts of its header lie beyond its end; copy or export it "
                "again"
            )
    return source


def _describe(tif: TiffFile, path: Path, planes: TiffPlanes) -> Source:
    if not len(tif.pages) or not tif.series:
        raise ImageReadError(f"{path}: the TIFF holds no image; export it again")
    series = tif.series[0]
    key = series.keyframe
    kind = str(series.kind)
    # where a file's own metadata does not fit its pages, tifffile falls back to the bare pages
    fits = {
        "OME-XML": not tif.is_ome or kind == "ome",
        "ImageJ": not tif.is_imagej or kind in ("imagej", "ome"),
        "shape": not tif.is_shaped or kind in ("shaped", "imagej", "ome"),
    }
    for says, good in fits.items():
        if not good:
            raise ImageReadError(
                f"{path}: the file does not hold the planes that its {says} metadata describes; it "
                "is damaged, incomplete, or a part of a set. Copy or export it again"
            )
    if len(tif.series) > 1 and kind not in _SLIDES:
        listed = "; ".join(f"{s.axes} {'x'.join(map(str, s.shape))}" for s in tif.series[:6])
        raise ImageReadError(
            f"{path}: holds {len(tif.series)} images that are no channels or planes of each other "
            f"({listed}), such as scenes or previews; export one file per image"
        )
    check_pixels(key, kind, path)
    file_bytes = int(tif.filehandle.size)
    axes, shape = series.get_axes(False), series.get_shape(False)
    if 0 in shape:
        raise ImageReadError(f"{path}: an image of size zero ({axes} {shape}); export it again")
    check_declared(path, math.prod(shape) * key.dtype.itemsize, file_bytes, planes.limits)
    lead_axes, lead, samples = _split(axes, shape, key, path)
    colours = samples > 1 and (int(key.photometric) in (2, 6) or kind == "svs")
    n_samples = intensity_samples(key, samples, colours=colours)
    facts, named_by, scale_by = facts_of(tif, kind)
    if stains := name_planes(tif, facts, lead_axes, lead):
        lead_axes = lead_axes.translate(str.maketrans(f"{stains}C", f"C{stains}"))
    channel_axis, sizes = _roles(lead_axes, lead, n_samples, path)
    n_lead = sizes.get(channel_axis, 1) if channel_axis else 1
    n_planes = sizes.get("Z", 1)
    check_planes(path, math.prod(lead), planes.limits)

    truncated = len(series) < math.prod(lead)
    if truncated and len(series) != 1:
        raise ImageReadError(
            f"{path}: {math.prod(lead)} planes are declared and {len(series)} are in the file"
        )
    strides = [math.prod(lead[i + 1 :]) for i in range(len(lead))]
    for c in range(n_lead):
        for z in range(n_planes):
            at = {channel_axis: c, "Z": z}
            flat = sum(at.get(a, 0) * s for a, s in zip(lead_axes, strides, strict=True))
            for s in range(n_samples):
                place = (0, flat, s) if truncated else (flat, 0, s)
                planes.where[c * n_samples + s, z] = place
            page = series[0 if truncated else flat]
            if page is None:
                raise ImageReadError(
                    f"{path}: a plane of this OME-TIFF (channel {c + 1}, plane {z + 1}) lies in "
                    "another file that is missing, or was never written; keep its files together"
                )
            if not truncated or flat == 0:
                check_segments(page, path, math.prod(lead) if truncated else 1)

    channels = channels_of(facts, n_lead * n_samples, colours, n_samples)
    metadata: dict[str, Any] = {
        "format": {"ome": "OME-TIFF", "imagej": "ImageJ TIFF"}.get(kind, f"TIFF ({kind})"),
        "axes": axes,
        "bits": int(key.bitspersample) if isinstance(key.bitspersample, int) else None,
        "rgb": colours,
        "lossy": int(key.compression) in LOSSY,
        **facts.metadata,
    }
    bare = channel_axis in ("I", "Q")
    names_source = named_by if any(facts.names) else "colours of the file" if colours else ""
    return Source(
        paths=(path,),
        channels=channels,
        n_planes=n_planes,
        shape=(int(key.shaped[2]), int(key.shaped[3])),
        dtype=np.dtype(key.dtype).newbyteorder("="),
        read=planes,
        names_source=names_source,
        pixel_size_um=facts.pixel_size_um,
        pixel_size_source=scale_by or facts.doubt,
        metadata=metadata,
        channel_axis="colours" if colours else "pages" if bare else "channels",
        bare_pages=bare,
        unplaced=() if named_by == "page names" else facts.unplaced(len(channels)),
    )


def _split(
    axes: str, shape: tuple[int, ...], key: Any, path: Path
) -> tuple[str, tuple[int, ...], int]:
    """Leading axes, their sizes and the number of samples in a page."""
    separate, contig = int(key.shaped[0]), int(key.shaped[4])
    if separate > 1 and contig > 1:
        raise ImageReadError(f"{path}: samples stored both separately and together")
    y = axes.find("Y")
    if y < 0 or axes[y : y + 2] != "YX":
        raise ImageReadError(f"{path}: axes {axes} do not end in rows and columns")
    end = y - 1 if separate > 1 else y
    return axes[:end], tuple(int(n) for n in shape[:end]), separate * contig


def _roles(
    axes: str, shape: tuple[int, ...], samples: int, path: Path
) -> tuple[str, dict[str, int]]:
    """Which leading axis is the channel, and the sizes of all that are longer than one."""
    sizes: dict[str, int] = {}
    for axis, n in zip(axes, shape, strict=True):
        if n > 1 and axis in sizes:
            raise ImageReadError(f"{path}: axis {axis} occurs twice ({axes} {shape})")
        if n > 1:
            sizes[axis] = n
    for axis, n in sizes.items():
        if axis in _AXES:
            raise ImageReadError(
                f"{path}: {n} {_AXES[axis]} ({axes} {'x'.join(map(str, shape))}): an image here "
                f"has channels and focal planes only. Save one file per {_AXES[axis][:-1]}; if "
                "they are channels or focal planes in truth, reorder in ImageJ: Image > "
                "Hyperstacks > Stack to Hyperstack"
            )
    unknown = [a for a in sizes if a in "IQ" or a not in "CZ"]
    if len(unknown) > 1 or (unknown and "C" in sizes):
        raise ImageReadError(
            f"{path}: {axes} {'x'.join(map(str, shape))}: what these axes are is not stated; save "
            "as an ImageJ hyperstack or OME-TIFF"
        )
    channel = unknown[0] if unknown else ("C" if "C" in sizes else "")
    if channel and samples > 1:
        raise ImageReadError(
            f"{path}: {sizes[channel]} colour images in one file; split it into one file per "
            "image, or its colours into channels"
        )
    return channel, sizes
