"""The public `export`: a run into the files of one format.

The idea: one table of formats, one writer each; what they share of an image is `ExportImage`.
It fails for a format it does not know, with those it does.
"""

from __future__ import annotations

import os
from pathlib import Path

from islet_imaging.errors import IsletImagingError
from islet_imaging.export.image import export_images, export_names
from islet_imaging.run.files import inside
from islet_imaging.run.folder import Run
from islet_imaging.run.rows import rows_of

#: name -> what it is for
FORMATS = {
    "geojson": "QuPath objects, one .geojson per image",
    "roi": "ImageJ / Fiji ROI manager, one .zip per image",
    "anndata": "scverse, one .h5ad for the run",
    "ome-zarr": "OME-Zarr 0.5 images with labels, one .ome.zarr per image",
}


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
    if format not in FORMATS:
        raise IsletImagingError(f"no export format {format!r}; there are {', '.join(FORMATS)}")
    opened = run if isinstance(run, Run) else Run.open(run)
    try:
        return _export(opened, Path(path), format)
    except OSError as error:
        raise IsletImagingError(
            f"{str(error.filename or path)[:300]}: cannot be written ({error.strerror or error}); "
            "free space, or give another folder"
        ) from error


def _export(opened: Run, out: Path, format: str) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    if format == "anndata":
        from islet_imaging.export.anndata_export import write_anndata

        written.append(write_anndata(opened, out / f"{opened.path.resolve().name}.h5ad"))
        return written
    markers = opened.protocol.markers
    names = export_names([row.image for row in rows_of(opened.provenance)])
    for image in export_images(opened):
        target = inside(out, names[image.name])
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
