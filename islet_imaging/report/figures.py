"""Figures of the report, as SVG text.

The idea: every figure is narrow enough to be read on a phone and is drawn with matplotlib's
object interface, so no figure, style or backend of the caller is touched; names are never taken
for formulas; equal data give equal bytes.
It fails on fonts: text stays text in the SVG and is set in the reader's own sans-serif.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from islet_imaging.report.words import clean, esc, missing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, safe for colour-blind readers, dark ones first
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#8C6D31",
)  # fmt: skip
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "h")
INK, SOFT, RULE = "#1b1f24", "#5b6470", "#d5d9de"
WIDTH_IN = 4.3
#: islets drawn per batch; more are not told apart
MAX_ISLETS = 150


@contextmanager
def style(salt: str) -> Iterator[None]:
    """How figures are drawn, for as long as the block lasts."""
    import matplotlib as mpl

    # matplotlib reads these while drawing and offers no other way; they are put back
    with mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": salt,
            "text.parse_math": False,
            "text.usetex": False,
            "axes.unicode_minus": True,
            "font.family": "sans-serif",
            "font.size": 9,
            "path.simplify": True,
        }
    ):
        yield


def svg_of(figure: Figure, *, name: str, label: str) -> str:
    """The figure as an inline ``<svg>`` with a title, its ids made unique by ``name``."""
    stream = io.StringIO()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=none, transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    # several figures share a page: ids and references to them carry the figure's name
    text = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]*)"', rf'xlink:href="#{name}-\1"', text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    start = text.index(">", text.index("<svg"))
    return (
        text[:start]
        + f' role="img" aria-label="{esc(label)}"><title>{esc(label)}</title>'
        + text[start + 1 :]
    )


def figure_of(
    height_in: float, rows: int = 1, *, left_in: float, ratios: Sequence[int] = (1,)
) -> tuple[Figure, list[Axes]]:
    """A figure of one column with margins in inches, so that nothing has to be fitted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in))
    axes = figure.subplots(rows, 1, squeeze=False, gridspec_kw={"height_ratios": list(ratios)})
    figure.subplots_adjust(
        left=left_in / WIDTH_IN,
        right=1 - 0.14 / WIDTH_IN,
        bottom=0.46 / height_in,
        top=1 - 0.08 / height_in,
        hspace=0.42,
    )
    flat: list[Axes] = list(axes[:, 0])
    for ax in flat:
        ax.set_facecolor("none")
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
        ax.spines["bottom"].set_color(SOFT)
        ax.tick_params(colors=SOFT, labelcolor=INK, length=3)
    return figure, flat


