"""Files into napari and out of it: stained images, run folders, sample data, nuclei."""
