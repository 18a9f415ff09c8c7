"""How long a run folder's own work takes: planning, corrections, and what it keeps per image.

    python benchmarks/run_folder/run.py

The images are tiny and the cells are made up: only the bookkeeping is measured.  Times are of the
processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from islet_imaging.arrays.text_masks import encode_mask
from islet_imaging.network.weights import load_model
from islet_imaging.protocol import Channel, Nuclei, Protocol
from islet_imaging.review.journal import Edit, Journal
from islet_imaging.review.replay import apply_corrections
from islet_imaging.run.rows import ImageRow
from islet_imaging.scoring.fingerprints import Inputs
from islet_imaging.scoring.plan import make_plan, requested, tasks_of

HERE = Path(__file__).parent


def planning(n: int) -> dict[str, float]:
    """Seconds to list and name a folder of ``n`` OME-TIFFs, and to make one task per image.

    Libraries are loaded before.
    """
    load_model("islet-positivity")
    buffer = io.BytesIO()
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "INS"]}, "PhysicalSizeX": 0.5}
    tifffile.imwrite(buffer, np.zeros((2, 8, 8), np.uint16), ome=True, metadata=metadata)
    root = Path(tempfile.mkdtemp())
    folder, out = root / "f", root / "run"
    (out / ".work").mkdir(parents=True)
    for k in range(n):
        path = folder / f"batch{k % 7}" / f"day{k % 3}" / f"islet{k:05d}.ome.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
    protocol = Protocol((Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical"))
    start = time.process_time()
    request = requested(folder, out, protocol=protocol)
    listed = time.process_time()
    inputs = Inputs(request.sheet, folder, out)
    plan = make_plan(request, "cpu", inputs=inputs)
    _, tasks = tasks_of(plan, out / ".work")
    end = time.process_time()
    assert len(tasks) == n
    shutil.rmtree(root)
    return {"whole": end - start, "listed": listed - start}


def corrections(n: int, *, shift_px: float = 0.0, shapes: float = 0.0) -> float:
    """Seconds to read a journal of ``n`` edits and to replay it.

    Parameters
    ----------
    n : int
        Edits; cells of 40 images, each edited once.
    shift_px : float
        How far the nuclei lie from where the edits saw them: they were found anew.
    shapes : float
        Share of the edits that paint a nucleus of their own instead of calling one.
    """
    rng, side = np.random.default_rng(0), 50
    per_image = side**2
    images = [f"i{k}.tif" for k in range(n // per_image)]
    y, x = np.divmod(np.arange(per_image), side)
    cells = pd.DataFrame(
        {
            "image": np.repeat(images, per_image),
            "cell": np.tile(np.arange(1, per_image + 1), len(images)),
            "y_px": np.tile(40.0 * y + 20, len(images)),
            "x_px": np.tile(40.0 * x + 20, len(images)),
            "nucleus_area_um2": 40.0,
            "INS_probability": 0.4,
            "INS_call": "unsure",
            "INS_reason": "",
            "excluded": False,
            "flags": "",
            **{f"feature_{k}": rng.normal(size=n) for k in range(30)},
        }
    )
    labels = np.zeros((40 * side, 40 * side), np.int32)
    yy, xx = np.mgrid[-12:13, -12:13]
    disk = yy**2 + xx**2 <= 144
    for k in range(per_image):
        labels[40 * y[k] + 8 : 40 * y[k] + 33, 40 * x[k] + 8 : 40 * x[k] + 33][disk] = k + 1
    larger = yy**2 + (xx - 1) ** 2 <= 144
    path = Path(tempfile.mkdtemp()) / "corrections.jsonl"
    reshaped = rng.random(n) < shapes
    with path.open("w") as stream:
        for r, shape in zip(cells.itertuples(), reshaped, strict=True):
            place = {"who": "ana", "image": r.image, "cell": r.cell, "x_px": r.x_px}
            if shape:
                origin = (int(r.y_px) - 12, int(r.x_px) - 12)
                old, new = (
                    {"cell": r.cell, "mask": encode_mask(m, origin=origin),
                     "row": {"y_px": r.y_px, "x_px": r.x_px + moved, "nucleus_area_um2": 41.0}}
                    for m, moved in ((disk, 0.0), (larger, 1.0))
                )  # fmt: skip
                edit = Edit(**place, y_px=r.y_px, action="shape", before=[old], after=[new])
            else:
                edit = Edit(
                    **place, y_px=r.y_px + shift_px, action="call", marker="INS", before="unsure",
                    after="positive",
                )  # fmt: skip
            stream.write(edit.to_line() + "\n")
    start = time.process_time()
    edits = Journal(path).edits()
    if shapes:  # labels are corrected with the table, as the window does for each image
        by_image: dict[str, list[Edit]] = {}
        for edit in edits:
            by_image.setdefault(edit.image, []).append(edit)
        for image, rows in cells.groupby("image", sort=False):
            done = apply_corrections(rows, by_image[str(image)], labels={str(image): labels})
            assert not done.not_applied
    else:
        assert len(apply_corrections(cells, edits).moved) == (n if shift_px else 0)
    return time.process_time() - start


def main() -> None:
    """Measure and write the table."""
    row = ImageRow(
        image="batch1/untreated/islet01.ome.tif", condition="untreated", batch="batch1",
        files=("/data/stainings/batch1/untreated/islet01.ome.tif",), inputs=("0" * 64,),
        key="0" * 64, pixels=("0" * 16,) * 4, pixel_size_um=0.325, shape_px=(2048, 2048),
    )  # fmt: skip
    plan = planning(10_000)
    edits = (
        ("same nuclei", corrections(100_000)),
        ("nuclei found anew", corrections(100_000, shift_px=0.3)),
        ("a tenth of them new outlines, label images included", corrections(100_000, shapes=0.1)),
        ("all of them new outlines, label images included", corrections(100_000, shapes=1.0)),
    )
    lines = [
        "| what | of | measured |",
        "|---|---|---|",
        f"| planning a run, listing and naming included | 10,000 images | {plan['whole']:.1f} s |",
        f"| of it listing and naming | 10,000 images | {plan['listed']:.1f} s |",
        *(
            f"| opening corrections, {what} | 100,000 edits | {took:.1f} s |"
            for what, took in edits
        ),
        f"| provenance.json | an image without flags | {len(json.dumps(row.to_dict()))} bytes |",
    ]
    (HERE / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
