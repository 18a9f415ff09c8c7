"""A label image of an image's nuclei or cells, from whatever another tool wrote.

The idea: a label image has one whole number per nucleus and 0 between them; everything that other
tools hand over as a picture and is none (probabilities, a black-and-white mask in which touching
nuclei are one, colours, another size) would give a wrong count without a word, so it is refused,
with both sizes or the number that is wrong and with what to do.
It fails to notice nuclei that were drawn in the wrong places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Labels
from islet_imaging.errors import IsletImagingError
from islet_imaging.reading.annotations.cellpose import read_seg_npy
from islet_imaging.reading.annotations.geojson import nuclei_of_geojson
from islet_imaging.reading.annotations.imagej import outlines_of_rois
from islet_imaging.reading.annotations.outlines import draw_labels
from islet_imaging.reading.guard import check_file, guarded

#: endings that labels may come in
LABEL_SUFFIXES = (".tif", ".tiff", ".png", ".npy", ".geojson", ".json", ".roi", ".zip")
#: larger numbers would make every table by number as long as they are
LARGEST_LABEL = 2**24
#: a piece of at least this share of the largest one is no loose pixel
PIECE = 0.25


def read_labels_for(path: Path, shape: tuple[int, int], what: str = "nuclei") -> Labels:
    """Read the label image that belongs to an image.

    Parameters
    ----------
    path : Path
        A label image (TIFF, PNG, ``.npy``), Cellpose's ``_seg.npy``, QuPath's GeoJSON, ImageJ's
        ``.roi`` or ROI ``.zip``.
    shape : tuple of int
        Of the image, px.
    what : {"nuclei", "cells"}
        What is read: of QuPath's cells the nucleus or the whole.

    Returns
    -------
    ndarray of int32, shape (Y, X)

    Raises
    ------
    IsletImagingError
        If the file is missing, cannot be read, or holds no label image of that size.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> file = Path(tempfile.mkdtemp()) / "a_masks.tif"
    >>> tifffile.imwrite(file, np.diag([0, 1, 2]).astype(np.uint16))
    >>> read_labels_for(file, (3, 3)).max().item()
    2
    """
    with guarded(path):
        check_file(path)
        suffix = path.suffix.lower()
        if suffix in (".geojson", ".json"):
            return _drawn(nuclei_of_geojson(path, what), path, shape, what)
        if suffix in (".roi", ".zip"):
            return _drawn(outlines_of_rois(path), path, shape, what)
        labels = _npy(path) if suffix == ".npy" else _picture(path)
    return checked_labels(labels, shape, what, str(path))


def checked_labels(
    labels: Any, shape: tuple[int, int], what: str = "nuclei", source: str = ""
) -> Labels:
    """Check that an array is a label image of an image of that size.

    Parameters
    ----------
    labels : array of int, shape (Y, X)
        0 is background; axes of length 1 before Y are dropped.
    shape : tuple of int
        Of the image, px.
    what : {"nuclei", "cells", "regions"}
        What they are of.
    source : str
        For messages: the file.

    Returns
    -------
    ndarray of int32, shape (Y, X)
        With the numbers that were given.

    Raises
    ------
    IsletImagingError
        If it is none; the message says what is wrong and what to do.

    Examples
    --------
    >>> checked_labels(np.array([[0, 3], [7, 7]], np.uint16), (2, 2)).tolist()
    [[0, 3], [7, 7]]
    >>> checked_labels(np.ones((2, 3), int), (3, 2))
    Traceback (most recent call last):
        ...
    islet_imaging.errors.IsletImagingError: nuclei: labels of 2 x 3 px for an image of 3 x 2 px; \
