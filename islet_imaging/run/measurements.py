"""What measuring an image left in the run folder, and the proof that it is what a run speaks of.

The idea: under ``.work`` lies, for every measured image, a record: the key of all that its
measurements depend on (pixels, protocol, networks, versions), how the image fared, and a stamp of
every file that was written for it.  The record is taken away before the first of these files is
replaced and comes back after the last, so files without a record, or with one of another key, are
never believed; a file that is not the stamped one is damage.
It fails, and says to score again, where the proof does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging.arrays.pixel_hash import pixel_hash
from islet_imaging.errors import IsletImagingError
from islet_imaging.reading.members import files_of
from islet_imaging.run.files import (
    RunWriteError,
    inside,
    label_path,
    read_arrow,
    work_table,
    write_text,
)
from islet_imaging.run.proof import FACTS, facts_of, is_same, stamp_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from islet_imaging._types import ReadChannel
    from islet_imaging.run.rows import ImageRow

RECORD_FORMAT = 4
PRODUCTS = ("cells", "pairs", "islets", "nuclei_labels", "islets_labels")


def record_path(run: Path, image: str) -> Path:
    """Where a run keeps the record of a measured image."""
    return inside(run / ".work", f"{image}.record")


def product_path(run: Path, image: str, product: str) -> Path:
    """Where a run keeps what was measured of an image, by the names of `PRODUCTS`."""
    if product.endswith("_labels"):
        return label_path(run, image, product.removesuffix("_labels"))  # type: ignore[arg-type]
    return work_table(run, image, product)


def forget_record(run: Path, image: str) -> None:
    """Take away the proof of an image's files, before they are replaced."""
    path = record_path(run, image)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RunWriteError(
            f"{path}: cannot be taken away ({error.strerror or error}); check the permissions of "
            "the run folder"
        ) from error


def write_record(
    run: Path,
    image: str,
    key: str,
    outcome: Mapping[str, Any],
    parts: Mapping[str, str] | None = None,
) -> None:
    """Prove the files that lie there now: they were measured under this key.

    Parameters
    ----------
    run : Path
        The run folder.
    image : str
        The image.
    key : str
        Hash of everything that its measurements depend on.
    outcome : mapping
        How it fared; plain values.
    parts : mapping, optional
        What the key is the hash of, part by part, so that a later run can say what changed.
    """
    try:
        files = {name: stamp_of(product_path(run, image, name)) for name in PRODUCTS}
    except OSError as error:
        raise RunWriteError(f"{run}: what was measured of {image!r} is gone ({error})") from error
    proof = {"format": RECORD_FORMAT, "key": key, "files": files, "parts": dict(parts or {})}
    # two lines: the proof is asked for often, the rest is long
    text = "\n".join(json.dumps(part, default=str) for part in (proof, dict(outcome)))
    write_text(record_path(run, image), f"{_sum_of(text)}\n{text}")


