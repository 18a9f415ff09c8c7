"""The run folder: its files, its called cells, its tables and the notes they carry."""

from islet_imaging.run.folder import Run

__all__ = ["Run"]
