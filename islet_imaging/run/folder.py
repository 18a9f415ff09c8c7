"""The run folder: what a scored folder leaves behind, written so that nothing is ever half there.

The idea: scripts, the report and the plugin read a run through one class, and what it gives is
proven: ``provenance.json`` holds the stamp of every table, the key of every image and the hash of
every input, and a file that is not the one it speaks of is refused with what to do
(`docs/run_folder.md`).  It fails when a file of a run is read past this class.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.reading.members import files_of
from islet_imaging.run.files import (
    LABEL_TILE,
    LabelKind,
    RunWriteError,
    atomic_path,
    inside,
    label_path,
    plain_text,
    safe_text,
    work_table,
    write_labels,
    write_parquet,
    write_table,
    write_text,
)
from islet_imaging.run.lock import RunLock
from islet_imaging.run.measurements import check_unchanged, require
from islet_imaging.run.proof import facts_of, hash_file, is_same
from islet_imaging.run.rows import row_of, rows_of
from islet_imaging.run.stage import exchange_waits

__all__ = [
    "LABEL_TILE",
    "TABLES",
    "TEXT_COLUMNS",
    "LabelKind",
    "Run",
    "RunWriteError",
    "atomic_path",
    "inside",
    "label_path",
    "plain_text",
    "read_csv",
    "read_labels",
    "safe_text",
    "work_table",
    "write_labels",
    "write_parquet",
    "write_table",
    "write_text",
]

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.image import IsletImage
    from islet_imaging.network.scale import FoundScale
    from islet_imaging.reading.annotations import Outline

#: columns that hold words even where every one looks like a number
TEXT_COLUMNS = (
    "condition", "batch", "image", "role", "marker", "status", "message", "flags", "interval",
    "note", "reference", "design", "unit", "kind", "class",
)  # fmt: skip

TABLES = (
    "summary", "batches", "images", "islets", "cells",
    "comparisons", "composition", "variance", "levels",
)  # fmt: skip

#: 1: version 0.1.0, whose files carry no proof; 2: stamps, keys and hashes of pixels
PROVENANCE_FORMAT = 2


def read_csv(path: Path, words: tuple[str, ...] = TEXT_COLUMNS) -> pd.DataFrame:
    """Read a table of a run as it was written, words and all.

    Parameters
    ----------
    path : Path
        A CSV that `write_table` wrote.
    words : tuple of str
        Columns that hold words even where every one looks like a number.
    """
    import pandas as pd

    table = pd.read_csv(
        path,
        dtype=dict.fromkeys(words, str),
        # a condition may well be called "NA": only an empty field is missing
        keep_default_na=False,
        na_values=[""],
        encoding="utf-8",
        float_precision="round_trip",
    )
    table.columns = [plain_text(str(c)) for c in table.columns]
    named = [c for c in words if c in table.columns]
    table[named] = table[named].fillna("")
    for name in table.select_dtypes(include=["object"]).columns:
        table[name] = [plain_text(v) if isinstance(v, str) else v for v in table[name]]
    return table


def read_labels(
    folder: Path,
    image: str,
    kind: LabelKind = "nuclei",
    region: tuple[slice, slice] | None = None,
) -> NDArray[np.int32]:
    """A label image of a run folder, or a region of it, int32, shape (Y, X)."""
    import numpy as np
    import tifffile

    from islet_imaging.protocol import Limits
    from islet_imaging.reading.guard import guarded
    from islet_imaging.reading.pages import read_plane

    path = label_path(folder, image, kind)
    # decoders of a damaged file raise whatever they like
    with guarded(path), tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        found: NDArray[np.int32] = read_plane(
            page, path, virtual=0, sample=0, region=region, limits=Limits()
        ).astype(np.int32, copy=False)
    return found


def corrections_state(run: Path) -> dict[str, str]:
    """Hashes of what people added to a run: its journal, and its labelled cells; "" for none."""
    found = {}
    for name, file in (
        ("journal_sha256", "corrections.jsonl"),
        ("labels_sha256", "validation.csv"),
    ):
        try:
            found[name] = hash_file(run / file)
        except FileNotFoundError:
            found[name] = ""
        except OSError as error:
            raise IsletImagingError(
                f"{run / file}: cannot be read ({error.strerror or error})"
            ) from error
    return found


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
        self._facts: tuple[dict[str, int], dict[str, Any]] | None = None
        try:
            there = (self.path / "provenance.json").is_file()
        except (OSError, ValueError) as error:
            raise IsletImagingError(f"{str(self.path)[:200]}: no folder: {error}") from error
        if not there:
            stopped = (self.path / ".work").is_dir()
            raise IsletImagingError(
                f"{self.path}: not a run folder (no provenance.json in it); "
                + (
                    "a scoring into it was stopped before its tables were there: score again, what "
                    "is finished is kept"
                    if stopped
                    else "`islet-imaging score FOLDER --out RUN` makes one"
                )
            )
        if exchange_waits(self.path):
            who = RunLock.holder(self.path)
            raise IsletImagingError(
                f"{self.path}: "
                + (
                    "its tables are being written right now; try again in a moment"
                    if who is not None
                    else "a scoring was stopped while its tables were put into place; "
                    f"`islet-imaging summarize {self.path}` finishes it"
                )
            )
        _ = self.provenance

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
            summary, batches, images, islets, cells, comparisons, composition, variance or levels.
        """
        import pandas as pd

        if name not in TABLES:
            raise IsletImagingError(f"a run has no table {name!r}; it has {list(TABLES)}")
        file = "cells.parquet" if name == "cells" else f"{name}.csv"
        self.prove(file)
        try:
            if name == "cells":
                return pd.read_parquet(self.path / file)
            return read_csv(self.path / file)
        except (OSError, ValueError) as error:
            raise IsletImagingError(
                f"{self.path}: its table {name!r} cannot be read ({error}); "
                "score the folder again into the same run, what is finished is kept"
            ) from error

    def prove(self, file: str) -> None:
        """Raise unless a file is the one that this run's provenance speaks of.

        Parameters
        ----------
        file : str
            A file of the run folder, such as ``summary.csv``.

        Raises
        ------
        IsletImagingError
            If it is missing, was changed, or belongs to a later scoring that was stopped.
        """
        facts = self.provenance
        if facts.get("format", 1) < PROVENANCE_FORMAT:
            return  # of version 0.1.0: there is nothing to hold it against
        if not is_same(self.path / file, facts["files"].get(file)):
            raise IsletImagingError(
                f"{self.path / file}: gone, or not the file that this run wrote: it was changed "
                "since, or another scoring into this folder was stopped. Score the folder again "
                "into it, or make the tables again: islet-imaging summarize"
            )

    @property
    def corrections_pending(self) -> bool:
        """Whether people corrected or labelled cells since the tables were made."""
        held = self.provenance.get("corrections") or {}
        now = corrections_state(self.path)
        return any(now[k] != held.get(k, "") for k in now)

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
        if not (self.path / "corrected.csv").is_file():
            return None
        self.prove("corrected.csv")
        return read_csv(self.path / "corrected.csv")

    @property
    def protocol(self) -> Protocol:
        """The protocol the run was made with, its fitted thresholds included."""
        self.prove("protocol.yaml")
        return Protocol.load(self.path / "protocol.yaml")

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, hashes and parameters."""
        path = self.path / "provenance.json"
        try:
            now = facts_of(path)
            if self._facts is None or self._facts[0] != now:
                self._facts = now, _checked(json.loads(path.read_text(encoding="utf-8")), path)
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, IsletImagingError):
                raise
            raise IsletImagingError(
                f"{path}: cannot be read ({error}); score the folder again into this run folder, "
                "what is finished is kept"
            ) from error
        return self._facts[1]

    @property
    def pixels(self) -> dict[str, tuple[str, ...]]:
        """Hashes of each image's channels, which corrections speak of."""
        return {row.image: row.pixels for row in rows_of(self.provenance) if row.pixels}

    def scale(self, image: str) -> FoundScale:
        """Scale that nuclei of an image were searched with; the usual one where none was kept."""
        from islet_imaging.network.scale import FoundScale, Scale

        facts = {row["image"]: row for row in self.provenance["images"]}
        row = facts.get(image, {})
        if row.get("scale"):
            return FoundScale.from_dict(row["scale"])
        size = row.get("pixel_size_um")
        known = Scale(size, None if size is None else self.protocol.nuclei.diameter_um)
        diameter = known.diameter_px or Scale(0.5).diameter_px
        assert diameter is not None
        return FoundScale(diameter, None, 0, "usual", known.pixel_size_um)

    @property
    def corrections(self) -> Path:
        """The journal of human edits; it may not exist yet."""
        return self.path / "corrections.jsonl"

    def regions(self) -> dict[str, list[Outline]]:
        """What was drawn in each image, islets and what is left out, by the journal as it is now.

        Tables hold them from the next scoring or `resummarise` on.
        """
        from islet_imaging.review.journal import Journal
        from islet_imaging.review.regions import regions_of

        return regions_of(Journal(self.corrections).edits(), self.pixels)

    @property
    def source(self) -> Path:
        """The folder that was scored."""
        return Path(self.provenance["folder"])

    def flat_fields_proven(self) -> None:
        """Raise unless the fitted illumination, if there is any, is this run's."""
        path, stamp = self.path / ".work" / "flat_fields.npz", self.provenance.get("flat_fields")
        if stamp is not None and not is_same(path, stamp):
            raise IsletImagingError(
                f"{path}: gone, or of another scoring; score the folder again into this run folder"
            )

    def flat_fields(self) -> dict[str, NDArray[np.float32]]:
        """Relative illumination per channel, (Y, X), where the run was corrected for it."""
        path = self.path / ".work" / "flat_fields.npz"
        self.flat_fields_proven()
        if self.provenance.get("flat_fields") is None or not path.is_file():
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
        facts = self.provenance
        if facts.get("format", 1) >= PROVENANCE_FORMAT:
            require(self.path, row_of(facts, image), f"{kind}_labels")
        return read_labels(self.path, image, kind, region)

    def read_image(self, image: str) -> IsletImage:
        """The stained image itself, read again from where it was scored."""
        from islet_imaging.reading import read_image

        row = row_of(self.provenance, image)
        files = [Path(f) for f in row.files]
        missing = [f for f in files if not _is_there(f)]
        if missing or not files:
            where = str(missing[0])[:300] if missing else "?"
            raise IsletImagingError(
                f"{image}: its file is not where it was scored ({where}); "
                "put it back, or score the moved folder again"
            )
        check_unchanged(self.path, row)
        return read_image(files, protocol=self.protocol, name=image)


