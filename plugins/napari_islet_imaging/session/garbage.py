"""Garbage: what napari is made of is left out of Python's collections.

The idea: Python walks all objects when it likes, and beside napari's modules that takes a fifth of
a second, in which no key is heard.  What is there before the first image is opened lives as long as
the window, so it need not be walked again.
It fails where layers are there first: nothing is left out then, since layers must be freed.
"""

from __future__ import annotations

import functools
import gc


@functools.cache
def leave_modules_out() -> None:
    """Leave all that is there out of later collections; done once, and too late with layers."""
    from napari import current_viewer

    viewer = current_viewer()
    if viewer is None or not len(viewer.layers):
        gc.collect()
        gc.freeze()
