"""What the staining run of a session's open image says: its thresholds and its negative controls.

The idea: calls belong to a staining run (a batch), not to an image; these are looked up here by the
image's batch, from the run's own protocol and tables.
It fails to find controls that were not measured: there are none then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from islet_imaging.positivity import Threshold
    from napari_islet_imaging.session.review import ReviewSession


def thresholds(session: ReviewSession) -> dict[str, Threshold]:
    """Each marker's threshold in the open image's staining run; empty without an open image."""
    from islet_imaging.positivity import Threshold

    if session.open is None:
        return {}
    images = session.images
    batch = str(images.loc[images["image"] == session.open.name, "batch"].iloc[0])
    stored = session.protocol.fitted.get(batch, {})
    return {m: Threshold.from_dict(dict(t)) for m, t in stored.items()}


def control_values(session: ReviewSession, column: str) -> NDArray[np.float64] | None:
    """A feature of the negative controls of that staining run, None without any."""
    images = session.images
    if session.open is None or "role" not in images:
        return None
    batch = images.loc[images["image"] == session.open.name, "batch"].iloc[0]
    controls = images[images["role"] == "negative_control"]
    # as in scoring: the batch's own controls, else those that name no batch
    own = controls[controls["batch"] == batch]
    own = own if len(own) else controls[controls["batch"] == ""]
    tables = [
        session.tables[n] for n in own["image"] if n in session.tables and n != session.open.name
    ]
    values = [t.loc[~t["excluded"].astype(bool), column].to_numpy(float) for t in tables]
    return np.concatenate(values) if values else None
