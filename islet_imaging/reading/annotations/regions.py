"""Regions of an image with their meaning: what is islet, and what is left out.

The idea: what a region means is read from the words that its file gives it: QuPath's class first,
else the object's name.  A region without a word is an islet; QuPath's starred classes (``Ignore*``)
and the words of `LEFT_OUT` are left out; any other class is refused, since either guess would be a
wrong number.  In a label image every number is an islet.
It fails where a laboratory uses these words otherwise.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import IsletImagingError
from islet_imaging.reading.annotations.geojson import annotations_of_geojson
from islet_imaging.reading.annotations.imagej import outlines_of_rois
from islet_imaging.reading.annotations.labels import checked_labels, read_labels_for
from islet_imaging.reading.annotations.outlines import Outline
from islet_imaging.reading.guard import check_file, guarded

ISLET, LEFT_OUT = "islet", "left_out"
#: words that say so, without their plural, in any case
ISLET_WORDS = ("islet", "aggregate", "cluster", "organoid", "spheroid", "region", "roi")
LEFT_OUT_WORDS = (
    "ignore", "exclude", "excluded", "exclusion", "left out", "leave out", "fold", "exocrine",
    "acinar", "debris", "artefact", "artifact", "necrosis", "necrotic", "background", "bubble",
    "dust", "tear", "vessel", "duct", "outside",
)  # fmt: skip


def read_regions(path: Path, shape: tuple[int, int]) -> list[Outline]:
    """Read the regions that belong to an image.

    Parameters
    ----------
    path : Path
        GeoJSON of annotations (QuPath), an ImageJ ``.roi`` or ROI ``.zip``, or a label image.
    shape : tuple of int
        Of the image, px.

    Returns
    -------
    list of Outline
        With ``kind`` "islet" or "left_out" and a name each.

    Raises
    ------
    IsletImagingError
        If the file cannot be read, holds no region, or one that is neither.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> file = Path(tempfile.mkdtemp()) / "a_islets.tif"
    >>> tifffile.imwrite(file, np.diag([0, 1, 2]).astype(np.uint16))
    >>> [(r.name, r.kind) for r in read_regions(file, (3, 3))]
    [('islet 1', 'islet'), ('islet 2', 'islet')]
    """
    with guarded(path):
        check_file(path)
        suffix = path.suffix.lower()
        if suffix in (".geojson", ".json"):
            found = annotations_of_geojson(path)
        elif suffix in (".roi", ".zip"):
            # an ROI has a name of its own making, not a class
            found = [replace(o, kind=_word_in(o.name)) for o in outlines_of_rois(path)]
        else:
            return regions_of_labels(read_labels_for(path, shape, "regions"))
    if not found:
        raise IsletImagingError(f"{path}: no region in it; draw annotations, or ROIs with an area")
    return named(found, str(path), shape)


def regions_of_labels(labels: NDArray[Any]) -> list[Outline]:
    """Each number of a label image as an islet, its outline along pixel edges.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        0 is outside.  Where there is one number only, a black-and-white mask, each patch of it is
        an islet.

    Returns
    -------
    list of Outline
        The pixels inside are exactly those of the labels.
    """
    from scipy import ndimage as ndi

    found = []
    labels = np.asarray(labels)
    if np.count_nonzero(np.bincount(labels.ravel())[1:]) == 1:
        labels, _ = ndi.label(labels, structure=np.ones((3, 3)))
    for number, box in enumerate(ndi.find_objects(labels), start=1):
        if box is not None:
            rings = pixel_rings(labels[box] == number)
            at = (box[0].start, box[1].start)
            found.append(Outline(tuple(r + at for r in rings), f"islet {number}", ISLET))
    return found


def pixel_rings(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Rings around a mask, holes among them, that hold exactly its pixels.

    Parameters
    ----------
    mask : ndarray of bool, shape (Y, X)

    Returns
    -------
    list of ndarray, shape (n, 2)
        Corners (y, x), px.

    Examples
    --------
    >>> from islet_imaging.reading.annotations.outlines import inside
    >>> mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    >>> (inside(pixel_rings(mask), (slice(0, 3), slice(0, 3))) == mask).all().item()
    True
    """
    from skimage.measure import find_contours

    # between the centres of pixels inside and those outside
    return [c[:-1] - 1 for c in find_contours(np.pad(mask, 1).astype(np.float32), 0.5)]


def checked_regions(regions: Any, shape: tuple[int, int]) -> list[Outline]:
    """Regions as a caller gives them: a file, outlines, or a label image.

    Parameters
    ----------
    regions : path, sequence of Outline, or ndarray of int, shape (Y, X)
        What to use.
    shape : tuple of int
        Of the image, px.

    Returns
    -------
    list of Outline
    """
    if isinstance(regions, str | Path):
        return read_regions(Path(regions), shape)
    if isinstance(regions, np.ndarray):
        return regions_of_labels(checked_labels(regions, shape, "regions"))
    return named(list(regions), "regions", shape)


def named(found: list[Outline], source: str, shape: tuple[int, int]) -> list[Outline]:
    """Outlines with what they mean and a name that no other has.

    Raises
    ------
    IsletImagingError
        If one is neither islet nor left out, or lies outside the image.
    """
    out: list[Outline] = []
    taken: set[str] = set()
    for number, outline in enumerate(found, start=1):
        kind = _meaning(outline, number, source)
        box = outline.box(shape)
        if box[0].stop <= box[0].start or box[1].stop <= box[1].start:
            raise IsletImagingError(
                f"{source}: region {number} lies outside the image of {shape[0]} x {shape[1]} px; "
                "was it drawn on another image, or in um?"
            )
        name = " ".join(outline.name.split())[:100]
        plain = "islet" if kind == ISLET else "left out"
        if not name or name.casefold() == "outside":
            name = f"{plain} {sum(o.kind == kind for o in out) + 1}"
        unique, k = name, 2
        while unique in taken:
            unique, k = f"{name} ({k})", k + 1
        taken.add(unique)
        out.append(replace(outline, name=unique, kind=kind))
    return out


def _meaning(outline: Outline, number: int, source: str) -> str:
    if outline.kind in (ISLET, LEFT_OUT):
        return outline.kind
    said = outline.kind.strip()
    if not said:
        return _word_in(outline.name) or ISLET
    if word := _word_in(said):
        return word
    if said.endswith("*"):
        return LEFT_OUT
    raise IsletImagingError(
        f"{source}: region {number} has the class {said[:60]!r}, which is neither an islet nor to "
        "be left out; call it 'Islet' or 'Ignore*' (or Exclude, Fold, Exocrine, Debris), or take "
        "it out of the file"
    )


def _word_in(text: str) -> str:
    """What a class or name says: it begins with one of the words; "" where it says nothing."""
    plain = re.sub(r"[\s_\-]+", " ", text).strip().casefold()
    for words, kind in ((LEFT_OUT_WORDS, LEFT_OUT), (ISLET_WORDS, ISLET)):
        for word in words:
            if re.match(rf"{word}s?(?![a-z])", plain):
                return kind
    return ""
