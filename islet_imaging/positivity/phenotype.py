"""Joint calls of several markers: mono-, bi- and polyhormonal cells, insulin without C-peptide.

The idea: a phenotype is a statement about all markers at once, so one unsure marker makes it
`unsure` rather than quietly negative.  Insulin and C-peptide are one hormone; insulin without
C-peptide is a class of its own, because cells take insulin up from the medium.
It fails where channel names say nothing: markers that are not recognised as hormones are listed in
the phenotype but never make a cell bi- or polyhormonal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.protocol import Protocol

#: names of hormones in channel names, lower case, without punctuation
_HORMONES = {
    "insulin": ("ins", "insulin", "proins", "proinsulin"),
    "c-peptide": ("cpep", "cpeptide", "cpeptid", "ccp"),
    "glucagon": ("gcg", "glucagon", "gluc", "gluca"),
    "somatostatin": ("sst", "som", "somatostatin"),
    "pancreatic polypeptide": ("ppy", "pp", "pancreaticpolypeptide"),
    "ghrelin": ("ghrl", "ghrelin"),
}


def hormone_of(marker: str) -> str | None:
    """The hormone a channel name stands for, or None.

    Parameters
    ----------
    marker : str
        Channel name.

    Returns
    -------
    str or None

    Examples
    --------
    >>> hormone_of("C-peptide"), hormone_of("NKX6.1")
    ('c-peptide', None)
    """
    plain = re.sub(r"[^a-z0-9]", "", marker.casefold())
    for hormone, names in _HORMONES.items():
        if plain in names:
            return hormone
    return None


def assign_phenotypes(cells: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Add the column ``phenotype`` from the calls of all markers of a protocol.

    Parameters
    ----------
    cells : DataFrame
        With ``<marker>_call`` for each marker.
    protocol : Protocol
        Names the markers.

    Returns
    -------
    DataFrame
        A copy with ``phenotype``: the positive markers joined by "/", as "INS+" or "INS+/GCG+";
        "INS+/C-pep-" where insulin lacks C-peptide (named as the channels are); "negative";
        or "unsure" where any marker is unsure.

    Examples
    --------
    >>> import pandas as pd
    >>> from islet_imaging.protocol import Channel, Protocol
    >>> cells = pd.DataFrame({"INS_call": ["positive", "positive"], "GCG_call": ["negative"] * 2})
    >>> protocol = Protocol((Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")))
    >>> list(assign_phenotypes(cells, protocol)["phenotype"])
    ['INS+', 'INS+']
    """
    markers = [m for m in protocol.markers if f"{m}_call" in cells.columns]
    return cells.assign(phenotype=phenotypes(cells, markers))


def phenotypes(cells: pd.DataFrame, markers: Sequence[str]) -> NDArray[np.object_]:
    """The phenotype of every cell.

    Parameters
    ----------
    cells : DataFrame
        With ``<marker>_call`` for each marker.
    markers : sequence of str
        Channel names, in the order they appear in the phenotype.

    Returns
    -------
    ndarray of object, shape (n,)
    """
    code = np.zeros(len(cells), dtype=np.int64)
    unsure = np.zeros(len(cells), dtype=bool)
    for k, marker in enumerate(markers):
        call = cells[f"{marker}_call"].to_numpy().astype(str)
        code |= (call == "positive").astype(np.int64) << k
        unsure |= call == "unsure"
    seen, where = np.unique(code, return_inverse=True)
    names = np.array([_name(int(c), markers) for c in seen] or [""], dtype=object)
    out = names[where] if len(cells) else np.empty(0, dtype=object)
    out[unsure] = "unsure"
    return np.asarray(out, dtype=object)


def _name(code: int, markers: Sequence[str]) -> str:
    positive = [m for k, m in enumerate(markers) if code >> k & 1]
    parts = [f"{m}+" for m in positive]
    has_insulin = any(hormone_of(m) == "insulin" for m in positive)
    for m in markers:
        if has_insulin and hormone_of(m) == "c-peptide" and m not in positive:
            parts.insert(1, f"{m}-")
    return "/".join(parts) or "negative"


def hormone_class(phenotype: str) -> str:
    """How many hormones a phenotype holds.

    Parameters
    ----------
    phenotype : str
        From :func:`assign_phenotypes`.

    Returns
    -------
    str
        "none", "monohormonal", "bihormonal", "polyhormonal" or "unsure"; insulin and C-peptide
        count as one.

    Examples
    --------
    >>> hormone_class("INS+/C-peptide+"), hormone_class("INS+/GCG+/NKX6.1+")
    ('monohormonal', 'bihormonal')
    """
    if phenotype == "unsure":
        return "unsure"
    found = {hormone_of(part[:-1]) for part in phenotype.split("/") if part.endswith("+")}
    found.discard(None)
    if "c-peptide" in found:
        found = (found - {"c-peptide"}) | {"insulin"}
    return ("none", "monohormonal", "bihormonal", "polyhormonal")[min(len(found), 3)]
