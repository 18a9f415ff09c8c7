"""Nuclei whose outlines changed, measured as their run measured all the others.

The idea: what scoring works out from the whole image (camera offset, background, illumination, bars
that were drawn into it) and what it was given beside (whole cells) is taken from the whole image
here too, once per image that is open; only then is a crop measured.  The row of a nucleus is that
which scoring these outlines would give.
It fails, with a word and before anything is kept, where the file of whole cells that the run was
measured by is gone; and the neighbours of a changed nucleus keep the rings that they had.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging.errors import IsletImagingError
from napari_islet_imaging.session.moved import find_file
from napari_islet_imaging.session.opened import Measuring
from napari_islet_imaging.session.outlines import Region, grown_box

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from napari_islet_imaging.session.opened import OpenImage
    from napari_islet_imaging.session.review import ReviewSession


def measuring(session: ReviewSession) -> Measuring:
    """What the open image is measured with; read once.

    Raises
    ------
    IsletImagingError
        If its whole cells are not where they were, or were changed.
    """
    opened = session.open
    if opened is None or opened.pixel_size_um is None:
        raise RuntimeError("a scored image has a pixel size")
    if opened.measuring is None:
        opened.measuring = _measuring(session, opened, opened.pixel_size_um)
    return opened.measuring


def _measuring(session: ReviewSession, opened: OpenImage, size: float) -> Measuring:
    from islet_imaging.correction.burned_in import without_burned_in
    from islet_imaging.correction.prepared import PreparedCorrection
    from islet_imaging.segmentation.whole_cells import reach_px

    cells = _whole_cells(session, opened)
    image, drawn = opened.image, None
    used = [c.name for c in session.protocol.channels if c.role != "ignore"]
    if any(code == "burned_in" for code, _ in session.facts.flags(opened.name)):
        whole = slice(0, image.shape[0]), slice(0, image.shape[1])
        image, drawn = without_burned_in(image, used, [whole], image.channel)
    correction = PreparedCorrection(
        image.channel,
        used,
        image.shape,
        session.protocol.correction,
        pixel_size_um=size,
        flat_fields=session.run.flat_fields() or None,
    )
    return Measuring(image, correction, drawn, cells, 0 if cells is None else reach_px(cells))


def _whole_cells(session: ReviewSession, opened: OpenImage) -> NDArray[np.int32] | None:
    """The whole cells that an image was scored with; None where its cells have rings."""
    from islet_imaging.reading.annotations import read_labels_for
    from islet_imaging.run.rows import row_of

    given = row_of(session.run.provenance, opened.name).given.get("cells")
    if given is None:
        return None
    path = find_file(session.run, Path(given["file"]), given["sha256"], session.image_folders)
    if path is None:
        raise IsletImagingError(
            "Outlines cannot be changed: this image was measured by whole cells of the file "
            f"{given['file']}, which is not there or has changed. Put it back."
        )
    return read_labels_for(path, opened.image.shape, "cells")


def measure_region(session: ReviewSession, open_image: OpenImage, region: Region) -> pd.DataFrame:
    """Measure and call all cells whose nuclei lie in a region, as in the whole image."""
    from islet_imaging.measurement.measure import measure_cells, measure_halo_px
    from islet_imaging.measurement.saturation import saturated_fractions
    from islet_imaging.positivity import image_threshold
    from islet_imaging.positivity.staining_run import call_image
    from islet_imaging.quality import flag_cells
    from islet_imaging.quality.drawn import leave_out_near
    from islet_imaging.quality.given import without_cell
    from islet_imaging.scoring.drawn import placed
    from islet_imaging.segmentation.cells import grow_cells
    from islet_imaging.segmentation.whole_cells import cells_of_nuclei, whole_cells

    protocol, size = session.protocol, open_image.pixel_size_um
    if size is None or open_image.scale is None:
        raise RuntimeError("a scored image has a pixel size and a scale")
    known = measuring(session)
    shape = open_image.labels.shape
    ring_um = protocol.cells.ring_of(open_image.scale.nucleus_um)
    # as in scoring: a cell reaches as far as four nuclei, or as the longest that was given
    reach_um = max(30.0, 10.0 * ring_um, size * known.reach_px)
    wide = grown_box([region], shape, measure_halo_px(size, reach_um=reach_um))
    nuclei = open_image.labels[wide]
    home: dict[int, int] = {}
    if known.cells is None:
        cells = grow_cells(
            nuclei, ring_um=ring_um, gap_um=protocol.cells.gap_um, pixel_size_um=size
        )
    else:
        home = cells_of_nuclei(nuclei, known.cells[wide])
        cells = whole_cells(nuclei, known.cells[wide], home)
    table = measure_cells(
        nuclei,
        cells,
        known.correction.region(wide),
        dna=protocol.dna,
        pixel_size_um=size,
        islets=open_image.islets[wide],
        compartments={c.name: c.compartment for c in protocol.channels},
        origin_px=(wide[0].start, wide[1].start),
        image_shape_px=shape,
    )
    table = _with_answers(table, session, open_image, wide)
    scales = open_image.full_scales(protocol.markers)
    table = saturated_fractions(table, cells, lambda m: known.image.channel(m, wide), scales)
    table.insert(0, "image", open_image.name)
    flags, excluded = flag_cells(table, protocol)
    if known.burned_in is not None:
        flags, excluded = leave_out_near(known.burned_in, table, flags, excluded, size)
    if known.cells is not None:
        flags, excluded = without_cell(table, flags, excluded, home)
    table["flags"], table["excluded"] = flags, excluded
    table = placed(table, session.run.regions().get(open_image.name, []), shape, protocol)
    whole = session.raw[open_image.name]
    cuts = {
        marker: image_threshold(whole, cut, spillover=protocol.calling(marker).spillover)
        for marker, cut in session.thresholds().items()
    }
    return call_image(table, cuts, protocol)


def _with_answers(
    table: pd.DataFrame, session: ReviewSession, open_image: OpenImage, wide: Region
) -> pd.DataFrame:
    """The rows with what the positivity network says of them, where the protocol asks it."""
    from islet_imaging.network.engine import shared_engine
    from islet_imaging.network.positivity import begin_network_logits, network_columns

    protocol, labels, scale = session.protocol, open_image.labels, open_image.scale
    if not protocol.network_markers or scale is None or not len(table):
        return table
    prepared = measuring(session).correction

    def plane(name: str) -> Callable[[slice, slice], NDArray[Any]]:
        return lambda rows, columns: prepared.channel(name, (rows, columns))

    for model, markers in protocol.network_markers.items():
        logits = begin_network_logits(
            plane(protocol.dna),
            {m: plane(m) for m in markers},
            lambda rows, columns: labels[rows, columns],
            labels.shape,
            int(table["cell"].max()),
            pixel_size_um=scale.working_pixel_um,
            engine=shared_engine(model),
            region=wide,
        )()
        table = table.assign(**network_columns(table["cell"].to_numpy(), logits))
    return table
