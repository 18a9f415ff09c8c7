"""AnnData, as scverse tools expect it.

The idea: X is cells by markers, each cell's own light after that of its neighbours was taken away
(what calls are made by; the mean of the compartment where it is not known), every other column is
in ``obs``, places are in ``obsm["spatial"]`` in um, provenance and thresholds in ``uns``.
It fails to hold outlines: they stay in the label images, tied by ``obs["cell"]``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging.errors import IsletImagingError
from islet_imaging.export.image import export_images, missing
from islet_imaging.run.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.run.folder import Run


def write_anndata(run: Run, path: Path) -> Path:
    """Write a run's cells as one ``.h5ad``.

    Parameters
    ----------
    run : Run
        The run.
    path : Path
        The file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    IsletImagingError
        If anndata is not installed, or there is no cell.
    """
    try:
        import anndata
    except ImportError:
        raise missing("anndata") from None
    import pandas as pd

    tables = [image.cells for image in export_images(run)]
    if not tables:
        raise IsletImagingError(f"{run.path}: no scored image to export")
    cells = pd.concat(tables, ignore_index=True)
    sheet = run.images.drop_duplicates("image")
    sheet = sheet[["image", *(c for c in _sheet_columns(run, sheet) if c not in cells.columns)]]
    obs = cells.merge(sheet, on="image", how="left", validate="many_to_one")
    markers = list(run.protocol.markers)
    x = np.column_stack([cells[_own_light(run, m, cells)].to_numpy(np.float32) for m in markers])
    places = obs[["x_um", "y_um"]].to_numpy(float)
    obs = obs.drop(columns=["y_um", "x_um"])
    for name in obs.columns:
        if obs[name].dtype == object:
            obs[name] = pd.Categorical(obs[name].fillna("").astype(str))
    obs.index = pd.Index([f"{i}:{c}" for i, c in zip(cells["image"], cells["cell"], strict=True)])
    protocol = run.protocol
    made = anndata.AnnData(
        X=x,
        obs=obs,
        var=pd.DataFrame(
            {
                "compartment": [protocol.channel(m).compartment for m in markers],
                "feature": [_own_light(run, m, cells) for m in markers],
            },
            index=markers,
        ),
        obsm={"spatial": places},
        uns={
            "islet_imaging": {
                "provenance": json.dumps(run.provenance, ensure_ascii=False),
                "protocol": protocol.dump(),
                "spatial_unit": "um",
            }
        },
    )
    with atomic_path(path) as part:
        made.write_h5ad(part)
    return path


def _sheet_columns(run: Run, images: pd.DataFrame) -> list[str]:
    """What the sample sheet says of an image, as columns of the images table."""
    further = [k for row in run.provenance["images"] for k in row.get("extra", {})]
    names = ["condition", "batch", "role", *further, *(f"sheet_{k}" for k in further)]
    return [c for c in dict.fromkeys(names) if c in images.columns]


def _own_light(run: Run, marker: str, cells: pd.DataFrame) -> str:
    """Column of a cell's own light; the mean of its compartment where none was worked out."""
    own = f"{marker}_own"
    if own in cells and cells[own].notna().any():
        return own
    nuclear = run.protocol.channel(marker).compartment == "nucleus"
    return f"{marker}_{'nucleus' if nuclear else 'ring'}_mean"


def read_provenance(adata: Any) -> dict[str, Any]:
    """The provenance that `write_anndata` kept."""
    kept: dict[str, Any] = json.loads(adata.uns["islet_imaging"]["provenance"])
    return kept
