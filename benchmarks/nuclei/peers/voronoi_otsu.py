"""napari-segment-blobs-and-things-with-membranes: voronoi_otsu_labeling, as its users call it."""

from common import run
from napari_segment_blobs_and_things_with_membranes import voronoi_otsu_labeling


def segment(dna, diameter):
    spot = 0.2 * diameter if diameter else 2.0
    return voronoi_otsu_labeling(dna.astype(float), spot_sigma=spot, outline_sigma=1.0)


run(segment)
