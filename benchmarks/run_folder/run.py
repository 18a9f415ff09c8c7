"""How long a run folder's own work takes: planning, corrections, and what it keeps per image.

    python benchmarks/run_folder/run.py

The images are empty files and the cells are made up: only the bookkeeping is measured.  Times are
of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from islet_imaging.experiment.sample_sheet import Sample, SampleSheet
from islet_imaging.protocol import Channel, Nuclei, Protocol
from islet_imaging.review.journal import Edit, Journal
from islet_imaging.review.replay import apply_corrections
from islet_imaging.run.rows import ImageRow
from islet_imaging.scoring.fingerprints import Inputs
from islet_imaging.scoring.plan import Request, make_plan, tasks_of

HERE = Path(__file__).parent


def planning(n: int) -> float:
    """Seconds to stamp the inputs of a folder and make one task per image."""
    root = Path(tempfile.mkdtemp())
    (root / "run" / ".work").mkdir(parents=True)
    paths = [root / f"{k}.tif" for k in range(n)]
    for path in paths:
        path.write_bytes(b"II*\0" + bytes(60))
    sheet = SampleSheet(tuple(Sample(p.name, (p,), "x", f"b{k % 7}") for k, p in enumerate(paths)))
    protocol = Protocol((Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical"))
    start = time.process_time()
    out = root / "run"
    inputs = Inputs(sheet, root, out)
    plan = make_plan(Request(root, out, protocol, sheet, drafted=False), "cpu", inputs=inputs)
    _, tasks = tasks_of(plan, out / ".work")
    took = time.process_time() - start
    assert len(tasks) == n
    return took


def corrections(n: int, shift_px: float) -> float:
    """Seconds to read a journal of ``n`` edits and to replay it over a table."""
    rng, per_image = np.random.default_rng(0), 2000
    images = [f"i{k}.tif" for k in range(n // per_image)]
    cells = pd.DataFrame(
        {
            "image": np.repeat(images, per_image),
            "cell": np.tile(np.arange(1, per_image + 1), len(images)),
            "y_px": rng.uniform(0, 2000, n),
            "x_px": rng.uniform(0, 2000, n),
            "nucleus_area_um2": 40.0,
            "INS_probability": 0.4,
            "INS_call": "unsure",
            "INS_reason": "",
            "excluded": False,
            "flags": "",
            **{f"feature_{k}": rng.normal(size=n) for k in range(30)},
        }
    )
    path = Path(tempfile.mkdtemp()) / "corrections.jsonl"
    with path.open("w") as stream:
        for r in cells.itertuples():
            edit = Edit(
                *("ana", r.image, "call", r.cell, r.y_px + shift_px, r.x_px),
                *("INS", "unsure", "positive"),
            )
            stream.write(edit.to_line() + "\n")
    start = time.process_time()
    found = apply_corrections(cells, Journal(path).edits())
    took = time.process_time() - start
    assert len(found.moved) == (n if shift_px else 0)
    return took


def main() -> None:
    """Measure and write the table."""
    row = ImageRow(
        image="batch1/untreated/islet01.ome.tif", condition="untreated", batch="batch1",
        files=("/data/stainings/batch1/untreated/islet01.ome.tif",), inputs=("0" * 64,),
        key="0" * 64, pixels=("0" * 16,) * 4, pixel_size_um=0.325, shape_px=(2048, 2048),
    )  # fmt: skip
    lines = [
        "| what | of | measured |",
        "|---|---|---|",
        f"| planning a run | 10,000 images | {planning(10_000):.1f} s |",
        f"| opening corrections, same nuclei | 100,000 edits | {corrections(100_000, 0):.1f} s |",
        "| opening corrections, nuclei found anew | 100,000 edits | "
        f"{corrections(100_000, 0.3):.1f} s |",
        f"| provenance.json | an image without flags | {len(json.dumps(row.to_dict()))} bytes |",
    ]
    (HERE / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
