"""What the staining run of a session's open image says: its thresholds and its negative controls.

The idea: calls belong to a staining run, not to an image; these are looked up here by what was
stained together with the image, from the run's own protocol and tables.
It fails to find controls that were not measured: there are none then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.protocol import negative_for
from islet_imaging.run.called import rows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from islet_imaging.positivity import Threshold
    from napari_islet_imaging.session.review import ReviewSession


def thresholds(session: ReviewSession) -> dict[str, Threshold]:
    """Each marker's threshold in the open image's staining run; empty without an open image."""
    from islet_imaging.positivity import Threshold

    if session.open is None:
        return {}
    stored = session.protocol.fitted.get(_stainings(session)[session.open.name], {})
    return {m: Threshold.from_dict(dict(t)) for m, t in stored.items()}


def control_values(session: ReviewSession, column: str) -> NDArray[np.float64] | None:
    """A feature of that staining run's negative controls of the marker, None without any."""
    images = session.images
    if session.open is None or "role" not in images:
        return None
    staining = _stainings(session)
    own = staining[session.open.name]
    dark = [
        str(row["image"])
        for row in images.to_dict("records")
        if negative_for(str(row["role"]), session.marker)
    ]
    # as in scoring: the staining run's own controls, else those that name none
    names = [n for n in dark if staining[n] == own] or [n for n in dark if not staining[n]]
    tables = [session.tables[n] for n in names if n in session.tables and n != session.open.name]
    values = [t.loc[~t["excluded"].astype(bool), column].to_numpy(float) for t in tables]
    return np.concatenate(values) if values else None


def _stainings(session: ReviewSession) -> dict[str, str]:
    """What each image of the run was stained with."""
    return {row.image: row.staining for row in rows_of(session.run.provenance)}
