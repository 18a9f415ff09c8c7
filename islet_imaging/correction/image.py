"""Correction of the channels of one image, as an array in memory.

The idea: the corrections are prepared from the whole image and applied to all of it at once, by the
same :class:`~islet_imaging.correction.prepared.PreparedCorrection` that serves a slide by region.
It fails as the single corrections do: see :mod:`islet_imaging.correction.steps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.correction.prepared import PreparedCorrection
from islet_imaging.protocol import Correction


def correct_image(
    channels: Mapping[str, NDArray[Any]],
    correction: Correction,
    *,
    pixel_size_um: float | None = None,
    flat_fields: Mapping[str, NDArray[Any]] | None = None,
    bleed_matrix: Mapping[str, Mapping[str, float]] | None = None,
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Apply the corrections of a protocol to the channels of an image.

    Parameters
    ----------
    channels : mapping of str to ndarray, shape (Y, X)
        Pixels by channel name.
    correction : Correction
        What to do.
    pixel_size_um : float, optional
        Edge of a pixel, um; needed by ``background: local``.
    flat_fields : mapping of str to ndarray, shape (Y, X), optional
        Gain of each channel, as read from the protocol's file or fitted by :func:`fit_flat_field`;
        used when ``correction.flat_field`` is not "off".
    bleed_matrix : mapping, optional
        ``{source: {destination: fraction}}`` of :func:`fit_bleed_through`; default the protocol's.

    Returns
    -------
    corrected : dict of str to ndarray
        float32; the very arrays given, untouched, where everything is off.
    record : dict
        What was done, with numbers, for the provenance.

    Raises
    ------
    PixelSizeError
        If a local background is asked for without a pixel size.
    NotEstimableError
        If the bleed-through matrix cannot be inverted safely.
    ChannelError
        If a flat field does not fit its channel, or the matrix names a channel that is not there.

    Examples
    --------
    >>> image = {"DAPI": np.full((4, 4), 110, np.uint16)}
    >>> out, record = correct_image(image, Correction(offset=100.0))
    >>> out["DAPI"][0, 0].item(), record["offset"]
    (10.0, {'DAPI': 100.0})
    """
    height, width = next((np.shape(p) for p in channels.values()), (0, 0))
    prepared = PreparedCorrection(
        lambda name, region: channels[name][region],
        list(channels),
        (height, width),
        correction,
        pixel_size_um=pixel_size_um,
        flat_fields=flat_fields,
        bleed_matrix=bleed_matrix,
    )
    return prepared.apply(channels, (slice(0, height), slice(0, width))), prepared.record
