"""A bootstrap's fits, which start from the sample's own, against fits from scratch."""

from __future__ import annotations

import numpy as np
import pytest

from islet_imaging._types import Float64
from islet_imaging.positivity.mixture import Mixture, fit_mixture, fit_mixtures

#: share of positives, distance of the populations in spreads, cells
STAINS = [(0.4, 5.0, 800), (0.05, 4.0, 1500), (0.8, 3.0, 400), (0.5, 2.2, 600), (0.0, 0.0, 500)]


def stain(share: float, apart: float, n: int) -> Float64:
    """Cells of two populations on the working scale, the upper one wider."""
    rng = np.random.default_rng(round(1000 * share) + n)
    lit = round(share * n)
    return np.concatenate([rng.normal(0, 1, n - lit), rng.normal(apart, 1.3, lit)])


def _width(values: list[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize(("share", "apart", "n"), STAINS)
@pytest.mark.parametrize("held", [None, (0.0, 1.0)])
def test_resamples_end_where_fits_from_scratch_end(
    share: float, apart: float, n: int, held: tuple[float, float] | None
) -> None:
    both = stain(share, apart, n)
    rng = np.random.default_rng(3)
    drawn = [rng.choice(both, n) for _ in range(25)]
    warm = fit_mixtures([both, *drawn], negative=held)
    assert warm[0] == fit_mixture(both, negative=held)
    cold = [fit_mixture(d, negative=held) for d in drawn]
    assert np.mean([a.separable == b.separable for a, b in zip(warm[1:], cold, strict=True)]) > 0.8
    if not all(m.separable for m in cold):
        return
    a, b = (_width([m.crossing() for m in of]) for of in (warm[1:], cold))
    noise = b[1] - b[0]
    assert abs(a[0] - b[0]) < 0.1 * noise
    assert abs(a[1] - b[1]) < 0.1 * noise


def test_samples_that_cannot_be_fitted_keep_their_place() -> None:
    both = stain(0.4, 5.0, 800)
    few, alike = np.arange(5.0), np.full(50, 3.0)
    found = fit_mixtures([few, both, alike, both])
    assert [m.reason for m in found] == ["too few cells", "", "all levels are equal", ""]
    assert isinstance(found[1], Mixture)
    assert found[1].crossing() == pytest.approx(found[3].crossing(), abs=0.02)
    assert fit_mixtures([few])[0].reason == "too few cells"
