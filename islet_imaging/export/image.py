"""One image of a run as the writers of formats need it.

The idea: for every scored image its label image and its rows of the cells table go to the format's
writer; what the run's journal holds is laid over them first, so that exports follow corrections.
It fails, and says to score again, where corrected outlines need measurements that are gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import IsletImagingError

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.run.folder import Run


@dataclass(frozen=True)
class ExportImage:
    """One image of a run as an export needs it.

    Parameters
    ----------
    name : str
        Path relative to the scored folder.
    cells : DataFrame
        Its rows of the cells table, corrections included.
    nuclei, islets : ndarray of int32, (Y, X)
        Label images, corrections included in ``nuclei``.
    pixel_size_um : float
        Edge of a pixel, um.
    """

    name: str
    cells: pd.DataFrame
    nuclei: NDArray[np.int32]
    islets: NDArray[np.int32]
    pixel_size_um: float

    @property
    def stem(self) -> str:
        """The name as a path below the export's folder, without the image's ending."""
        path = Path(self.name)
        stem = path.name
        for ending in (".ome.tif", ".ome.tiff"):
            if stem.lower().endswith(ending):
                return str(path.with_name(stem[: -len(ending)]))
        return str(path.with_name(path.stem))


def export_images(run: Run) -> Iterator[ExportImage]:
    """The scored images of a run one after another, corrections laid over them."""
    from islet_imaging.review.journal import Journal, effective
    from islet_imaging.review.replay import Replay

    cells = run.cells
    edits = effective(Journal(run.corrections).edits())
    # tables that hold the corrections already get none twice
    done = "corrected_by" in cells
    facts = {row["image"]: row for row in run.provenance["images"]}
    for name, table in cells.groupby("image", sort=True):
        image = str(name)
        nuclei = run.labels(image, "nuclei")
        own = [e for e in edits if e.image == image]
        table = table.reset_index(drop=True)
        if own:
            # labels are corrected from the cells as measured: the table may hold the edits already
            replay = Replay(_measured(run, image) if done else table, nuclei)
            for edit in own:
                replay.apply(edit)
            nuclei = replay.labels if replay.labels is not None else nuclei
            if not done:
                table = replay.cells
        yield ExportImage(
            image,
            table,
            nuclei,
            run.labels(image, "islets"),
            float(facts[image]["record"]["pixel_size_um"]),
        )


def _measured(run: Run, image: str) -> pd.DataFrame:
    import pandas as pd

    from islet_imaging.run.folder import work_table

    path = work_table(run.path, image, "cells")
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise IsletImagingError(
            f"{path}: the measurements of {image!r} are gone ({error}); corrected outlines cannot "
            "be exported without them. Score the folder again into the same run folder"
        ) from error


def plain(value: Any) -> Any:
    """A table's value as JSON holds it; None for what is not a finite number."""
    item = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(item, float) and not np.isfinite(item) else item


def missing(library: str) -> IsletImagingError:
    """The error for a library of the ``export`` extra that is not installed."""
    return IsletImagingError(f"this format needs {library}: pip install 'islet-imaging[export]'")
