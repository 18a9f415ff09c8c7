"""Own outlines: whose nuclei are scored, and what is islet and what is left out.

The idea: nuclei are found, or a labels layer or a file is taken for them; regions are drawn in two
shapes layers or brought from a file.  The score panel asks for both when it scores.
It fails, with the library's sentence, where labels or shapes are not of the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QWidget

from islet_imaging.errors import IsletImagingError
from napari_islet_imaging.viewer import region_layers
from napari_islet_imaging.viewer.layers import tag_of
from napari_islet_imaging.viewer.parts import button, chooser
from napari_islet_imaging.viewer.protocols import given_of_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import napari

    from islet_imaging.reading.annotations import Outline
    from napari_islet_imaging.viewer.stained import StainedImage

FIND, FILE = "find them", "from a file…"
#: an image of a run that was scored with given nuclei is scored so again
RUN = "those of its run"


class OwnOutlines(QWidget):
    """The rows of the score panel about nuclei and regions that somebody else drew.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    tell : callable
        Shows a sentence in the panel.
    """

    def __init__(self, viewer: napari.Viewer, tell: Callable[[str], object]) -> None:
        super().__init__()
        self._viewer, self._tell = viewer, tell
        self._image: StainedImage | None = None
        self._file: Path | None = None
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.nuclei_box = chooser()
        self.nuclei_box.setToolTip(
            "Your own nuclei instead of those found here: a labels layer, or a file of Cellpose, "
            "StarDist, QuPath or ImageJ"
        )
        self.nuclei_box.addItems([FIND, FILE])
        self.nuclei_box.textActivated.connect(self._nuclei_chosen)
        form.addRow("Nuclei", self.nuclei_box)
        row = QHBoxLayout()
        row.setSpacing(3)
        self.draw_buttons = {
            "islet": button(
                "Islets", tip="Draw what is islet: only nuclei inside count, the others count apart"
            ),
            "left_out": button(
                "Left out", tip="Draw what is left out: folds, exocrine tissue, debris"
            ),
        }
        for kind, one in self.draw_buttons.items():
            one.clicked.connect(lambda _=False, k=kind: self.draw(k))
        self.bring_button = button(
            "File…", tip="Bring regions: GeoJSON from QuPath, ROIs from ImageJ, a label image"
        )
        self.bring_button.clicked.connect(self._choose_regions)
        self.use_button = button(
            "Use", tip="Keep the regions as drawn now and make the numbers of the run again"
        )
        for one in (*self.draw_buttons.values(), self.bring_button, self.use_button):
            row.addWidget(one, 1)
        form.addRow("Regions", row)
        self.look(None)

    # ------------------------------------------------------------ what is there

    def look(self, image: StainedImage | None) -> None:
        """Follow the chosen image and the viewer's layers."""
        held = self.nuclei_box.currentText()
        if image is None or self._image is None or image.name != self._image.name:
            self._file, held = None, ""  # nuclei of another image are not meant
        self._image = image
        ofrun = [RUN] if "nuclei" in self._given() else []
        choices = [*ofrun, FIND, *(layer.name for layer in self._labels())]
        if self._file is not None:
            choices.append(self._file.name)
        choices.append(FILE)
        self.nuclei_box.blockSignals(True)
        self.nuclei_box.clear()
        self.nuclei_box.addItems(choices)
        self.nuclei_box.setCurrentText(held if held in choices[:-1] else choices[0])
        self.nuclei_box.blockSignals(False)
        for one in (*self.draw_buttons.values(), self.bring_button):
            one.setEnabled(image is not None)
        self.use_button.setEnabled(image is not None and image.session is not None)
        self._say()

    def _labels(self) -> list[Any]:
        """Labels layers that are nobody's outlines of ours."""
        return [
            x
            for x in self._viewer.layers
            if type(x).__name__ == "Labels" and "role" not in tag_of(x)
        ]

    def _say(self) -> None:
        """How many regions are drawn, on the buttons that draw them."""
        numbers = {"islet": 0, "left_out": 0}
        if self._image is not None:
            for kind, layer in region_layers.layers_for(self._viewer, self._image):
                numbers[kind] += len(layer.data)
        for kind, text in (("islet", "Islets"), ("left_out", "Left out")):
            n = numbers[kind]
            self.draw_buttons[kind].setText(f"{text} ({n})" if n else text)

    # ------------------------------------------------------------ choosing

    def _nuclei_chosen(self, text: str) -> None:
        if text != FILE:
            return
        path, _ = QFileDialog.getOpenFileName(
            self,
            "Nuclei",
            self._beside(),
            "Labels (*.tif *.tiff *.png *.npy *.geojson *.json *.roi *.zip)",
        )
        if path:
            self.use_file(Path(path))
        else:
            self.nuclei_box.setCurrentText(FIND)

    def use_file(self, path: Path) -> None:
        """Take the nuclei of a file."""
        self._file = path
        self.look(self._image)
        self.nuclei_box.setCurrentText(path.name)

    def _beside(self) -> str:
        """Where files of the image are looked for first: beside it."""
        paths = [] if self._image is None else self._image.paths
        return str(paths[0].absolute().parent) if paths else ""

    def draw(self, kind: str) -> None:
        """Make ready to draw what is islet, or what is left out."""
        if self._image is None:
            return
        layer = region_layers.layer_for(self._viewer, self._image, kind)
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = "add_polygon"
        layer.events.data.connect(lambda *_: self._say())
        self._tell(
            "Click the corners in the picture; Enter or a double click closes the outline. Then "
            "Score."
        )

    def _choose_regions(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self,
            "Regions",
            self._beside(),
            "Regions (*.geojson *.json *.roi *.zip *.tif *.tiff *.png)",
        )
        if path:
            self.bring(Path(path))

    def bring(self, path: Path) -> None:
        """Put the regions of a file into the viewer."""
        if self._image is None:
            return
        try:
            region_layers.bring(self._viewer, self._image, path)
        except IsletImagingError as error:
            self._tell(str(error))
        self._say()

    # ------------------------------------------------------------ what scoring takes

    def nuclei(self, image: StainedImage, folder: Path) -> Path | None:
        """File of the nuclei to score; None where they are to be found.

        Raises
        ------
        IsletImagingError
            If the labels are not of the image.
        """
        from islet_imaging.reading.annotations import checked_labels

        chosen = self.nuclei_box.currentText()
        if chosen == FIND:
            return None
        if chosen == RUN:
            return self._of_run(image, "nuclei")
        if self._file is not None and chosen == self._file.name:
            return self._file
        layer = next(x for x in self._labels() if x.name == chosen)
        shape = (int(image.layers[0].data.shape[-2]), int(image.layers[0].data.shape[-1]))
        labels = checked_labels(np.asarray(layer.data), shape, "nuclei", f"layer '{layer.name}'")
        return write_labels_of(labels, folder / f"{image.stem}_nuclei.tif")

    def cells(self, image: StainedImage) -> Path | None:
        """File of the whole cells that the image's run was scored with; None where it has rings.

        Raises
        ------
        IsletImagingError
            If it is gone or has changed.
        """
        return self._of_run(image, "cells") if "cells" in self._given() else None

    def _given(self) -> Mapping[str, Any]:
        """What the chosen image was scored with, by what it is; nothing of an image of no run."""
        from islet_imaging.run.rows import row_of

        session = None if self._image is None else self._image.session
        if session is None or session.open is None:
            return {}
        return row_of(session.run.provenance, session.open.name).given

    def _of_run(self, image: StainedImage, what: str) -> Path:
        assert image.session is not None
        assert image.session.open is not None
        return given_of_run(image.session, image.session.open.name, what)

    def nuclei_of_controls(self, controls: Sequence[Path]) -> dict[Path, Path]:
        """Files of own nuclei of controls, where the image's own are used: found by their names.

        They lie beside the control, or beside the image's.
        """
        from islet_imaging.reading.annotations.naming import find_for_images
        from islet_imaging.reading.listing import ImageFiles

        if self.nuclei_box.currentText() == FIND:
            return {}
        found: dict[Path, Path] = {}
        for control in controls:
            beside = [control.parent] + ([] if self._file is None else [self._file.parent])
            for folder in dict.fromkeys(beside):
                image = ImageFiles(control.name, (control,))
                hit = find_for_images(folder, [image], "nuclei").files.get(control.name)
                if hit is not None:
                    found.setdefault(control, hit)
        return found

    def of_controls(self, controls: Sequence[Path]) -> str:
        """Whose nuclei controls have, in a sentence; empty where all are found here."""
        if not controls or self.nuclei_box.currentText() == FIND:
            return ""
        own = self.nuclei_of_controls(controls)
        told = []
        if own:
            told.append(f"Nuclei of controls: {', '.join(p.name for p in own.values())}.")
        lost = [p for p in controls if p not in own]
        if lost:
            name = lost[0].name.split(".")[0]
            told.append(
                f"Nuclei of {', '.join(p.name for p in lost)} will be found here, unlike yours. To "
                f"use your own there too, put a file such as {name}_masks.tif beside it."
            )
        return " ".join(told)

    def regions(self, image: StainedImage) -> list[Outline] | None:
        """Regions as drawn; None where no layer for them is there.

        Raises
        ------
        IsletImagingError
            If a shape encloses nothing or lies outside the image.
        """
        return region_layers.outlines_in(self._viewer, image)


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
