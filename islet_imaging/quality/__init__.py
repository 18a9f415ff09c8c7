"""Quality: what must be known before a number is believed.

The idea: pure functions on pixels, metadata and tables, which return flags in plain words and
change nothing.  :func:`measure_quality` reads the pixels once; :func:`check_image` judges one
image, :func:`check_folder` compares the images of a folder, :func:`flag_cells` marks cells.
It fails, as every rule of thumb, on images unlike those it was measured on: see
``docs/quality.md`` for the faults that are caught and the false alarms.
"""

from islet_imaging.quality.cell_flags import excludes_pyknotic, flag_cells
from islet_imaging.quality.flag import SEVERITIES, Flag, Severity, join_codes
from islet_imaging.quality.folder_flags import check_folder
from islet_imaging.quality.image_flags import check_image
from islet_imaging.quality.numbers import ChannelNumbers, ImageNumbers, measure_quality

__all__ = [
    "SEVERITIES",
    "ChannelNumbers",
    "Flag",
    "ImageNumbers",
    "Severity",
    "check_folder",
    "check_image",
    "excludes_pyknotic",
    "flag_cells",
    "join_codes",
    "measure_quality",
]
