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
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ImageReadError
from islet_imaging.reading.guard import check_declared, guarded
from islet_imaging.reading.metadata import Facts, parse_imagej, parse_ome, resolution_um
from islet_imaging.reading.pages import check_segments, read_plane
from islet_imaging.reading.slides import parse_qptiff, parse_svs
from islet_imaging.reading.source import FileChannel, Source

if TYPE_CHECKING:
    from tifffile import TiffFile

_COLOURS = ("red", "green", "blue")
_AXES = {
    "T": "time points", "P": "positions", "M": "mosaic tiles", "R": "tiles", "V": "events",
    "A": "angles", "E": "excitation wavelengths", "H": "lifetimes", "L": "exposures",
}  # fmt: skip
#: formats whose first series is the slide and whose others are its label and thumbnail
_SLIDES = {"svs", "ndpi", "scn", "qpi", "bif", "philips", "avs", "indica", "ventana"}
_LOSSY = {6, 7, 34892, 33003, 33004, 33005, 34712, 50001, 34933, 34934}
_CUT = re.compile(r"invalid (?:page|value) offset|corrupted page list")
#: more planes than this in one image is a damaged header or a movie
_MAX_PLANES = 20_000


class TiffPlanes:
    """Reads regions of planes; opens the file for each read and keeps what was parsed."""

    def __init__(self, path: Path, max_gib: float) -> None:
        self.path = path
        self.max_gib = max_gib
        #: what tifffile warned of when the file was last opened
        self.notes: list[str] = []
        self._tif: TiffFile | None = None
        self._lock = threading.RLock()
        #: page number in the series and number behind that page, by channel and plane
        self.where: dict[tuple[int, int], tuple[int, int, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the parsed file, so that an image can go to another process."""
        return {"path": self.path, "max_gib": self.max_gib, "where": self.where}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["max_gib"])  # type: ignore[misc]
        self.where = state["where"]

    @contextmanager
    def opened(self) -> Iterator[TiffFile]:
        """The parsed file, open."""
        import tifffile

        with self._lock, guarded(self.path) as self.notes:
            if self._tif is None:
                self._tif = tifffile.TiffFile(self.path)
            else:
                self._tif.filehandle.open()
            try:
                yield self._tif
            finally:
                self._tif.filehandle.close()

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:
        """Pixels (Y, X) of a channel's plane."""
        page_index, virtual, sample = self.where[channel, plane]
        with self.opened() as tif:
            page: Any = tif.series[0][page_index]
            handle = page.parent.filehandle
            elsewhere = handle is not tif.filehandle  # OME-TIFF spread over files
            if elsewhere:
                handle.open()
            try:
                return read_plane(
                    page,
                    self.path,
                    virtual=virtual,
                    sample=sample,
                    region=region,
                    max_gib=self.max_gib,
                )
            finally:
                if elsewhere:
                    handle.close()


def open_tiff(path: Path, *, max_gib: float) -> Source:
    """Open a TIFF file as a `Source`; no pixel is decoded.

    Parameters
    ----------
    path : Path
        The file.
    max_gib : float
        Largest array that one read may make.

    Returns
    -------
    Source

    Raises
    ------
    ImageReadError
        If this is not an image of channels, planes, Y and X.
    """
    planes = TiffPlanes(path, max_gib)
    with planes.opened() as tif:
        source = _describe(tif, path, planes)
        # tifffile steps over tags and pages that lie beyond the file's end
        if any(_CUT.search(note) for note in planes.notes):
            raise ImageReadError(
                f"{path}: truncated: parts of its header lie beyond its end; copy or export it "
                "again"
            )
        for file in _others(tif):
            file.close()
    return source


def _others(tif: TiffFile) -> list[Any]:
    """Further open files of a multi-file OME-TIFF."""
    pages = [tif.series[0][i] for i in range(len(tif.series[0]))]
    handles = {id(p.parent.filehandle): p.parent.filehandle for p in pages if p is not None}
    return [h for h in handles.values() if h is not tif.filehandle]


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
    _check_pixels(key, kind, path)
    file_bytes = int(tif.filehandle.size)
    axes, shape = series.get_axes(False), series.get_shape(False)
    if 0 in shape:
        raise ImageReadError(f"{path}: an image of size zero ({axes} {shape}); export it again")
    check_declared(path, math.prod(shape) * key.dtype.itemsize, file_bytes)
    lead_axes, lead, samples = _split(axes, shape, key, path)
    colours = samples > 1 and (int(key.photometric) in (2, 6) or kind == "svs")
    alpha = colours and samples == 4
    n_samples = 3 if alpha else samples
    facts, named_by, scale_by = _facts(tif, kind)
    channel_axis, sizes = _roles(lead_axes, lead, n_samples, kind, path)
    n_lead = sizes.get(channel_axis, 1) if channel_axis else 1
    n_planes = sizes.get("Z", 1)
    if math.prod(lead) > _MAX_PLANES:
        raise ImageReadError(f"{path}: the header declares {math.prod(lead)} planes; not an image")

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

    channels = _channels(facts, n_lead * n_samples, colours, n_samples)
    metadata: dict[str, Any] = {
        "format": {"ome": "OME-TIFF", "imagej": "ImageJ TIFF"}.get(kind, f"TIFF ({kind})"),
        "axes": axes,
        "bits": int(key.bitspersample) if isinstance(key.bitspersample, int) else None,
        "rgb": colours,
        "lossy": int(key.compression) in _LOSSY,
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
        pixel_size_source=scale_by,
        metadata=metadata,
        channel_axis="colours" if colours else "pages" if bare else "channels",
        bare_pages=bare,
    )


def _check_pixels(key: Any, kind: str, path: Path) -> None:
    """Refuse pixels that are no intensities."""
    if key.dtype is None:
        raise ImageReadError(
            f"{path}: pixels of {key.bitspersample} bit and sample format {key.sampleformat} are "
            "not supported; export as 8 or 16 bit unsigned"
        )
    if key.dtype.kind not in "uif" or key.bitspersample == 1:
        what = "black-and-white (1 bit)" if key.dtype.kind in "bu" else str(key.dtype)
        raise ImageReadError(
            f"{path}: {what} pixels are no fluorescence intensities; export the raw channels as "
            "8 or 16 bit unsigned"
        )
    photometric = int(key.photometric)
    if photometric == 0:
        raise ImageReadError(
            f"{path}: intensities are stored inverted (MinIsWhite); in ImageJ: Image > Lookup "
            "Tables > Invert LUT, check, and save again"
        )
    if photometric == 3 and kind not in ("imagej", "ome") and not _ramp(key):
        raise ImageReadError(
            f"{path}: a palette (indexed colour) image: its numbers are no intensities; export "
            "the raw channels as 8 or 16 bit grey"
        )
    if photometric not in (1, 2, 3, 6):
        raise ImageReadError(
            f"{path}: colour space {getattr(key.photometric, 'name', photometric)} is not a set "
            "of fluorescence channels; export the raw channels"
        )
    if key.shaped[1] > 1:
        raise ImageReadError(f"{path}: volumes stored as one deep page are not supported")


def _ramp(key: Any) -> bool:
    """Whether a colour map only tints an intensity: no component ever falls."""
    table = key.colormap
    if table is None:
        return False
    steps = np.diff(np.asarray(table, dtype=np.int64), axis=-1)
    return bool((steps >= 0).all() and (steps > 0).any())


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
    axes: str, shape: tuple[int, ...], samples: int, kind: str, path: Path
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
                "they are channels in truth, reorder in ImageJ: Image > Hyperstacks > "
                "Stack to Hyperstack"
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


def _rational(value: Any) -> float | None:
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1]) or None
    return None


