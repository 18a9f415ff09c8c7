"""Cells of an image measured tile by tile, each with a margin around.

The idea: a cell belongs to the tile that holds its centre, and the margin holds all that its
numbers depend on, so that rows are the same whatever the tile and whoever measures it.
It fails where a nucleus and its neighbours reach further than `measure_halo_px`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from islet_imaging._types import Region, Work
from islet_imaging.protocol import Protocol
from islet_imaging.scoring.measured import Progress

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.network.scale import FoundScale
    from islet_imaging.scoring.regions import ImageRegions
    from islet_imaging.scoring.segmenting import Given


@dataclass(frozen=True)
class DrawnShapes:
    """Bars and letters in a large image: where, px, and the cells that they touch."""

    boxes: list[list[int]] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)


def measure_tiles(
    regions: ImageRegions,
    protocol: Protocol,
    scale: FoundScale,
    given: Given,
    work: Work,
    tell: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame, DrawnShapes]:
    """The table of cells, that of touching cells, and shapes drawn into a large image."""
    from islet_imaging.measurement.measure import finish_cells
    from islet_imaging.measurement.saturation import full_scales

    rows, pairs, drawn = [], [], DrawnShapes()
    tell(0.6, "measuring")
    tiles = regions.tiles()
    ring_um = protocol.cells.ring_of(scale.nucleus_um)
    found: Iterator[tuple[pd.DataFrame, pd.DataFrame, DrawnShapes]]
    # whole cells that are given are an array of this process
    if work.spread is None or given.cells is not None:
        scales = full_scales(regions.image, regions.stored, protocol.markers, tiles)
        found = (
            measure_tile(regions, ring_um, scales, core, given, work.at_once) for core in tiles
        )
    else:
        each = work.spread(scale_of_channel, [(name,) for name in protocol.markers])
        scales = {name: one for name, one in zip(protocol.markers, each, strict=True) if one}
        found = work.spread(measure_tile, [(ring_um, scales, core) for core in tiles])
    for k, (own, touching, shapes) in enumerate(found):
        tell(0.6 + 0.2 * (k + 1) / len(tiles), "measuring")
        rows.append(own)
        pairs.append(touching)
        drawn.boxes.extend(shapes.boxes)
        drawn.cells.extend(shapes.cells)
    table = finish_cells(_together(rows), pixel_size_um=regions.pixel_size_um)
    return table, _merged(pairs), drawn


def scale_of_channel(regions: ImageRegions, name: str) -> float | None:
    """The largest value that could be written in one channel, counts."""
    from islet_imaging.measurement.saturation import full_scales

    return full_scales(regions.image, regions.stored, [name], regions.tiles()).get(name)


def measure_tile(
    regions: ImageRegions,
    ring_um: float,
    scales: dict[str, float],
    core: Region,
    given: Given | None = None,
    threads: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame, DrawnShapes]:
    """Rows of the cells whose centres lie in a tile; borders and shapes that begin there."""
    import pandas as pd

    from islet_imaging.measurement.measure import measure_cells, measure_halo_px, neighbour_pairs
    from islet_imaging.measurement.saturation import saturated_fractions
    from islet_imaging.scoring.regions import with_margin
    from islet_imaging.scoring.segmenting import Given
    from islet_imaging.segmentation.cells import grow_cells
    from islet_imaging.segmentation.whole_cells import whole_cells

    given = given or Given()
    size, protocol = regions.pixel_size_um, regions.protocol
    # a cell reaches as far as four nuclei of its image
    halo = measure_halo_px(size, reach_um=max(30.0, 10.0 * ring_um, size * given.reach_px))
    region = with_margin(core, halo, regions.shape)
    origin = (region[0].start, region[1].start)
    labels = regions.nuclei.read(region)
    if given.cells is None:
        gap_um = protocol.cells.gap_um
        cells = grow_cells(
            labels, ring_um=ring_um, gap_um=gap_um, pixel_size_um=size, threads=threads
        )
    else:
        cells = whole_cells(labels, given.cells[region], given.home)
    touching = neighbour_pairs(cells)
    rows = measure_cells(
        labels,
        cells,
        regions.channels(region),
        dna=protocol.dna,
        pixel_size_um=size,
        islets=regions.islets.read(region),
        compartments={c.name: c.compartment for c in protocol.channels},
        origin_px=origin,
        image_shape_px=regions.shape,
        pairs=touching,
        threads=threads,
    )
    planes: dict[str, NDArray[Any]] = {}

    def stored(name: str) -> NDArray[Any]:
        if name not in planes:
            planes[name] = regions.stored(name, region)
        return planes[name]

    rows = saturated_fractions(rows, cells, stored, scales, threads=threads)
    own = (rows["y_px"] >= core[0].start) & (rows["y_px"] < core[0].stop)
    own &= (rows["x_px"] >= core[1].start) & (rows["x_px"] < core[1].stop)
    inner = tuple(slice(s.start - o, s.stop - o) for s, o in zip(core, origin, strict=True))
    if core != region:  # each pair of an image in one of its tiles
        touching = neighbour_pairs(cells, begin_in=(inner[0], inner[1]))
    cell_a, cell_b, border = touching
    pairs = pd.DataFrame({"cell_a": cell_a, "cell_b": cell_b, "shared_border_px": border})
    own_rows = rows[own]
    return own_rows, pairs, _drawn_in(regions, stored, core, region, own_rows)


def _drawn_in(
    regions: ImageRegions,
    stored: Callable[[str], NDArray[Any]],
    core: Region,
    region: Region,
    cells: pd.DataFrame,
) -> DrawnShapes:
    """Bars and letters in a tile of an image that was too large to be looked at before."""
    from islet_imaging.correction.burned_in import find_burned_in, looked_at_whole
    from islet_imaging.quality.drawn import REACH_UM

    found = DrawnShapes()
    if looked_at_whole(regions.shape):
        return found
    # markers first: where none is white the DNA channel is not read again
    markers = [n for n in regions.protocol.markers if n in regions.names]
    names = [*markers, *(n for n in regions.names if n not in markers)]
    shape = (region[0].stop - region[0].start, region[1].stop - region[1].start)
    everywhere = (slice(0, shape[0]), slice(0, shape[1]))
    drawn = find_burned_in(lambda name, part: stored(name)[part], names, shape, [everywhere])
    if drawn is None:
        return found
    y, x = region[0].start, region[1].start
    moved = [[box[0] + y, box[1] + x, box[2] + y, box[3] + x] for box in drawn.boxes]
    found.boxes.extend(b for b in moved if _begins_in(core, b[0], b[1]))
    centres = cells[["y_px", "x_px"]].to_numpy(float) - (y, x)
    near = drawn.near(centres, REACH_UM / regions.pixel_size_um)
    found.cells.extend(int(c) for c in cells["cell"].to_numpy()[near])
    return found


def _begins_in(core: Region, y: int, x: int) -> bool:
    return bool(core[0].start <= y < core[0].stop and core[1].start <= x < core[1].stop)


def _together(rows: list[pd.DataFrame]) -> pd.DataFrame:
    """Rows of all tiles; tiles without cells say nothing of the columns' types."""
    import pandas as pd

    return pd.concat([r for r in rows if len(r)] or rows[:1], ignore_index=True)


def _merged(pairs: list[pd.DataFrame]) -> pd.DataFrame:
    """Pairs of all tiles, each once with the whole border, sorted."""
    import pandas as pd

    every = pd.concat([p for p in pairs if len(p)] or pairs[:1], ignore_index=True)
    return every.groupby(["cell_a", "cell_b"], sort=True, as_index=False).sum()