they are turned by 90 degrees (labels.T)
    """
    start = f"{source}: {what}" if source else what
    array = np.asarray(labels)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.dtype == bool and what == "regions":
        array = array.astype(np.uint8)
    if array.dtype == bool:
        raise IsletImagingError(f"{start}: {_BINARY}")
    if array.dtype.kind not in "iu":
        raise IsletImagingError(
            f"{start}: labels are {array.dtype}; a label image holds whole numbers, one per object "
            "(not probabilities; convert with labels.astype('int32') if they are numbers)"
        )
    if array.ndim != 2:
        raise IsletImagingError(
            f"{start}: labels must be one plane (Y, X), not of shape {array.shape}"
        )
    if array.shape != shape:
        turned = "; they are turned by 90 degrees (labels.T)" if array.shape[::-1] == shape else ""
        raise IsletImagingError(
            f"{start}: labels of {array.shape[0]} x {array.shape[1]} px for an image of "
            f"{shape[0]} x {shape[1]} px{turned or '; they belong to another image or size'}"
        )
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0:
        raise IsletImagingError(f"{start}: a label is {low}; labels are 0 (background), 1, 2, ...")
    if high == 0:
        raise IsletImagingError(f"{start}: empty, all pixels are 0")
    if high > LARGEST_LABEL:
        raise IsletImagingError(
            f"{start}: a label is {high}, more than {LARGEST_LABEL}; number them anew "
            "(skimage.segmentation.relabel_sequential)"
        )
    found = np.ascontiguousarray(array, np.int32)
    if what != "regions":  # an islet may well be drawn in parts
        _check_pieces(found, start)
    return found


_BINARY = (
    "a black-and-white mask, in which nuclei that touch are one; a label image is needed, one "
    "number per object (Cellpose's and StarDist's masks are such)"
)


def _check_pieces(labels: Labels, start: str) -> None:
    """Refuse numbers that stand for two objects; loose pixels of one object are none."""
    from scipy import ndimage as ndi
    from skimage.measure import label, regionprops

    pieces = label(labels, connectivity=2)
    numbers = np.count_nonzero(np.bincount(labels.ravel())[1:])
    n_pieces = int(pieces.max())
    if n_pieces == numbers:
        return
    if numbers == 1 and n_pieces > 2:
        raise IsletImagingError(f"{start}: {_BINARY}")
    home = np.zeros(n_pieces + 1, np.int64)
    home[pieces.ravel()] = labels.ravel()
    home[0] = 0
    count = np.bincount(home[1:], minlength=int(labels.max()) + 1)
    boxes = ndi.find_objects(labels)
    areas = np.bincount(labels.ravel())[1:]
    # a dying nucleus falls into pieces, which lie where it lay
    usual = float(np.median(2 * np.sqrt(areas[areas > 0] / np.pi)))
    for number in np.flatnonzero(count > 1):
        if number == 0 or boxes[number - 1] is None:
            continue
        own = regionprops(label(labels[boxes[number - 1]] == number, connectivity=2))
        own = sorted(own, key=lambda p: -p.area)
        reach = own[0].equivalent_diameter_area
        for other in own[1:]:
            apart = np.hypot(*np.subtract(other.centroid, own[0].centroid))
            if other.area >= PIECE * own[0].area and apart > 2 * max(reach, usual):
                top, left = boxes[number - 1][0].start, boxes[number - 1][1].start
                (y, x), (v, u) = own[0].centroid, other.centroid
                raise IsletImagingError(
                    f"{start}: label {number} lies in two places (row {y + top:.0f}, column "
                    f"{x + left:.0f} and row {v + top:.0f}, column {u + left:.0f}); every object "
                    "needs a number of its own"
                )


def _drawn(outlines: Any, path: Path, shape: tuple[int, int], what: str) -> Labels:
    if not outlines:
        raise IsletImagingError(f"{path}: {what}: empty, no outline in it")
    return draw_labels(outlines, shape, str(path))


def _picture(path: Path) -> NDArray[Any]:
    """The one plane of a TIFF or PNG."""
    from islet_imaging.reading.read import open_source

    source = open_source(path)
    if source.metadata.get("lossy"):
        raise IsletImagingError(f"{path}: JPEG changes numbers; save labels as TIFF or PNG")
    if len(source.channels) != 1 or source.n_planes != 1:
        n = len(source.channels) * source.n_planes
        raise IsletImagingError(
            f"{path}: {n} planes or colours; a label image has one plane of whole numbers (save "
            "the masks themselves, not a coloured picture of them)"
        )
    return source.read(0, 0, None)


def _npy(path: Path) -> NDArray[Any]:
    """An array file, or Cellpose's file of arrays."""
    with path.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        shape, _, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(
            stream
        )
    if dtype.hasobject:
        return read_seg_npy(path)
    del shape
    return np.asarray(np.load(path, allow_pickle=False))
