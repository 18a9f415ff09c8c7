"""Draw the picture of the house for the architecture page: `python docs/make_house.py`.

The idea: floors of rooms from the doors at the top to the ground; a room uses rooms of its own
floor or below.  Before anything is drawn that is held against every import of the code.
It fails where a room is missing from the floors, or an import runs up.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.test_house import LIBRARY, graph, room  # noqa: E402 - the order is stated once, there

STEPS = "reading correction segmentation measurement positivity quality statistics"

#: floors from the top: what it is, its rooms from left to right, its colour
FLOORS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("ways in", ("napari plugin", "cli", "demo", "doctor"), "#f6d5b8"),
    ("synthetic and training", ("phantom", "network.training"), "#e3d9ee"),
    ("an image, a folder", ("scoring",), "#f9e7a9"),
    ("what is told", ("report", "export"), "#d3e8c8"),
    ("what is kept", ("experiment", "review", "run"), "#d3e8c8"),
    ("the way of an image", tuple(STEPS.split()), "#cfe3f3"),
    ("tools", ("arrays", "network"), "#e6e6e6"),
    ("words of all", ("image", "protocol", "terms", "errors"), "#e6e6e6"),
)  # fmt: skip
#: modules that are no rooms: they belong to the ground, or are the library's door
SMALL = {"_version", "_callable_package", "_types", "__init__", "__main__"}


def check() -> None:
    """Hold the floors against the order that is tested and against every import."""
    floor = {name: k for k, (_, rooms, _) in enumerate(FLOORS) for name in rooms}
    missing = set(LIBRARY) - SMALL - set(floor)
    if missing:
        raise SystemExit(f"on no floor: {', '.join(sorted(missing))}")
    for module, used in graph([ROOT / "islet_imaging"]).items():
        own = room(module, LIBRARY)
        for other in {room(u, LIBRARY) for u in used} - SMALL:
            if own not in SMALL and floor[other] < floor[own]:
                raise SystemExit(f"{module} is drawn below {other}, which it uses")


def arrow(
    begin: tuple[float, float], end: tuple[float, float], size: float, colour: str
) -> FancyArrowPatch:
    """An arrow with a filled head."""
    return FancyArrowPatch(begin, end, arrowstyle="-|>", mutation_scale=size, color=colour)


def main(target: Path) -> None:
    """Draw the floors into an SVG file."""
    check()
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "house", "font.family": "sans-serif"}
    )
    figure = Figure(figsize=(11, 7.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 110), ylim=(0, 72))
    axes.set_axis_off()
    height, gap, left, width = 6.4, 2.4, 22.0, 86.0
    for k, (title, rooms, colour) in enumerate(FLOORS):
        y = 71 - (k + 1) * (height + gap) + gap
        axes.text(1, y + height / 2, title, va="center", fontsize=11, color="#444444")
        each = width / len(rooms)
        for i, name in enumerate(rooms):
            x = left + i * each
            style = {"facecolor": colour, "edgecolor": "#777777", "linewidth": 0.8}
            corner = "round,pad=0,rounding_size=0.8"
            axes.add_patch(
                FancyBboxPatch((x + 0.6, y), each - 1.2, height, boxstyle=corner, **style)
            )
            shown = name.replace(".", "/")
            middle = y + height / 2
            axes.text(x + each / 2, middle, shown, ha="center", va="center", fontsize=10.5)
            if title == "the way of an image" and i:
                axes.add_patch(arrow((x - 0.9, middle), (x + 0.9, middle), 11, "#222222"))
    axes.add_patch(arrow((19.5, 69), (19.5, 3), 14, "#777777"))
    axes.text(18, 36, "uses", rotation=90, va="center", fontsize=10, color="#777777")
    figure.savefig(target, metadata={"Date": None})
    print(f"wrote {target}")


if __name__ == "__main__":
    main(ROOT / "docs" / "images" / "house.svg")
