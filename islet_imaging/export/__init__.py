"""Handing a run to other tools: QuPath, ImageJ, scverse, OME-Zarr viewers.

The idea: one function, one format per file, each writing what that tool's own library reads back;
outlines are traced from the label images, calls and measurements come from the cells table.
It fails, naming the extra to install, where a format needs a library that is not there.
"""

from __future__ import annotations

from islet_imaging._callable_package import make_callable
from islet_imaging.export.formats import FORMATS, export

__all__ = ["FORMATS", "export"]

make_callable(__name__, export)
