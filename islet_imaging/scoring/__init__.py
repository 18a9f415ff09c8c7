"""The steps in order: one image, a folder of them, and the tables of a run."""
