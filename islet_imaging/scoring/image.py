"""One image on its way from pixels to calls.

The idea: two halves with the staining run between them.  `measure_image` needs the pixels of one
image only; `fit_stains` looks at all images of a staining run, controls included; `call_image`
then calls each cell of one image.  `score_image` is the three in a row for an image that stands
alone, and a folder (`islet_imaging.scoring.folder`) runs the same three over many, so all ways in
agree.  There is one way for every size: an image is asked for by region, corrections are prepared
once for the whole, nuclei come in strips, islets are decided on a coarse grid, and cells are
measured in tiles with a margin; a cell belongs to the tile that holds its centre.  Labels and rows
are the same whatever the tile; only the quality numbers of a large image come from the windows with
most nuclei, and the record says so.
It fails, with an error that names the image, when the pixel size or a channel is missing, and where
a nucleus and its neighbours reach further than `measure_halo_px`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Spread, Work
from islet_imaging.errors import Cancelled, IsletImagingError
from islet_imaging.image import IsletImage
from islet_imaging.protocol import Protocol
from islet_imaging.scoring.measured import CancelCheck, MeasuredImage, Progress, ScoredImage

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.network.positivity import CellLogits
    from islet_imaging.network.scale import FoundScale
    from islet_imaging.positivity import Threshold
    from islet_imaging.reading.annotations import Outline
    from islet_imaging.scoring.regions import ImageRegions


@dataclasses.dataclass(frozen=True)
class _Watcher:
    """Who is told of steps, and may stop them."""

    progress: Progress | None
    cancelled: CancelCheck | None

    def tell(self, done: float, what: str) -> None:
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("stopped on request")
        if self.progress is not None:
            self.progress(done, what)


def measure_image(
    image: IsletImage,
    protocol: Protocol,
    *,
    nuclei: NDArray[Any] | str | Path | None = None,
    cells: NDArray[Any] | str | Path | None = None,
    flat_fields: Mapping[str, NDArray[np.float32]] | None = None,
    facts: Mapping[str, Any] | None = None,
    threads: int | None = None,
    device: str = "auto",
    tile_px: int | None = None,
    scratch: Path | None = None,
    spread: Spread | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> MeasuredImage:
    """Correct, segment and measure one image of any size.

    Parameters
    ----------
    image : IsletImage
        With a pixel size and the protocol's channels.
    protocol : Protocol
        Everything that changes a number.
    nuclei : ndarray of int, shape (Y, X), or path, optional
        Nuclei to take instead of finding them: a label image, or a file of one, of QuPath's
        GeoJSON, of ImageJ's ROIs or Cellpose's ``_seg.npy``.
    cells : ndarray of int, shape (Y, X), or path, optional
        Whole cells, likewise: a cell without its nucleus is then the cytoplasm, instead of a ring.
    flat_fields : mapping of str to ndarray (Y, X), optional
        Relative illumination per channel, where the protocol asks for one.
    facts : mapping, optional
        What the sample sheet knows beside the file: ``section_um``, ``modality``.
    threads : int, optional
        Threads the network may use; None lets its engine choose.
    device : str
        "auto", "cpu", "cuda" or "mps", for the network.
    tile_px : int, optional
        Edge of the parts worked on, px; changes memory and time, never labels or rows.  By default
        an image is one part up to `islet_imaging.image.WHOLE_PX`.
    scratch : Path, optional
        Where a large image's label files lie, which the caller takes away; by default a temporary
        folder that goes with the result.
    spread : callable, optional
        Computes the parts of a large image elsewhere (`islet_imaging.scoring.spread`); changes no
        number.  It needs ``scratch``, where all who compute see it.
    progress, cancelled : callable, optional
        Told, and asked, between steps.

    Returns
    -------
    MeasuredImage
        The label images of a large one are read-only `numpy.memmap`.

    Raises
    ------
    PixelSizeError, ChannelError
        If the image lacks what the protocol needs.
    IsletImagingError
        If ``nuclei`` or ``cells`` are no label image of this image.
    Cancelled
        If ``cancelled`` says so.

    Examples
    --------
    >>> from islet_imaging import Protocol, phantom
    >>> from islet_imaging.protocol import Channel, Nuclei
    >>> image = phantom("easy_confocal", seed=1, shape=(256, 256)).image
    >>> protocol = Protocol((Channel("DAPI", "dna"), Channel("INS")),
    ...                     nuclei=Nuclei(method="classical"))
    >>> whole, parts = measure_image(image, protocol), measure_image(image, protocol, tile_px=100)
    >>> bool((whole.nuclei == parts.nuclei).all()), whole.cells.equals(parts.cells)
    (True, True)
    """
    from islet_imaging.network.positivity import network_columns
    from islet_imaging.quality import check_image, flag_cells
    from islet_imaging.quality.drawn import burned_in_flag, leave_out, leave_out_near
    from islet_imaging.quality.given import without_cell
    from islet_imaging.scoring.regions import ImageRegions
    from islet_imaging.scoring.segmenting import (
        Given,
        draw_islets,
        find_nuclei,
        scale_of,
        scale_record,
    )
    from islet_imaging.scoring.tiles import measure_tiles
    from islet_imaging.segmentation.islets import shapes_table

    watcher = _Watcher(progress, cancelled)
    given = Given.of(image.shape, nuclei, cells)
    work = Work(threads=threads, device=device, tile_px=tile_px, cancelled=cancelled, spread=spread)
    watcher.tell(0.0, "reading and correcting")
    regions = ImageRegions(
        image, protocol, flat_fields=flat_fields, tile_px=tile_px, scratch=scratch
    )
    if regions.whole:
        work = dataclasses.replace(work, spread=None)
    size = regions.pixel_size_um
    try:
        watcher.tell(0.05, "finding nuclei")
        scale, method = scale_of(regions, protocol, work, given)
        forming, largest = find_nuclei(regions, protocol, scale, method, work, given, watcher.tell)
        # workers elsewhere have begun with the network when islets are drawn here
        network = _begin_network(regions, protocol, scale, largest, work)
        boxes = draw_islets(regions, forming, work, watcher.tell)
        islet_table = shapes_table(
            regions.islets.read, image.shape, boxes, forming.n_cells, pixel_size_um=size
        )
        islet_table.insert(0, "image", image.name)
        table, pairs, drawn = measure_tiles(regions, protocol, scale, given, work, watcher.tell)
        for answers in network:
            watcher.tell(0.8, "running the positivity network")
            table = table.assign(**network_columns(table["cell"].to_numpy(), answers()))
        table.insert(0, "image", image.name)
        codes, excluded = flag_cells(table, protocol)
        if regions.burned_in is not None:
            codes, excluded = leave_out_near(regions.burned_in, table, codes, excluded, size)
        if drawn.cells:
            hit = table["cell"].isin(drawn.cells).to_numpy(dtype=bool)
            codes, excluded = leave_out(hit, codes, excluded)
        if given.cells is not None:
            codes, excluded = without_cell(table, codes, excluded, given.home)
        table["excluded"] = excluded
        table["flags"] = codes
        watcher.tell(0.9, "checking")
        facts = {**image.metadata, **(facts or {})}
        numbers, windows = _quality(regions, protocol, facts, table, work)
        flags = check_image(
            {},
            protocol=protocol,
            metadata=facts,
            cells=table,
            pixel_size_um=size,
            numbers=numbers,
            scale=scale,
        )
        if regions.burned_in is not None:
            flags = [*flags, burned_in_flag(regions.burned_in.boxes)]
        if drawn.boxes:
            flags = [*flags, burned_in_flag(drawn.boxes, filled=False)]
        lengths = scale_record(scale, protocol)
        flags = [*flags, *given.flags(table, lengths)]
        found, islets = regions.finish()
    except BaseException:
        regions.discard()
        raise
    return MeasuredImage(
        image=image.name,
        pixel_size_um=size,
        nuclei=found,
        islets=islets,
        cells=table,
        pairs=pairs,
        islet_table=islet_table,
        flags=flags,
        numbers=numbers,
        record={
            "correction": regions.record,
            "metadata": facts,
            "scale": lengths,
            **windows,
        },
    )


def _begin_network(
    regions: ImageRegions, protocol: Protocol, scale: FoundScale, largest: int, work: Work
) -> list[Callable[[], dict[str, CellLogits]]]:
    """Ask the positivity networks of every nucleus; who waits for the answers gets them."""
    from islet_imaging.network.engine import shared_engine
    from islet_imaging.network.positivity import begin_network_logits

    return [
        begin_network_logits(
            partial(regions.corrected, protocol.dna),
            {m: partial(regions.corrected, m) for m in markers},
            lambda rows, columns: regions.nuclei.read((rows, columns)),
            regions.shape,
            largest,
            pixel_size_um=scale.working_pixel_um,
            engine=shared_engine(model, work.device),
            model=model,
            limits=scale.limits,
            work=work,
        )
        for model, markers in protocol.network_markers.items()
    ]


def _quality(
    regions: ImageRegions,
    protocol: Protocol,
    facts: Mapping[str, Any],
    table: pd.DataFrame,
    work: Work,
) -> tuple[Any, dict[str, Any]]:
    """Numbers of the image as stored, and where they come from if not from all of it."""
    from islet_imaging.quality import measure_quality
    from islet_imaging.quality.windows import measure_quality_windows

    bits = facts.get("significant_bits")
    shape, size = regions.shape, regions.pixel_size_um
    how: dict[str, Any] = {
        "dna": protocol.dna,
        "pixel_size_um": size,
        "bits": int(bits) if bits else None,
        "threads": work.at_once,
    }
    if regions.whole:
        everywhere = slice(0, shape[0]), slice(0, shape[1])
        return measure_quality(
            {name: regions.stored(name, everywhere) for name in regions.names}, **how
        ), {}
    numbers, windows = measure_quality_windows(
        regions.stored,
        shape,
        regions.names,
        centres=table[["y_px", "x_px"]].to_numpy(),
        spread=work.spread,
        **how,
    )
    return numbers, {"quality": windows}


def score_image(
    image: IsletImage | NDArray[Any],
    protocol: Protocol,
    *,
    nuclei: NDArray[Any] | str | Path | None = None,
    cells: NDArray[Any] | str | Path | None = None,
    regions: NDArray[Any] | Sequence[Outline] | str | Path | None = None,
    controls: Sequence[IsletImage] = (),
    control_nuclei: Sequence[NDArray[Any] | str | Path] = (),
    thresholds: Mapping[str, Threshold] | None = None,
    threads: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> ScoredImage:
    """Score one image that stands alone.

    Parameters
    ----------
    image : IsletImage
        With a pixel size and the protocol's channels.
    protocol : Protocol
        Everything that changes a number.
    nuclei, cells : ndarray of int, shape (Y, X), or path, optional
        Nuclei to take instead of finding them, and whole cells instead of rings; as in
        `measure_image`.
    regions : path, sequence of Outline, or ndarray of int, shape (Y, X), optional
        What is islet and what is left out: QuPath's GeoJSON, ImageJ's ROIs, or a label image of
        islets (`islet_imaging.reading.annotations.read_regions`).
    controls : sequence of IsletImage
        Negative controls of the same staining run.
    control_nuclei : sequence of ndarray or path
        Nuclei of the controls, one for each; without them theirs are found.
    thresholds : mapping of str to Threshold, optional
        Thresholds to use instead of fitting, as from an earlier run.
    threads, device, progress, cancelled
        As in `measure_image`.

    Returns
    -------
    ScoredImage

    Raises
    ------
    PixelSizeError, ChannelError
        If the image lacks what the protocol needs.
    IsletImagingError
        If ``nuclei`` or ``cells`` are no label image of this image, or ``regions`` none of it.

    Examples
    --------
    >>> from islet_imaging import Channel, Protocol, phantom, score_image
    >>> names = ("DAPI", "INS")
    >>> image = phantom("ffpe20x", seed=1, shape=(256, 256), channels=names).image
    >>> control = phantom("ffpe20x", seed=2, shape=(320, 320), channels=names,
    ...                   control="secondary_only").image
    >>> protocol = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS")))
    >>> scored = score_image(image, protocol, controls=[control])
    >>> sorted(set(scored.cells["INS_call"]) - {"unsure"})
    ['negative', 'positive']

    The same nuclei, handed back as labels, are called alike:

    >>> again = score_image(image, protocol, controls=[control], nuclei=scored.nuclei)
    >>> again.cells["INS_call"].equals(scored.cells["INS_call"])
    True
    """
    from islet_imaging.positivity import call_image, fit_stains
    from islet_imaging.reading.annotations.regions import checked_regions
    from islet_imaging.scoring.drawn import with_regions

    if not isinstance(image, IsletImage):
        raise TypeError("score_image takes an IsletImage; wrap arrays with IsletImage.from_array")
    if control_nuclei and len(control_nuclei) != len(controls):
        raise IsletImagingError(
            f"{len(control_nuclei)} label images for {len(controls)} controls: one for each"
        )
    steps = 1 + len(controls)

    def part(k: int) -> Progress | None:
        if progress is None:
            return None
        return lambda done, what: progress((k + done) / steps, what)

    def measured(k: int, one: IsletImage, own: Any, whole: Any = None) -> MeasuredImage:
        return measure_image(
            one,
            protocol,
            nuclei=own,
            cells=whole,
            threads=threads,
            device=device,
            progress=part(k),
            cancelled=cancelled,
        )

    labels: list[Any] = list(control_nuclei) or [None for _ in controls]
    control_tables = [
        measured(k, *one).cells for k, one in enumerate(zip(controls, labels, strict=True))
    ]
    drawn = None if regions is None else checked_regions(regions, image.shape)
    own = measured(len(controls), image, nuclei, cells)
    if drawn is not None:
        own = with_regions(own, drawn, protocol)
    if thresholds is None:
        thresholds = fit_stains([own.cells], control_tables, protocol)
    scored = ScoredImage(
        image_name=own.image,
        pixel_size_um=own.pixel_size_um,
        nuclei=own.nuclei,
        islets=own.islets,
        cells=call_image(own.cells, thresholds, protocol),
        islet_table=own.islet_table,
        flags=own.flags,
        thresholds=thresholds,
        protocol=protocol,
    )
    _Watcher(progress, cancelled).tell(1.0, "done")
    return scored
