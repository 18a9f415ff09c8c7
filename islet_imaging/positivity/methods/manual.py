"""A cut set by hand.

The idea: what a person states is taken as it is; it fails where the person's eye does.
"""

from __future__ import annotations

import math

from islet_imaging._types import Float64
from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.methods.logistic import at_cut
from islet_imaging.positivity.threshold import Threshold


def by_hand(x: Float64, cut: float | None, feature: str) -> Threshold:
    """Take the stated cut.

    Raises
    ------
    ProtocolError
        Where none is stated.
    """
    if cut is None or not math.isfinite(cut):
        raise ProtocolError("method `manual` needs the cut: positivity.threshold")
    return at_cut(x, float(cut), feature, "manual", "set by hand")
