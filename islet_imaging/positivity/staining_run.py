"""The staining run: images that were stained together share their thresholds.

The idea: `fit_stains` looks at all measured cells of a staining run, controls included, and gives a
threshold per marker; `call_image` then calls the cells of one image by them.
It fails where images of different stainings are given as one run: no threshold holds for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from islet_imaging.protocol import Protocol

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.positivity import Threshold


def fit_stains(
    samples: Sequence[pd.DataFrame],
    controls: Sequence[pd.DataFrame],
    protocol: Protocol,
) -> dict[str, Threshold]:
    """Fit each marker's threshold over one staining run.

    Parameters
    ----------
    samples : sequence of DataFrame
        Cells tables of the run's samples.
    controls : sequence of DataFrame
        Cells tables of its negative controls; may be empty.
    protocol : Protocol
        Names the markers, their features and the method.

    Returns
    -------
    dict of str to Threshold
        One per marker; a threshold may be "not estimable".
    """
    from islet_imaging.positivity import fit_marker

    return {m: fit_marker(samples, controls, m, protocol) for m in protocol.markers}


def call_image(
    cells: pd.DataFrame,
    thresholds: Mapping[str, Threshold],
    protocol: Protocol,
) -> pd.DataFrame:
    """Call every cell of one image for every marker, then jointly.

    Parameters
    ----------
    cells : DataFrame
        The measured cells of one image.
    thresholds : mapping of str to Threshold
        The staining run's thresholds.
    protocol : Protocol
        Names the markers and how sure is sure.

    Returns
    -------
    DataFrame
        ``cells`` with ``<marker>_own``, ``_probability``, ``_call``, ``_reason`` and ``phenotype``.
    """
    from islet_imaging.positivity import assign_phenotypes, call_marker

    called = cells
    for marker in protocol.markers:
        called = call_marker(called, marker, thresholds[marker], protocol)
    return assign_phenotypes(called, protocol)
