"""How large nuclei are in an image: what was stated, held against what is seen.

The idea: a diameter that is stated, or the usual one of 7.5 um where only a pixel size is known, is
tried first: if the network, working at it, finds nuclei of about that diameter, the image says
nothing against it.  Else the diameter is estimated, and the usual one gives way where it would
lose nuclei.  So the same nuclei are found whatever pixel size a file states, and images of one
staining agree without knowing of each other: what is usual stays usual to the last bit.

Estimating: the right scale explains itself: at the right zoom the network finds nuclei whose median
diameter is the working diameter.  A few windows of the image are looked at over a ladder of
zooms.  Every zoom votes for the diameter found at it, the more the surer the network is there and
the nearer that diameter is to the working diameter.  Real nuclei have the same diameter at several
zooms, while blotches of grain or of tissue grow with the zoom, so votes add up where nuclei are
real.  The diameter with the most votes starts a short fixed-point iteration.

It fails on images with few nuclei (then what was stated, or the usual diameter, stands; with
neither the working diameter, meaning a zoom of 1) and where nuclei of two very different sizes are
about equally many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import ReadPlane, Spread
from islet_imaging.errors import PixelSizeError
from islet_imaging.network.normalise import WORKING_DIAMETER_PX, grey_limits
from islet_imaging.network.windows import MAX_WINDOWS, Seen, Windows, seen_in
from islet_imaging.protocol import USUAL_NUCLEUS_UM

if TYPE_CHECKING:
    from islet_imaging.network.engine import Engine


Source = Literal["stated", "usual", "image"]

NUCLEUS_DIAMETER_UM = USUAL_NUCLEUS_UM
"""Median diameter of nuclei in human islets, taken where only a pixel size is known."""

SIZES_PX = (1.5, 2000.0)
"""A nucleus smaller or larger than this in an image is a wrong pixel size."""

LADDER: tuple[float, ...] = (6.0, 9.5, 15.0, 24.0, 38.0, 60.0, 95.0)
"""Nucleus diameters in image px that are tried first."""

BIAS = 0.9
"""Found nuclei are larger than all nuclei: small ones are missed, cut ones are left out.  Measured
on the development images, where estimates are 1.0 (cultures) to 1.25 (tissue) times the truth."""

CROWD = 0.18
"""How much the number of nuclei found at a scale speaks for it: exponent of that number."""

ENOUGH = 200
"""More nuclei than this do not speak louder."""

LONE = 0.5
"""What a single nucleus at a scale counts: a fibre, or an islet seen from afar, is one thing too.
Chosen on the development images: in a section of muscle a fibre had outvoted fourteen nuclei."""

TOLERANCE = 0.8
"""How far, in octaves, the diameter found may be off the one a zoom was made for."""

AGREEMENT = 0.4
"""How near, in octaves, the diameters found at two zooms speak for each other (a Gaussian)."""

USUAL_PX, USUAL_OCTAVES = 20.0, 1.75
"""Diameters that objectives of 10x to 63x give nuclei, as a broad Gaussian in octaves."""

RANGE_PX = (3.0, 300.0)
"""Estimates stay within these diameters."""

PROFILE = 0.9
"""A section cuts most nuclei beside their middle: on phantoms of all presets the median of what is
found is 0.84 to 0.92 of the nucleus's diameter, in the human islet 0.97."""

FITS = (0.86, 1.25)
"""Nuclei found at a diameter, over that diameter, where nothing speaks against it."""

NEAR = (0.6, 1.6)
"""And where a second look, at the diameter that was found, settles it."""

FEW = 20
"""With fewer nuclei in the windows an image says nothing of its scale."""

LOST = 0.83
"""The usual diameter gives way to the estimated one if it finds less than this share of its nuclei:
0.92 to 0.99 on phantoms, 0.85 in the human islet, 0.67 and less where nuclei are so small that the
usual diameter misses them.  More than its inverse are pieces."""

LARGE = 1.4
"""Nuclei this many times the usual diameter are searched with their own."""


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


