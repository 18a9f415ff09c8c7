"""A few windows of an image, looked at by the nuclei network at any zoom.

The idea: windows lie at fixed places, so that all who look see the same; what is seen in one is a
handful of numbers, added up in the windows' order, so that it does not matter who looks.
It fails on images whose nuclei lie between the windows: then few are seen, and said to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from islet_imaging._types import Float64, ReadPlane, Spread, View
from islet_imaging.arrays.resample import input_range, resample_region, resampled_length
from islet_imaging.network.normalise import WORKING_DIAMETER_PX, normalise
from islet_imaging.network.postprocess import PostprocessConfig, find_instances, sigmoid

if TYPE_CHECKING:
    from islet_imaging.network.engine import Engine

WINDOW_PX = 384
"""Side of a window at working scale."""

MAX_WINDOWS = 4
"""Windows looked at in the fixed-point iteration; half as many on the ladder."""


class Seen(NamedTuple):
    """What a few windows show at one zoom."""

    #: median diameter of nuclei, image px; NaN without a single one
    diameter_px: float
    #: how much sure foreground
    strength: float
    n: int
    #: share of the foreground, sure or not, of which the network is not sure; NaN without any
    doubt: float = float("nan")


class Looked(NamedTuple):
    """What the network sees in one window; sums are added up window by window."""

    #: working px at half resolution
    areas: Float64
    #: what speaks for nuclei: certain pixels, certain centres
    certain: float
    centred: float
    #: foreground of which the network is not sure, and is
    undecided: int
    sure: int
    #: sums of grey values inside and outside of nuclei, and the number of pixels
    inner: float
    outer: float
    n_inner: int
    n: int


#: rows and columns of a window, working px
_Window = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Windows:
    """An image that is looked at in a few windows at any zoom.

    Parameters
    ----------
    read, shape : callable, (int, int)
        The DNA channel; see ``islet_imaging.network.nuclei.segment_nuclei_lazy``.
    engine : Engine
        The nuclei network.
    limits : (float, float)
        Of `grey_limits`.
    model : str
        The engine's network by name, for workers elsewhere.
    spread : callable, optional
        Computes windows elsewhere; changes no number.
    """

    read: ReadPlane
    shape: tuple[int, int]
    engine: Engine
    limits: tuple[float, float]
    model: str = "islet-nuclei"
    spread: Spread | None = None

    def begin(
        self, diameter: float, most: int = MAX_WINDOWS, *, windows_of: float | None = None
    ) -> Iterator[Looked]:
        """Look at windows at the zoom for a diameter; `windows_of`: the windows of another one."""
        zoom = WORKING_DIAMETER_PX / diameter
        if windows_of is None:
            spans = _windows(self.shape, zoom)
        else:
            other = WORKING_DIAMETER_PX / windows_of
            spans = [
                (
                    _rescaled(r, zoom / other, self.shape[0], zoom),
                    _rescaled(c, zoom / other, self.shape[1], zoom),
                )
                for r, c in _windows(self.shape, other)
            ]
        spans = spans[:most]
        if self.spread is not None:
            items = [(self.model, self.shape, self.limits, zoom, span) for span in spans]
            return self.spread(_look_at_view, items)
        return (
            _look_at(self.read, self.shape, self.engine, self.limits, zoom, span) for span in spans
        )

    def look(self, diameter: float, *, windows_of: float | None = None) -> Seen:
        """What is seen of nuclei at the zoom for a diameter."""
        looked = self.begin(diameter, windows_of=windows_of)
        return seen_in(looked, WORKING_DIAMETER_PX / diameter)


def _look_at_view(
    view: View,
    model: str,
    shape: tuple[int, int],
    limits: tuple[float, float],
    zoom: float,
    span: _Window,
) -> Looked:
    """Look at a window where the image is a view."""
    from islet_imaging.network.engine import shared_engine

    return _look_at(view.dna, shape, shared_engine(model, view.device), limits, zoom, span)


def _look_at(
    read: ReadPlane,
    shape: tuple[int, int],
    engine: Engine,
    limits: tuple[float, float],
    zoom: float,
    span: _Window,
) -> Looked:
    rows, columns = span
    r = input_range(*rows, zoom, shape[0])
    c = input_range(*columns, zoom, shape[1])
    part = np.asarray(read(slice(*r), slice(*c)))
    image = normalise(resample_region(part, rows, columns, zoom, (r[0], c[0])), limits)
    fields = engine.run(image[None, None])[0]
    found = find_instances(fields, PostprocessConfig())
    probability = sigmoid(fields[:4]).mean(axis=0)
    inside = found.labels > 0
    centre = sigmoid(fields[6])
    areas: Float64 = np.zeros(0)
    if len(found.centres):
        counts = np.bincount(found.labels.ravel(), weights=probability.ravel())
        weight = np.asarray(counts[1:], np.float64)
        edge = np.unique(
            np.concatenate(
                [found.labels[0], found.labels[-1], found.labels[:, 0], found.labels[:, -1]]
            )
        )
        whole = np.ones(len(weight) + 1, bool)
        whole[edge] = False
        areas = weight[whole[1:]] if whole[1:].any() else weight
    grey = image[::2, ::2]
    return Looked(
        areas,
        float((np.abs(2 * probability - 1) * inside).sum()),
        float(len(found.centres) and 20 * centre[tuple(found.centres.T)].sum()),
        int(((probability > 0.2) & (probability < 0.8)).sum()),
        int((probability >= 0.8).sum()),
        float(grey[inside].sum()),
        float(grey[~inside].sum()),
        int(inside.sum()),
        probability.size,
    )


def seen_in(windows: Iterable[Looked], zoom: float) -> Seen:
    """What windows at one zoom show together."""
    areas: list[Float64] = []
    strength = inner = outer = 0.0
    undecided = sure = n = n_inner = 0
    for one in windows:
        # certain, well centred pixels count for, undecided pixels against; added one by one, as
        # sum() is another number in other versions of Python
        strength += one.certain
        strength += one.centred
        strength -= one.undecided * 0.5
        inner += one.inner
        outer += one.outer
        undecided, sure = undecided + one.undecided, sure + one.sure
        n, n_inner = n + one.n, n_inner + one.n_inner
        if len(one.areas):
            areas.append(one.areas)
    if not areas:
        return Seen(float("nan"), 0.0, 0)
    area = np.concatenate(areas) * 4 / zoom**2
    diameter = float(np.median(2 * np.sqrt(area / np.pi)))
    # the grain of an image is taken for nuclei too, but does not stand out as they do
    contrast = inner / max(n_inner, 1) - outer / max(n - n_inner, 1)
    strength = max(strength / n * max(contrast, 0.0), 1e-6)
    return Seen(diameter, strength, len(area), undecided / max(undecided + sure, 1))


def _rescaled(span: tuple[int, int], factor: float, length: int, zoom: float) -> tuple[int, int]:
    """The same part of an image axis at another zoom, a multiple of 16 long."""
    working = resampled_length(length, zoom)
    side = max(16, round((span[1] - span[0]) * factor / 16) * 16)
    side = min(side, max(16, working // 16 * 16))
    start = min(round(span[0] * factor), max(0, working - side))
    return start, start + side


def _windows(shape: tuple[int, int], zoom: float) -> list[_Window]:
    """Fixed windows of the working image, spread over it."""
    working = [resampled_length(n, zoom) for n in shape]
    sides = [max(16, min(WINDOW_PX, n // 16 * 16)) for n in working]
    counts = [min(2, max(1, n // s)) for n, s in zip(working, sides, strict=True)]
    spans = []
    for n, side, count in zip(working, sides, counts, strict=True):
        free = n - side
        at = [free // 2] if count == 1 else [free // 4, (3 * free) // 4]
        spans.append([(max(0, a), max(0, a) + side) for a in at])
    # corner to corner first, so that the first two are far apart
    return sorted(
        ((r, c) for r in spans[0] for c in spans[1]),
        key=lambda w: (spans[0].index(w[0]) + spans[1].index(w[1])) % 2,
    )
