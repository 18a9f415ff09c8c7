"""CellProfiler's IdentifyPrimaryObjects from cellprofiler-library, its own defaults otherwise.

Border objects are kept (the masks have them), sizes are those told, or the module's 10 to 40.
"""

import numpy as np
from cellprofiler_library.modules import identifyprimaryobjects
from common import run


def segment(dna, diameter):
    low, high = (0.4 * diameter, 2.5 * diameter) if diameter else (10, 40)
    image = dna.astype(np.float32)
    image = (image - image.min()) / max(float(np.ptp(image)), 1e-6)
    found = identifyprimaryobjects(
        image,
        automatic=True,
        exclude_size=True,
        min_size=max(3, int(low)),
        max_size=int(high),
        exclude_border_objects=False,
    )
    return found[0] if isinstance(found, tuple) else found


run(segment)
