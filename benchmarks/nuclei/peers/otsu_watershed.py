"""scikit-image: Otsu's threshold, watershed on the distance to the edge.

The least distance between two nuclei follows the diameter: the factors did best of those tried on
the images of the table.
"""

import numpy as np
from common import MIN_AREA_PX, foreground, run
from scipy import ndimage as ndi
from skimage.feature import peak_local_max
from skimage.filters import gaussian
from skimage.measure import label
from skimage.morphology import remove_small_objects
from skimage.segmentation import watershed

APART, SMOOTH = 0.2, 0.2


def segment(dna, diameter):
    mask = remove_small_objects(foreground(dna), max_size=MIN_AREA_PX)
    distance = gaussian(ndi.distance_transform_edt(mask), SMOOTH * diameter)
    peaks = peak_local_max(
        distance, min_distance=max(2, round(APART * diameter)), labels=label(mask)
    )
    seeds = np.zeros(dna.shape, int)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, seeds, mask=mask)


if __name__ == "__main__":
    run(segment)
