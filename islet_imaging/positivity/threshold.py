"""A fitted threshold: where positive begins, and what makes a probability of an intensity.

The idea: whatever found the cut, what it found is one record that a run stores in its protocol and
that calls the same cells again, years later, to the same probability.  The record is made of small
ones: the cut, the model of intensities, the populations, the spill-over and the network's terms.
It fails where intensities are not those of the staining run that it was fitted on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from islet_imaging._types import Float64
from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.coefficients import Coefficients

Status = Literal["ok", "few_controls", "not_estimable"]
Part = TypeVar("Part")

#: the network's logit beyond this says nothing more
LOGIT_LIMIT = 6.0
#: version of what `Threshold.to_dict` gives; 1 was one flat mapping without a version, 2 had no
#: `model.left_over`, 3 no `network.logit_zero`, 4 no `relative`, `plain` and
#: `network.logit_gap`
VERSION = 5


@dataclass(frozen=True)
class Cut:
    """Where positive begins on one feature.

    Parameters
    ----------
    value : float or None
        In units of the feature: where the probability of a cell without lit neighbours is one
        half; None where it is not estimable.
    low, high : float or None
        95 % bootstrap interval of the value.
    status : {"ok", "few_controls", "not_estimable"}
        ``few_controls``: a value is there, from fewer control cells or images than asked for.
    reason : str
        In words, what the status rests on.
    suspects : tuple of str
        Control images that hold positive cells, so that nothing can be told from them.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    status: Status = "ok"
    reason: str = ""
    suspects: tuple[str, ...] = ()


@dataclass(frozen=True)
class IntensityModel:
    """What makes log odds of a cell's own intensity.

    Parameters
    ----------
    zero, soft, bright : float
        Intensity of negative cells, their spread, and the intensity of positive cells above
        ``zero``.
    weights : tuple of float
        Log odds = w0 * log(own / bright + 0.05 + 0.1 * spill / bright) + w1 * asinh(own / soft)
        + w2 * asinh(mix / 2) + w3, with own the intensity above ``zero``, spill the light of
        neighbours that was taken away, and mix the evidence of the run's two populations.
    mix_soft, mix_slope, mix_cut : float
        mix = mix_slope * (asinh(own / mix_soft) - mix_cut).
    left_over : float
        Weight of -log(1 + spill / (0.1 * bright)): what the correction leaves of neighbours' light
        looks like a cell's own, the more of it the more was taken.
    """

    zero: float = 0.0
    soft: float = 1.0
    bright: float = 1.0
    weights: Coefficients = (0.0, 1.0, 0.0, 0.0)
    mix_soft: float = 1.0
    mix_slope: float = 0.0
    mix_cut: float = 0.0
    left_over: float = 0.0

    def __post_init__(self) -> None:
        if len(self.weights) != 4:
            raise ProtocolError(f"fitted threshold: 4 weights expected, found {len(self.weights)}")

    def share(self, own: Float64) -> Float64:
        """Intensities above ``zero`` as shares of a positive cell's, none below 0."""
        out: Float64 = np.maximum(own, 0) / self.bright
        return out

    def log_odds(self, own: Float64, removed: ArrayLike = 0.0) -> Float64:
        """Log odds of being positive, for intensities above ``zero``; see ``weights``."""
        w = self.weights
        odds = w[1] * np.arcsinh(own / self.soft) + w[3]
        spill = np.asarray(removed) / self.bright
        if w[0]:
            odds = odds + w[0] * np.log(self.share(own) + 0.05 + 0.1 * spill)
        if w[2]:
            mix = self.mix_slope * (np.arcsinh(own / self.mix_soft) - self.mix_cut)
            odds = odds + w[2] * np.arcsinh(mix / 2)
        if self.left_over:
            odds = odds - self.left_over * np.log1p(spill / 0.1)
        out: Float64 = np.asarray(odds, dtype=np.float64)
        return out


@dataclass(frozen=True)
class Populations:
    """The two populations that a fit saw, in units of the feature.

    Parameters
    ----------
    negative, spread : float
        Centre and right-hand spread of negative cells.
    positive : float or None
        Centre of the positive population; None if none is separable.
    positive_share : float or None
        Its weight where a mixture was fitted.
    separation : float
        Distance of the populations (d'), 0 if no mixture was fitted.
    """

    negative: float = 0.0
    spread: float = 1.0
    positive: float | None = None
    positive_share: float | None = None
    separation: float = 0.0


@dataclass(frozen=True)
class SpillOver:
    """Neighbours' light: shares near and far, and the intensity above which light spills."""

    near: float = 0.0
    far: float = 0.0
    zero: float = 0.0

    @property
    def shares(self) -> tuple[float, float]:
        """``(near, far)``."""
        return self.near, self.far


