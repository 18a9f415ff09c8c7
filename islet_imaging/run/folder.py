"""The run folder: what a scored folder leaves behind, written so that nothing is ever half there.

The idea: scripts, the report and the plugin read a run through one class, and every file of it is
written beside its place and then moved into it, so that a stop at any moment leaves the old file or
the new one.  It fails when a file is written in place, or a column is named anywhere but here.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.image import IsletImage

LabelKind = Literal["nuclei", "islets"]

#: columns that hold words even where every one looks like a number
TEXT_COLUMNS = (
    "condition", "batch", "image", "role", "marker", "status", "message", "flags", "interval",
    "note",
)  # fmt: skip

#: edge of a tile of a label image on disk, px
LABEL_TILE = 256

TABLES = ("summary", "batches", "images", "islets", "cells")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the place of ``path`` when the block ends well.

    Parameters
    ----------
    path : Path
        The file to be written; its folder is made where it is missing.

    Yields
    ------
    Path
        The file to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    # the mask can only be read by setting it
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV whole or not at all; floats in their shortest exact form."""
    import pyarrow as pa
    import pyarrow.csv

    with atomic_path(path) as part:
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        # a column without a single value has no type of its own
        arrow = arrow.cast(
            pa.schema(
                pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type)
                for f in arrow.schema
            )
        )
        with part.open("wb") as stream:
            stream.write((",".join(_quoted(str(c)) for c in table.columns) + "\n").encode())
            pa.csv.write_csv(
                arrow, stream, pa.csv.WriteOptions(include_header=False, quoting_style="needed")
            )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') else name


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet whole or not at all."""
    with atomic_path(path) as part:
        table.to_parquet(part, index=False, engine="pyarrow")


def write_labels(path: Path, labels: NDArray[np.int32], pixel_size_um: float | None) -> None:
    """Write a label image as a compressed TIFF that carries its pixel size.

    Parameters
    ----------
    path : Path
        Where to.
    labels : ndarray of int, shape (Y, X)
        Label image; stored as uint16 where it fits, else as int32.  A memory map is read and
        written in parts.
    pixel_size_um : float or None
        Edge of a pixel, um.
    """
    import numpy as np
    import tifffile

    from islet_imaging.arrays.label_file import bands_of

    largest = max((int(band.max(initial=0)) for band in bands_of(labels)), default=0)
    dtype = np.dtype(np.uint16 if largest < 2**16 else np.int32)
    in_parts = isinstance(labels, np.memmap)
    extra: dict[str, Any] = {}
    if pixel_size_um is not None:
        extra = {
            "resolution": (1e4 / pixel_size_um, 1e4 / pixel_size_um),
            "resolutionunit": "CENTIMETER",
        }
    with atomic_path(path) as part:
        tifffile.imwrite(
            part,
            _tiles_of(labels, dtype) if in_parts else labels.astype(dtype),
            shape=labels.shape,
            dtype=dtype,
            compression="zlib",
            compressionargs={"level": 1},
            tile=(LABEL_TILE, LABEL_TILE) if in_parts or min(labels.shape) >= 512 else None,
            bigtiff=labels.size * dtype.itemsize > 2**31,
            metadata=None,
            **extra,
        )


def _tiles_of(labels: NDArray[np.int32], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Tiles of a label image in the order of the file, those at the end filled up with 0."""
    import numpy as np

    from islet_imaging.arrays.label_file import bands_of

    n = LABEL_TILE
    for band in bands_of(labels, multiple=n):
        for y in range(0, band.shape[0], n):
            for x in range(0, band.shape[1], n):
                part = band[y : y + n, x : x + n].astype(dtype)
                yield np.pad(part, ((0, n - part.shape[0]), (0, n - part.shape[1])))


def label_path(folder: Path, image: str, kind: LabelKind) -> Path:
    """Where a run keeps the label image of ``image``."""
    return folder / "labels" / f"{image}.{kind}.tif"


def read_labels(
    folder: Path,
    image: str,
    kind: LabelKind = "nuclei",
    region: tuple[slice, slice] | None = None,
) -> NDArray[np.int32]:
    """A label image of a run folder, or a region of it, int32, shape (Y, X)."""
    import numpy as np
    import tifffile

    from islet_imaging.reading.guard import MAX_READ_GIB
    from islet_imaging.reading.pages import read_plane

    path = label_path(folder, image, kind)
    try:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages[0]
            found: NDArray[np.int32] = read_plane(
                page, path, virtual=0, sample=0, region=region, max_gib=MAX_READ_GIB
            ).astype(np.int32, copy=False)
    except (OSError, ValueError) as error:
        raise IsletImagingError(
            f"{path}: no label image of {image!r} in this run ({error})"
        ) from error
    return found


def work_table(folder: Path, image: str, name: str) -> Path:
    """Where a run keeps a measured table of ``image`` between its two passes."""
    return folder / ".work" / f"{image}.{name}.parquet"


