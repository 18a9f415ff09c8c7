"""From a DNA image to nuclei, from nuclei to cells, from cells to islets."""
