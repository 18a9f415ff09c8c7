"""One image of a run as the writers of formats need it.

The idea: for every scored image its label image and its rows of the cells table go to the format's
writer; what the run's journal holds is laid over them first, so that exports follow corrections.
It fails, and says to score again, where corrected outlines need measurements that are gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
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


def export_names(images: Sequence[str]) -> dict[str, str]:
    """What each image's export is called, below the export's folder.

    The image's name without its ending; with it where two would be called the same, also on a
    system that does not tell upper from lower case.

    Parameters
    ----------
    images : sequence of str
        Names of all images of the run.

    Examples
    --------
    >>> export_names(["b.tif", "d/a.ome.tif", "d/a.tif"])
    {'b.tif': 'b', 'd/a.ome.tif': 'd/a.ome.tif', 'd/a.tif': 'd/a.tif'}
    """
    short = {name: _stem(name) for name in images}
    often = Counter(stem.casefold() for stem in short.values())
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(images):
        made = short[name] if often[short[name].casefold()] == 1 else name
        number, free = 1, made
        while free.casefold() in taken:
            number += 1
            free = f"{made} ({number})"
        taken.add(free.casefold())
        found[name] = free
    return found


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    for ending in (".ome.tif", ".ome.tiff"):
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return str(path.with_name(path.name[: -len(ending)]))
    return str(path.with_name(path.stem))


def export_images(run: Run) -> Iterator[ExportImage]:
    """The scored images of a run one after another, corrections laid over them."""
    from islet_imaging.review.journal import Journal, effective
    from islet_imaging.review.replay import Replay
    from islet_imaging.run.image_checks import current_cells
    from islet_imaging.run.measurements import load_work
    from islet_imaging.run.rows import rows_of

    cells = current_cells(run)
    edits = effective(Journal(run.corrections).edits())
    rows = {row.image: row for row in rows_of(run.provenance)}
    for name, table in cells.groupby("image", sort=True):
        image = str(name)
        row = rows[image]
        nuclei = run.labels(image, "nuclei")
        own = [e for e in edits if e.image == image]
        table = table.reset_index(drop=True)
        if any(e.action == "shape" for e in own):
            # from the cells as measured: the table holds the edits already
            replay = Replay(load_work(run.path, row, "cells"), nuclei, pixels=row.pixels)
            for edit in own:
                replay.apply(edit)
            nuclei = replay.labels if replay.labels is not None else nuclei
        if row.pixel_size_um is None:
            raise IsletImagingError(f"{run.path}: the pixel size of {image!r} is not recorded")
        yield ExportImage(
            image, table, nuclei, run.labels(image, "islets"), float(row.pixel_size_um)
        )


def plain(value: Any) -> Any:
    """A table's value as JSON holds it; None for what is not a finite number."""
    item = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(item, float) and not np.isfinite(item) else item


def missing(library: str) -> IsletImagingError:
    """The error for a library of the ``export`` extra that is not installed."""
    return IsletImagingError(f"this format needs {library}: pip install 'islet-imaging[export]'")
