"""Drawn regions laid over a measured image: its islets, and which nuclei are left out.

The idea: regions change no pixel and no measurement, only where a nucleus belongs, so they are laid
over the measured tables before anything is called.  A nucleus that is left out counts in no share
and in no threshold, one outside of drawn islets is called and counts apart.  Taking the regions
away gives back what was measured, to the last bit.
It fails to bring back what a region hid from the eye of whoever looks at the islets alone.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging._types import Labels
from islet_imaging.arrays.label_file import LabelArray, LabelFile, band_rows
from islet_imaging.image import WHOLE_PX
from islet_imaging.protocol import Protocol
from islet_imaging.quality.cell_flags import excluded_by
from islet_imaging.quality.flag import Flag
from islet_imaging.reading.annotations.outlines import Outline
from islet_imaging.run.files import label_path, work_table, write_arrow, write_labels
from islet_imaging.run.folder import read_labels
from islet_imaging.run.measurements import forget_record, load_work, require, write_record
from islet_imaging.run.rows import ImageRow
from islet_imaging.scoring.islets import IsletForming
from islet_imaging.scoring.measured import MeasuredImage
from islet_imaging.segmentation.drawn_islets import DrawnRegions
from islet_imaging.terms import OUTSIDE

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.review.journal import Edit

#: first row and nuclei of every band of an image, from top to bottom
Bands = Callable[[], Iterator[tuple[int, Labels]]]


def lay_regions(
    cells: pd.DataFrame,
    nuclei: Bands,
    islets: LabelArray | LabelFile,
    outlines: Sequence[Outline],
    protocol: Protocol,
    *,
    pixel_size_um: float,
    nucleus_um: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lay the regions of an image over its measured cells.

    Parameters
    ----------
    cells : DataFrame
        Measured cells, whatever regions were laid over them before.
    nuclei : callable
        Gives the label image of nuclei in bands.
    islets : LabelArray or LabelFile
        Empty, of the image's shape; is filled with the islets.
    outlines : sequence of Outline
        The regions; none gives back what was measured.
    protocol : Protocol
        How islets are formed where none is drawn, and what is excluded.
    pixel_size_um, nucleus_um : float
        Edge of a pixel, and diameter of a nucleus, um.

    Returns
    -------
    cells : DataFrame
        With ``islet``, ``region``, ``excluded`` and ``flags`` by the regions; without regions
        there is no column ``region``.
    islet_table : DataFrame
        As `islet_imaging.segmentation.islets.islets_table`, with the name of each drawn islet.
    """
    from islet_imaging.scoring.regions import boxes_of
    from islet_imaging.segmentation.islets import shapes_table

    shape = islets.shape
    drawn = DrawnRegions(outlines, shape)
    cells = cells.drop(columns="region", errors="ignore")
    y, x = cells["y_px"].to_numpy(float), cells["x_px"].to_numpy(float)
    islet, names, out = drawn.at(y, x)
    width = slice(0, shape[1])
    if drawn.islets:
        for rows in band_rows(shape):
            islets.append(drawn.islets_in((rows, width)))
        n_cells = np.bincount(islet, minlength=len(drawn.islets) + 1)
    else:
        top = int(cells["cell"].max()) if len(cells) else 0
        gone = np.zeros(top + 1, bool)
        gone[cells["cell"].to_numpy()[out]] = True

        def kept() -> Iterator[tuple[int, Labels]]:
            for first, labels in nuclei():
                yield first, np.where(gone[labels], 0, labels).astype(np.int32)

        forming = IsletForming(shape, pixel_size_um, protocol.islets, nucleus_um)
        for first, labels in kept():
            forming.add(first, labels)
        for first, band in forming.draw(kept()):
            band[drawn.left_out_in((slice(first, first + len(band)), width))] = 0
            islets.append(band)
        at = np.clip(np.rint(y), 0, shape[0] - 1).astype(int)
        across = np.clip(np.rint(x), 0, shape[1] - 1).astype(int)
        islet = np.asarray(islets.map()[at, across], np.int64)
        n_cells = np.bincount(islet) if out.any() else forming.n_cells
    cells = _with_places(cells.assign(islet=islet), names, out, protocol)
    if not outlines:
        cells = cells.drop(columns="region")
    table = shapes_table(
        islets.read, shape, boxes_of(islets.bands()), _padded(n_cells, islets),
        pixel_size_um=pixel_size_um,
    )  # fmt: skip
    if outlines:
        own = {k: o.name for k, o in enumerate(drawn.islets, start=1)}
        table["region"] = np.array([own.get(int(k), "") for k in table["islet"]], dtype=object)
    return cells, table


