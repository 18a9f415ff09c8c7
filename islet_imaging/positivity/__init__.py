"""Positivity: thresholds, spill-over, calls and phenotypes, all on the cells table.

The idea: fit once per staining run (`fit_marker`), call each image with that fit (`call_marker`),
then look at all markers together (`assign_phenotypes`).
It fails where the cells table does: a wrong ring or a missed nucleus cannot be mended here.
"""

from __future__ import annotations

from islet_imaging.positivity.calling import call_cells, call_marker, image_threshold
from islet_imaging.positivity.cut import fit_threshold
from islet_imaging.positivity.fitting import fit_cells, fit_marker
from islet_imaging.positivity.levels import StainLevels, stain_levels
from islet_imaging.positivity.methods.control import trimmed_quantile
from islet_imaging.positivity.phenotype import assign_phenotypes, hormone_class, hormone_of
from islet_imaging.positivity.sensitivity import Sensitivity, threshold_sensitivity
from islet_imaging.positivity.staining_run import call_image, fit_stains
from islet_imaging.positivity.threshold import Cut, Threshold

__all__ = [
    "Cut",
    "Sensitivity",
    "StainLevels",
    "Threshold",
    "assign_phenotypes",
    "call_cells",
    "call_image",
    "call_marker",
    "fit_cells",
    "fit_marker",
    "fit_stains",
    "fit_threshold",
    "hormone_class",
    "hormone_of",
    "image_threshold",
    "stain_levels",
    "threshold_sensitivity",
    "trimmed_quantile",
]
