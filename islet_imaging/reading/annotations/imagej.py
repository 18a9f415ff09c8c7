"""ImageJ's regions of interest: a ``.roi`` file, or the ``.zip`` of the ROI manager.

The idea: an ROI that encloses an area (polygon, freehand, traced, oval, rectangle, or several put
together) becomes an outline under its name; coordinates are pixels from the image's corner.
It fails for points and lines, and says so, and without roifile (the extra "export").
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from islet_imaging.errors import IsletImagingError
from islet_imaging.reading.annotations.outlines import Outline

#: an ROI file is small; a larger archive holds something else
MAX_BYTES = 512 * 2**20
#: kinds of ROI that enclose something; several put together are of the kind RECT
AREAS = ("POLYGON", "RECT", "OVAL", "FREEHAND", "TRACED")


def outlines_of_rois(path: Path) -> list[Outline]:
    """Outlines of the regions in a file.

    Parameters
    ----------
    path : Path
        ``.roi`` or ``.zip``.

    Returns
    -------
    list of Outline
        In the order of the file.

    Raises
    ------
    IsletImagingError
        If there is something else in it than areas, or roifile is not installed.
    """
    try:
        import roifile
    except ImportError:
        raise IsletImagingError(
            f"{path}: reading ImageJ's ROIs needs roifile: pip install 'islet-imaging[export]'"
        ) from None
    files: list[tuple[str, bytes]] = []
    if path.suffix.lower() == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                listed = [i for i in archive.infolist() if i.filename.lower().endswith(".roi")]
                if sum(i.file_size for i in listed) > MAX_BYTES:
                    raise IsletImagingError(f"{path}: no set of ROIs, it unpacks to too much")
                files = [(i.filename, archive.read(i)) for i in listed]
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise IsletImagingError(f"{path}: no readable zip ({error}); save it again") from None
    else:
        files = [(path.name, path.read_bytes())]
    found = []
    for number, (name, data) in enumerate(files, start=1):
        try:
            roi = roifile.ImagejRoi.frombytes(data)
            rings = tuple(
                np.asarray(ring, np.float64)[:, ::-1] - 0.5
                for ring in roi.coordinates(multi=True)
                if len(ring) >= 3
            )
            area = roi.roitype.name in AREAS
        except Exception as error:  # a damaged ROI raises whatever its parser stumbles over
            raise IsletImagingError(f"{path}: {name} is no readable ROI ({error})") from error
        if not rings or not area or not all(np.isfinite(r).all() for r in rings):
            raise IsletImagingError(
                f"{path}: ROI {number} ({roi.name or name}) is a {roi.roitype.name.lower()}, which "
                "encloses nothing; draw an area around what is meant"
            )
        found.append(Outline(rings, str(roi.name or Path(name).stem)))
    return found