def _facts(tif: TiffFile, kind: str) -> tuple[Facts, str, str]:
    """What the file says, and where names and pixel size were found."""
    tags = tif.pages[0].tags
    x, y = (_rational(tags.valueof(code)) for code in (282, 283))
    facts, names_by, scale_by = Facts(), "", ""
    if tif.is_ome and tif.ome_metadata:
        facts = parse_ome(tif.ome_metadata) or facts
        names_by = scale_by = "OME-XML"
    elif tif.is_imagej and tif.imagej_metadata:
        facts = parse_imagej(tif.imagej_metadata, x, y)
        names_by, scale_by = "ImageJ labels", "ImageJ properties"
    elif kind == "svs":
        facts = parse_svs(tif.pages[0].description)
        scale_by = "Aperio description"
    elif kind == "qpi":
        facts = parse_qptiff([p.description for p in tif.series[0].pages if p is not None])
        names_by = "QPTIFF description"
    if facts.pixel_size_um is None and not tif.is_imagej:
        unit = tags.valueof(296, default=2)
        facts.pixel_size_um = resolution_um(x, y, int(unit) if isinstance(unit, int) else 2)
        scale_by = "TIFF resolution in cm"
    if facts.pixel_size_um is None:
        scale_by = ""
    return facts, names_by, scale_by


def _channels(facts: Facts, n: int, colours: bool, samples: int) -> tuple[FileChannel, ...]:
    """One record per channel; colours have their names, others what the metadata says."""
    out = []
    for i in range(n):
        known = len(facts.names) == n
        name = facts.names[i] if known else ""
        aliases = facts.aliases[i] if known and len(facts.aliases) == n else ()
        more = facts.channel_facts[i] if len(facts.channel_facts) == n else {}
        if colours and samples == 3:
            aliases = (*aliases, _COLOURS[i % 3]) if name else aliases
            name = name or _COLOURS[i % 3]
        out.append(FileChannel(name, aliases, more))
    if len({c.name for c in out}) < len(out) and any(c.name for c in out):
        # names that are not unique cannot address a channel; keep them as words
        out = [FileChannel("", (), c.facts) for c in out]
    return tuple(out)
