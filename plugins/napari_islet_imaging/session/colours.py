"""Colours of stains and of calls.

The idea: stains keep the colours the field is used to; calls use amber and light blue, which are
told apart by every reader, and each call has its own line besides its colour: solid, thin, dashed,
dotted.  It fails if a state is ever told by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: value in the outline image -> (name, colour, style); the order of drawing the legend
CATEGORIES: dict[int, tuple[str, str, str]] = {
    2: ("positive", "#ffb000", "solid"),
    1: ("negative", "#56b4e9", "thin"),
    3: ("unsure", "#ffffff", "dashed"),
    4: ("excluded", "#9a9a9a", "dotted"),
}
BY_CALL = {"negative": 1, "positive": 2, "unsure": 3}
EXCLUDED = 4
#: cells whose call is not shown, as in a blinded review
NEUTRAL = 6
NEUTRAL_COLOUR = "#d0d0d0"
#: cells chosen in the histogram or by clicking
SELECTED = 5
SELECTED_COLOUR = "#ff4fd8"

_STAINS = (
    (("dapi", "hoechst", "dna", "draq", "nucl"), "blue"),
    (("ins", "c-pep", "cpep", "c_pep", "proins"), "green"),
    (("gcg", "glucagon"), "magenta"),
    (("sst", "somatostatin"), "cyan"),
    (("pdx1", "nkx6", "chga"), "red"),
    (("transmitted", "bright", "dic", "phase", "tl"), "gray"),
)
_SPARE = ("magenta", "cyan", "yellow", "red", "bop orange", "bop purple")


#: cells that a second marker is positive in: seen through
FILL = 7
FILL_COLOUR = "#e0602e88"

#: stated colours that napari has a name for
_NAMED = {
    "#ff0000": "red",
    "#00ff00": "green",
    "#0000ff": "blue",
    "#00ffff": "cyan",
    "#ff00ff": "magenta",
    "#ffff00": "yellow",
}


def stain_colours(names: Sequence[str], stated: Mapping[str, str] | None = None) -> list[str]:
    """A napari colormap per channel: the file's, else what the field is used to.

    Parameters
    ----------
    names : sequence of str
        Channels.
    stated : mapping of str to str, optional
        The colours that the file states, ``#rrggbb`` by channel.

    Examples
    --------
    >>> stain_colours(["DAPI", "INS", "GCG"], {"INS": "#ff0000"})
    ['blue', 'red', 'magenta']
    """
    stated = stated or {}
    found: list[str | None] = []
    for name in names:
        if name in stated:
            found.append(_NAMED.get(stated[name], stated[name]))
            continue
        folded = name.casefold()
        hit = next((c for keys, c in _STAINS if any(folded.startswith(k) for k in keys)), None)
        found.append(None if hit in found else hit)
    spare = [c for c in ("green", *_SPARE) if c not in found]
    return [c if c is not None else (spare.pop(0) if spare else "gray") for c in found]