def _is_there(path: Path) -> bool:
    """Whether an image's file exists, or the file that an image's path goes on behind."""
    try:
        return any(f.exists() for f in files_of(path))
    except (OSError, ValueError):  # a name that no file can have
        return False


def _checked(facts: Any, path: Path) -> dict[str, Any]:
    """A provenance that readers can rely on; or an error that says what is wrong with it."""
    wrong = None
    if not isinstance(facts, dict):
        wrong = "not a mapping"
    elif not isinstance(facts.get("format", 1), int) or facts.get("format", 1) < 1:
        wrong = "its format is no number"
    elif facts.get("format", 1) > PROVENANCE_FORMAT:
        raise IsletImagingError(
            f"{path}: written by a newer islet-imaging (format {facts['format']}); update this one"
        )
    elif not isinstance(facts.get("folder"), str):
        wrong = "it does not say what was scored"
    elif not isinstance(facts.get("images"), list):
        wrong = "it lists no images"
    elif facts.get("format", 1) >= 2 and not isinstance(facts.get("files"), dict):
        wrong = "it lists no files"
    else:
        try:
            for row in rows_of(facts):
                inside(path.parent, row.image)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            if isinstance(error, IsletImagingError):
                raise
            wrong = f"an image's entry is not understood ({error})"
    if wrong:
        raise IsletImagingError(
            f"{path}: damaged or of another program: {wrong}; score the folder again into a run "
            "folder of its own"
        )
    found: dict[str, Any] = facts
    return found