def placed(
    cells: pd.DataFrame, outlines: Sequence[Outline], shape: tuple[int, int], protocol: Protocol
) -> pd.DataFrame:
    """Rows of cells that were measured anew, with the regions that lie over their image.

    Parameters
    ----------
    cells : DataFrame
        With ``y_px, x_px, islet, flags, excluded``.
    outlines : sequence of Outline
        The regions; none leaves the rows as they are.
    shape : tuple of int
        Of the image, px.
    protocol : Protocol
        What is excluded.
    """
    if not outlines:
        return cells
    drawn = DrawnRegions(outlines, shape)
    y, x = cells["y_px"].to_numpy(float), cells["x_px"].to_numpy(float)
    islet, names, out = drawn.at(y, x)
    return _with_places(
        cells if not drawn.islets else cells.assign(islet=islet), names, out, protocol
    )


def _with_places(
    cells: pd.DataFrame, names: Sequence[str], out: Any, protocol: Protocol
) -> pd.DataFrame:
    """Cells with their regions, and those in what is left out taken out of every share."""
    flags = [_with_code(f, hit) for f, hit in zip(cells["flags"], out.tolist(), strict=True)]
    return cells.assign(
        flags=np.array(flags, dtype=object),
        excluded=excluded_by(flags, protocol),
        region=np.array(names, dtype=object),
    )


def _padded(n_cells: Any, islets: LabelArray | LabelFile) -> Any:
    """Numbers of nuclei up to the last islet, those without one too."""
    top = int(islets.map().max()) if islets.map().size else 0
    return np.pad(n_cells, (0, max(0, top + 1 - len(n_cells))))


def _with_code(flags: Any, hit: bool) -> str:
    codes = [f for f in str(flags or "").split(";") if f and f != "left_out"]
    return ";".join([*codes, "left_out"] if hit else codes)


def region_flags(
    cells: pd.DataFrame, outlines: Sequence[Outline], protocol: Protocol, role: str = "sample"
) -> list[Flag]:
    """What the image says of its regions.

    Parameters
    ----------
    cells : DataFrame
        With the regions laid over.
    outlines : sequence of Outline
        The regions.
    protocol : Protocol
        Whether islets must be drawn.
    role : str
        Of the image; islets need not be drawn in controls.
    """
    islets = [o.name for o in outlines if o.kind == "islet"]
    if protocol.islets.method == "drawn" and not islets and role == "sample":
        return [
            Flag(
                "no_regions",
                "block",
                "Islets are to be drawn (islets: method: drawn), and none is. Draw what is islet, "
                "or give a file of regions.",
            )
        ]
    if not outlines:
        return []
    said = []
    if islets:
        n = int((cells["region"] == OUTSIDE).sum())
        said.append(f"{len(islets)} drawn ({_listed(islets)}), {n} nuclei outside of them")
    gone = {o.name: int((cells["region"] == o.name).sum())
            for o in outlines if o.kind == "left_out"}  # fmt: skip
    if gone:
        parts = _listed([f"{name}: {n} nuclei" for name, n in gone.items()])
        said.append(f"left out: {parts}")
    return [Flag("regions", "info", f"Islets: {'; '.join(said)}." if islets else f"{said[0]}.")]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:6])
    return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def with_regions(
    measured: MeasuredImage, outlines: Sequence[Outline], protocol: Protocol
) -> MeasuredImage:
    """A measured image with regions laid over it, in memory."""
    nuclei = measured.nuclei
    shape = (nuclei.shape[0], nuclei.shape[1])
    islets = LabelArray(shape)
    cells, table = lay_regions(
        measured.cells,
        lambda: ((rows.start, nuclei[rows]) for rows in band_rows(shape)),
        islets,
        outlines,
        protocol,
        pixel_size_um=measured.pixel_size_um,
        nucleus_um=measured.record["scale"]["nucleus_um"],
    )
    table.insert(0, "image", measured.image)
    flags = [*measured.flags, *region_flags(cells, outlines, protocol)]
    return dataclasses.replace(
        measured, cells=cells, islets=islets.map(), islet_table=table, flags=flags
    )


