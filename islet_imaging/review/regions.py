"""Regions that people drew, in the journal: what is islet and what is left out.

The idea: the regions of an image are one edit that holds them all, so that the last one that was
not undone is what counts and all earlier ones stay to be read.  Like every edit it says who and
when, and of which pixels; of an exchanged picture it is not applied.
It fails, as every edit does, before anything is shown as made when it cannot be put on the disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from islet_imaging.reading.annotations.outlines import Outline
from islet_imaging.review.journal import Edit, effective
from islet_imaging.review.subject import same_pixels


def region_edit(
    who: str,
    image: str,
    outlines: Sequence[Outline],
    *,
    source: str = "",
    pixels: Sequence[str] = (),
) -> Edit:
    """The edit that gives an image these regions, instead of all it had.

    Parameters
    ----------
    who, image : str
        The person, or the file; the image's name as in the tables.
    outlines : sequence of Outline
        With kind "islet" or "left_out" and a name each; none takes all regions away.
    source : str
        SHA-256 of the file that they are from.
    pixels : sequence of str
        Hashes of the image's channels, where the run is not there yet to say them.

    Examples
    --------
    >>> triangle = np.array([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0]])
    >>> edit = region_edit("ana", "a.tif", [Outline((triangle,), "A", "islet")])
    >>> regions_of([edit])["a.tif"][0].name
    'A'
    """
    plain = [
        {"name": o.name, "kind": o.kind, "rings": [np.round(r, 3).tolist() for r in o.rings]}
        for o in outlines
    ]
    after = {"regions": plain, "source": source}
    return Edit(who, image, "regions", after=after, pixels=tuple(pixels))


def outlines_of(edit: Edit) -> list[Outline]:
    """The regions that an edit holds."""
    return [
        Outline(
            tuple(np.array(ring, np.float64) for ring in region["rings"]),
            str(region["name"]),
            str(region["kind"]),
        )
        for region in edit.after["regions"]
    ]


def region_edits(
    edits: Iterable[Edit], pixels: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Edit]:
    """The edit that says each image's regions: the last that was not undone, of its pixels.

    Parameters
    ----------
    edits : iterable of Edit
        A journal.
    pixels : mapping of str to sequence of str, optional
        Hashes of each image's channels now.
    """
    now = pixels or {}
    return {
        e.image: e
        for e in effective(edits)
        if e.action == "regions"
        and not (e.pixels and now.get(e.image) and not same_pixels(e.pixels, now[e.image]))
    }


def source_of(edit: Edit) -> str:
    """SHA-256 of the file that an edit's regions are from; "" for regions of the window."""
    return str(edit.after.get("source", ""))


def regions_of(
    edits: Iterable[Edit], pixels: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[Outline]]:
    """The regions of each image that has some; parameters as of `region_edits`."""
    found = {image: outlines_of(e) for image, e in region_edits(edits, pixels).items()}
    return {image: outlines for image, outlines in found.items() if outlines}


def regions_digest(outlines: Sequence[Outline]) -> str:
    """A short hash of regions; "" for none."""
    if not outlines:
        return ""
    plain = [[o.name, o.kind, [np.round(r, 3).tolist() for r in o.rings]] for o in outlines]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]


def without_regions(edits: Iterable[Edit]) -> list[Edit]:
    """A journal's edits of cells: without those of regions and what takes them back."""
    gone: set[str] = set()
    kept = []
    for edit in edits:
        if edit.action == "regions" or (edit.action == "undo" and edit.undoes in gone):
            gone.add(edit.id)
        else:
            kept.append(edit)
    return kept


def exchanged_told(edits: Iterable[Edit], pixels: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A sentence where regions were drawn in a picture that was exchanged since, else nothing."""
    held = [e for e in effective(edits) if e.action == "regions" and e.pixels]
    gone = sorted(
        {
            e.image
            for e in held
            if pixels.get(e.image) and not same_pixels(e.pixels, pixels[e.image])
        }
    )
    if not gone:
        return ()
    shown = ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
    return (f"regions not applied: the picture was exchanged since they were drawn ({shown})",)
