"""What must be fitted over several images before any one of them is measured.

The idea: bleed-through comes from the single-stain controls of the sheet, illumination from all
images of a folder (or a given image of an even slide); both are fitted once, before the first
image, and handed to every worker, so that the order of images cannot matter.
It fails, and says which control is missing, when a protocol asks for what the folder cannot give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.protocol import Protocol

if TYPE_CHECKING:
    from islet_imaging.experiment.sample_sheet import Sample

Fields = dict[str, NDArray[np.float32]]

#: more images than this tell nothing new of the illumination
FLAT_FIELD_IMAGES = 60


def fit_bleed_matrix(protocol: Protocol, rows: Sequence[Sample]) -> Protocol:
    """The protocol with the bleed-through fitted from the sheet's single-stain controls.

    Parameters
    ----------
    protocol : Protocol
        A matrix it states already is kept.
    rows : sequence of Sample
        The sheet; images of role ``single_stain:<channel>`` are read.

    Returns
    -------
    Protocol

    Raises
    ------
    IsletImagingError
        If bleed-through is to be fitted and there is no control that can be read.
    NotEstimableError
        If a control shows too little signal.
    """
    how = protocol.correction
    if how.bleed_through == "off" or how.bleed_matrix:
        return protocol
    import dataclasses

    from islet_imaging.correction.steps import estimate_offset, fit_bleed_through
    from islet_imaging.reading import read_image

    controls: dict[str, list[dict[str, NDArray[Any]]]] = {}
    unreadable: list[str] = []
    for row in rows:
        if row.single_stain is None:
            continue
        try:
            image = read_image(list(row.paths), protocol=protocol, name=row.image)
            planes = {}
            for name in image.channel_names:
                plane = image.channel(name).astype(np.float32)
                offset = estimate_offset(plane) if not _is_number(how.offset) else how.offset
                planes[name] = plane - np.float32(offset)
        except IsletImagingError as error:
            unreadable.append(str(error))
            continue
        controls.setdefault(row.single_stain, []).append(planes)
    if not controls:
        raise IsletImagingError(
            "correction.bleed_through is `controls`, but the sample sheet has no readable image of "
            "role `single_stain:<channel>`; add one per dye, or set bleed_through: off"
            + "".join(f"\n  {u}" for u in unreadable)
        )
    matrix = fit_bleed_through(controls)
    return protocol.replace(correction=dataclasses.replace(how, bleed_matrix=matrix))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def fit_flat_fields(
    protocol: Protocol, rows: Sequence[Sample], *, base: Path | None = None
) -> Fields | None:
    """Relative illumination of every channel, fitted over the folder or read from an image.

    Parameters
    ----------
    protocol : Protocol
        ``correction.flat_field``: "off", "auto" or a path.
    rows : sequence of Sample
        The sheet's images.
    base : Path, optional
        What a relative path of the protocol is relative to.

    Returns
    -------
    dict of str to ndarray (Y, X), or None
        None where the protocol has it off.

    Raises
    ------
    NotEstimableError
        With fewer than 5 images of one shape.
    IsletImagingError
        If the stated image cannot be read.
    """
    how = protocol.correction
    if how.flat_field == "off":
        return None
    from islet_imaging.correction.steps import estimate_offset, fit_flat_field
    from islet_imaging.reading import read_image

    used = [c.name for c in protocol.channels if c.role != "ignore"]
    if how.flat_field != "auto":
        path = Path(how.flat_field)
        path = path if path.is_absolute() or base is None else base / path
        image = read_image(path)
        if len(image.channel_names) == 1:
            only = image.channel(image.channel_names[0]).astype(np.float32)
            return dict.fromkeys(used, only)
        image = read_image(path, protocol=protocol)
        return {name: image.channel(name).astype(np.float32) for name in used}
    planes: Mapping[str, list[NDArray[np.float32]]] = {name: [] for name in used}
    # evenly over the folder, so that one batch does not decide alone
    step = max(1, -(-len(rows) // FLAT_FIELD_IMAGES))
    for row in rows[::step]:
        try:
            image = read_image(list(row.paths), protocol=protocol, name=row.image)
            for name in used:
                plane = image.channel(name).astype(np.float32)
                offset = how.offset if _is_number(how.offset) else estimate_offset(plane)
                planes[name].append(plane - np.float32(offset))
        except IsletImagingError:
            # it is named, with its reason, when it is measured
            continue
    shapes = {p.shape for p in planes[protocol.dna]}
    if len(shapes) > 1:
        raise NotEstimableError(
            f"flat_field: auto needs images of one shape, found {sorted(shapes)}; "
            "give an image of an even slide, or set flat_field: off"
        )
    return {name: fit_flat_field(stack) for name, stack in planes.items()}
