"""Make the README's picture from the demo's run: `python docs/make_overview.py demo`.

Three panels: a stained islet, its outlined calls with unsure cells dashed, and the % per condition
with its interval and the batches as dots.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from islet_imaging import Run
from islet_imaging.report import gallery_entry

STYLE = {
    "positive": {"color": "#ffffff", "linewidth": 1.6},
    "negative": {"color": "#8ecbff", "linewidth": 0.6},
    "unsure": {"color": "#ffd24d", "linewidth": 1.6, "linestyle": (0, (2, 1.2))},
    "excluded": {"color": "#bbbbbb", "linewidth": 0.6, "linestyle": ":"},
}


def main(folder: Path, marker: str = "INS") -> None:
    """Draw the picture of the run in ``folder/run`` into docs/images/overview.png."""
    run = Run.open(folder / "run")
    samples = run.images[run.images["role"] == "sample"]
    # the sample with most unsure cells shows most of what the calls look like
    cells = run.cells[run.cells["image"].isin(samples["image"]) & ~run.cells["excluded"]]
    unsure = (cells[f"{marker}_call"] == "unsure").groupby(cells["image"]).sum()
    image = str(unsure.idxmax())
    stained = run.read_image(image)
    entry = gallery_entry(
        image=image,
        marker=marker,
        dna=stained.channel(run.protocol.dna),
        marker_plane=stained.channel(marker),
        nuclei=run.labels(image),
        cells=run.cells[run.cells["image"] == image],
        pixel_size_um=stained.require_pixel_size(),
        islet=1,
    )
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    for axes, title in ((left, f"{marker} and DNA"), (middle, "why each cell was called")):
        axes.imshow(entry.rgb)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    length = 25 / entry.pixel_size_um
    base = entry.rgb.shape[0] - 10
    left.plot([10, 10 + length], [base, base], color="white", linewidth=3)
    left.text(10, base - 6, "25 µm", color="white", fontsize=9)
    for outline in entry.outlines:
        closed = np.vstack([outline.points, outline.points[:1]])
        middle.plot(closed[:, 1], closed[:, 0], **STYLE[outline.call])
    for call, style in STYLE.items():
        middle.plot([], [], label=call, **style)
    middle.legend(fontsize=8, loc="lower left", facecolor="#222222", labelcolor="white")
    conditions = run.summary[run.summary["marker"] == marker]
    batches = run.batches[run.batches["marker"] == marker]
    for k, row in enumerate(conditions.to_dict("records")):
        own = 100 * batches.loc[batches["condition"] == row["condition"], "fraction"]
        right.plot([k, k], [100 * row["ci_low"], 100 * row["ci_high"]], color="#222222")
        right.plot([k - 0.18, k + 0.18], 2 * [100 * row["fraction"]], color="#222222", linewidth=3)
        right.plot(k + np.linspace(-0.1, 0.1, len(own)), own, "o", color="#0072b2", markersize=8)
    right.set_xticks(range(len(conditions)), conditions["condition"])
    right.set_xlim(-0.6, len(conditions) - 0.4)
    right.set_ylim(0, 100)
    right.set_ylabel(f"{marker}+ cells, %")
    right.set_title("batches as dots, 95 % interval over batches", fontsize=11)
    for side in ("top", "right"):
        right.spines[side].set_visible(False)
    target = Path(__file__).parent / "images" / "overview.png"
    figure.savefig(target, dpi=110)
    print(f"wrote {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
