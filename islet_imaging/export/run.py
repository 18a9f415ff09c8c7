"""The public `export`: a run into the files of one format.

The idea: for every scored image its label image and its rows of the cells table go to the format's
writer; what the run's journal holds is laid over them first, so that exports follow corrections.
It fails for a format it does not know, with those it does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import IsletImagingError

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.run import Run

#: name -> what it is for
FORMATS = {
    "geojson": "QuPath objects, one .geojson per image",
    "roi": "ImageJ / Fiji ROI manager, one .zip per image",
    "anndata": "scverse, one .h5ad for the run",
    "ome-zarr": "OME-Zarr 0.5 images with labels, one .ome.zarr per image",
}


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


def export(run: Run | str | Path, path: str | Path, *, format: str = "geojson") -> list[Path]:
    """Write a run's outlines, calls and measurements for another tool.

    Parameters
    ----------
    run : Run or path
        A run folder.
    path : path
        Folder to write into; made where it is missing.
    format : {"geojson", "roi", "anndata", "ome-zarr"}
        See `FORMATS`.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    IsletImagingError
        If the format is unknown, its library is not installed, or the run holds no scored image.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from islet_imaging import export, score_folder
    >>> from islet_imaging.phantom import write_experiment
    >>> folder = Path(tempfile.mkdtemp())
    >>> sheet = write_experiment(folder / "stainings", n_conditions=1, n_batches=1, n_islets=1,
    ...                          controls=False, shape=(160, 160))
    >>> run = score_folder(folder / "stainings", folder / "run", workers=1)
    >>> written = export(run, folder / "for_qupath", format="geojson")
    >>> [path.name for path in written]
    ['islet01.geojson']
    """
    from islet_imaging.run import Run

    if format not in FORMATS:
        raise IsletImagingError(f"no export format {format!r}; there are {', '.join(FORMATS)}")
    opened = run if isinstance(run, Run) else Run.open(run)
    out = Path(path)
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    if format == "anndata":
        from islet_imaging.export.anndata_export import write_anndata

        written.append(write_anndata(opened, out / f"{opened.path.resolve().name}.h5ad"))
        return written
    markers = opened.protocol.markers
    for image in export_images(opened):
        target = out / image.stem
        target.parent.mkdir(parents=True, exist_ok=True)
        if format == "geojson":
            from islet_imaging.export.geojson import write_geojson

            made = write_geojson(
                image, _ending(target, ".geojson"), markers=opened.protocol.markers
            )
        elif format == "roi":
            from islet_imaging.export.roi_zip import write_roi_zip

            made = write_roi_zip(image, _ending(target, ".zip"), markers=markers)
        else:
            from islet_imaging.export.omezarr_export import write_omezarr

            made = write_omezarr(image, opened, _ending(target, ".ome.zarr"))
        written.append(made)
    if not written:
        raise IsletImagingError(f"{opened.path}: no scored image to export")
    return written


def _ending(path: Path, ending: str) -> Path:
    return Path(os.fspath(path) + ending)


def export_images(run: Run) -> Iterator[ExportImage]:
    """The scored images of a run one after another, corrections laid over them."""
    from islet_imaging.corrections import Journal, effective
    from islet_imaging.replay import Replay

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

    from islet_imaging.run import work_table

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