def _sum_of(text: str) -> str:
    """What stands in front of a record: a proof that is damaged proves nothing."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class Record:
    """The proof of what was measured of an image, and how the image fared.

    Parameters
    ----------
    key : str
        Hash of everything that the measurements depend on.
    files : mapping
        A stamp of each file, by the names of `PRODUCTS`.
    parts : mapping
        What the key is the hash of, part by part; empty where that was not kept.
    """

    key: str
    files: Mapping[str, Any]
    _outcome: str
    parts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> dict[str, Any]:
        """How the image fared, as `write_record` was given it.

        Raises
        ------
        IsletImagingError
            If that part of the record is damaged.
        """
        try:
            found = json.loads(self._outcome)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise IsletImagingError(
                "the record of an image is damaged; score the folder again into this run folder"
            )
        return found

    def holds(self, run: Path, image: str) -> bool:
        """Whether every file is the stamped one."""
        return all(is_same(product_path(run, image, n), self.files.get(n)) for n in PRODUCTS)


def read_record(run: Path, image: str) -> Record | None:
    """The record of an image; None where there is none that can be read."""
    try:
        known, _, text = record_path(run, image).read_text("utf-8").partition("\n")
        if known != _sum_of(text):
            return None
        first, _, rest = text.partition("\n")
        found = json.loads(first)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("format") != RECORD_FORMAT:
        return None
    key, files = found.get("key"), found.get("files")
    if not isinstance(key, str) or not isinstance(files, dict):
        return None
    parts = found.get("parts")
    return Record(key, files, rest, parts if isinstance(parts, dict) else {})


def proven_outcome(run: Path, image: str, key: str) -> dict[str, Any] | None:
    """How an image fared, if it was measured under this key and all its files are as stamped."""
    found = read_record(run, image)
    if found is None or found.key != key or not found.holds(run, image):
        return None
    try:
        return found.outcome
    except IsletImagingError:
        return None


def require(run: Path, row: ImageRow, *products: str) -> Record:
    """The record of an image, with proof that some of its files are those the run speaks of.

    Parameters
    ----------
    run : Path
        The run folder.
    row : ImageRow
        The image as the run knows it.
    products : str
        Of `PRODUCTS`.

    Raises
    ------
    IsletImagingError
        If there is no proof, with what to do.
    """
    found = read_record(run, row.image)
    again = "score the folder again into the same run folder"
    if found is None:
        raise IsletImagingError(
            f"{run}: the measurements of {row.image!r} are gone, or a later scoring was stopped "
            f"while it measured them anew; {again}"
        )
    if found.key != row.key:
        raise IsletImagingError(
            f"{run}: the measurements of {row.image!r} are not those that this run's tables were "
            f"made of: they belong to another input, protocol or version; {again}"
        )
    for name in products:
        path = product_path(run, row.image, name)
        if not is_same(path, found.files.get(name)):
            raise IsletImagingError(
                f"{path}: gone, damaged or changed since {row.image!r} was measured; {again}"
            )
    return found


def load_work(
    run: Path,
    row: ImageRow,
    name: str,
    columns: Sequence[str] | Callable[[str], bool] | None = None,
) -> pd.DataFrame:
    """A table that measuring an image left: "cells", "pairs" or "islets"; or columns of it.

    Raises
    ------
    IsletImagingError
        If there is no proof that it is this run's.
    """
    # small tables by the thousand: threads would cost more than they save
    table: pd.DataFrame = load_arrow(run, row, name, columns).to_pandas(use_threads=False)
    return table


def load_arrow(
    run: Path,
    row: ImageRow,
    name: str,
    columns: Sequence[str] | Callable[[str], bool] | None = None,
) -> pa.Table:
    """As `load_work`, as it lies on disk: a fraction of the time for a few columns."""
    require(run, row, name)
    path = work_table(run, row.image, name)
    try:
        return read_arrow(path, columns)
    except (OSError, ValueError) as error:
        raise IsletImagingError(
            f"{path}: cannot be read ({error}); score the folder again into the same run folder"
        ) from error


class Stamps:
    """Stamps of input files, kept in a run folder so that no file is hashed twice.

    Parameters
    ----------
    run : Path
        The run folder.
    """

    def __init__(self, run: Path) -> None:
        self._path = run / ".work" / ".hashes.json"
        self._known: dict[str, Any] = {}
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return
        if isinstance(found, dict):
            self._known = {k: v for k, v in found.items() if isinstance(v, dict)}

    def of(self, path: Path) -> dict[str, Any]:
        """The stamp of a file; it is read only if it is not known, or changed."""
        name = str(path.absolute())
        self._known[name] = stamp_of(path, self._known.get(name))
        found: dict[str, Any] = self._known[name]
        return found

    def keep(self, paths: list[Path]) -> None:
        """Write the stamps of these files, for the next time."""
        wanted = {str(p.absolute()) for p in paths}
        kept = {name: stamp for name, stamp in self._known.items() if name in wanted}
        write_text(self._path, json.dumps(kept))


def check_unchanged(run: Path, row: ImageRow) -> None:
    """Raise unless the files of an image hold what was scored.

    Raises
    ------
    IsletImagingError
        If one is missing or other bytes stand in it.
    """
    stamps = Stamps(run)
    behind = dict.fromkeys(g.absolute() for f in row.files for g in files_of(Path(f)))
    try:
        now = [stamps.of(path)["sha256"] for path in behind]
    except OSError as error:
        raise IsletImagingError(
            f"{row.image}: its file is not where it was scored ({error.filename}); put it back, or "
            "score the moved folder again"
        ) from None
    if now != list(row.inputs):
        raise IsletImagingError(
            f"{row.image}: its file was changed or exchanged since it was scored "
            f"({', '.join(row.files)[:300]}); put it back, or score the folder again"
        )


def same_files(paths: list[Path], stamps: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether files are those that were stamped, by their facts, else by their bytes."""
    return all(is_same(p, stamps.get(str(p))) for p in paths)


def all_facts(paths: list[Path]) -> list[dict[str, int]]:
    """`facts_of` every file; a missing one has none."""
    found = []
    for path in paths:
        try:
            found.append(facts_of(path))
        except OSError:
            found.append(dict.fromkeys(FACTS, -1))
    return found


def pixel_hashes(
    read: ReadChannel, channels: Sequence[str], shape: tuple[int, int], *, rows: int = 1024
) -> list[str]:
    """A short hash of every channel's pixels, whatever file they come from.

    Parameters
    ----------
    read : callable
        ``read(channel, region)`` gives pixels (Y, X).
    channels : sequence of str
        The channels.
    shape : tuple of int
        Height and width, px.
    rows : int
        Rows read at a time; changes memory, never the hashes.

    Returns
    -------
    list of str
        Sorted; 16 hex digits each.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.arange(12.0).reshape(3, 4)
    >>> read = lambda channel, region: a[region]
    >>> pixel_hashes(read, ("INS",), (3, 4)) == pixel_hashes(read, ("INS",), (3, 4), rows=2)
    True
    """
    width = slice(0, shape[1])

    def bands(channel: str) -> Iterator[NDArray[np.generic]]:
        for top in range(0, shape[0], rows):
            yield read(channel, (slice(top, min(top + rows, shape[0])), width))

    return sorted(pixel_hash(bands(channel), shape) for channel in channels)