@dataclass(frozen=True)
class NetworkTerms:
    """Where the network has a say, two more terms of the log odds.

    Parameters
    ----------
    zero, bright : float
        Intensity of negative and, above it, of positive cells, of the light that the positivity
        network says is the cell's own.
    weight : float
        Of log((light - zero) / bright + 0.05).
    logit_weight : float
        Of the network logit: what it says of the pattern alone, in log odds.
    logit_zero : float
        Logit that lies between the run's clear negatives and positives: the network gives a stain
        in granules, or on one side, lower logits than a smooth one.
    logit_gap : float
        From there to the run's clear positives, by which an image with enough of them reads a
        ``logit_zero`` of its own; 0 where none is read.
    """

    zero: float = 0.0
    bright: float = 1.0
    weight: float = 0.0
    logit_weight: float = 0.0
    logit_zero: float = 0.0
    logit_gap: float = 0.0


@dataclass(frozen=True)
class RelativeLevels:
    """Levels of a run whose images cannot be compared, on the way from background to positives.

    Parameters
    ----------
    negative, spread : float
        Where negative cells lie on that way, and their spread: 0 is the image's background, 1 its
        positive cells.
    light : float
        ``zero`` over ``bright`` of the network's own light.
    logit_zero : float
        As in :class:`NetworkTerms`.
    images : int
        How many images, with both populations, it was learned from.
    """

    negative: float
    spread: float
    light: float
    logit_zero: float
    images: int


@dataclass(frozen=True)
class CellsUsed:
    """How many cells a fit rests on."""

    samples: int = 0
    controls: int = 0
    control_images: int = 0


