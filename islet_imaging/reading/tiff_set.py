"""OME-TIFF whose XML names files or several images: each plane from the file and page it states.

The idea: `ome.resolve` says where each plane lies; here the pages are checked against each other
and become one `Source`, or one of several when the file holds several images.
It fails, with an `ImageReadError`, on time series, on planes that were never written, and on pages
that do not fit their XML.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging.errors import ImageReadError
from islet_imaging.protocol import Limits
from islet_imaging.reading.guard import check_declared, guarded
from islet_imaging.reading.metadata import Facts, parse_ome
from islet_imaging.reading.ome import OmeImage, OmeSet, resolve
from islet_imaging.reading.pages import LOSSY, check_pixels, check_segments, intensity_samples
from islet_imaging.reading.source import Source, pick_scene, scene_names
from islet_imaging.reading.tiff_facts import channels_of
from islet_imaging.reading.tiff_planes import SetPlanes, TiffPlanes

if TYPE_CHECKING:
    from tifffile import TiffFile


def open_set(tif: TiffFile, xml: str, path: Path, *, scene: str | None, limits: Limits) -> Source:
    """Open one image of an OME-TIFF whose XML names files or several images.

    Parameters
    ----------
    tif : tifffile.TiffFile
        The opened file.
    xml : str
        Its OME-XML.
    path : Path
        The file.
    scene : str or None
        Which image, where it holds several.
    limits : Limits
        What a file may ask for.

    Returns
    -------
    Source
    """
    found = resolve(path, xml, len(tif.pages), limits)
    own = found.own(path) if found else []
    if found is None or not own:
        raise ImageReadError(
            f"{path}: the file does not hold the planes that its OME-XML metadata describes; it is "
            "damaged, incomplete, or a part of a set. Copy or export it again"
        )
    names = scene_names([found.images[i].name for i in own])
    number = own[pick_scene(path, names, scene)]
    return _source(found, number, path, limits)


def set_scenes(path: Path, found: OmeSet) -> tuple[str, ...]:
    """Names of the images that a file holds, where it holds several; else empty."""
    own = found.own(path)
    return scene_names([found.images[i].name for i in own]) if len(own) > 1 else ()


def _source(found: OmeSet, number: int, path: Path, limits: Limits) -> Source:
    image = found.images[number]
    sizes = image.sizes
    if sizes["T"] > 1:
        raise ImageReadError(
            f"{path}: {sizes['T']} time points: an image here has channels and focal planes only. "
            "Save one file per time point"
        )
    missing = [
        (c, z)
        for c in range(sizes["C"])
        for z in range(sizes["Z"])
        if (c, z, 0) not in image.places
    ]
    if missing:
        raise ImageReadError(
            f"{path}: a plane of this OME-TIFF (channel {missing[0][0] + 1}, plane "
            f"{missing[0][1] + 1}) lies in another file that is missing, or was never written; "
            "keep its files together"
        )
    files = image.files
    readers = tuple(TiffPlanes(f, limits, by_page=True) for f in files)
    key = _check_pages(image, files, readers, path)
    samples = int(key.shaped[0]) * int(key.shaped[4])
    colours = samples > 1 and int(key.photometric) in (2, 6)
    n_samples = intensity_samples(key, samples, colours=colours)
    of: dict[tuple[int, int], int] = {}
    for (c, z, _), (file, page) in image.places.items():
        at = files.index(file)
        for s in range(n_samples):
            readers[at].where[c * n_samples + s, z] = (page, 0, s)
            of[c * n_samples + s, z] = at
    facts = parse_ome(found.xml, number) or Facts()
    channels = channels_of(facts, sizes["C"] * n_samples, colours, n_samples)
    read = readers[0] if len(readers) == 1 else SetPlanes(readers, of)
    shape = (int(key.shaped[2]), int(key.shaped[3]))
    return Source(
        paths=(path,),
        channels=channels,
        n_planes=sizes["Z"],
        shape=shape,
        dtype=np.dtype(key.dtype).newbyteorder("="),
        read=read,
        names_source="OME-XML" if any(facts.names) else "colours of the file" if colours else "",
        pixel_size_um=facts.pixel_size_um,
        pixel_size_source="OME-XML" if facts.pixel_size_um else facts.doubt,
        metadata={
            "format": "OME-TIFF",
            "axes": "CZYX",
            "bits": int(key.bitspersample) if isinstance(key.bitspersample, int) else None,
            "rgb": colours,
            "lossy": int(key.compression) in LOSSY,
            **({"files": [f.name for f in files]} if len(files) > 1 else {}),
            **facts.metadata,
        },
        channel_axis="colours" if colours else "channels",
        unplaced=facts.unplaced(len(channels)),
        members=tuple(dict.fromkeys(f for f in (*files, found.metadata_file) if f)),
    )  # fmt: skip


def _check_pages(
    image: OmeImage, files: tuple[Path, ...], readers: tuple[TiffPlanes, ...], path: Path
) -> Any:
    """Check that every page is there and like the first; give the first."""
    first: Any = None
    for file, reader in zip(files, readers, strict=True):
        pages = sorted({p for f, p in image.places.values() if f == file})
        with guarded(file), reader.opened() as tif:
            for number in pages:
                if not 0 <= number < len(tif.pages):
                    raise ImageReadError(
                        f"{path}: the file {file.name} does not hold the planes that the OME-XML "
                        "metadata describes; it is damaged or incomplete. Copy or export it again"
                    )
                page: Any = tif.pages[number]
                key = page.keyframe
                if first is None:
                    check_pixels(key, "ome", path)
                    first = key
                    n_bytes = int(np.prod(key.shaped)) * key.dtype.itemsize
                    check_declared(path, n_bytes, int(tif.filehandle.size), reader.limits)
                elif key.shaped != first.shaped or key.dtype != first.dtype:
                    raise ImageReadError(
                        f"{path}: its planes differ in size or type ({file.name}); export again"
                    )
                check_segments(page, file)
    return first