def _short(text: str, limit: int = 44) -> str:
    text = clean(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _spread(values: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """Offsets that part dots of nearly equal value, the same for the same values."""
    offset = np.zeros(values.size)
    order = np.argsort(values, kind="stable")
    # golden-ratio steps fill the height evenly without chance
    offset[order] = (np.arange(values.size) * 0.618034 % 1.0 - 0.5) * height
    return offset


def _lanes(n: int) -> NDArray[np.float64]:
    """Heights of n batches around a line, so that equal fractions do not hide each other."""
    if n < 2:
        return np.zeros(n)
    return np.asarray(np.linspace(0.19, -0.19, n))


def headline_figure(
    marker: str,
    summary: pd.DataFrame,
    batches: pd.DataFrame,
    islets: Mapping[tuple[str, str], ArrayLike],
    *,
    name: str,
    of: str,
) -> str:
    """Share of positive cells per condition: batches as dots, islets faint, interval as a bar.

    Parameters
    ----------
    marker : str
        The marker.
    summary, batches : DataFrame
        Rows of this marker.
    islets : mapping of (condition, batch) to array of float
        Fractions of single islets.
    name : str
        Unique on the page.
    of : str
        The denominator in words, for the axis.

    Returns
    -------
    str
        SVG.
    """
    conditions = [clean(c) for c in summary["condition"]]
    names = list(dict.fromkeys(clean(b) for b in batches["batch"]))
    look = {b: (COLOURS[i % 8], SHAPES[(i + i // 8) % 8]) for i, b in enumerate(names)}
    with style(name):
        figure, (ax,) = figure_of(0.6 + 0.85 * max(1, len(conditions)), left_in=0.14)
        for at, row in enumerate(summary.to_dict("records")):
            y = -float(at)
            condition = clean(row["condition"])
            own = batches[batches["condition"].map(clean) == condition]
            ax.text(
                0, y + 0.36, _short(condition or "all samples"),
                transform=ax.get_yaxis_transform(), color=INK, weight="bold", va="center",
            )  # fmt: skip
            lanes = dict(
                zip(
                    (clean(b) for b in own["batch"]),
                    y - 0.06 + _lanes(len(own)),
                    strict=True,
                )
            )
            for batch in own["batch"]:
                colour, _ = look[clean(batch)]
                one = 100 * np.asarray(islets.get((condition, clean(batch)), ()), dtype=float)
                one = one[np.isfinite(one)][:MAX_ISLETS]
                ax.scatter(
                    one,
                    lanes[clean(batch)] + _spread(one, 0.5 / max(1, len(own))),
                    s=11,
                    color=colour,
                    # many faint dots make a density, a few must be seen one by one
                    alpha=0.6 if one.size <= 20 else 0.3,
                    linewidths=0,
                )
            if not missing(row["ci_low"]) and not missing(row["ci_high"]):
                ax.plot(
                    [100 * row["ci_low"], 100 * row["ci_high"]], [y - 0.06] * 2,
                    color=INK, lw=1.6, solid_capstyle="butt", zorder=3,
                )  # fmt: skip
            bounds = [row[k] for k in ("fraction_low", "fraction_high") if not missing(row.get(k))]
            if missing(row["fraction"]) and len(bounds) == 2:
                low, high = (100 * float(b) for b in bounds)
                ax.plot([low, high], [y - 0.06] * 2, color=SOFT, lw=5, alpha=0.35, zorder=2)
                ax.text(
                    0.5 * (low + high), y + 0.1, "not estimable", color=INK, ha="center",
                    va="center", fontsize=8,
                )  # fmt: skip
            if not missing(row["fraction"]):
                ax.plot(
                    [100 * row["fraction"]] * 2, [y - 0.24, y + 0.12], color=INK, lw=2.4, zorder=3
                )
            for batch, value in zip(own["batch"], own["fraction"], strict=True):
                if missing(value):
                    continue
                colour, shape = look[clean(batch)]
                ax.scatter(
                    [100 * float(value)], [lanes[clean(batch)]], s=44, color=colour, marker=shape,
                    edgecolors="white", linewidths=0.9, zorder=4,
                )  # fmt: skip
        ax.set_ylim(-len(conditions) + 0.45, 0.62)
        ax.set_yticks([])
        upper = ax.get_xlim()[1]
        ax.set_xlim(0, 100 if upper > 50 else max(5.0, min(100.0, upper)))
        ax.set_xlabel(f"{_short(marker, 24)}-positive, % {_short(of, 40)}", color=INK)
        ax.grid(axis="x", color=RULE, lw=0.6)
        ax.set_axisbelow(True)
        return svg_of(figure, name=name, label=f"Share of {marker}-positive cells per condition")


def legend(batches: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Batch, colour and matplotlib shape, in the order that :func:`headline_figure` uses."""
    names = list(dict.fromkeys(clean(b) for b in batches["batch"]))
    return [(b, COLOURS[i % 8], SHAPES[(i + i // 8) % 8]) for i, b in enumerate(names)]


def _bins(values: Sequence[NDArray[np.float64]], width: float) -> NDArray[np.float64]:
    every = np.concatenate(values)
    low, high = np.percentile(every, [0.1, 99.9])
    return np.asarray(
        width * np.sinh(np.linspace(np.arcsinh(low / width), np.arcsinh(high / width), 61))
    )


def threshold_figure(info: Mapping[str, Any], *, name: str) -> str:
    """Histogram of sample cells over that of control cells with the cut, and the sensitivity.

    Parameters
    ----------
    info : mapping
        See :class:`~islet_imaging.report.data.ReportData`, ``thresholds``.
    name : str
        Unique on the page.

    Returns
    -------
    str
        SVG; "" where there is nothing to draw.
    """
    sample = _finite(info.get("sample_values"))
    control = _finite(info.get("control_values"))
    curve = info.get("sensitivity") or {}
    cut = _finite(curve.get("cut"))
    share = _finite(curve.get("fraction"))
    have = [v for v in (sample, control) if v.size]
    if not have:
        return ""
    value = None if missing(info.get("value")) else float(info["value"])
    two = cut.size > 1 and cut.size == share.size
    with style(name):
        figure, axes = figure_of(
            4.0 if two else 2.5,
            2 if two else 1,
            left_in=0.55,
            ratios=(3, 2) if two else (1,),
        )
        ax = axes[0]
        base = control if control.size else sample
        width = max(float(np.percentile(np.abs(base), 75)), 1e-6)
        bins = _bins(have, width)
        if float(np.ptp(bins)) <= 0:
            bins = np.linspace(bins[0] - 0.5, bins[0] + 0.5, 11)
        for values, colour, label, fill in (
            (control, SOFT, f"control, {control.size:,} cells", False),
            (sample, COLOURS[0], f"samples, {sample.size:,} cells", True),
        ):
            if not values.size:
                continue
            heights, _ = np.histogram(np.clip(values, bins[0], bins[-1]), bins)
            shown = 100 * heights / values.size
            ax.stairs(
                shown, bins, fill=fill, color=colour, alpha=0.35 if fill else 1.0,
                lw=1.4, label=label, zorder=2 if fill else 3,
            )  # fmt: skip
        ax.set_xscale("asinh", linear_width=width)
        ticks = _ticks(bins[0], bins[-1])
        ax.set_xticks(ticks, [f"{t:,.4g}" for t in ticks])
        ax.minorticks_off()
        ax.set_xlim(bins[0], bins[-1])
        ax.set_ylabel("% of cells", color=INK)
        ax.set_xlabel(_short(str(info.get("feature", "")), 60), color=INK)
        if value is not None:
            if not missing(info.get("low")) and not missing(info.get("high")):
                ax.axvspan(
                    float(info["low"]), float(info["high"]), color=COLOURS[1], alpha=0.2, lw=0
                )
            ax.axvline(value, color=COLOURS[1], lw=1.8, label=f"threshold {value:,.4g}", zorder=4)
        ax.legend(frameon=False, fontsize=8, loc="upper right", labelcolor=INK)
        if two:
            under = axes[1]
            under.plot(cut, 100 * share, color=COLOURS[0], lw=1.8)
            if value is not None:
                under.axvline(value, color=COLOURS[1], lw=1.4)
            under.set_ylim(0, max(5.0, min(100.0, 1.25 * float(100 * share.max()))))
            under.set_ylabel("% positive", color=INK)
            under.set_xlabel("if the threshold were here", color=INK)
            under.grid(axis="y", color=RULE, lw=0.6)
        label = f"Threshold of {clean(info.get('marker'))}, batch {clean(info.get('batch'))}"
        return svg_of(figure, name=name, label=label)


def _finite(values: Any) -> NDArray[np.float64]:
    if values is None:
        return np.zeros(0)
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def _ticks(low: float, high: float) -> list[float]:
    """Round values (1, 3, 10, ...) of either sign that lie in a range, six at most."""
    sizes = [m * 10.0**e for e in range(-3, 7) for m in (1, 3)]
    every = sorted([-s for s in sizes] + [0.0] + sizes)
    inside = [t for t in every if low <= t <= high]
    reach = max(abs(low), abs(high))
    inside = [t for t in inside if t == 0 or abs(t) > reach / 500]
    while len(inside) > 6:
        inside = inside[::-2][::-1]
    return inside
