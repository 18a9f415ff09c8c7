"""The report: one HTML file that shows the number, why it is believed, and when not to.

The idea: a run's tables, thresholds, example cells and flags are handed over as one
:class:`ReportData`; :func:`write_report` turns them into a single file without scripts or network.
It computes no result of its own: every number in it is in the run's tables too.
It fails when it is asked for a number that the tables do not hold; the place is then left out.
"""

from islet_imaging.report.build import build_report, write_report
from islet_imaging.report.data import GalleryEntry, Outline, ReportData
from islet_imaging.report.gallery import gallery_entry

__all__ = [
    "GalleryEntry",
    "Outline",
    "ReportData",
    "build_report",
    "gallery_entry",
    "write_report",
]
