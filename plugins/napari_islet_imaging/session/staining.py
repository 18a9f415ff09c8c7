"""What the staining run of an image says: its thresholds, its samples and its negative controls.

The idea: calls belong to a staining run (a batch), not to an image; these are looked up here by the
image's batch, from the run's own protocol and tables.
It fails to find controls that were not measured: there are none then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.positivity import Threshold
    from islet_imaging.protocol import Protocol


def batch_of(images: pd.DataFrame, image: str) -> str:
    """The batch of an image, from a run's table of images."""
    return str(images.loc[images["image"] == image, "batch"].iloc[0])


def thresholds(protocol: Protocol, images: pd.DataFrame, image: str) -> dict[str, Threshold]:
    """Each marker's threshold in the staining run of an image.

    Parameters
    ----------
    protocol : Protocol
        The run's, with what was fitted.
    images : DataFrame
        The run's table of images.
    image : str
        The image.
    """
    from islet_imaging.positivity import Threshold

    stored = protocol.fitted.get(batch_of(images, image), {})
    return {m: Threshold.from_dict(dict(t)) for m, t in stored.items()}


def sample_tables(
    tables: Mapping[str, pd.DataFrame], images: pd.DataFrame, image: str
) -> list[pd.DataFrame]:
    """Cells of the images that the threshold of an image's staining run is fitted to, in order."""
    mates = images[images["batch"].astype(str) == batch_of(images, image)]
    roles = mates["role"] if "role" in mates else ["sample"] * len(mates)
    return [
        tables[name]
        for name, role in zip(mates["image"], roles, strict=True)
        if role in ("sample", "positive_control") and name in tables
    ]


def control_values(
    tables: Mapping[str, pd.DataFrame], images: pd.DataFrame, image: str, column: str
) -> NDArray[np.float64] | None:
    """A feature of the negative controls of an image's staining run, None without any."""
    if "role" not in images:
        return None
    controls = images[images["role"] == "negative_control"]
    # as in scoring: the batch's own controls, else those that name no batch
    own = controls[controls["batch"].astype(str) == batch_of(images, image)]
    own = own if len(own) else controls[controls["batch"] == ""]
    found = [tables[n] for n in own["image"] if n in tables and n != image]
    values = [t.loc[~t["excluded"].astype(bool), column].to_numpy(float) for t in found]
    return np.concatenate(values) if values else None
