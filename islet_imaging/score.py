"""One image on its way from pixels to calls.

The idea: two halves with the staining run between them.  `measure_image` needs the pixels of one
image only; `fit_stains` looks at all images of a staining run, controls included; `call_image`
then calls each cell of one image.  `score_image` is the three in a row for an image that stands
alone, and a folder (`islet_imaging.batch`) runs the same three over many, so all ways in agree.
It fails, with an error that names the image, when the pixel size or a channel is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import Cancelled
from islet_imaging.image import IsletImage
from islet_imaging.protocol import Protocol

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.positivity import Threshold
    from islet_imaging.quality import Flag, ImageNumbers

#: called with the share done (0 to 1) and what is being done
Progress = Callable[[float, str], None]
#: asked between steps; True stops the work
CancelCheck = Callable[[], bool]


@dataclass(frozen=True)
class MeasuredImage:
    """What the pixels of one image say, before any threshold.

    Parameters
    ----------
    image : str
        The image's name.
    pixel_size_um : float
        Edge of a pixel, um.
    nuclei, islets : ndarray of int32, shape (Y, X)
        Label images; 0 is background.
    cells : DataFrame
        One row per nucleus (design: cells table), without calls.
    pairs : DataFrame
        Touching cells: ``cell_a, cell_b, shared_border_px``.
    islet_table : DataFrame
        One row per islet.
    flags : list of Flag
        What was noticed in the image.
    numbers : ImageNumbers
        What images of a folder are held against each other by.
    record : mapping
        What was done to the pixels, and the facts of the acquisition.
    """

    image: str
    pixel_size_um: float
    nuclei: NDArray[np.int32]
    islets: NDArray[np.int32]
    cells: pd.DataFrame
    pairs: pd.DataFrame
    islet_table: pd.DataFrame
    flags: list[Flag]
    numbers: ImageNumbers
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredImage:
    """One image with every cell called; `MeasuredImage` plus thresholds."""

    image_name: str
    pixel_size_um: float
    nuclei: NDArray[np.int32]
    islets: NDArray[np.int32]
    cells: pd.DataFrame
    islet_table: pd.DataFrame
    flags: list[Flag]
    thresholds: Mapping[str, Threshold]
    protocol: Protocol


def _tell(progress: Progress | None, cancelled: CancelCheck | None, done: float, what: str) -> None:
    if cancelled is not None and cancelled():
        raise Cancelled("stopped on request")
    if progress is not None:
        progress(done, what)


def measure_image(
    image: IsletImage,
    protocol: Protocol,
    *,
    flat_fields: Mapping[str, NDArray[np.float32]] | None = None,
    facts: Mapping[str, Any] | None = None,
    threads: int | None = None,
    device: str = "auto",
    slide_px: int | None = None,
    scratch: Path | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> MeasuredImage:
    """Correct, segment and measure one image.

    Parameters
    ----------
    image : IsletImage
        With a pixel size and the protocol's channels.
    protocol : Protocol
        Everything that changes a number.
    flat_fields : mapping of str to ndarray (Y, X), optional
        Relative illumination per channel, where the protocol asks for one.
    facts : mapping, optional
        What the sample sheet knows beside the file: ``section_um``, ``modality``.
    threads : int, optional
        Threads the network may use; None lets its engine choose.
    device : str
        "auto", "cpu", "cuda" or "mps", for the network.
    slide_px : int, optional
        An image of more pixels than this goes through :func:`islet_imaging.slide.measure_slide`,
        which holds only parts of it; by default `islet_imaging.slide.SLIDE_PX`.
    scratch : Path, optional
        Where a slide's label files lie meanwhile; by default the system's temporary folder.
    progress, cancelled : callable, optional
        Told, and asked, between steps.

    Returns
    -------
    MeasuredImage

    Raises
    ------
    PixelSizeError, ChannelError
        If the image lacks what the protocol needs.
    Cancelled
        If ``cancelled`` says so.
    """
    from islet_imaging.cells import grow_cells
    from islet_imaging.correct import correct_image
    from islet_imaging.islets import islets_table, segment_islets
    from islet_imaging.measure import measure_cells, neighbour_pairs
    from islet_imaging.network.positivity import answer_columns, ask_network
    from islet_imaging.nuclei import segment_nuclei
    from islet_imaging.quality import check_image, flag_cells, measure_quality
    from islet_imaging.saturation import full_scales, saturated_fractions
    from islet_imaging.slide import SLIDE_PX, measure_slide

    size = image.require_pixel_size()
    if image.shape[0] * image.shape[1] > (SLIDE_PX if slide_px is None else slide_px):
        return measure_slide(
            image,
            protocol,
            flat_fields=flat_fields,
            facts=facts,
            threads=threads,
            device=device,
            scratch=scratch,
            progress=progress,
            cancelled=cancelled,
        )
    used = [c.name for c in protocol.channels if c.role != "ignore"]
    _tell(progress, cancelled, 0.0, "reading")
    raw = {name: image.channel(name) for name in used}
    _tell(progress, cancelled, 0.05, "correcting")
    channels, record = correct_image(
        raw, protocol.correction, pixel_size_um=size, flat_fields=flat_fields
    )
    _tell(progress, cancelled, 0.1, "finding nuclei")
    nuclei = segment_nuclei(
        channels[protocol.dna],
        pixel_size_um=size,
        nucleus_diameter_um=protocol.nuclei.diameter_um,
        method=protocol.nuclei.method,
        min_area_um2=protocol.nuclei.min_area_um2,
        max_area_um2=protocol.nuclei.max_area_um2,
        model=protocol.nuclei.model,
        device=device,
        threads=threads,
        cancelled=cancelled,
    )
    _tell(progress, cancelled, 0.6, "growing cells")
    cells = grow_cells(
        nuclei, ring_um=protocol.cells.ring_um, gap_um=protocol.cells.gap_um, pixel_size_um=size
    )
    islets = segment_islets(
        nuclei,
        pixel_size_um=size,
        max_gap_um=protocol.islets.max_gap_um,
        min_cells=protocol.islets.min_cells,
        method=protocol.islets.method,
    )
    _tell(progress, cancelled, 0.7, "measuring")
    facts = {**image.metadata, **(facts or {})}
    bits = facts.get("significant_bits")
    table = measure_cells(
        nuclei,
        cells,
        channels,
        dna=protocol.dna,
        pixel_size_um=size,
        islets=islets,
        compartments={c.name: c.compartment for c in protocol.channels},
    )
    for model, markers in protocol.asked.items():
        _tell(progress, cancelled, 0.8, "asking the network")
        said = ask_network(
            channels[protocol.dna],
            {m: channels[m] for m in markers},
            nuclei,
            pixel_size_um=size,
            model=model,
            device=device,
            threads=threads,
            cancelled=cancelled,
        )
        table = table.assign(**answer_columns(table["cell"].to_numpy(), said))
    table = saturated_fractions(table, cells, raw.__getitem__, full_scales(image, protocol.markers))
    table.insert(0, "image", image.name)
    codes, excluded = flag_cells(table, protocol)
    table["excluded"] = excluded
    table["flags"] = codes
    _tell(progress, cancelled, 0.9, "checking")
    numbers = measure_quality(
        raw, dna=protocol.dna, pixel_size_um=size, bits=int(bits) if bits else None
    )
    flags = check_image(
        raw, protocol=protocol, metadata=facts, cells=table, pixel_size_um=size, numbers=numbers
    )
    cell_a, cell_b, border_px = neighbour_pairs(cells)
    islet_table = islets_table(nuclei, islets, pixel_size_um=size)
    islet_table.insert(0, "image", image.name)
    import pandas as pd

    return MeasuredImage(
        image=image.name,
        pixel_size_um=size,
        nuclei=nuclei,
        islets=islets,
        cells=table,
        pairs=pd.DataFrame({"cell_a": cell_a, "cell_b": cell_b, "shared_border_px": border_px}),
        islet_table=islet_table,
        flags=flags,
        numbers=numbers,
        record={"correction": record, "metadata": facts},
    )


def score_image(
    image: IsletImage | NDArray[Any],
    protocol: Protocol,
    *,
    controls: Sequence[IsletImage] = (),
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
    controls : sequence of IsletImage
        Negative controls of the same staining run.
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

    Examples
    --------
    >>> from islet_imaging import Channel, Protocol, phantom, score_image
    >>> made = phantom("easy_confocal", seed=1, shape=(256, 256))
    >>> protocol = Protocol.for_channels(made.image.channel_names)
    >>> scored = score_image(made.image, protocol)
    >>> "INS_call" in scored.cells.columns
    True
    """
    from islet_imaging.positivity import call_image, fit_stains

    if not isinstance(image, IsletImage):
        raise TypeError("score_image takes an IsletImage; wrap arrays with IsletImage.from_array")
    steps = 1 + len(controls)

    def part(k: int) -> Progress | None:
        if progress is None:
            return None
        return lambda done, what: progress((k + done) / steps, what)

    def measured(k: int, one: IsletImage) -> MeasuredImage:
        return measure_image(
            one,
            protocol,
            threads=threads,
            device=device,
            progress=part(k),
            cancelled=cancelled,
        )

    control_tables = [measured(k, one).cells for k, one in enumerate(controls)]
    own = measured(len(controls), image)
    if thresholds is None:
        thresholds = fit_stains([own.cells], control_tables, protocol)
    cells = call_image(own.cells, thresholds, protocol)
    _tell(progress, cancelled, 1.0, "done")
    return ScoredImage(
        image_name=own.image,
        pixel_size_um=own.pixel_size_um,
        nuclei=own.nuclei,
        islets=own.islets,
        cells=cells,
        islet_table=own.islet_table,
        flags=own.flags,
        thresholds=thresholds,
        protocol=protocol,
    )
