"""scikit-image: Otsu's threshold, watershed on the distance to the edge."""

import numpy as np
from common import run
from scipy import ndimage as ndi
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label
from skimage.morphology import remove_small_objects
from skimage.segmentation import watershed


def segment(dna, diameter):
    distance_px = max(2, round(0.4 * diameter)) if diameter else 6
    smooth = gaussian(dna.astype(float), 1.0, preserve_range=True)
    if smooth.max() <= smooth.min():
        return np.zeros(dna.shape, int)
    mask = ndi.binary_fill_holes(smooth > threshold_otsu(smooth))
    mask = remove_small_objects(mask, max_size=15)
    distance = gaussian(ndi.distance_transform_edt(mask), 1.0)
    peaks = peak_local_max(distance, min_distance=distance_px, labels=label(mask))
    seeds = np.zeros(dna.shape, int)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, seeds, mask=mask)


run(segment)