def lay_over_run(
    run: Path, rows: Sequence[ImageRow], protocol: Protocol, edits: Iterable[Edit]
) -> list[ImageRow]:
    """Lay the regions of a run's journal over its measured images, where they changed.

    Parameters
    ----------
    run : Path
        The run folder; whoever calls holds its lock.
    rows : sequence of ImageRow
        Its images.
    protocol : Protocol
        How islets are formed.
    edits : iterable of Edit
        The journal.

    Returns
    -------
    list of ImageRow
        With the hash of the regions that lie over each image, and what it says of them.
    """
    from islet_imaging.review.regions import regions_digest, regions_of

    wanted = regions_of(edits, {r.image: r.pixels for r in rows if r.pixels})
    done = []
    for row in rows:
        if row.status != "scored":
            done.append(row)
            continue
        outlines = wanted.get(row.image, [])
        digest = regions_digest(outlines)
        record: Mapping[str, Any] = require(run, row).outcome.get("record", {})
        if digest != record.get("regions", ""):
            _rewrite(run, row, outlines, digest, protocol)
        flags = [f for f in row.flags if f.code not in ("regions", "no_regions")]
        if outlines or protocol.islets.method == "drawn":
            cells = load_work(run, row, "cells")
            flags += region_flags(cells, outlines, protocol, row.role)
        done.append(dataclasses.replace(row, regions=digest, flags=tuple(flags)))
    return done


def _rewrite(
    run: Path, row: ImageRow, outlines: Sequence[Outline], digest: str, protocol: Protocol
) -> None:
    """Lay regions over one image of a run and prove the new files."""
    held = require(run, row, "cells", "nuclei_labels")
    outcome = held.outcome
    record = outcome["record"]
    shape = (int(record["shape_px"][0]), int(record["shape_px"][1]))
    width = slice(0, shape[1])
    scratch = Path(tempfile.mkdtemp(prefix="islet-imaging-"))
    try:
        islets: LabelArray | LabelFile = (
            LabelArray(shape)
            if shape[0] * shape[1] <= WHOLE_PX
            else LabelFile(scratch / "islets.raw", shape)
        )
        cells, table = lay_regions(
            load_work(run, row, "cells"),
            lambda: (
                (rows.start, read_labels(run, row.image, "nuclei", (rows, width)))
                for rows in band_rows(shape)
            ),
            islets,
            outlines,
            protocol,
            pixel_size_um=float(record["pixel_size_um"]),
            nucleus_um=float(record["scale"]["nucleus_um"]),
        )
        table.insert(0, "image", row.image)
        forget_record(run, row.image)
        write_labels(
            label_path(run, row.image, "islets"), islets.map(), float(record["pixel_size_um"])
        )
        write_arrow(work_table(run, row.image, "cells"), cells)
        write_arrow(work_table(run, row.image, "islets"), table)
        outcome["record"] = {**record, "regions": digest}
        write_record(run, row.image, held.key, outcome, held.parts)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
