"""Seconds from pixels to positive cells with what a user would pick instead: one method, one image.

    end_to_end.py METHOD IMAGE.npy THREADS

The image is (C, Y, X), DNA first.  Every method finds nuclei, grows cells by as much as we do,
measures markers in the rings and cuts them at Otsu's threshold; CellProfiler does all of it with
its own modules.  None of them flags, takes spill-over away, or gives intervals.
StarDist's weights cannot be had from a package index, so it is its network alone, with random ones:
less than a user would wait.
"""

import sys
import tempfile

import numpy as np
from timing import report

DIAMETER_PX, RING_PX = 23.0, 9


def calls(nuclei, stack):
    """Mean of each marker in each ring, cut at Otsu's threshold."""
    from skimage.filters import threshold_otsu
    from skimage.measure import regionprops_table
    from skimage.segmentation import expand_labels

    nuclei = np.asarray(nuclei).astype(np.int32)
    regionprops_table(nuclei, properties=("label", "centroid", "area", "eccentricity", "solidity"))
    rings = expand_labels(nuclei, RING_PX)
    rings[nuclei > 0] = 0
    markers = np.moveaxis(stack[1:], 0, -1)
    table = regionprops_table(rings, markers, properties=("label", "intensity_mean"))
    columns = [v for k, v in table.items() if k.startswith("intensity_mean")]
    return [v > threshold_otsu(v) for v in columns]


def otsu_watershed(stack, threads):
    from common import MIN_AREA_PX, foreground
    from scipy import ndimage as ndi
    from skimage.feature import peak_local_max
    from skimage.filters import gaussian
    from skimage.measure import label
    from skimage.morphology import remove_small_objects
    from skimage.segmentation import watershed

    def call():
        mask = remove_small_objects(foreground(stack[0]), max_size=MIN_AREA_PX)
        distance = gaussian(ndi.distance_transform_edt(mask), 0.2 * DIAMETER_PX)
        apart = max(2, round(0.2 * DIAMETER_PX))
        peaks = peak_local_max(distance, min_distance=apart, labels=label(mask))
        seeds = np.zeros(mask.shape, int)
        seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        return calls(watershed(-distance, seeds, mask=mask), stack)

    return call


def stardist(stack, threads):
    import tensorflow as tf
    from stardist.models import Config2D, StarDist2D

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    dna = stack[0].astype(np.float32)
    dna = (dna - dna.min()) / (dna.max() - dna.min())
    config = Config2D(n_rays=32, grid=(2, 2), n_channel_in=1)
    model = StarDist2D(config, name="speed", basedir=tempfile.mkdtemp())
    return lambda: model.predict(dna)


def instanseg(stack, threads):
    import torch
    from instanseg import InstanSeg
    from instanseg.utils.utils import download_model

    torch.set_num_threads(threads)
    model = InstanSeg(download_model("fluorescence_nuclei_and_cells", "0.1.1"), "cpu", verbosity=0)
    dna = stack[0].astype(np.float32)

    def call():
        labels = model.eval_small_image(
            dna, pixel_size=0.32, target="nuclei", return_image_tensor=False
        )
        return calls(np.asarray(labels).reshape(dna.shape), stack)

    return call


def cellprofiler(stack, threads):
    from cellprofiler_library.modules import expand_or_shrink_objects, identifyprimaryobjects

    planes = [(p - p.min()) / max(float(np.ptp(p)), 1e-6) for p in stack.astype(np.float32)]

    def call():
        nuclei = identifyprimaryobjects(
            planes[0],
            automatic=True,
            exclude_size=True,
            min_size=round(0.65 * DIAMETER_PX),
            max_size=round(3.0 * DIAMETER_PX),
            exclude_border_objects=False,
        )
        grown = expand_or_shrink_objects("expand_defined_pixels", nuclei, iterations=RING_PX)
        return calls_of_grown(nuclei, grown, planes)

    return call


def calls_of_grown(nuclei, grown, planes):
    """As `calls`, of cells that were grown already."""
    from skimage.filters import threshold_otsu
    from skimage.measure import regionprops_table

    rings = np.where(nuclei > 0, 0, grown).astype(np.int32)
    markers = np.stack(planes[1:], axis=-1)
    table = regionprops_table(rings, markers, properties=("label", "intensity_mean"))
    return [v > threshold_otsu(v) for k, v in table.items() if k.startswith("intensity_mean")]


METHODS = {f.__name__: f for f in (otsu_watershed, stardist, instanseg, cellprofiler)}

if __name__ == "__main__":
    method, path, threads = sys.argv[1:4]
    report(METHODS[method](np.load(path), int(threads)))
