"""Writing a run's files: whole or not at all, and with a sentence where it cannot be done.

The idea: every file is written beside its place and then moved into it, so that a stop at any
moment leaves the old file or the new one.  Text that a spreadsheet would take for a formula gets an
apostrophe in front, which reading takes away again (`islet_imaging.arrays.safe_text`).
It fails, naming the file, where the disk is full or the folder cannot be written.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TYPE_CHECKING, Any, Literal

from islet_imaging.arrays.safe_text import plain_text, safe_text
from islet_imaging.errors import IsletImagingError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "LABEL_TILE",
    "LabelKind",
    "RunWriteError",
    "atomic_path",
    "inside",
    "label_path",
    "plain_text",
    "safe_text",
    "work_table",
    "write_labels",
    "write_parquet",
    "write_table",
    "write_text",
]

LabelKind = Literal["nuclei", "islets"]

#: edge of a tile of a label image on disk, px
LABEL_TILE = 256
#: a smaller file of a table is read whole: opening it anew for some columns takes longer
READ_WHOLE_BYTES = 1_000_000
#: rows of a table that are turned into text, or into Parquet, at a time
ROWS_AT_ONCE = 32_768


class RunWriteError(IsletImagingError):
    """A file of a run cannot be written: what concerns the run, not one image."""


def inside(folder: Path, name: str) -> Path:
    """A path below ``folder``; a name that would lead out of it is an error.

    Raises
    ------
    IsletImagingError
        For an absolute name, one with ``..``, or one that no file can have.

    Examples
    --------
    >>> inside(Path("run"), "d1/a.tif").as_posix()
    'run/d1/a.tif'
    """
    parts = PurePosixPath(name).parts
    bad = not name or "\0" in name or PurePosixPath(name).is_absolute() or ".." in parts
    if bad or (os.name == "nt" and (PureWindowsPath(name).drive or "\\" in name)):
        raise IsletImagingError(
            f"{folder}: {name[:80]!r} is no name of an image within a folder; the run folder was "
            "changed by hand or made by another program"
        )
    return folder / name


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

    Raises
    ------
    RunWriteError
        If it cannot be written; the old file stands.
    """
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name[:40]}.part", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        part = Path(name)
        yield part
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except OSError as error:
        raise RunWriteError(
            f"{path}: cannot be written ({error.strerror or error}). Free space or check the "
            "folder's permissions; what is finished is kept, the same command goes on from there"
        ) from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
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
    """Write a table as CSV whole or not at all; floats in their shortest exact form.

    Words go through `safe_text`.
    """
    import pyarrow as pa

    table = table.copy(deep=False)
    for name in table.columns:
        if table[name].dtype == object:
            table[name] = _safe(table[name])

    with atomic_path(path) as part, part.open("wb") as stream:
        stream.write(csv_head(table.columns))
        for rows in _slices(table):
            write_rows(stream, pa.Table.from_pandas(rows, preserve_index=False))


def csv_head(columns: Iterable[Any]) -> bytes:
    """The first line of a CSV."""
    return (",".join(_quoted(safe_text(str(c))) for c in columns) + "\n").encode()


def write_rows(stream: IO[bytes], table: pa.Table) -> None:
    """Append rows of a CSV to a file; words as they are."""
    import pyarrow as pa
    import pyarrow.csv

    # a column without a single value has no type of its own
    typed = pa.schema(
        pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in table.schema
    )
    plain = pa.csv.WriteOptions(include_header=False, quoting_style="needed")
    pa.csv.write_csv(table.cast(typed), stream, plain)