@dataclass(frozen=True)
class FoundScale:
    """Scale of one image after it was looked at.

    Parameters
    ----------
    diameter_px : float
        What nuclei are searched with, image px.
    seen_px : float or None
        Median diameter of nuclei as the image shows them, px; None where it shows too few.
    n_seen : int
        Nuclei that this rests on.
    source : {"stated", "usual", "image"}
        Where `diameter_px` is from: the protocol, 7.5 um, or the image.
    pixel_size_um : float or None
        Edge of a pixel as stated, um.
    doubt : float or None
        Share of the foreground of which the network is not sure; None where it saw too few nuclei.
    limits : (float, float) or None
        Black and white of the DNA channel that was looked at, grey levels; not kept in a run.

    Examples
    --------
    >>> FoundScale(15.0, 13.4, 200, "usual", 0.5).nucleus_um
    7.5
    >>> found = FoundScale(8.0, 9.0, 900, "image", 0.25)
    >>> found.seen_um, found.nucleus_um, found.working_pixel_um
    (2.25, 2.5, 0.75)
    """

    diameter_px: float
    seen_px: float | None
    n_seen: int
    source: Source
    pixel_size_um: float | None = None
    doubt: float | None = None
    limits: tuple[float, float] | None = None

    @property
    def seen_um(self) -> float | None:
        """Diameter of nuclei as the image shows them, by the stated pixel size, um."""
        if self.seen_px is None or self.pixel_size_um is None:
            return None
        return self.seen_px * self.pixel_size_um

    @property
    def nucleus_px(self) -> float:
        """Diameter that lengths follow from where they are not stated, px."""
        if self.source == "image" and self.seen_px is not None:
            return self.seen_px / PROFILE
        return self.diameter_px

    @property
    def nucleus_um(self) -> float:
        """The same in um; 7.5 without a pixel size."""
        if self.pixel_size_um is None:
            return NUCLEUS_DIAMETER_UM
        if self.source == "usual":
            return NUCLEUS_DIAMETER_UM
        return self.nucleus_px * self.pixel_size_um

    @property
    def working_pixel_um(self) -> float:
        """Edge of a pixel at which nuclei have the usual diameter, um.

        The stated one, unless the image speaks against it.
        """
        if self.source == "image" or self.pixel_size_um is None:
            return NUCLEUS_DIAMETER_UM / self.nucleus_px
        return self.pixel_size_um

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the lengths in um that follow."""
        kept = asdict(self)
        del kept["limits"]
        return {**kept, "seen_um": self.seen_um, "nucleus_um": self.nucleus_um}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FoundScale:
        """The scale that :meth:`to_dict` wrote."""
        values: dict[str, Any] = {f.name: data.get(f.name) for f in fields(cls)}
        return cls(**values)


def find_scale(
    read: ReadPlane,
    shape: tuple[int, int],
    engine: Engine,
    known: Scale | None = None,
    *,
    model: str = "islet-nuclei",
    spread: Spread | None = None,
) -> FoundScale:
    """Look how large the nuclei of an image are, and settle what they are searched with.

    Parameters
    ----------
    read, shape : callable, (int, int)
        The DNA channel; see ``islet_imaging.network.nuclei.segment_nuclei_lazy``.
    engine : Engine
        The nuclei network.
    known : Scale, optional
        What was stated.
    model : str
        The engine's network by name, for workers elsewhere.
    spread : callable, optional
        Computes windows of a large image elsewhere; changes no number.

    Returns
    -------
    FoundScale
        With a stated nucleus diameter `diameter_px` is that, whatever is seen.

    Examples
    --------
    >>> from islet_imaging.network.engine import shared_engine
    >>> y, x = np.mgrid[:256, :256]
    >>> dna = 100.0 * (np.hypot(y % 25 - 12, x % 25 - 12) < 8)
    >>> found = find_scale(lambda r, c: dna[r, c], dna.shape, shared_engine("islet-nuclei"),
    ...                    Scale(pixel_size_um=0.1))
    >>> found.source, 14 < found.seen_px < 22
    ('image', True)
    """
    known = known or Scale()
    limits = grey_limits(read, shape, spread)
    windows = Windows(read, shape, engine, limits, model, spread)

    def result(diameter: float, seen: Seen, source: Source) -> FoundScale:
        enough = seen.n >= FEW
        return FoundScale(
            diameter,
            seen.diameter_px if enough else None,
            seen.n if enough else 0,
            source,
            known.pixel_size_um,
            seen.doubt if enough else None,
            limits,
        )

    wanted = known.diameter_px
    source: Source = "usual" if known.nucleus_diameter_um is None else "stated"
    if wanted is not None:
        seen = windows.look(wanted)
        ratio = seen.diameter_px / wanted if seen.n >= FEW else 0.0
        if FITS[0] <= ratio <= FITS[1] or (source == "stated" and NEAR[0] <= ratio <= NEAR[1]):
            return result(wanted, seen, source)
        if NEAR[0] <= ratio < FITS[0]:
            # the ladder costs as much as a whole image: a closer look tells first
            nearer = BIAS * seen.diameter_px
            closer = windows.look(nearer, windows_of=wanted)
            if LOST * closer.n <= seen.n:
                return result(wanted, seen, source)
    estimate = estimate_diameter(windows)
    at_estimate = windows.look(estimate)
    if wanted is None:
        return result(estimate, at_estimate, "image")
    if at_estimate.n < FEW:
        return result(wanted, at_estimate, source)
    if source == "stated":
        return result(wanted, at_estimate, source)
    alike = windows.look(wanted, windows_of=estimate)
    as_many = LOST * at_estimate.n <= alike.n <= at_estimate.n / LOST
    if as_many and at_estimate.diameter_px < LARGE * wanted:
        return result(wanted, alike, source)
    return result(estimate, at_estimate, "image")


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
    shape = dna.shape[0], dna.shape[1]

    def read(rows: slice, columns: slice) -> NDArray[np.generic]:
        return dna[rows, columns]

    return estimate_diameter(Windows(read, shape, engine, grey_limits(read, shape)))


def estimate_diameter(windows: Windows) -> float:
    """Estimate the nucleus diameter in px of an image.

    Parameters
    ----------
    windows : Windows
        Of the image.

    Returns
    -------
    float
        See `estimate_nucleus_diameter_px`.
    """
    ladder = [d for d in LADDER if d < min(windows.shape)] or [LADDER[0]]
    # every rung is begun before the first is looked at
    begun = [(d, windows.begin(d, MAX_WINDOWS // 2)) for d in ladder]
    tried = [(d, seen_in(looked, WORKING_DIAMETER_PX / d)) for d, looked in begun]
    votes = [(np.log2(seen.diameter_px), _weight(d, seen)) for d, seen in tried if seen.n]
    if not votes:
        return WORKING_DIAMETER_PX
    octaves, weights = np.array(votes).T
    near = np.exp(-0.5 * ((octaves[:, None] - octaves) / AGREEMENT) ** 2)
    agreed = weights * near[int(np.argmax(near @ weights))]
    diameter = float(2 ** (agreed @ octaves / agreed.sum()))
    for _ in range(3):
        found = windows.look(diameter).diameter_px
        if not np.isfinite(found):
            break
        step = float(np.clip(found / diameter, 0.5, 2.0))
        diameter *= step
        if abs(np.log2(step)) < 0.08:
            break
    return float(np.clip(BIAS * diameter, *RANGE_PX))


def _weight(diameter: float, seen: Seen) -> float:
    """How much one zoom, made for nuclei of `diameter`, speaks for the diameter found at it."""
    off = np.log2(seen.diameter_px / diameter) / TOLERANCE
    unusual = np.log2(seen.diameter_px / USUAL_PX) / USUAL_OCTAVES
    trust = np.exp(-(off**2) - 0.5 * unusual**2)
    # seen from far enough, an islet looks like one large nucleus: many small ones weigh more,
    # up to a number
    number = LONE if seen.n == 1 else min(seen.n, ENOUGH) ** CROWD
    return float(seen.strength * trust * number)
