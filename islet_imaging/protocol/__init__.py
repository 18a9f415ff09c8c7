"""The protocol: everything that changes a number, and how it is read from and written to YAML."""

from islet_imaging.protocol.model import (
    FORMAT,
    USUAL_NUCLEUS_UM,
    Acquisition,
    Cells,
    Channel,
    Correction,
    Islets,
    Nuclei,
    Positivity,
    Protocol,
    Quality,
    Reading,
    Statistics,
)
from islet_imaging.protocol.words import (
    ROLES,
    CallMethod,
    Compartment,
    CutMethod,
    FitMethod,
    Role,
    negative_for,
)

__all__ = [
    "FORMAT",
    "ROLES",
    "USUAL_NUCLEUS_UM",
    "Acquisition",
    "CallMethod",
    "Cells",
    "Channel",
    "Compartment",
    "Correction",
    "CutMethod",
    "FitMethod",
    "Islets",
    "Nuclei",
    "Positivity",
    "Protocol",
    "Quality",
    "Reading",
    "Role",
    "Statistics",
    "negative_for",
]