@dataclass(frozen=True)
class Threshold:
    """A cut on one feature for one staining run, and how sure an intensity is.

    Parameters
    ----------
    method : str
        How the cut was found ("network", "levels", "control", "control_mixture", "mixture",
        "otsu", "manual").
    feature : str
        The column of the cells table it acts on.
    cut : Cut
        Where positive begins; ``value``, ``low``, ``high``, ``status`` and ``reason`` of the
        threshold are the cut's.
    model : IntensityModel
        What probabilities are made of.
    populations : Populations
        What was seen of negative and positive cells.
    spill : SpillOver
        Of the run, as its correction uses it.
    network : NetworkTerms
        What the network adds.
    used : CellsUsed
        What the fit rests on.
    measured : str
        The measured column that ``feature`` is derived from by spill-over correction; "" if none.
    per_image : bool
        Whether images are not comparable, so that intensities are read again from each.
    plain : IntensityModel or None
        What intensities alone say, where the network has a say, too: cells that are clear to it
        tell what the network makes of the stain.
    relative : RelativeLevels or None
        What an image that shows one population takes from the others, where images are not
        comparable; None where nothing can be taken.
    share : float or None
        Share of positive cells that calls are made at; None of a staining run, whose images each
        have their own.

    Examples
    --------
    >>> from islet_imaging.positivity import fit_threshold
    >>> t = fit_threshold([1.0, 9.0], feature="INS_ring_p25", method="manual", value=5.0)
    >>> t.probability([1.0, 9.0]) > 0.5
    array([False,  True])
    >>> Threshold.from_dict(t.to_dict()) == t
    True
    """

    method: str
    feature: str
    cut: Cut
    model: IntensityModel = IntensityModel()
    populations: Populations = Populations()
    spill: SpillOver = SpillOver()
    network: NetworkTerms = NetworkTerms()
    used: CellsUsed = CellsUsed()
    measured: str = ""
    per_image: bool = False
    plain: IntensityModel | None = None
    relative: RelativeLevels | None = None
    share: float | None = None

    @property
    def value(self) -> float | None:
        """The cut; None where it is not estimable."""
        return self.cut.value

    @property
    def low(self) -> float | None:
        """Lower end of the cut's 95 % interval."""
        return self.cut.low

    @property
    def high(self) -> float | None:
        """Upper end of the cut's 95 % interval."""
        return self.cut.high

    @property
    def status(self) -> Status:
        """Of the cut."""
        return self.cut.status

    @property
    def reason(self) -> str:
        """In words, what the status rests on."""
        return self.cut.reason

    @property
    def estimable(self) -> bool:
        """Whether there is a cut at all."""
        return self.cut.value is not None

    def probability(
        self,
        values: ArrayLike,
        removed: ArrayLike = 0.0,
        *,
        network: ArrayLike | None = None,
        logit: ArrayLike = 0.0,
    ) -> Float64:
        """Evidence of being positive: the probability as if half of all cells were.

        Parameters
        ----------
        values : array_like
            Own intensities, in units of the feature.
        removed : array_like
            Light of neighbours that was taken away to get them.
        network : array_like, optional
            Own light that the network gives each cell; where it is NaN, or not given, it is taken
            to say the same as the intensity.
        logit : array_like
            Log odds that the network gives each cell from its pattern alone.

        Returns
        -------
        ndarray of float64
            0.5 for all where there is no cut; NaN for NaN.

        Examples
        --------
        >>> from islet_imaging.positivity import fit_threshold
        >>> t = fit_threshold([1.0, 9.0], method="manual", value=5.0)
        >>> float(t.probability(5.0))
        0.5
        """
        x = np.asarray(values, dtype=np.float64)
        if self.value is None:
            return np.where(np.isfinite(x), 0.5, np.nan)
        taken = np.maximum(np.asarray(removed, dtype=np.float64), 0)
        odds = log_odds(self.model, self.network, x - self.model.zero, taken, light=network)
        if self.network.logit_weight:
            seen = np.clip(np.asarray(logit, dtype=np.float64), -LOGIT_LIMIT, LOGIT_LIMIT)
            odds = odds + self.network.logit_weight * (seen - self.network.logit_zero)
        out: Float64 = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a run stores them in its protocol."""
        out = {"version": VERSION, **dataclasses.asdict(self)}
        out["model"]["weights"] = list(self.model.weights)
        if self.plain is not None:
            out["plain"]["weights"] = list(self.plain.weights)
        out["cut"]["suspects"] = list(self.cut.suspects)
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Threshold:
        """Build from :meth:`to_dict`'s values, of this version or an earlier one.

        Raises
        ------
        ProtocolError
            For unknown or missing keys, and for a version that is not known.
        """
        given = dict(data)
        version = given.pop("version", 1)
        if version == 1:
            given = _from_flat(given)
        elif version not in (2, 3, 4, VERSION):
            raise ProtocolError(
                f"fitted threshold: version {version!r}; this one reads 1 to {VERSION}"
            )
        parts = {
            "cut": Cut,
            "model": IntensityModel,
            "populations": Populations,
            "spill": SpillOver,
            "network": NetworkTerms,
            "used": CellsUsed,
            "plain": IntensityModel,
            "relative": RelativeLevels,
        }
        for key, kind in parts.items():
            if given.get(key) is not None:
                given[key] = _made(kind, given[key], f"fitted threshold: {key}")
        return _made(cls, given, "fitted threshold")


def log_odds(
    model: IntensityModel,
    network: NetworkTerms,
    own: Float64,
    removed: ArrayLike = 0.0,
    *,
    light: ArrayLike | None = None,
) -> Float64:
    """Log odds from intensities: the cell's own, and the light that the network gives it.

    Parameters
    ----------
    model, network
        Of a :class:`Threshold`.
    own : ndarray
        Intensities above ``model.zero``.
    removed : array_like
        Light of neighbours that was taken away.
    light : array_like, optional
        Own light that the network gives each cell; where it is NaN, or not given, it is taken to
        say the same as ``own``.
    """
    odds = model.log_odds(own, removed)
    if not network.weight:
        return odds
    seen = model.share(own)
    if light is not None:
        given = (np.asarray(light, dtype=np.float64) - network.zero) / network.bright
        seen = np.where(np.isfinite(given), given, seen)
    out: Float64 = odds + network.weight * np.log(np.maximum(seen, 0) + 0.05)
    return out


def without_cut(threshold: Threshold, reason: str) -> Threshold:
    """The threshold that is none, for a reason that the fit could not know."""
    return dataclasses.replace(threshold, cut=Cut(None, status="not_estimable", reason=reason))


def _made(kind: type[Part], data: Any, where: str) -> Part:
    if not isinstance(data, Mapping):
        raise ProtocolError(f"{where}: expected a mapping, found {data!r}")
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = set(data) - known
    if unknown:
        raise ProtocolError(f"{where}: unknown key {sorted(unknown)[0]!r}")
    given = dict(data)
    if "weights" in given:
        given["weights"] = tuple(float(v) for v in given["weights"])
    if "suspects" in given:
        given["suspects"] = tuple(str(v) for v in given["suspects"])
    try:
        return kind(**given)
    except TypeError as error:
        raise ProtocolError(f"{where}: {error}") from None


#: where each key of version 1 lies now
_FLAT = {
    "value": "cut.value",
    "low": "cut.low",
    "high": "cut.high",
    "status": "cut.status",
    "reason": "cut.reason",
    "n_cells": "used.samples",
    "n_control_cells": "used.controls",
    "n_control_images": "used.control_images",
    **{k: f"model.{k}" for k in ("zero", "soft", "bright", "weights")},
    **{k: f"model.{k}" for k in ("mix_soft", "mix_slope", "mix_cut")},
    "negative_location": "populations.negative",
    "negative_scale": "populations.spread",
    "positive_location": "populations.positive",
    "positive_fraction": "populations.positive_share",
    "separation": "populations.separation",
    "spill_near": "spill.near",
    "spill_far": "spill.far",
    "spill_zero": "spill.zero",
    "network_zero": "network.zero",
    "network_bright": "network.bright",
    "network_weight": "network.weight",
    "picture_weight": "network.logit_weight",
}


def _from_flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Version 1, one flat mapping, as version 2; keys that it did not have stay where they are."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        part, dot, name = _FLAT.get(key, key).partition(".")
        if dot:
            out.setdefault(part, {})[name] = value
        else:
            out[key] = value
    return out
