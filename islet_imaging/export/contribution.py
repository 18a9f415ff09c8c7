"""Truth that a laboratory can give away: blind calls of two people with the cells they called.

The idea: no insulin staining with human calls is public.  Cells that chance drew
(``validation.csv`` of a run), called by at least two people who did not see each other's calls or
the library's, go into one zip with a crop of each cell, the pixel size, the channels' names, the
stain and the licence that the laboratory states.  Nothing in it names a file, a folder, a
condition, a batch or a person: images are numbered, people are rater 1, 2, ..., and every text is
searched for such names before the zip is written.
It fails, naming what is missing, with fewer than two raters or too few cells; it cannot know
whether somebody wrote a name into the stain or into a channel.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import IsletImagingError

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.run.folder import Run

#: edge of a crop, um: a cell, its neighbours and theirs
CROP_UM = 48.0
#: people who must have called a cell, and cells that make a contribution worth giving
RATERS, CELLS = 2, 40
#: names shorter than this are in every text by chance
SHORTEST = 3
#: a date that says nothing
EPOCH = (1980, 1, 1, 0, 0, 0)
README = """Cells of stained tissue, each called by several people who saw neither each other's
calls nor the library's. `cells.csv` has a row per cell: `label_1`, `label_2` ... are what people
said (positive, negative, or empty), `call` and `probability` what islet-imaging {version} said,
`image` a number that cells of one image share, `y_px, x_px` the cell's centre in its crop.
`crops/NNNN.tif` are the channels as stored, in the order of `about.json`, and
`crops/NNNN.nucleus.tif` is the nucleus that was called, 1, among its neighbours, 2.
Cells were drawn by chance, evenly over the library's probability.
"""


def pack_truth(
    run: Run | str | Path,
    out: str | Path,
    *,
    licence: str,
    stain: str,
    marker: str | None = None,
    min_cells: int = CELLS,
    seed: int = 0,
) -> Path:
    """Pack the calls that people made of drawn cells, with crops, as one zip to give away.

    Parameters
    ----------
    run : Run or path
        A run whose cells were drawn (``draw_validation_sheet``) and called by at least two people,
        in the sheet or in the window.
    out : path
        The zip; an existing one is not replaced.
    licence : str
        Under which it is given away, for instance "CC-BY-4.0", or the whole text.
    stain : str
        Antibodies, clones and dyes, the tissue and how it was fixed, in words.
    marker : str, optional
        Which marker was called; by default the protocol's first.
    min_cells : int
        Cells called by two people below which nothing is written.
    seed : int
        Order of cells and numbers of images.

    Returns
    -------
    Path
        Of the zip.

    Raises
    ------
    IsletImagingError
        If people or cells are too few, the zip exists, a needed text is empty, or a name of the
        run is found in what would be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from islet_imaging import score_folder
    >>> from islet_imaging.phantom import write_experiment
    >>> from islet_imaging.run.validation_sheet import draw_validation_sheet
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = write_experiment(folder / "stainings", n_conditions=1, n_batches=1, n_islets=1,
    ...                      preset="easy_confocal", controls=False, shape=(448, 448), seed=3)
    >>> run = score_folder(folder / "stainings", folder / "run", workers=1)
    >>> sheet = draw_validation_sheet(run, "INS", n=10)
    >>> drawn = pd.read_csv(sheet)
    >>> called = [drawn.assign(label="positive", rater=person) for person in ("ana", "ben")]
    >>> pd.concat(called).to_csv(sheet, index=False)
    >>> pack_truth(run, folder / "insulin.zip", licence="CC-BY-4.0", min_cells=5,
    ...            stain="guinea pig anti-insulin, 1:500; goat anti-guinea pig, 488").name
    'insulin.zip'
    """
    from islet_imaging.run.files import atomic_path
    from islet_imaging.run.folder import Run

    opened = run if isinstance(run, Run) else Run.open(run)
    path = Path(out)
    if path.exists():
        raise IsletImagingError(f"{path}: exists already; give another name")
    for name, text in (("licence", licence), ("stain", stain)):
        if not text.strip():
            raise IsletImagingError(f"a contribution needs a {name}; say it in words")
    protocol = opened.protocol
    marker = marker or next(iter(protocol.markers), None)
    if marker is None or marker not in protocol.markers:
        raise IsletImagingError(
            f"{opened.path}: there is no marker {marker!r} in this run; it has "
            f"{', '.join(protocol.markers) or 'none'}"
        )
    cells = labelled_cells(opened, marker)
    if len(cells) < min_cells:
        raise IsletImagingError(
            f"{opened.path}: {len(cells)} cells of {marker} were called by {RATERS} people, "
            f"{min_cells} are needed; draw cells with `islet-imaging contribute RUN --draw 300` "
            "and let two people call them, in the window with names hidden or in copies of "
            "validation.csv"
        )
    rng = np.random.default_rng(seed)
    cells = cells.iloc[rng.permutation(len(cells))].reset_index(drop=True)
    images = list(dict.fromkeys(cells["image"]))
    numbers = dict(zip(images, 1 + rng.permutation(len(images)), strict=True))
    files: dict[str, bytes] = {}
    sizes: set[float] = set()
    rows = []
    for image, group in cells.groupby("image", sort=False):
        crops = _crops(opened, str(image), group)
        sizes.add(crops.pixel_size_um)
        for at, y, x, pixels, nucleus in crops.made:
            stem = f"crops/{at + 1:04d}"
            files[f"{stem}.tif"] = _tiff(pixels)
            files[f"{stem}.nucleus.tif"] = _tiff(nucleus)
            row = cells.loc[at]
            labels = {k: row[k] for k in cells.columns if str(k).startswith("label_")}
            rows.append(
                {
                    "cell": at + 1,
                    "image": int(numbers[str(image)]),
                    "pixel_size_um": crops.pixel_size_um,
                    "y_px": round(y, 2),
                    "x_px": round(x, 2),
                    "marker": marker,
                    **labels,
                    "call": row[f"{marker}_call"],
                    "probability": round(float(cells[f"{marker}_probability"].loc[at]), 4),
                }
            )
    channels = [
        {"name": c.name, "role": c.role, "compartment": c.compartment}
        for c in protocol.channels
        if c.role != "ignore"
    ]
    about = {
        "format": "islet-imaging-truth/1",
        "marker": marker,
        "channels": channels,
        "pixel_sizes_um": sorted(sizes),
        "stain": stain,
        "licence": licence.splitlines()[0],
        "n_cells": len(rows),
        "n_images": len(images),
    }
    texts = _texts(rows, about, licence)
    _search(texts, opened, allowed=[c["name"] for c in channels], stated=(stain, licence))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**{k: v.encode() for k, v in texts.items()}, **files}.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    return path


def labelled_cells(run: Run, marker: str) -> pd.DataFrame:
    """Drawn cells that at least two people called, with a column per rater.

    Parameters
    ----------
    run : Run
        The run.
    marker : str
        Which marker.

    Returns
    -------
    DataFrame
        The run's cells as scored, with ``label_1``, ``label_2``, ... in the order of how many
        cells each person called; empty where somebody did not.
    """
    from islet_imaging.review.journal import Journal
    from islet_imaging.run.image_checks import raw_cells
    from islet_imaging.run.validation_sheet import validation_labels

    cells = raw_cells(run)
    labels = validation_labels(run.path, cells, Journal(run.corrections).edits())
    labels = labels[labels["marker"] == marker]
    raters = list(labels["rater"].value_counts(sort=True).index)
    wide = labels.pivot_table(
        index=["image", "cell"], columns="rater", values="label", aggfunc="first"
    ).reindex(columns=raters)
    wide.columns = [f"label_{k + 1}" for k in range(len(raters))]
    wide = wide[wide.notna().sum(axis=1) >= RATERS].fillna("").reset_index()
    columns = ["image", "cell", "y_px", "x_px", f"{marker}_call", f"{marker}_probability"]
    return wide.merge(cells[columns], on=["image", "cell"], how="inner")


class _Crops:
    """Crops of the cells of one image."""

    def __init__(self, pixel_size_um: float) -> None:
        self.pixel_size_um = pixel_size_um
        #: row of the table, centre in the crop, channels, nucleus
        self.made: list[tuple[int, float, float, NDArray[Any], NDArray[np.uint8]]] = []


def _crops(run: Run, image: str, cells: pd.DataFrame) -> _Crops:
    opened = run.read_image(image)
    size = opened.require_pixel_size()
    names = [c.name for c in run.protocol.channels if c.role != "ignore"]
    found = _Crops(size)
    half = max(8, round(0.5 * CROP_UM / size))
    for at, row in cells.iterrows():
        centre = float(row["y_px"]), float(row["x_px"])
        spans = [
            slice(max(0, round(c) - half), min(n, round(c) + half))
            for c, n in zip(centre, opened.shape, strict=True)
        ]
        region = spans[0], spans[1]
        labels = run.labels(image, "nuclei", region)
        nucleus = np.where(labels == row["cell"], 1, 2 * (labels > 0)).astype(np.uint8)
        pixels = np.stack([np.asarray(opened.channel(name, region)) for name in names])
        y, x = (c - s.start for c, s in zip(centre, region, strict=True))
        found.made.append((int(at), y, x, pixels, nucleus))  # type: ignore[call-overload]
    return found


def _tiff(pixels: NDArray[Any]) -> bytes:
    """A TIFF without any metadata."""
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, pixels, compression="zlib", metadata=None, software=False, photometric="minisblack"
    )
    return buffer.getvalue()


def _texts(rows: Sequence[dict[str, Any]], about: dict[str, Any], licence: str) -> dict[str, str]:
    import pandas as pd

    from islet_imaging._version import __version__

    table = pd.DataFrame(rows).sort_values("cell").to_csv(index=False, lineterminator="\n")
    return {
        "README.txt": README.format(version=__version__),
        "LICENCE.txt": licence.strip() + "\n",
        "about.json": json.dumps(about, indent=1, ensure_ascii=False) + "\n",
        "cells.csv": table,
    }


def _search(
    texts: dict[str, str], run: Run, *, allowed: Sequence[str], stated: Sequence[str]
) -> None:
    """Raise if a name of a file, folder, condition, batch or person stands in a text."""
    from islet_imaging.review.journal import Journal
    from islet_imaging.run.validation_sheet import FILE, read_sheet

    names: set[str] = set(run.path.resolve().parts[1:])
    for row in run.provenance["images"]:
        parts = PurePosixPath(str(row["image"])).parts
        names |= {str(row["image"]), *parts, *(PurePosixPath(p).stem for p in parts)}
        names |= {str(row.get(key) or "") for key in ("condition", "batch")}
    names |= {e.who for e in Journal(run.corrections).edits()}
    names |= set(read_sheet(run.path / FILE)["rater"])
    words = {a.lower() for a in allowed} | {"cells", "crops", "about", "label", "image"}
    own = "\n".join(texts.values()).lower()
    for name in sorted(n for n in names if len(n) >= SHORTEST and n.lower() not in words):
        # the library's own words are in every contribution
        if name.lower() in own and name.lower() not in README.lower():
            where = " (in the stain or licence)" if any(name in s for s in stated) else ""
            raise IsletImagingError(
                f"the contribution would hold {name!r}, a name of this run{where}; take it out of "
                "the stain, the licence or the channel names"
            )
