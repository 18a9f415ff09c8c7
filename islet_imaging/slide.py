"""One image that is larger than memory on its way to the same tables.

The idea: corrections are prepared once for the whole image, nuclei come strip by strip into a label
file, islets are decided on a coarse grid of it, and cells are measured in tiles with a margin; a
cell belongs to the tile that holds its centre.  Labels and rows are those of
`islet_imaging.score.measure_image`, whatever the tile.  Only the quality numbers differ: they
come from the windows with most nuclei, and the record says so.
It fails when the disk has no room for two label files of 4 bytes per pixel, and where a nucleus and
its neighbours reach further than `islet_imaging.measure.measure_halo_px`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import Cancelled
from islet_imaging.image import IsletImage
from islet_imaging.label_file import LabelFile, remove_with
from islet_imaging.protocol import Protocol

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.prepared_correction import PreparedCorrection
    from islet_imaging.score import CancelCheck, MeasuredImage, Progress

Region = tuple[slice, slice]
Boxes = dict[int, Region | None]

#: images of more pixels than this are measured in parts; in one go one of this size takes 4 GB
SLIDE_PX = 36_000_000
#: edge of a tile that cells are measured in, without its margin, px
TILE_PX = 2048


def measure_slide(
    image: IsletImage,
    protocol: Protocol,
    *,
    flat_fields: Mapping[str, NDArray[np.float32]] | None = None,
    facts: Mapping[str, Any] | None = None,
    threads: int | None = None,
    device: str = "auto",
    tile: int | None = None,
    scratch: Path | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> MeasuredImage:
    """Correct, segment and measure one image without ever holding it whole.

    Parameters
    ----------
    image : IsletImage
        With a pixel size and the protocol's channels; read by region.
    protocol, flat_fields, facts, threads, device
        As in :func:`islet_imaging.score.measure_image`.
    tile : int, optional
        Edge of the parts worked on, px; changes memory and time, never labels or rows.
    scratch : Path, optional
        Folder for the label files, which the caller takes away; without it a temporary one that
        goes with the result.
    progress, cancelled : callable, optional
        Told, and asked, between strips and tiles.

    Returns
    -------
    MeasuredImage
        Its label images are read-only `numpy.memmap`.

    Raises
    ------
    PixelSizeError, ChannelError
        If the image lacks what the protocol needs.
    Cancelled
        If ``cancelled`` says so.

    Examples
    --------
    >>> from islet_imaging import Protocol, phantom
    >>> from islet_imaging.protocol import Channel, Nuclei
    >>> from islet_imaging.score import measure_image
    >>> image = phantom("easy_confocal", seed=1, shape=(256, 256)).image
    >>> protocol = Protocol((Channel("DAPI", "dna"), Channel("INS")),
    ...                     nuclei=Nuclei(method="classical"))
    >>> whole, parts = measure_image(image, protocol), measure_slide(image, protocol, tile=100)
    >>> bool((whole.nuclei == parts.nuclei).all()), whole.cells.equals(parts.cells)
    (True, True)
    """
    from islet_imaging.islets import shapes_table
    from islet_imaging.measure import finish_cells
    from islet_imaging.network.positivity import answer_columns, ask_network_lazy
    from islet_imaging.prepared_correction import PreparedCorrection
    from islet_imaging.quality import check_image, flag_cells
    from islet_imaging.quality.windows import measure_quality_windows
    from islet_imaging.saturation import full_scales
    from islet_imaging.score import MeasuredImage

    size = image.require_pixel_size()
    used = [c.name for c in protocol.channels if c.role != "ignore"]
    tell = _teller(progress, cancelled)
    folder = scratch or Path(tempfile.mkdtemp(prefix="islet-imaging-"))
    nuclei = LabelFile(folder / "nuclei.raw", image.shape)
    islets = LabelFile(folder / "islets.raw", image.shape)
    maps = [nuclei, islets]
    try:
        tell(0.0, "correcting")
        prepared = PreparedCorrection(
            image.channel,
            used,
            image.shape,
            protocol.correction,
            pixel_size_um=size,
            flat_fields=flat_fields,
        )
        boxes, n_cells = _find(
            prepared, protocol, size, nuclei, islets, tile, threads, device, tell, cancelled
        )
        rows, pairs = [], []
        tiles = list(_tiles(image.shape, tile or TILE_PX))
        scales = full_scales(image, protocol.markers, tiles)
        for k, core in enumerate(tiles):
            tell(0.6 + 0.3 * k / len(tiles), "measuring")
            found, touching = _measure(
                image, prepared, protocol, size, nuclei, islets, scales, core
            )
            rows.append(found)
            pairs.append(touching)
        table = finish_cells(_together(rows), pixel_size_um=size)
        rows.clear()
        for model, markers in protocol.asked.items():
            tell(0.88, "asking the network")
            said = ask_network_lazy(
                partial(_plane, prepared, protocol.dna),
                {m: partial(_plane, prepared, m) for m in markers},
                lambda rows, columns: nuclei.read((rows, columns)),
                image.shape,
                int(table["cell"].max()) if len(table) else 0,
                pixel_size_um=size,
                model=model,
                device=device,
                threads=threads,
                cancelled=cancelled,
            )
            table = table.assign(**answer_columns(table["cell"].to_numpy(), said))
        table.insert(0, "image", image.name)
        codes, excluded = flag_cells(table, protocol)
        table["excluded"] = excluded
        table["flags"] = codes
        tell(0.9, "checking")
        facts = {**image.metadata, **(facts or {})}
        bits = facts.get("significant_bits")
        numbers, windows = measure_quality_windows(
            image.channel,
            image.shape,
            used,
            dna=protocol.dna,
            pixel_size_um=size,
            bits=int(bits) if bits else None,
            centres=table[["y_px", "x_px"]].to_numpy(),
        )
        flags = check_image(
            {}, protocol=protocol, metadata=facts, cells=table, pixel_size_um=size, numbers=numbers
        )
        tell(0.95, "measuring islets")
        islet_table = shapes_table(islets.read, image.shape, boxes, n_cells, pixel_size_um=size)
        islet_table.insert(0, "image", image.name)
        labels = [file.map() for file in maps]
    except BaseException:
        if scratch is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if scratch is None:
        remove_with(labels, folder)
    return MeasuredImage(
        image=image.name,
        pixel_size_um=size,
        nuclei=labels[0],
        islets=labels[1],
        cells=table,
        pairs=_merged(pairs),
        islet_table=islet_table,
        flags=flags,
        numbers=numbers,
        record={"correction": prepared.record, "metadata": facts, "quality": windows},
    )


def _plane(prepared: PreparedCorrection, name: str, rows: slice, columns: slice) -> NDArray[Any]:
    return prepared.channel(name, (rows, columns))


def _teller(
    progress: Progress | None, cancelled: CancelCheck | None
) -> Callable[[float, str], None]:
    def tell(done: float, what: str) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("stopped on request")
        if progress is not None:
            progress(done, what)

    return tell


def _find(
    prepared: PreparedCorrection,
    protocol: Protocol,
    size: float,
    nuclei: LabelFile,
    islets: LabelFile,
    tile: int | None,
    threads: int | None,
    device: str,
    tell: Callable[[float, str], None],
    cancelled: CancelCheck | None,
) -> tuple[Boxes, NDArray[Any]]:
    """Fill the label files; where each islet lies, and its number of nuclei."""
    from scipy import ndimage as ndi

    from islet_imaging.islet_grid import IsletGrid
    from islet_imaging.islets import RIM_UM
    from islet_imaging.nuclei import segment_nuclei_tiled

    shape, how = nuclei.shape, protocol.islets
    grid = IsletGrid(
        shape,
        pixel_size_um=size,
        max_gap_um=how.max_gap_um,
        min_cells=how.min_cells,
        rim_um=RIM_UM,
    )
    top = count = 0
    for _, labels in _strips_of(
        prepared,
        protocol.dna,
        shape,
        lambda read: segment_nuclei_tiled(
            read,
            shape,
            pixel_size_um=size,
            nucleus_diameter_um=protocol.nuclei.diameter_um,
            method=protocol.nuclei.method,
            min_area_um2=protocol.nuclei.min_area_um2,
            max_area_um2=protocol.nuclei.max_area_um2,
            model=protocol.nuclei.model,
            tile=tile,
            threads=threads,
            device=device,
            progress=lambda done, total: tell(0.05 + 0.5 * done / total, "finding nuclei"),
            cancelled=cancelled,
        ),
    ):
        nuclei.append(labels)
        if how.method == "islets":
            grid.add(top, labels)
        top += len(labels)
        count = max(count, int(labels.max(initial=0)))
    tell(0.55, "finding islets")
    if how.method == "field":
        for _, labels in nuclei.bands():
            islets.append(np.full(labels.shape, int(count > 0), np.int32))
        whole = (slice(0, shape[0]), slice(0, shape[1]))
        return ({1: whole} if count else {}), np.array([0, count])
    grid.close()
    boxes: Boxes = {}
    for top, labels in nuclei.bands():
        drawn = grid.draw(top, labels)
        islets.append(drawn)
        for islet, box in enumerate(ndi.find_objects(drawn), start=1):
            if box is not None:
                boxes[islet] = _joined(boxes.get(islet), box, top)
        tell(0.55 + 0.05 * top / shape[0], "finding islets")
    return dict(sorted(boxes.items())), grid.n_cells


def _strips_of(
    prepared: PreparedCorrection,
    dna: str,
    shape: tuple[int, int],
    segment: Callable[[Any], Iterator[tuple[Region, NDArray[np.int32]]]],
) -> Iterator[tuple[Region, NDArray[np.int32]]]:
    """Strips of nuclei; an image without contrast has none."""
    from islet_imaging.label_file import band_rows

    def read(rows: slice, columns: slice) -> NDArray[Any]:
        return prepared.channel(dna, (rows, columns))

    everything = slice(0, shape[1])
    first = read(slice(0, 1), slice(0, 1))[0, 0]
    if any((read(rows, everything) != first).any() for rows in band_rows(shape)):
        yield from segment(read)
        return
    for rows in band_rows(shape):
        yield (rows, everything), np.zeros((rows.stop - rows.start, shape[1]), np.int32)


def _joined(box: Region | None, more: Region, top: int) -> Region:
    """The box around two, the second of rows counted from ``top``."""
    rows, columns = slice(more[0].start + top, more[0].stop + top), more[1]
    if box is None:
        return rows, columns
    return (
        slice(min(box[0].start, rows.start), max(box[0].stop, rows.stop)),
        slice(min(box[1].start, columns.start), max(box[1].stop, columns.stop)),
    )


def _tiles(shape: tuple[int, int], tile: int) -> Iterator[Region]:
    for y in range(0, shape[0], tile):
        for x in range(0, shape[1], tile):
            yield slice(y, min(y + tile, shape[0])), slice(x, min(x + tile, shape[1]))


def _measure(
    image: IsletImage,
    prepared: PreparedCorrection,
    protocol: Protocol,
    size: float,
    nuclei: LabelFile,
    islets: LabelFile,
    scales: dict[str, float],
    core: Region,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the cells whose centres lie in a tile, and the borders that begin there."""
    import pandas as pd

    from islet_imaging.cells import grow_cells
    from islet_imaging.measure import measure_cells, measure_halo_px, neighbour_pairs
    from islet_imaging.saturation import saturated_fractions

    halo = measure_halo_px(size)
    around = tuple(
        slice(max(0, s.start - halo), min(n, s.stop + halo))
        for s, n in zip(core, nuclei.shape, strict=True)
    )
    region = (around[0], around[1])
    origin = (region[0].start, region[1].start)
    labels = nuclei.read(region)
    cells = grow_cells(
        labels, ring_um=protocol.cells.ring_um, gap_um=protocol.cells.gap_um, pixel_size_um=size
    )
    rows = measure_cells(
        labels,
        cells,
        prepared.region(region),
        dna=protocol.dna,
        pixel_size_um=size,
        islets=islets.read(region),
        compartments={c.name: c.compartment for c in protocol.channels},
        origin_px=origin,
        image_shape_px=nuclei.shape,
    )
    rows = saturated_fractions(rows, cells, lambda name: image.channel(name, region), scales)
    own = (rows["y_px"] >= core[0].start) & (rows["y_px"] < core[0].stop)
    own &= (rows["x_px"] >= core[1].start) & (rows["x_px"] < core[1].stop)
    inner = tuple(slice(s.start - o, s.stop - o) for s, o in zip(core, origin, strict=True))
    cell_a, cell_b, border = neighbour_pairs(cells, begin_in=(inner[0], inner[1]))
    pairs = pd.DataFrame({"cell_a": cell_a, "cell_b": cell_b, "shared_border_px": border})
    return rows[own], pairs


def _together(rows: list[pd.DataFrame]) -> pd.DataFrame:
    """Rows of all tiles; tiles without cells say nothing of the columns' types."""
    import pandas as pd

    return pd.concat([r for r in rows if len(r)] or rows[:1], ignore_index=True)


def _merged(pairs: list[pd.DataFrame]) -> pd.DataFrame:
    """Pairs of all tiles, each once with the whole border, sorted."""
    import pandas as pd

    every = pd.concat([p for p in pairs if len(p)] or pairs[:1], ignore_index=True)
    return every.groupby(["cell_a", "cell_b"], sort=True, as_index=False).sum()
