"""Calls of an image while the rest of its folder is still being measured.

The idea: a threshold belongs to a whole staining run, and is fitted when all its images are in;
until then the same functions fit it to those that are, so an image can be looked at with calls at
once, together with the number of images they rest on.  Nothing of it is written anywhere.
It fails to be the answer: with every further image the threshold moves, and the calls with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_islet_imaging.session.layer_data import (
    KEY,
    call_colours,
    channel_layers,
    outline_options,
    placement,
)
from napari_islet_imaging.session.opened import OpenImage
from napari_islet_imaging.session.outlines import categories_of
from napari_islet_imaging.session.tally import Tally, tally
from napari_islet_imaging.viewer.layers import create

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.positivity import Threshold

ROLE = "provisional"
#: how roles of images begin that a threshold is fitted to
_FITTED = ("sample", "positive_control", "negative_control")


@dataclass(frozen=True, eq=False)
class Provisional:
    """One image with calls that rest on a part of its staining run.

    Parameters
    ----------
    opened : OpenImage
        Pixels and nuclei.
    table : DataFrame
        Its cells, called.
    thresholds : dict of str to Threshold
        What the calls rest on, per marker.
    n_images, n_all : int
        Images of the staining run that are measured, and all there will be.
    denominator : str
        Of the protocol: which cells count.
    """

    opened: OpenImage
    table: pd.DataFrame
    thresholds: dict[str, Threshold]
    n_images: int
    n_all: int
    denominator: str

    def tally(self, marker: str) -> Tally:
        """Counts of one marker's calls."""
        return tally(self.table, marker, self.denominator)


def provisional_calls(
    folder: Path,
    out: Path,
    image: str,
    measured: Collection[str],
    *,
    protocol: dict[str, Any] | None = None,
    samples: str | None = None,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    given: Mapping[str, str] | None = None,
) -> Provisional:
    """Call the cells of an image of a folder that is being scored.

    Parameters
    ----------
    folder, out : Path
        The images, and the run folder that is being written.
    image : str
        The image's name.
    measured : collection of str
        Images that are measured by now.
    protocol : dict, optional
        The run's; by default the one that is drafted from the channel names.
    samples : str, optional
        The run's sample sheet.
    include, exclude : list of str, optional
        The run's patterns, where they are not the protocol's.
    given : mapping of str to str, optional
        The run's places of own nuclei, whole cells and regions, by what is there.

    Returns
    -------
    Provisional

    Raises
    ------
    IsletImagingError
        If the image could not be measured.
    """
    from islet_imaging.errors import IsletImagingError
    from islet_imaging.positivity.staining_run import call_image
    from islet_imaging.protocol import Protocol
    from islet_imaging.reading import read_image
    from islet_imaging.run.called import fit_run
    from islet_imaging.run.folder import read_labels
    from islet_imaging.run.measurements import load_work, read_record
    from islet_imaging.run.rows import ImageRow
    from islet_imaging.scoring.plan import requested

    places = given or {}
    stated = None if protocol is None else Protocol.from_dict(protocol)
    request = requested(
        folder,
        out,
        protocol=stated,
        samples=samples,
        include=include,
        exclude=exclude,
        nuclei=places.get("nuclei"),
        cells=places.get("cells"),
        regions=places.get("regions"),
    )
    used, sheet = request.protocol, request.sheet
    named = {s.image: s for s in sheet.samples}
    if image not in named:
        raise IsletImagingError(f"{image} could not be measured; why is said when the run is done.")
    staining = named[image].staining
    # as in scoring: negative controls that name no staining serve every one
    mates = [
        s
        for s in sheet.samples
        if (s.staining == staining and s.role.startswith(_FITTED))
        or (s.role.startswith("negative_control") and not s.staining)
    ]
    records = {s.image: read_record(out, s.image) for s in mates if s.image in measured}
    rows = [
        ImageRow(
            image=s.image,
            condition=s.condition,
            batch=s.batch,
            role=s.role,
            extra=dict(s.extra),
            key=record.key,
        )
        for s in mates
        if (record := records.get(s.image)) is not None
    ]
    shown = next((r for r in rows if r.image == image), None)
    if shown is None:
        raise IsletImagingError(f"{image} could not be measured; why is said when the run is done.")
    thresholds = fit_run(out, rows, used)[staining]
    cells = load_work(out, shown, "cells")
    paths = list(named[image].paths)
    pixels = read_image(paths if len(paths) > 1 else paths[0], protocol=used, name=image)
    labels = read_labels(out, image, "nuclei")
    opened = OpenImage(
        image,
        pixels,
        pixels.pixel_size_um,
        labels,
        labels,
        read_labels(out, image, "islets"),
        np.zeros(labels.shape, np.uint8),
    )
    return Provisional(
        opened,
        call_image(cells, thresholds, used),
        thresholds,
        len(rows),
        len(mates),
        used.statistics.denominator,
    )


def draw(found: Provisional, marker: str) -> None:
    """Draw the outlines of one marker's calls."""
    calls = found.table[f"{marker}_call"].to_numpy()
    excluded = found.table["excluded"].to_numpy(bool)
    found.opened.draw(found.table, categories_of(calls, excluded))


def provisional_layers(found: Provisional) -> list[Any]:
    """Layers of a provisional image: its channels, and the outlines that were drawn."""
    made = channel_layers(found.opened.image)
    for _, options, _ in made:
        options["metadata"][KEY]["role"] = ROLE
    options = {
        "name": "provisional calls",
        **outline_options(call_colours()),
        "metadata": {KEY: {"image": found.opened.name, "role": ROLE}},
        **placement(found.opened.pixel_size_um),
    }
    return [*made, (found.opened.outlines, options, "image")]


def read_provisional(
    parameters: dict[str, Any], image: str, measured: tuple[str, ...]
) -> tuple[Provisional, list[Any]]:
    """Call an image of a running run and make its layers; any thread may do it.

    Parameters
    ----------
    parameters : dict
        Of the job.
    image : str
        The image's name.
    measured : tuple of str
        Images that are measured by now.
    """
    found = provisional_calls(
        Path(parameters["folder"]),
        Path(parameters["out"]),
        image,
        measured,
        protocol=parameters["protocol"],
        samples=parameters["samples"],
        include=parameters["include"],
        exclude=parameters["exclude"],
        given=parameters["given"],
    )
    draw(found, next(iter(found.thresholds)))
    return found, [create(one) for one in provisional_layers(found)]
