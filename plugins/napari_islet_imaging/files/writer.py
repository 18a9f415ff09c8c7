"""Writer: a nuclei layer as a label image with its table of calls beside it.

The idea: the layer's pixels and its features go out together, so that labels and calls stay tied.
It fails for labels that are not a single plane.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write ``<path>.tif`` and, where the layer has features, ``<path>.csv`` (npe2's rule)."""
    import numpy as np

    from islet_imaging.errors import IsletImagingError
    from islet_imaging.run.files import write_labels as write_tiff
    from islet_imaging.run.files import write_table
    from napari_islet_imaging.session.layer_data import KEY

    labels = np.asarray(data)
    if labels.ndim != 2:
        raise IsletImagingError(
            f"{path}: nuclei are a single plane (Y, X), this layer has {labels.ndim} axes; "
            "choose a plane first"
        )
    target = Path(path)
    unit = str(meta.get("units", ("pixel", "pixel"))[-1])
    micron = unit in ("um", "µm", "micrometer", "micron")
    write_tiff(target, labels.astype(np.int32), float(meta["scale"][-1]) if micron else None)
    written = [str(target)]
    table = meta.get("features")
    session = meta.get("metadata", {}).get(KEY, {}).get("session")
    if session is not None and session.open is not None:
        table = session.table  # the layer's own copy lags a moment behind the last edit
    if table is not None and len(table):
        write_table(target.with_suffix(".csv"), table.drop(columns=["index"], errors="ignore"))
        written.append(str(target.with_suffix(".csv")))
    return written