def _slices(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A table in parts of `ROWS_AT_ONCE`, at least one; of many cells no second copy is made."""
    for top in range(0, max(1, len(table)), ROWS_AT_ONCE):
        yield table.iloc[top : top + ROWS_AT_ONCE]


def _safe(column: pd.Series) -> Any:
    """A column with its words through `safe_text`; each different word once."""
    import numpy as np
    import pandas as pd

    if pd.api.types.infer_dtype(column, skipna=True) != "string":
        return [safe_text(v) if isinstance(v, str) else v for v in column]
    codes, words = pd.factorize(column)
    # -1 stands for nothing, which is the last
    return np.array([*(safe_text(w) for w in words), None], dtype=object)[codes]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n\r') else name


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # types are those of the whole table, whatever a part of it holds
    small = len(table) <= ROWS_AT_ONCE
    schema = None if small else pa.Schema.from_pandas(table, preserve_index=False)
    parts = (pa.Table.from_pandas(t, schema, preserve_index=False) for t in _slices(table))
    first = next(parts)
    with atomic_path(path) as part, pq.ParquetWriter(part, first.schema) as writer:
        for some in chain((first,), parts):
            writer.write_table(some)


def write_arrow(path: Path, table: pd.DataFrame | pa.Table) -> None:
    """Write a table as an Arrow file whole or not at all: not compressed, quick to write and read.

    Parameters
    ----------
    path : Path
        Where to.
    table : DataFrame or pyarrow.Table
        What to write; of a frame, without its index.
    """
    import pyarrow as pa

    if not isinstance(table, pa.Table):
        # a fraction of the time of `pyarrow.Table.from_pandas`, for tables by the thousand
        columns = {str(c): pa.array(table[c].to_numpy(), from_pandas=True) for c in table.columns}
        table = pa.table(columns)
    with (
        atomic_path(path) as part,
        pa.OSFile(str(part), "wb") as file,
        # else two calls of the system for each column
        pa.BufferedOutputStream(file, 1 << 20) as stream,
        pa.ipc.new_file(stream, table.schema) as writer,
    ):
        writer.write_table(table)


def read_arrow(
    path: Path, columns: Sequence[str] | Callable[[str], bool] | None = None
) -> pa.Table:
    """A table that `write_arrow` wrote, or columns of it, by name or by what is said of the name.

    Raises
    ------
    OSError, ValueError
        If it is gone or damaged, or lacks a column.
    """
    import pyarrow as pa

    # no memory map: elsewhere than here the file could not be replaced while it is read
    with pa.OSFile(str(path), "rb") as stream:
        reader = pa.ipc.open_file(stream)
        if columns is None:
            return reader.read_all()
        names = reader.schema.names
        wanted = [n for n in names if columns(n)] if callable(columns) else list(columns)
        if stream.size() < READ_WHOLE_BYTES:
            return reader.read_all().select(wanted)
        options = pa.ipc.IpcReadOptions(
            included_fields=[names.index(n) for n in wanted], use_threads=False
        )
        return pa.ipc.open_file(stream, options=options).read_all().select(wanted)


def write_labels(
    path: Path, labels: NDArray[np.int32], pixel_size_um: float | None, *, threads: int = 1
) -> None:
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
    threads : int
        So many parts are compressed side by side.
    """
    import numpy as np
    import tifffile

    from islet_imaging.arrays.label_file import bands_of

    largest = max((int(band.max(initial=0)) for band in bands_of(labels)), default=0)
    dtype = np.dtype(np.uint16 if largest < 2**16 else np.int32)
    in_tiles = isinstance(labels, np.memmap) or min(labels.shape) >= 512
    extra: dict[str, Any] = {}
    if pixel_size_um is not None:
        extra = {
            "resolution": (1e4 / pixel_size_um, 1e4 / pixel_size_um),
            "resolutionunit": "CENTIMETER",
        }
    with atomic_path(path) as part:
        tifffile.imwrite(
            part,
            _tiles_of(labels, dtype, threads) if in_tiles else labels.astype(dtype),
            shape=labels.shape,
            dtype=dtype,
            compression="zlib",
            compressionargs={"level": 1},
            tile=(LABEL_TILE, LABEL_TILE) if in_tiles else None,
            bigtiff=labels.size * dtype.itemsize > 2**31,
            metadata=None,
            **extra,
        )


def _tiles_of(labels: NDArray[np.int32], dtype: np.dtype[Any], threads: int) -> Iterator[bytes]:
    """Compressed tiles of a label image in the order of the file, filled up with 0 at its end."""
    import numpy as np
    from imagecodecs import ZLIBNG, zlib_encode, zlibng_encode

    from islet_imaging._types import side_by_side
    from islet_imaging.arrays.label_file import bands_of

    n = LABEL_TILE
    # the same format; three to six times as fast on labels, for files a third larger
    encode = zlibng_encode if ZLIBNG.available else zlib_encode

    def compressed(part: NDArray[np.int32]) -> bytes:
        tile = part.astype(dtype)
        if tile.shape != (n, n):
            tile = np.pad(tile, ((0, n - tile.shape[0]), (0, n - tile.shape[1])))
        return bytes(encode(tile.tobytes(), level=1))

    for band in bands_of(labels, multiple=n):
        height, width = band.shape
        parts = [
            band[y : y + n, x : x + n] for y in range(0, height, n) for x in range(0, width, n)
        ]
        yield from side_by_side(compressed, parts, threads)


def label_path(folder: Path, image: str, kind: LabelKind) -> Path:
    """Where a run keeps the label image of ``image``."""
    return inside(folder / "labels", f"{image}.{kind}.tif")


def work_table(folder: Path, image: str, name: str) -> Path:
    """Where a run keeps a measured table of ``image`` between its two passes."""
    return inside(folder / ".work", f"{image}.{name}.arrow")
