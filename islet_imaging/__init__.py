"""islet-imaging: the share of insulin-positive cells in stained islets, with its uncertainty.

Names are loaded when first used, so that importing the package is quick and silent.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from islet_imaging._version import __version__ as __version__

#: public name -> module that holds it
_WHERE = {
    "Channel": "protocol",
    "IsletImage": "image",
    "IsletImagingError": "errors",
    "Protocol": "protocol",
    "Run": "run",
    "Threshold": "positivity",
    "call_cells": "positivity",
    "combine_runs": "run.study",
    "compare_conditions": "statistics",
    "compare_with_manual": "statistics",
    "correct_image": "correction.image",
    "export": "export",
    "fit_threshold": "positivity",
    "grow_cells": "segmentation.cells",
    "islet_equivalents": "segmentation.islets",
    "load_model": "network.weights",
    "measure_cells": "measurement.measure",
    "phantom": "phantom",
    "read_image": "reading",
    "resummarise": "scoring.results",
    "score_folder": "scoring.folder",
    "score_image": "scoring.image",
    "scoring_ledger": "scoring.ledger",
    "segment_islets": "segmentation.islets",
    "segment_nuclei": "segmentation.nuclei",
    "summarise": "statistics",
    "watch_folder": "scoring.watch",
}

__all__ = [
    "Channel",
    "IsletImage",
    "IsletImagingError",
    "Protocol",
    "Run",
    "Threshold",
    "call_cells",
    "combine_runs",
    "compare_conditions",
    "compare_with_manual",
    "correct_image",
    "export",
    "fit_threshold",
    "grow_cells",
    "islet_equivalents",
    "load_model",
    "measure_cells",
    "phantom",
    "read_image",
    "resummarise",
    "score_folder",
    "score_image",
    "scoring_ledger",
    "segment_islets",
    "segment_nuclei",
    "summarise",
    "watch_folder",
]

if TYPE_CHECKING:
    from islet_imaging.correction.image import correct_image
    from islet_imaging.errors import IsletImagingError
    from islet_imaging.export import export
    from islet_imaging.image import IsletImage
    from islet_imaging.measurement.measure import measure_cells
    from islet_imaging.network.weights import load_model
    from islet_imaging.phantom import phantom
    from islet_imaging.positivity import Threshold, call_cells, fit_threshold
    from islet_imaging.protocol import Channel, Protocol
    from islet_imaging.reading import read_image
    from islet_imaging.run.folder import Run
    from islet_imaging.run.study import combine_runs
    from islet_imaging.scoring.folder import score_folder
    from islet_imaging.scoring.image import score_image
    from islet_imaging.scoring.ledger import scoring_ledger
    from islet_imaging.scoring.results import resummarise
    from islet_imaging.scoring.watch import watch_folder
    from islet_imaging.segmentation.cells import grow_cells
    from islet_imaging.segmentation.islets import islet_equivalents, segment_islets
    from islet_imaging.segmentation.nuclei import segment_nuclei
    from islet_imaging.statistics import compare_conditions, compare_with_manual, summarise


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'islet_imaging' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"islet_imaging.{_WHERE[name]}"), name)
    # `phantom` and `export` name a package and the function in it: the function is meant
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
