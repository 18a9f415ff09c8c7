"""What people and other tools drew: label images and outlines, as labels and named regions.

The idea: Cellpose, StarDist, QuPath, ImageJ and napari leave nuclei, cells and regions in a handful
of formats; whatever the format, here they become one label image or a list of outlines in pixels of
the image they belong to.  Nothing is guessed: what cannot be a label image of that image is refused
in one sentence.
It fails where a file was drawn on a resampled or flipped copy of the same size.
"""

from islet_imaging.reading.annotations.labels import checked_labels, read_labels_for
from islet_imaging.reading.annotations.outlines import Outline
from islet_imaging.reading.annotations.regions import read_regions

__all__ = ["Outline", "checked_labels", "read_labels_for", "read_regions"]
