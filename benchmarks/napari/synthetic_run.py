"""A run folder of any size, drawn and measured in seconds, for tests and timings of the plugin.

The idea: discs on a jittered grid are the nuclei, known at once, so that no segmentation is run;
everything after it (measuring, calling, tables) is the library's own.
It fails as a picture of tissue: it is a load, not a phantom.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = ("DAPI", "INS", "GCG")
#: what the run's measurements are known by: nothing is ever measured anew
KEY = "0" * 64


def draw_cells(
    shape: tuple[int, int], n_cells: int, *, pixel_size_um: float, seed: int
) -> tuple[NDArray[np.int32], dict[str, NDArray[np.uint16]]]:
    """Labels and channels of discs on a jittered grid; 40 % are insulin-positive."""
    rng = np.random.default_rng(seed)
    height, width = shape
    pitch = int(np.sqrt(height * width / n_cells))
    radius = min(int(3.2 / pixel_size_um), pitch // 2 - 2)
    ys, xs = np.mgrid[
        pitch // 2 : height - pitch // 2 + 1 : pitch, pitch // 2 : width - pitch // 2 + 1 : pitch
    ]
    centres = np.column_stack([ys.ravel(), xs.ravel()])[:n_cells]
    jitter = max(pitch // 2 - radius - 1, 0)
    centres = centres + rng.integers(-jitter, jitter + 1, centres.shape)
    yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = yy**2 + xx**2 <= radius**2
    reach = radius + int(3.0 / pixel_size_um)
    ry, rx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    ring = ry**2 + rx**2 <= reach**2
    labels = np.zeros(shape, np.int32)
    light = {name: np.full(shape, 200.0, np.float32) for name in CHANNELS}
    # strengths over a wide range, so that some cells lie at any threshold
    strength = np.where(rng.random(len(centres)) < 0.4, rng.lognormal(6.8, 0.6, len(centres)), 0)
    glucagon = np.where(rng.random(len(centres)) < 0.15, rng.lognormal(6.8, 0.5, len(centres)), 0)
    for k, (y, x) in enumerate(centres):
        own = (slice(y - radius, y + radius + 1), slice(x - radius, x + radius + 1))
        if labels[own].shape != disc.shape:
            continue
        labels[own][disc] = k + 1
        light["DAPI"][own][disc] += rng.uniform(900, 1800)
        around = (slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1))
        part = light["INS"][around]
        cut = ring[reach - (y - around[0].start) :, reach - (x - around[1].start) :]
        cut = cut[: part.shape[0], : part.shape[1]]
        part[cut] = np.maximum(part[cut], 200 + strength[k])
        part = light["GCG"][around]
        part[cut] = np.maximum(part[cut], 200 + glucagon[k])
    pixels = {
        name: np.clip(rng.normal(value, 12 + np.sqrt(value)), 0, 65535).astype(np.uint16)
        for name, value in light.items()
    }
    return labels, pixels


def make_run(
    folder: Path,
    *,
    images: int = 2,
    shape: tuple[int, int] = (512, 512),
    n_cells: int = 150,
    pixel_size_um: float = 0.5,
    seed: int = 1,
) -> Path:
    """Write a folder of images and a run of it; returns the run folder."""
    import pandas as pd
    import tifffile

    from islet_imaging.measurement.measure import measure_cells
    from islet_imaging.positivity import call_image, fit_threshold
    from islet_imaging.protocol import Channel, Protocol
    from islet_imaging.quality import flag_cells, measure_quality
    from islet_imaging.run.called import threshold_origin
    from islet_imaging.run.files import (
        work_table,
        write_arrow,
        write_labels,
        write_parquet,
        write_table,
        write_text,
    )
    from islet_imaging.run.measurements import write_record
    from islet_imaging.run.rows import ImageRow
    from islet_imaging.segmentation.cells import grow_cells
    from islet_imaging.segmentation.islets import segment_islets

    source, run = folder / "images", folder / "run"
    source.mkdir(parents=True, exist_ok=True)
    protocol = Protocol(
        channels=(Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")),
    )
    tables: list[pd.DataFrame] = []
    rows: list[dict[str, Any]] = []
    thresholds = {
        m: fit_threshold([], feature=f"{m}_ring_p25", method="manual", value=520.0)
        for m in protocol.markers
    }
    inputs: dict[str, Any] = {}
    for k in range(images):
        name = f"islet_{k + 1}.ome.tif"
        labels, pixels = draw_cells(shape, n_cells, pixel_size_um=pixel_size_um, seed=seed + k)
        tifffile.imwrite(
            source / name,
            np.stack([pixels[c] for c in CHANNELS]),
            ome=True,
            photometric="minisblack",
            metadata={
                "axes": "CYX",
                "Channel": {"Name": list(CHANNELS)},
                "PhysicalSizeX": pixel_size_um,
                "PhysicalSizeY": pixel_size_um,
            },
        )
        islets = segment_islets(labels, pixel_size_um=pixel_size_um, max_gap_um=20.0, min_cells=10)
        cells = measure_cells(
            labels,
            grow_cells(labels, ring_um=3.0, gap_um=0.0, pixel_size_um=pixel_size_um),
            pixels,
            dna="DAPI",
            pixel_size_um=pixel_size_um,
            islets=islets,
        )
        cells.insert(0, "image", name)
        flags, excluded = flag_cells(cells, protocol)
        cells["excluded"], cells["flags"] = excluded, flags
        write_arrow(work_table(run, name, "cells"), cells)
        tables.append(call_image(cells, thresholds, protocol))
        for kind, array in (("nuclei", labels), ("islets", islets)):
            write_labels(run / "labels" / f"{name}.{kind}.tif", array, pixel_size_um)
        for kind in ("pairs", "islets"):
            write_arrow(work_table(run, name, kind), cells[["image"]].head(0))
        numbers = measure_quality(pixels, dna="DAPI", pixel_size_um=pixel_size_um).to_dict()
        record = {"metadata": {}, "numbers": numbers, "pixel_size_um": pixel_size_um}
        write_record(run, name, KEY, {"image": name, "status": "scored", "record": record})
        rows.append(
            {
                "image": name,
                "condition": ("control", "treated")[k % 2],
                "batch": f"d{k // 2 + 1}",
                "role": "sample",
                "status": "scored",
                "message": "",
                "flags": [],
                "key": KEY,
                "pixel_size_um": pixel_size_um,
                "shape_px": list(shape),
                "extra": {},
                "files": [str((source / name).resolve())],
                "inputs": [hashlib.sha256((source / name).read_bytes()).hexdigest()],
            }
        )
        inputs[name] = {"files": [name]}
    cells = pd.concat(tables, ignore_index=True)
    last = ["phenotype", "excluded", "flags"]
    cells = cells[[c for c in cells.columns if c not in last] + last]
    write_parquet(run / "cells.parquet", cells)
    write_table(run / "cells.csv", cells)
    images_table = (
        pd.DataFrame(rows)
        .drop(columns=["key", "extra", "files", "inputs", "pixel_size_um", "shape_px"])
        .assign(flags="")
    )
    write_table(run / "images.csv", images_table)
    fitted = {
        batch: {m: t.to_dict() for m, t in thresholds.items()}
        for batch in {row["batch"] for row in rows}
    }
    known = [ImageRow.from_dict(row) for row in rows]
    origins = {
        batch: {
            m: threshold_origin([r for r in known if r.batch == batch], m, protocol)
            for m in thresholds
        }
        for batch in fitted
    }
    protocol = protocol.replace(fitted=fitted, fitted_from=origins)
    write_text(run / "protocol.yaml", protocol.dump())
    facts = {"folder": str(source.resolve()), "inputs": inputs, "images": rows}
    write_text(run / "provenance.json", json.dumps(facts))
    return run