class Run:
    """A scored folder.

    Parameters
    ----------
    path : path
        The run folder.

    Raises
    ------
    IsletImagingError
        If the folder is not a run.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from islet_imaging import Run, score_folder
    >>> from islet_imaging.phantom import write_experiment
    >>> folder = Path(tempfile.mkdtemp())
    >>> sheet = write_experiment(folder / "stainings", n_conditions=1, n_batches=1, n_islets=1,
    ...                          controls=False, shape=(160, 160))
    >>> run = score_folder(folder / "stainings", folder / "run", workers=1)
    >>> again = Run.open(folder / "run")
    >>> again.summary["marker"].tolist(), again.protocol.markers
    (['INS', 'GCG'], ('INS', 'GCG'))
    >>> again.labels(again.images["image"][0]).shape
    (160, 160)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "provenance.json").is_file():
            raise IsletImagingError(
                f"{self.path}: not a run folder (no provenance.json in it); "
                "`islet-imaging score FOLDER --out RUN` makes one"
            )

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder for reading."""
        return cls(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's tables, as a DataFrame of its own.

        Parameters
        ----------
        name : str
            summary, batches, images, islets or cells.
        """
        import pandas as pd

        if name not in TABLES:
            raise IsletImagingError(f"a run has no table {name!r}; it has {list(TABLES)}")
        try:
            if name == "cells":
                return pd.read_parquet(self.path / "cells.parquet")
            table = pd.read_csv(
                self.path / f"{name}.csv",
                dtype=dict.fromkeys(TEXT_COLUMNS, str),
                # a condition may well be called "NA": only an empty field is missing
                keep_default_na=False,
                na_values=[""],
                encoding="utf-8",
            )
            words = [c for c in TEXT_COLUMNS if c in table.columns]
            table[words] = table[words].fillna("")
            return table
        except (OSError, ValueError) as error:
            raise IsletImagingError(
                f"{self.path}: its table {name!r} cannot be read ({error}); "
                "score the folder again into the same run, what is finished is kept"
            ) from error

    @property
    def summary(self) -> pd.DataFrame:
        """One row per condition and marker."""
        return self.table("summary")

    @property
    def batches(self) -> pd.DataFrame:
        """One row per condition, batch and marker."""
        return self.table("batches")

    @property
    def images(self) -> pd.DataFrame:
        """One row per image."""
        return self.table("images")

    @property
    def islets(self) -> pd.DataFrame:
        """One row per islet."""
        return self.table("islets")

    @property
    def cells(self) -> pd.DataFrame:
        """One row per nucleus."""
        return self.table("cells")

    @property
    def corrected(self) -> pd.DataFrame | None:
        """Raw fractions beside those corrected for wrong calls; None without labelled cells."""
        import pandas as pd

        path = self.path / "corrected.csv"
        if not path.is_file():
            return None
        words = dict.fromkeys((*TEXT_COLUMNS, "status"), str)
        table = pd.read_csv(path, dtype=words, keep_default_na=False, na_values=[""])
        texts = [c for c in words if c in table.columns]
        table[texts] = table[texts].fillna("")
        return table

    @property
    def protocol(self) -> Protocol:
        """The protocol the run was made with, its fitted thresholds included."""
        return Protocol.load(self.path / "protocol.yaml")

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, hashes and parameters."""
        loaded: dict[str, Any] = json.loads(
            (self.path / "provenance.json").read_text(encoding="utf-8")
        )
        return loaded

    @property
    def corrections(self) -> Path:
        """The journal of human edits; it may not exist yet."""
        return self.path / "corrections.jsonl"

    @property
    def source(self) -> Path:
        """The folder that was scored."""
        return Path(self.provenance["folder"])

    def flat_fields(self) -> dict[str, NDArray[np.float32]]:
        """Relative illumination per channel, (Y, X), where the run was corrected for it."""
        path = self.path / ".work" / "flat_fields.npz"
        if not path.is_file():
            return {}
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    def labels(
        self,
        image: str,
        kind: LabelKind = "nuclei",
        region: tuple[slice, slice] | None = None,
    ) -> NDArray[np.int32]:
        """Label image of one image, int32, shape (Y, X); pixel value = ``cell`` or ``islet``.

        Of a slide, with ``region``, only those rows and columns are read.
        """
        return read_labels(self.path, image, kind, region)

    def read_image(self, image: str) -> IsletImage:
        """The stained image itself, read again from where it was scored."""
        from islet_imaging.reading import read_image

        listed = {row["image"]: row for row in self.provenance["images"]}
        if image not in listed:
            raise IsletImagingError(f"{self.path}: this run has no image {image!r}")
        files = [Path(f) for f in listed[image]["files"]]
        missing = [f for f in files if not f.is_file()]
        if missing or not files:
            raise IsletImagingError(
                f"{image}: its file is not where it was scored ({missing[0] if missing else '?'}); "
                "put it back, or score the moved folder again"
            )
        return read_image(files, protocol=self.protocol, name=image)
