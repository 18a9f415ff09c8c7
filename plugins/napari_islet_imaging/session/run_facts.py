"""What a run folder says beside its cells: images, flags, numbers, cells drawn for validation.

The idea: one place reads the run's other tables for a review, and reads them again when they were
written again.
It fails to notice a run that is scored again by somebody else meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.run.folder import Run


class RunFacts:
    """Facts of one run.

    Parameters
    ----------
    run : Run
        The run folder.

    Attributes
    ----------
    images : DataFrame
        One row per image.
    summary : DataFrame or None
        The run's headline, once it was written.
    told : list of str
        What concerns every number of the run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.images: pd.DataFrame = run.images
        self.summary: pd.DataFrame | None = None
        self.told: list[str] = []
        self._flags = {
            str(row["image"]): [
                (str(f.get("code") or ""), str(f.get("message") or f.get("code")))
                for f in row["flags"]
            ]
            for row in run.provenance["images"]
        }
        self.reread()

    def reread(self) -> None:
        """Take the summary from the run again."""
        there = (self._run.path / "summary.csv").is_file()
        self.summary = self._run.summary if there else None
        self.told = [str(t) for t in self._run.provenance.get("told", ())]

    def batches(self) -> dict[str, tuple[str, str]]:
        """Condition and batch of each image that counts as a sample."""
        images = self.images
        sample = images[images["role"].isin(["sample", ""])] if "role" in images else images
        return {
            str(i): (str(c), str(b))
            for i, c, b in zip(sample["image"], sample["condition"], sample["batch"], strict=True)
        }

    def flags(self, image: str) -> list[tuple[str, str]]:
        """What was noticed in an image: code and message of each flag."""
        return self._flags.get(image, [])

    def current(self) -> bool:
        """Whether the tables on the disk hold every correction."""
        written, journal = self._run.path / "summary.csv", self._run.corrections
        if not written.is_file():
            return False
        return not journal.is_file() or written.stat().st_mtime >= journal.stat().st_mtime

    def drawn(self) -> pd.DataFrame:
        """The cells that chance drew for validation: ``image, cell, marker``; may be empty."""
        from islet_imaging.run.validation_sheet import FILE, read_sheet

        return read_sheet(self._run.path / FILE)

    def n_drawn(self, marker: str) -> int:
        """How many of them are for a marker."""
        return int((self.drawn()["marker"] == marker).sum())

    def draw(self, marker: str, n: int) -> None:
        """Draw cells for validation into the run's ``validation.csv``."""
        from islet_imaging.run.validation_sheet import draw_validation_sheet

        draw_validation_sheet(self._run, marker, n=n)
