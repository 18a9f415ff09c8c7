"""The cells of a run in parts on disk, while its tables are made.

The idea: a run may have more cells than memory holds sixty columns of.  What is counted by, a
narrow table, stays in memory; the whole rows lie in a file for every few images, in the order of
the run, and go from there into ``cells.csv`` and ``cells.parquet`` part by part.  The parts are
brought to the columns and types that one table of all of them would have.
It fails, as one table would, where a column holds words in one image and numbers in another.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging.arrays.safe_text import safe_text
from islet_imaging.run.files import (
    ROWS_AT_ONCE,
    atomic_path,
    csv_head,
    read_arrow,
    write_arrow,
    write_rows,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: ``each(function, items)`` gives ``function(*item)`` for each item, in the items' order
Each = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterable[Any]]

#: columns that cells are counted by and told apart by, beside calls and probabilities
COUNTED = (
    "image", "islet", "region", "cell", "phenotype", "excluded", "flags", "corrected_by",
)  # fmt: skip
#: of these, what a run holds of every cell beside the sums over them
HELD = ("image", "region", "excluded", "flags", "corrected_by")
#: columns that say where a nucleus lies, by which labels of people find it again
PLACES = ("y_px", "x_px", "nucleus_area_um2")


def narrow(cells: pd.DataFrame, further: Sequence[str] = ()) -> pd.DataFrame:
    """The columns of called cells that are counted by.

    Parameters
    ----------
    cells : DataFrame
        Called cells.
    further : sequence of str
        Columns to keep too, where they are there.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"image": ["a"], "cell": 1, "INS_call": "positive", "INS_own": 2.0,
    ...                       "INS_ring_mean": 3.0})
    >>> list(narrow(cells, ["INS_own"]))
    ['image', 'cell', 'INS_call', 'INS_own']
    """
    kept = {*COUNTED, *further}
    ends = ("_call", "_probability", "_call_before")
    return cells[[c for c in cells.columns if c in kept or str(c).endswith(ends)]]


@dataclass(frozen=True)
class Part:
    """Some images' cells on disk.

    Parameters
    ----------
    path : Path
        An Arrow file.
    schema : pyarrow.Schema
        Its columns.
    images : tuple of str
        The images that have cells in it.
    rows : int
        How many cells.
    """

    path: Path
    schema: pa.Schema
    images: tuple[str, ...]
    rows: int


def write_part(path: Path, cells: pd.DataFrame) -> Part:
    """Keep some images' cells."""
    write_arrow(path, cells)
    images = tuple(dict.fromkeys(str(i) for i in cells["image"]))
    return Part(path, read_arrow(path).schema, images, len(cells))


class CellParts:
    """All cells of a run, in order.

    Parameters
    ----------
    parts : sequence of Part
        In the order of the run.
    order : callable
        Puts names of columns into the order that readers know.
    """

    def __init__(self, parts: Sequence[Part], order: Callable[[Iterable[str]], list[str]]) -> None:
        # images without a cell say nothing of the columns' types
        self._parts = [p for p in parts if p.rows] or list(parts[:1])
        self._of = {image: p for p in parts for image in p.images}
        self._order = order

    def __len__(self) -> int:
        return sum(p.rows for p in self._parts)

    def of(self, image: str) -> pd.DataFrame:
        """All columns of one image's cells; no row where it has none."""
        import pandas as pd

        part = self._of.get(image)
        if part is None:
            return pd.DataFrame({name: [] for name in self.schema().names})
        cells: pd.DataFrame = read_arrow(part.path).to_pandas(use_threads=False)
        return cells[cells["image"] == image].reset_index(drop=True)

    def schema(self) -> pa.Schema:
        """Columns and types that one table of all cells would have."""
        import pyarrow as pa

        found = pa.unify_schemas([p.schema for p in self._parts], promote_options="permissive")
        return pa.schema([found.field(name) for name in self._order(found.names)])

    def write(
        self,
        table: Path,
        text: Path,
        sheet: Mapping[str, Mapping[str, str]],
        each: Each = starmap,
    ) -> None:
        """Write one table of all cells, as Parquet and as CSV.

        Parameters
        ----------
        table, text : Path
            The Parquet file and the CSV.
        sheet : mapping of str to mapping
            Further columns behind the others: by name, what each image has there.
        each : callable
            Where parts are turned into text.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self.schema()
        words = [pa.field(name, pa.string()) for name in sheet]
        whole = pa.schema([*schema, *words])
        jobs = [
            (p.path, schema, {n: {i: of.get(i) for i in p.images} for n, of in sheet.items()})
            for p in self._parts
        ]
        strings = [f.name for f in whole if pa.types.is_string(f.type)]
        with (
            atomic_path(table) as made,
            # measured numbers hardly ever come twice
            pq.ParquetWriter(made, whole, use_dictionary=strings) as writer,
            atomic_path(text) as said,
            said.open("wb") as stream,
        ):
            stream.write(csv_head(whole.names))
            waiting: list[pa.Table] = []
            for path, lines in each(_finish, jobs):
                with lines.open("rb") as source:
                    shutil.copyfileobj(source, stream, 1 << 20)
                lines.unlink()
                waiting.append(read_arrow(path))
                if sum(map(len, waiting)) >= ROWS_AT_ONCE:
                    waiting = _in_groups(writer, waiting, last=False)
            _in_groups(writer, waiting, last=True)


def _in_groups(writer: Any, waiting: list[pa.Table], *, last: bool) -> list[pa.Table]:
    """Write full groups of rows, at the end what is left too; what waits for more comes back."""
    import pyarrow as pa

    table = pa.concat_tables(waiting)
    full = len(table) if last else len(table) - len(table) % ROWS_AT_ONCE
    writer.write_table(table.slice(0, full), row_group_size=ROWS_AT_ONCE)
    return [] if last else [table.slice(full)]


def _finish(
    path: Path, schema: pa.Schema, sheet: Mapping[str, Mapping[str, str]]
) -> tuple[Path, Path]:
    """Bring a part to the columns of all, and turn it into text; in any process."""
    import pyarrow as pa

    part = read_arrow(path)
    columns = {}
    for field in schema:
        if field.name in part.column_names:
            columns[field.name] = part[field.name].cast(field.type)
        elif field.name == "region":  # drawn in some of the images
            columns[field.name] = pa.array([""] * len(part), field.type)
        else:
            columns[field.name] = pa.nulls(len(part), field.type)
    for name, of in sheet.items():
        columns[name] = _exchanged(part["image"], of.get)
    done = pa.table(columns)
    write_arrow(path, done)
    words = (f.name for f in done.schema if pa.types.is_string(f.type))
    lines = path.with_suffix(".csv")
    with lines.open("wb") as stream:
        write_rows(
            stream, pa.table({**columns, **{n: _exchanged(done[n], safe_text) for n in words}})
        )
    return path, lines


def _exchanged(column: pa.ChunkedArray, change: Callable[[str], str | None]) -> pa.ChunkedArray:
    """A column of words with each different word exchanged."""
    import pyarrow as pa

    chunks = []
    for chunk in column.chunks:
        coded = chunk.dictionary_encode()
        words = [None if w is None else change(w) for w in coded.dictionary.to_pylist()]
        chunks.append(pa.array(words, pa.string()).take(coded.indices))
    return pa.chunked_array(chunks, pa.string())
