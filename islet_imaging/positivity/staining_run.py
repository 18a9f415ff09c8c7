"""One staining run: every marker fitted over all its images, every cell of an image called.

The idea: what a stain's intensities mean belongs to the images that were stained together, controls
included; `fit_stains` looks at all of them, `call_image` then calls the cells of one.
It fails where images that were not stained together are taken for one run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from islet_imaging.positivity.calling import call_marker
from islet_imaging.positivity.fitting import fit_marker
from islet_imaging.positivity.phenotype import assign_phenotypes

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.positivity.threshold import Threshold
    from islet_imaging.protocol import Protocol


def fit_stains(
    samples: Sequence[pd.DataFrame],
    controls: Sequence[pd.DataFrame] | Mapping[str, Sequence[pd.DataFrame]],
    protocol: Protocol,
) -> dict[str, Threshold]:
    """Fit each marker's threshold over one staining run.

    Parameters
    ----------
    samples : sequence of DataFrame
        Cells tables of the run's samples.
    controls : sequence of DataFrame, or mapping of str to such
        Cells tables of its negative controls; may be empty.  By marker, where a control is one of
        some markers only.
    protocol : Protocol
        Names the markers, their features and the method.

    Returns
    -------
    dict of str to Threshold
        One per marker; a threshold may be "not estimable".
    """
    of = controls if isinstance(controls, Mapping) else dict.fromkeys(protocol.markers, controls)
    return {m: fit_marker(samples, of.get(m, ()), m, protocol) for m in protocol.markers}


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
    called = cells
    for marker in protocol.markers:
        called = call_marker(called, marker, thresholds[marker], protocol)
    return assign_phenotypes(called, protocol)
