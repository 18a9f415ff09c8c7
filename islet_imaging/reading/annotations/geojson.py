"""GeoJSON as QuPath writes it: nuclei, cells, and regions with their classes.

The idea: coordinates are pixels with 0 at the upper left *corner* of the image (x, then y); a hole
is a further ring.  QuPath says what an object is: an annotation, a detection, or a cell that has a
nucleus of its own.
It fails for points and lines, which enclose nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from islet_imaging._types import Float64
from islet_imaging.errors import IsletImagingError
from islet_imaging.reading.annotations.outlines import Outline

#: a larger file is not read into memory
MAX_BYTES = 2**30


def nuclei_of_geojson(path: Path, what: str = "nuclei") -> list[Outline]:
    """Outlines of detections and cells; of annotations where there is nothing else.

    Parameters
    ----------
    path : Path
        The file.
    what : {"nuclei", "cells"}
        Of a cell its nucleus, or the whole.

    Returns
    -------
    list of Outline
    """
    features = list(_features(path))
    kinds = [str(f["properties"].get("objectType", "")) for f in features]
    chosen = [f for f, k in zip(features, kinds, strict=True) if k in ("detection", "cell")]
    if not chosen:
        chosen = [f for f, k in zip(features, kinds, strict=True) if k in ("", "annotation")]
    nucleus = what == "nuclei"
    return [
        _outline(path, n, f, f.get("nucleusGeometry") if nucleus else None)
        for n, f in enumerate(chosen, start=1)
    ]


def annotations_of_geojson(path: Path) -> list[Outline]:
    """Outlines of annotations with their names and classes; detections and cells are passed by."""
    return [
        _outline(path, n, f)
        for n, f in enumerate(_features(path), start=1)
        if str(f["properties"].get("objectType", "annotation")) == "annotation"
    ]


def _features(path: Path) -> Iterator[dict[str, Any]]:
    if path.stat().st_size > MAX_BYTES:
        raise IsletImagingError(f"{path}: more than {MAX_BYTES // 2**30} GiB; export fewer objects")
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        raise IsletImagingError(f"{path}: a compressed file; export without compression")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        text = " ".join(str(error).split())[:100]
        raise IsletImagingError(f"{path}: no GeoJSON ({text}); export it again") from None
    if isinstance(found, Mapping) and found.get("type") == "FeatureCollection":
        found = found.get("features")
    elif isinstance(found, Mapping):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(f, Mapping) for f in found):
        raise IsletImagingError(f"{path}: no GeoJSON of features; export objects from QuPath")
    for feature in found:
        properties = feature.get("properties")
        yield {**feature, "properties": properties if isinstance(properties, Mapping) else {}}


def _outline(path: Path, number: int, feature: Mapping[str, Any], own: Any = None) -> Outline:
    properties = feature["properties"]
    kind = properties.get("classification")
    if isinstance(kind, Mapping):
        kind = kind.get("name") or ": ".join(map(str, kind.get("names", ())))
    geometry = own if isinstance(own, Mapping) else feature.get("geometry")
    try:
        rings = tuple(_rings(geometry))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        shape = geometry.get("type") if isinstance(geometry, Mapping) else geometry
        raise IsletImagingError(
            f"{path}: object {number} is a {shape!s:.40}, not an outline (Polygon, MultiPolygon) "
            "of pixels; draw around what is meant"
        ) from error
    return Outline(rings, str(properties.get("name") or ""), str(kind or ""))


def _rings(geometry: Any) -> Iterator[Float64]:
    parts = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        parts = [parts]
    elif geometry["type"] != "MultiPolygon":
        raise ValueError(geometry["type"])
    for part in parts:
        for ring in part:
            xy = np.array([[p[0], p[1]] for p in ring], np.float64)
            if len(xy) < 3 or not np.isfinite(xy).all():
                raise ValueError("a ring of fewer than three points")
            if (xy[0] == xy[-1]).all():
                xy = xy[:-1]
            # the middle of the first pixel lies half a pixel from the corner
            yield xy[:, ::-1] - 0.5
    if not parts:
        raise ValueError("no ring")
