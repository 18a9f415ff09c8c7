"""ImageJ ROI sets: one polygon per nucleus, named by its cell and call.

The idea: a ``.zip`` that ImageJ's ROI manager opens; the stroke colour shows the call.
It fails to hold measurements: those stay in the CSV, tied by the cell's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.export.geojson import classification
from islet_imaging.export.image import missing
from islet_imaging.export.outline import label_polygons
from islet_imaging.run.files import atomic_path

if TYPE_CHECKING:
    from islet_imaging.export.image import ExportImage


def write_roi_zip(image: ExportImage, path: Path, *, markers: Sequence[str]) -> Path:
    """Write one image's nuclei as an ImageJ ROI set.

    Parameters
    ----------
    image : ExportImage
        What to write.
    path : Path
        The ``.zip`` file.
    markers : sequence of str
        Of the protocol.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    IsletImagingError
        If roifile is not installed.
    """
    try:
        import roifile
    except ImportError:
        raise missing("roifile") from None

    polygons = label_polygons(image.nuclei)
    made = []
    for _, row in image.cells.iterrows():
        cell = int(row["cell"])
        if cell not in polygons:
            continue  # painted out
        kind = classification(row, markers)
        roi = roifile.ImagejRoi.frompoints(
            np.round(polygons[cell]).astype(np.int32), name=f"{cell:06d} {kind['name']}"
        )
        roi.roitype = roifile.ROI_TYPE.POLYGON
        roi.stroke_color = bytes([255, *kind["color"]])
        made.append(roi)
    with atomic_path(path) as part:
        part.unlink()  # roifile adds to a file that is there
        roifile.roiwrite(part, made)
    return path
