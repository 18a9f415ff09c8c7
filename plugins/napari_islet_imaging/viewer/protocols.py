"""The protocol that an image in the viewer is scored with, before what the form says of it.

The idea: a chosen file goes before all, then the run that the image is of, so that an image
is scored again as it was scored; else the defaults.
It fails for what belongs to the folder of a run and not to one image: patterns, fitted thresholds
and places of label files are left out.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from islet_imaging.protocol import Channel, Protocol
    from napari_islet_imaging.session.review import ReviewSession


def protocol_of_file(path: Path) -> Protocol:
    """A protocol of a file, its own relative paths as they are meant: from where the file lies.

    Raises
    ------
    IsletImagingError
        If it is no protocol.
    """
    from islet_imaging.protocol import Protocol
    from islet_imaging.scoring.places import with_absolute_paths

    return with_absolute_paths(Protocol.load(path), path.parent)


def protocol_of_run(session: ReviewSession) -> Protocol:
    """What an image of a run is scored again with: what was stated, nothing that was fitted."""
    held = session.protocol
    reading = dataclasses.replace(held.reading, include=(), exclude=(), file_pattern=None)
    return held.replace(
        fitted={},
        fitted_from={},
        reading=reading,
        nuclei=dataclasses.replace(held.nuclei, labels=None),
        cells=dataclasses.replace(held.cells, labels=None),
        islets=dataclasses.replace(held.islets, regions=None),
    )


def with_channels(protocol: Protocol, channels: tuple[Channel, ...]) -> Protocol:
    """The protocol with other channels; how a marker is called goes where the marker goes."""
    names = {c.name for c in channels}
    calls = {m: calling for m, calling in protocol.positivity.items() if m in names}
    return protocol.replace(channels=channels, positivity=calls)


def given_of_run(session: ReviewSession, image: str, what: str) -> Path:
    """The file of nuclei, or of whole cells, that an image of a run was scored with.

    Parameters
    ----------
    session : ReviewSession
        A review of the run.
    image : str
        The image, as in the tables.
    what : {"nuclei", "cells"}
        Which of the two.

    Raises
    ------
    IsletImagingError
        If it is gone, or has changed: another would give other numbers.
    """
    from islet_imaging.errors import IsletImagingError
    from islet_imaging.run.rows import row_of
    from napari_islet_imaging.session.moved import find_file

    known = row_of(session.run.provenance, image).given[what]
    file = Path(known["file"])
    here = find_file(session.run, file, known["sha256"], session.image_folders)
    if here is None:
        raise IsletImagingError(
            f"This image was scored with {what} of the file {file}, which is not there or has "
            "changed: put it back."
        )
    return here
