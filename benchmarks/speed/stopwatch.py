"""Seconds of the processor that kinds of work take in all processes of a run; for growth.py.

The idea: the library holds no clock.  Functions are exchanged for timed ones when somebody imports
their module, and every process keeps its sums in a file of its own.
It fails for functions that a module had taken from another before this one was there.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

#: functions by module, and what their time counts as
WATCHED = {
    "islet_imaging.scoring.image": {"measure_image": "measuring"},
    "islet_imaging.positivity.staining_run": {"call_image": "calling"},
    "islet_imaging.positivity.fitting": {"fit_marker": "calling"},
    "islet_imaging.run.files": {"write_labels": "writing", "write_arrow": "writing"},
    "islet_imaging.run.image_checks": {"check_rows": "comparing"},
    "islet_imaging.scoring.results": {"_write_cells": "writing"},
    "islet_imaging.report.assemble": {"report_data": "report", "_entries": "report"},
    "islet_imaging.report.build": {"write_report": "report"},
}
KINDS_OF_WORK = ("measuring", "calling", "writing", "comparing", "report")


def read_seconds(folder: str | Path) -> dict[str, float]:
    """What all processes of a run added up, by kind."""
    every = [np.fromfile(file, np.float64) for file in Path(folder).iterdir()]
    return dict(zip(KINDS_OF_WORK, np.sum(every, axis=0).tolist(), strict=True))


class Stopwatch(importlib.abc.MetaPathFinder):
    """Adds up, in every process of a run, what `score_image` does for an image that stands alone.

    Measuring, and fitting with calling; beside them what is written, the comparison of images and
    the report: seconds of the processor, kept in a file per process, since workers are ended
    without a word.  Functions are exchanged when somebody imports their module.
    """

    def __init__(self, folder: str) -> None:
        # a file in memory: written at every step, it would take time that is nobody's
        file = Path(folder) / f"{os.getpid()}.seconds"
        self.seconds = np.memmap(file, np.float64, "w+", shape=len(KINDS_OF_WORK))
        self.busy = False
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The module's own specification, with its function exchanged once it is loaded."""
        if name not in WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
        assert spec is not None
        assert spec.loader is not None
        real = spec.loader.exec_module

        def load(module: Any) -> None:
            real(module)
            for function, kind in WATCHED[name].items():
                setattr(module, function, self.timed(getattr(module, function), kind))

        spec.loader.exec_module = load  # type: ignore[method-assign]
        return spec

    def timed(self, real: Any, kind: str) -> Any:
        """A function that adds up its time."""

        @functools.wraps(real)
        def call(*args: Any, **more: Any) -> Any:
            if self.busy:  # of a call within another the outer one is counted
                return real(*args, **more)
            self.busy, begun = True, time.process_time()
            try:
                return real(*args, **more)
            finally:
                self.busy = False
                self.seconds[KINDS_OF_WORK.index(kind)] += time.process_time() - begun

        return call
