"""The words a protocol and a sample sheet may use: roles, compartments, methods.

The idea: each choice is a type, so that what can be said is what can be done.
It fails, with an error that names the choices, on any other word.
"""

from __future__ import annotations

from typing import Literal

Role = Literal["dna", "marker", "autofluorescence", "ignore"]
#: where a marker lies; a marker of the membrane is measured in the ring around the nucleus
Compartment = Literal["cytoplasm", "nucleus", "membrane"]
#: the feature that tells most of a marker, by where it lies
FEATURES: dict[Compartment, str] = {
    "cytoplasm": "sector_p25",
    "nucleus": "nucleus_mean",
    "membrane": "ring_mean",
}
#: methods that need intensities only
CutMethod = Literal["control", "control_mixture", "mixture", "otsu", "manual"]
#: methods that a staining run is fitted with
FitMethod = Literal["network", "levels", CutMethod]
#: and what a protocol may say: "auto" leaves the choice to `Protocol.method`
CallMethod = Literal["auto", FitMethod]

#: what an image of the sheet is, but for a control or a single stain of one channel
ROLES = ("sample", "negative_control", "positive_control")


def negative_for(role: str, marker: str) -> bool:
    """Whether an image of that role is a negative control of a marker.

    Examples
    --------
    >>> negative_for("negative_control", "INS"), negative_for("negative_control:GCG", "INS")
    (True, False)
    """
    return role in ("negative_control", f"negative_control:{marker}")
