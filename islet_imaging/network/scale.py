"""Estimate how large nuclei are when nobody says.

The idea: the right scale explains itself: at the right zoom the network finds nuclei whose median
diameter is the working diameter.  A few windows of the image are looked at over a ladder of
zooms.  Every zoom votes for the diameter found at it, the more the surer the network is there and
the nearer that diameter is to the working diameter.  Real nuclei have the same diameter at several
zooms, while blotches of grain or of tissue grow with the zoom, so votes add up where nuclei are
real.  The diameter with the most votes starts a short fixed-point iteration.

It fails on images without nuclei (the answer is then the working diameter, meaning a zoom of 1)
and where nuclei of two very different sizes are about equally many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import ReadPlane
from islet_imaging.arrays.resample import input_range, resample_region, resampled_length
from islet_imaging.errors import PixelSizeError
from islet_imaging.network.normalise import WORKING_DIAMETER_PX, grey_limits, normalise
from islet_imaging.network.postprocess import PostprocessConfig, find_instances, sigmoid

if TYPE_CHECKING:
    from islet_imaging.network.engine import Engine


NUCLEUS_DIAMETER_UM = 7.5
"""Median diameter of nuclei in human islets, taken where only a pixel size is known."""

SIZES_PX = (1.5, 2000.0)
"""A nucleus smaller or larger than this in an image is a wrong pixel size."""

WINDOW_PX = 384
"""Side of a window at working scale."""

LADDER: tuple[float, ...] = (6.0, 9.5, 15.0, 24.0, 38.0, 60.0, 95.0)
"""Nucleus diameters in image px that are tried first."""

BIAS = 0.9
"""Found nuclei are larger than all nuclei: small ones are missed, cut ones are left out.  Measured
on the development images, where estimates are 1.0 (cultures) to 1.25 (tissue) times the truth."""

CROWD = 0.18
"""How much the number of nuclei found at a scale speaks for it: exponent of that number."""

ENOUGH = 200
"""More nuclei than this do not speak louder."""

TOLERANCE = 0.8
"""How far, in octaves, the diameter found may be off the one a zoom was made for."""

AGREEMENT = 0.4
"""How near, in octaves, the diameters found at two zooms speak for each other (a Gaussian)."""

USUAL_PX, USUAL_OCTAVES = 20.0, 1.75
"""Diameters that objectives of 10x to 63x give nuclei, as a broad Gaussian in octaves."""

RANGE_PX = (3.0, 300.0)
"""Estimates stay within these diameters."""

MAX_WINDOWS = 4
"""Windows looked at in the fixed-point iteration; half as many on the ladder."""


@dataclass(frozen=True)
class Scale:
    """What is known of an image's scale before it is looked at.

    Parameters
    ----------
    pixel_size_um : float, optional
        Edge of a pixel, um.
    nucleus_diameter_um : float, optional
        Typical diameter of a nucleus, um.

    Raises
    ------
    PixelSizeError
        If a size is not positive, a nucleus would be out of range, or a diameter comes without a
        pixel size.

    Examples
    --------
    >>> Scale(pixel_size_um=0.5).diameter_px, Scale().diameter_px
    (15.0, None)
    """

    pixel_size_um: float | None = None
    nucleus_diameter_um: float | None = None

    def __post_init__(self) -> None:
        for name in ("pixel_size_um", "nucleus_diameter_um"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise PixelSizeError(f"{name} must be positive, not {value}")
        if self.pixel_size_um is None and self.nucleus_diameter_um is not None:
            raise PixelSizeError(
                "nucleus_diameter_um is given without pixel_size_um; give both, or neither to have "
                "the scale estimated from the image"
            )
        if self.diameter_px is not None:
            checked_diameter_px(self.diameter_px)

    @property
    def diameter_px(self) -> float | None:
        """Diameter of a nucleus in image px; None where it has to be estimated."""
        if self.pixel_size_um is None:
            return None
        return (self.nucleus_diameter_um or NUCLEUS_DIAMETER_UM) / self.pixel_size_um


def checked_diameter_px(diameter: float) -> float:
    """The diameter itself; one that no nucleus has in an image is an error."""
    if not SIZES_PX[0] <= diameter <= SIZES_PX[1]:
        raise PixelSizeError(
            f"a nucleus would be {diameter:.3g} px across, outside {SIZES_PX[0]:g} to "
            f"{SIZES_PX[1]:g} px; check the pixel size"
        )
    return diameter


def estimate_nucleus_diameter_px(
    dna: NDArray[np.generic], *, model: str | None = None, device: str = "auto"
) -> float:
    """Estimate the typical nucleus diameter of a DNA image from the image itself.

    Parameters
    ----------
    dna : (Y, X) any dtype
        DNA channel.
    model, device : str, optional
        See ``islet_imaging.network.nuclei.segment_nuclei_network``.

    Returns
    -------
    float
        Median equivalent diameter in px; the working diameter (16) when nothing is found.
    """
    from islet_imaging.network.engine import shared_engine

    engine = shared_engine(model or "islet-nuclei", device)
    return estimate_diameter(lambda y, x: dna[y, x], (dna.shape[0], dna.shape[1]), engine)


def estimate_diameter(
    read: ReadPlane,
    shape: tuple[int, int],
    engine: Engine,
    *,
    limits: tuple[float, float] | None = None,
) -> float:
    """Estimate the nucleus diameter in px of an image given by a reader.

    Parameters
    ----------
    read, shape : callable, (int, int)
        The image; see ``islet_imaging.network.nuclei.segment_nuclei_lazy``.
    engine : Engine
        The network.
    limits : (float, float), optional
        Grey limits; computed when not given.

    Returns
    -------
    float
        See `estimate_nucleus_diameter_px`.
    """
    limits = limits or grey_limits(read, shape)
    ladder = [d for d in LADDER if d < min(shape)] or [LADDER[0]]
    tried = [(d, *_look(read, shape, engine, limits, d, MAX_WINDOWS // 2)) for d in ladder]
    votes = [(np.log2(f), _weight(d, f, strength, n)) for d, f, strength, n in tried if n]
    if not votes:
        return WORKING_DIAMETER_PX
    octaves, weights = np.array(votes).T
    near = np.exp(-0.5 * ((octaves[:, None] - octaves) / AGREEMENT) ** 2)
    agreed = weights * near[int(np.argmax(near @ weights))]
    diameter = float(2 ** (agreed @ octaves / agreed.sum()))
    for _ in range(3):
        found, _, _ = _look(read, shape, engine, limits, diameter, MAX_WINDOWS)
        if not np.isfinite(found):
            break
        step = float(np.clip(found / diameter, 0.5, 2.0))
        diameter *= step
        if abs(np.log2(step)) < 0.08:
            break
    return float(np.clip(BIAS * diameter, *RANGE_PX))


def _weight(diameter: float, found: float, strength: float, n: int) -> float:
    """How much one zoom, made for nuclei of `diameter`, speaks for the diameter found at it."""
    off = np.log2(found / diameter) / TOLERANCE
    unusual = np.log2(found / USUAL_PX) / USUAL_OCTAVES
    trust = np.exp(-(off**2) - 0.5 * unusual**2)
    # seen from far enough, an islet looks like one large nucleus: many small ones weigh more,
    # up to a number
    return float(strength * trust * min(n, ENOUGH) ** CROWD)


def _look(
    read: ReadPlane,
    shape: tuple[int, int],
    engine: Engine,
    limits: tuple[float, float],
    diameter: float,
    windows: int,
) -> tuple[float, float, int]:
    """Median diameter (image px) found at one zoom, how much sure foreground, and how many."""
    zoom = WORKING_DIAMETER_PX / diameter
    areas: list[NDArray[np.float64]] = []
    strength, seen = 0.0, 0
    inner, outer, n_inner = 0.0, 0.0, 0
    for rows, columns in _windows(shape, zoom)[:windows]:
        r = input_range(*rows, zoom, shape[0])
        c = input_range(*columns, zoom, shape[1])
        part = np.asarray(read(slice(*r), slice(*c)))
        image = normalise(resample_region(part, rows, columns, zoom, (r[0], c[0])), limits)
        fields = engine.run(image[None, None])[0]
        found = find_instances(fields, PostprocessConfig())
        probability = sigmoid(fields[:4]).mean(axis=0)
        inside = found.labels > 0
        # certain, well centred pixels count for, undecided pixels against
        centre = sigmoid(fields[6])
        strength += float((np.abs(2 * probability - 1) * inside).sum())
        strength += float(len(found.centres) and 20 * centre[tuple(found.centres.T)].sum())
        strength -= float(((probability > 0.2) & (probability < 0.8)).sum()) * 0.5
        seen += probability.size
        grey = image[::2, ::2]
        inner += float(grey[inside].sum())
        outer += float(grey[~inside].sum())
        n_inner += int(inside.sum())
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
            areas.append(weight[whole[1:]] if whole[1:].any() else weight)
    if not areas:
        return float("nan"), 0.0, 0
    area = np.concatenate(areas) * 4 / zoom**2
    diameter = float(np.median(2 * np.sqrt(area / np.pi)))
    # the grain of an image is taken for nuclei too, but does not stand out as they do
    contrast = inner / max(n_inner, 1) - outer / max(seen - n_inner, 1)
    return diameter, max(strength / seen * max(contrast, 0.0), 1e-6), len(area)


def _windows(shape: tuple[int, int], zoom: float) -> list[tuple[tuple[int, int], tuple[int, int]]]:
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
