"""What was stained together in a run: thresholds, the samples they rest on, negative controls.

The idea: calls belong to a staining run, not to an image; these are looked up here by what was
stained together with the image, from the run's own protocol and rows.
It fails to find controls that were not measured: there are none then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from islet_imaging.protocol import negative_for
from islet_imaging.run.rows import rows_of

if TYPE_CHECKING:
    from islet_imaging.positivity import Threshold
    from islet_imaging.run.folder import Run


class Stainings:
    """The staining runs of a run folder.

    Parameters
    ----------
    run : Run
        The run folder.
    """

    def __init__(self, run: Run) -> None:
        self._protocol = run.protocol
        self._rows = [row for row in rows_of(run.provenance) if row.status == "scored"]
        self._of = {row.image: row.staining for row in self._rows}

    def thresholds(self, image: str) -> dict[str, Threshold]:
        """Each marker's threshold in the staining run of an image."""
        from islet_imaging.positivity import Threshold

        stored = self._protocol.fitted.get(self._of[image], {})
        return {m: Threshold.from_dict(dict(t)) for m, t in stored.items()}

    def samples(self, image: str) -> list[str]:
        """Images that the thresholds of an image rest on, in the order they are fitted in."""
        return [
            row.image
            for row in self._rows
            if row.staining == self._of[image] and row.role in ("sample", "positive_control")
        ]

    def controls(self, image: str, marker: str) -> list[str]:
        """Negative controls of a marker: the image's own, else, as in scoring, shared ones."""
        dark = [row for row in self._rows if negative_for(row.role, marker)]
        own = [row.image for row in dark if row.staining == self._of[image]]
        return own or [row.image for row in dark if not row.staining]
