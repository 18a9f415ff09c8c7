"""GeoJSON as QuPath reads and writes it: islets as annotations, nuclei as detections within.

The idea: one feature per object, polygons in pixels, the call as QuPath's classification and the
table's numbers as its measurements; drag the file onto the image in QuPath.
It fails to carry a hierarchy: QuPath makes it itself (Objects > Insert into hierarchy).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging.export.image import plain
from islet_imaging.export.outline import label_polygons
from islet_imaging.run.files import write_text

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.export.image import ExportImage

#: the same colours as in napari and the report
_COLOURS = {"positive": [255, 176, 0], "negative": [86, 180, 233], "unsure": [255, 255, 255]}
_EXCLUDED = [154, 154, 154]
#: ids are made from names, so that the same run gives the same file
_NAMESPACE = uuid.UUID("5f2d1f0e-8a53-4c1b-9a5e-3b6f7a1c2d4e")


def classification(row: pd.Series[Any], markers: Sequence[str]) -> dict[str, Any]:
    """QuPath's classification of a cell: its positive markers, or what else is known of it."""
    if row["excluded"]:
        return {"name": "excluded", "color": _EXCLUDED}
    calls = {m: str(row[f"{m}_call"]) for m in markers}
    positive = [m for m in markers if calls[m] == "positive"]
    if positive:
        return {"name": ": ".join(positive), "color": _COLOURS["positive"]}
    if "unsure" in calls.values():
        return {"name": "unsure", "color": _COLOURS["unsure"]}
    return {"name": "negative", "color": _COLOURS["negative"]}


def write_geojson(image: ExportImage, path: Path, *, markers: Sequence[str]) -> Path:
    """Write one image's islets and nuclei.

    Parameters
    ----------
    image : ExportImage
        What to write.
    path : Path
        The ``.geojson`` file.
    markers : sequence of str
        Of the protocol.

    Returns
    -------
    Path
        The file.
    """
    features = [
        _feature(
            f"{image.name}/islet/{label}",
            polygon,
            {"objectType": "annotation", "name": f"islet {label}"},
        )
        for label, polygon in label_polygons(image.islets).items()
    ]
    polygons = label_polygons(image.nuclei)
    for _, row in image.cells.iterrows():
        cell = int(row["cell"])
        if cell not in polygons:
            continue  # painted out
        numbers = {
            str(k): plain(v)
            for k, v in row.items()
            if isinstance(plain(v), int | float) and not isinstance(plain(v), bool)
        }
        features.append(
            _feature(
                f"{image.name}/cell/{cell}",
                polygons[cell],
                {
                    "objectType": "detection",
                    "name": f"cell {cell}",
                    "classification": classification(row, markers),
                    "measurements": numbers,
                },
            )
        )
    collection = {"type": "FeatureCollection", "features": features}
    write_text(path, json.dumps(collection, ensure_ascii=False, separators=(",", ":")))
    return path


def _feature(name: str, polygon: NDArray[Any], properties: dict[str, Any]) -> dict[str, Any]:
    ring = [[float(x), float(y)] for x, y in polygon]
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, name)),
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": properties,
    }
