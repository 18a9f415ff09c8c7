"""One drop-down: outlines that are made here, or those of a labels layer, a file or the run.

The idea: nuclei and whole cells are given in the same way, so they are chosen in the same way.
It fails, with the library's sentence, where labels are not of the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from qtpy.QtWidgets import QFileDialog

from napari_islet_imaging.viewer.layers import tag_of
from napari_islet_imaging.viewer.parts import chooser
from napari_islet_imaging.viewer.protocols import given_of_run

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.viewer.stained import StainedImage

FILE = "from a file…"
#: an image of a run that was scored with given outlines is scored so again
RUN = "those of its run"
#: what is done where nothing is given
MADE_HERE = {"nuclei": "find them", "cells": "rings"}


class GivenLabels:
    """Whose nuclei, or whose whole cells, an image is scored with.

    Parameters
    ----------
    what : {"nuclei", "cells"}
        Which of the two.
    viewer : napari.Viewer
        The window, whose labels layers are offered.
    tip : str
        Of the drop-down.
    """

    def __init__(self, what: Literal["nuclei", "cells"], viewer: napari.Viewer, tip: str) -> None:
        self.what, self._viewer = what, viewer
        self._image: StainedImage | None = None
        self.file: Path | None = None
        self.box = chooser()
        self.box.setToolTip(tip)
        self.box.addItems([MADE_HERE[what], FILE])
        self.box.textActivated.connect(self._chosen)

    @property
    def made_here(self) -> bool:
        """Whether none are given."""
        return bool(self.box.currentText() == MADE_HERE[self.what])

    def look(self, image: StainedImage | None) -> None:
        """Follow the chosen image and the viewer's layers."""
        held = self.box.currentText()
        if image is None or self._image is None or image.name != self._image.name:
            self.file, held = None, ""  # those of another image are not meant
        self._image = image
        of_run = [RUN] if self.what in given_of(image) else []
        choices = [*of_run, MADE_HERE[self.what], *(layer.name for layer in self._labels())]
        if self.file is not None:
            choices.append(self.file.name)
        choices.append(FILE)
        self.box.blockSignals(True)
        self.box.clear()
        self.box.addItems(choices)
        self.box.setCurrentText(held if held in choices[:-1] else choices[0])
        self.box.blockSignals(False)

    def use_file(self, path: Path) -> None:
        """Take those of a file."""
        self.file = path
        self.look(self._image)
        self.box.setCurrentText(path.name)

    def path(self, image: StainedImage, folder: Path) -> Path | None:
        """File of the outlines to score with; None where they are made here.

        Raises
        ------
        IsletImagingError
            If labels are not of the image, or a file of its run is gone or has changed.
        """
        from islet_imaging.reading.annotations import checked_labels

        chosen = self.box.currentText()
        if self.made_here:
            return None
        if chosen == RUN:
            assert image.session is not None
            assert image.session.open is not None
            return given_of_run(image.session, image.session.open.name, self.what)
        if self.file is not None and chosen == self.file.name:
            return self.file
        layer = next(x for x in self._labels() if x.name == chosen)
        shape = (int(image.layers[0].data.shape[-2]), int(image.layers[0].data.shape[-1]))
        labels = checked_labels(np.asarray(layer.data), shape, self.what, f"layer '{layer.name}'")
        return write_labels_of(labels, folder / f"{image.stem}_{self.what}.tif")

    def beside(self, controls: Sequence[Path]) -> dict[Path, Path]:
        """Files of the same of controls, where the image's own are given: found by their names.

        They lie beside the control, or beside the image's.
        """
        from islet_imaging.reading.annotations.naming import find_for_images
        from islet_imaging.reading.listing import ImageFiles

        found: dict[Path, Path] = {}
        for control in [] if self.made_here else controls:
            beside = [control.parent] + ([] if self.file is None else [self.file.parent])
            for folder in dict.fromkeys(beside):
                image = ImageFiles(control.name, (control,))
                hit = find_for_images(folder, [image], self.what).files.get(control.name)
                if hit is not None and self._is_meant(hit.name, control.name):
                    found.setdefault(control, hit)
        return found

    def _is_meant(self, name: str, control: str) -> bool:
        """Whether a file is of these: masks that say no more are nuclei, as of most programs."""
        said = name.lower().removeprefix(control.lower().split(".")[0])
        return self.what == "nuclei" or "cell" in said.replace("cellpose", "") or "cyto" in said

    def _labels(self) -> list[Any]:
        """Labels layers that are nobody's outlines of ours."""
        return [
            x
            for x in self._viewer.layers
            if type(x).__name__ == "Labels" and "role" not in tag_of(x)
        ]

    def _chosen(self, text: str) -> None:
        if text != FILE:
            return
        path, _ = QFileDialog.getOpenFileName(
            self.box,
            "Nuclei" if self.what == "nuclei" else "Whole cells",
            folder_of(self._image),
            "Labels (*.tif *.tiff *.png *.npy *.geojson *.json *.roi *.zip)",
        )
        if path:
            self.use_file(Path(path))
        else:
            self.box.setCurrentText(MADE_HERE[self.what])


def folder_of(image: StainedImage | None) -> str:
    """Where files of an image are looked for first: beside it."""
    paths = [] if image is None else image.paths
    return str(paths[0].absolute().parent) if paths else ""


def given_of(image: StainedImage | None) -> Mapping[str, Any]:
    """What an image was scored with, by what it is; nothing of an image of no run."""
    from islet_imaging.run.rows import row_of

    session = None if image is None else image.session
    if session is None or session.open is None:
        return {}
    return row_of(session.run.provenance, session.open.name).given


def write_labels_of(labels: Any, path: Path) -> Path:
    """Write a label image, unless the file holds it already: its hash tells whether it changed."""
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        try:
            if np.array_equal(tifffile.imread(path), labels):
                return path
        except (OSError, ValueError):
            pass
    tifffile.imwrite(path, labels.astype(np.int32), compression="zlib")
    return path
