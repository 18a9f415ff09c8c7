"""A fitted threshold: where positive begins, and what makes a probability of a level.

The idea: whatever found the cut, what it found is one record that a run stores in its protocol and
that calls the same cells again, years later, to the same probability.
It fails where levels are not those of the staining run that it was fitted on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.weights import Weights

Floats = NDArray[np.float64]
Status = Literal["ok", "few_controls", "not_estimable"]

#: the network's log odds beyond this say nothing more
PICTURE_LIMIT = 6.0


@dataclass(frozen=True)
class Threshold:
    """A cut on one feature for one staining run, and how sure a level is.

    Parameters
    ----------
    method : str
        How the value was found ("levels", "control", "control_mixture", "mixture", "otsu",
        "manual").
    feature : str
        The column of the cells table it acts on.
    value : float or None
        The cut, in units of the feature: where the probability of a cell without lit neighbours
        is one half; None where it is not estimable.
    low, high : float or None
        95 % bootstrap interval of the cut.
    status : {"ok", "few_controls", "not_estimable"}
        ``few_controls``: a value is there, from fewer control cells or images than asked for.
    reason : str
        In words, what the status rests on.
    n_cells, n_control_cells, n_control_images : int
        What was used.
    zero, soft, bright : float
        Level of negative cells, their spread, and the level of positive cells above ``zero``: what
        probabilities are made of.
    weights : tuple of float
        Log odds = w0 * log(own / bright + 0.05 + 0.1 * spill / bright) + w1 * asinh(own / soft)
        + w2 * asinh(mix / 2) + w3, with own the level above ``zero``, spill the light of
        neighbours that was taken away, and mix the evidence of the run's two populations.
    mix_soft, mix_slope, mix_cut : float
        mix = mix_slope * (asinh(own / mix_soft) - mix_cut).
    negative_location, negative_scale : float
        Centre and right-hand spread of negative cells, in units of the feature.
    positive_location : float or None
        Centre of the positive population, in units of the feature; None if none is separable.
    positive_fraction : float or None
        Weight of the positive population where a mixture was fitted.
    separation : float
        Distance of the populations (d'), 0 if no mixture was fitted.
    measured : str
        The measured column that ``feature`` is derived from by spill-over correction; "" if none.
    spill_near, spill_far, spill_zero : float
        Spill-over of the run and the level above which light spills, as that correction uses them.
    per_image : bool
        Whether images are not comparable, so that levels are read again from each.
    network_zero, network_bright : float
        Levels of negative and, above them, of positive cells of the light that the positivity
        network says is the cell's own.
    network_weight, picture_weight : float
        Where the network was asked, log odds has two more terms: network_weight * log((light -
        network_zero) / network_bright + 0.05), and picture_weight * what it says of the picture
        alone, in log odds.

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
    value: float | None
    low: float | None
    high: float | None
    status: Status
    reason: str
    n_cells: int = 0
    n_control_cells: int = 0
    n_control_images: int = 0
    zero: float = 0.0
    soft: float = 1.0
    bright: float = 1.0
    weights: Weights = (0.0, 1.0, 0.0, 0.0)
    mix_soft: float = 1.0
    mix_slope: float = 0.0
    mix_cut: float = 0.0
    negative_location: float = 0.0
    negative_scale: float = 1.0
    positive_location: float | None = None
    positive_fraction: float | None = None
    separation: float = 0.0
    measured: str = ""
    spill_near: float = 0.0
    spill_far: float = 0.0
    spill_zero: float = 0.0
    per_image: bool = False
    network_zero: float = 0.0
    network_bright: float = 1.0
    network_weight: float = 0.0
    picture_weight: float = 0.0

    @property
    def estimable(self) -> bool:
        """Whether there is a cut at all."""
        return self.value is not None

    def probability(
        self,
        values: ArrayLike,
        removed: ArrayLike = 0.0,
        *,
        network: ArrayLike | None = None,
        picture: ArrayLike = 0.0,
    ) -> Floats:
        """Probability of being positive.

        Parameters
        ----------
        values : array_like
            Own levels, in units of the feature.
        removed : array_like
            Light of neighbours that was taken away to get them.
        network : array_like, optional
            Own light that the network gives each cell; where it is NaN, or not given, it is taken
            to say the same as the level.
        picture : array_like
            Log odds that the network gives each cell from its picture alone.

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
        light = None
        if network is not None:
            light = (
                np.asarray(network, dtype=np.float64) - self.network_zero
            ) / self.network_bright
        odds = self.log_odds(x - self.zero, taken, light)
        if self.picture_weight:
            seen = np.clip(np.asarray(picture, dtype=np.float64), -PICTURE_LIMIT, PICTURE_LIMIT)
            odds = odds + self.picture_weight * seen
        out: Floats = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
        return out

    def log_odds(
        self, own: Floats, removed: ArrayLike = 0.0, light: Floats | None = None
    ) -> Floats:
        """Log odds of being positive, for levels above ``zero``; see ``weights``."""
        w = self.weights
        odds = w[1] * np.arcsinh(own / self.soft) + w[3]
        share = np.maximum(own, 0) / self.bright
        if w[0]:
            odds = odds + w[0] * np.log(share + 0.05 + 0.1 * np.asarray(removed) / self.bright)
        if w[2]:
            mix = self.mix_slope * (np.arcsinh(own / self.mix_soft) - self.mix_cut)
            odds = odds + w[2] * np.arcsinh(mix / 2)
        if self.network_weight:
            seen = share if light is None else np.where(np.isfinite(light), light, share)
            odds = odds + self.network_weight * np.log(np.maximum(seen, 0) + 0.05)
        out: Floats = np.asarray(odds, dtype=np.float64)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a run stores them in its protocol."""
        return {**dataclasses.asdict(self), "weights": list(self.weights)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Threshold:
        """Build from :meth:`to_dict`'s values; unknown or missing keys are errors."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = set(data) - known
        if unknown:
            raise ProtocolError(f"fitted threshold: unknown key {sorted(unknown)[0]!r}")
        given = dict(data)
        if "weights" in given:
            w = [float(v) for v in given["weights"]]
            if len(w) != 4:
                raise ProtocolError(f"fitted threshold: 4 weights expected, found {len(w)}")
            given["weights"] = (w[0], w[1], w[2], w[3])
        try:
            return cls(**given)
        except TypeError as error:
            raise ProtocolError(f"fitted threshold: {error}") from None
