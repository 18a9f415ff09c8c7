"""Own outlines: whose nuclei and cells are scored, and what is islet and what is left out.

The idea: nuclei are found, or a labels layer or a file is taken for them, and whole cells stand for
rings in the same way; regions are drawn in two shapes layers or brought from a file.  The score
panel asks for all of it when it scores.
It fails, with the library's sentence, where labels or shapes are not of the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QLabel, QWidget

from islet_imaging.errors import IsletImagingError
from napari_islet_imaging.viewer import region_layers
from napari_islet_imaging.viewer.parts import button
from napari_islet_imaging.widgets.given_labels import GivenLabels, folder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import napari

    from islet_imaging.reading.annotations import Outline
    from napari_islet_imaging.viewer.stained import StainedImage


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
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.nuclei = GivenLabels(
            "nuclei",
            viewer,
            "Your own nuclei instead of those found here: a labels layer, or a file of Cellpose, "
            "StarDist, QuPath or ImageJ",
        )
        self.cells = GivenLabels(
            "cells",
            viewer,
            "Your own whole cells instead of a ring around the nucleus: the cytoplasm is then the "
            "cell without its nucleus",
        )
        self.both = (self.nuclei, self.cells)
        row = QHBoxLayout()
        row.setSpacing(3)
        row.addWidget(self.nuclei.box, 1)
        row.addWidget(QLabel("cells"))
        row.addWidget(self.cells.box, 1)
        form.addRow("Nuclei", row)
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
        self._image = image
        for given in self.both:
            given.look(image)
        for one in (*self.draw_buttons.values(), self.bring_button):
            one.setEnabled(image is not None)
        self.use_button.setEnabled(image is not None and image.session is not None)
        self._say()

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
            folder_of(self._image),
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

    def of_controls(self, controls: Sequence[Path]) -> str:
        """Whose nuclei and cells controls have, in a sentence; empty where all are made here."""
        told = []
        for given, noun, here in (
            (self.nuclei, "Nuclei", "be found here, unlike yours"),
            (self.cells, "Whole cells", "be rings around nuclei, unlike yours"),
        ):
            if not controls or given.made_here:
                continue
            own = given.beside(controls)
            if own:
                told.append(f"{noun} of controls: {', '.join(p.name for p in own.values())}.")
            lost = [p for p in controls if p not in own]
            if lost:
                word = "masks" if given is self.nuclei else "cells"
                told.append(
                    f"{noun} of {', '.join(p.name for p in lost)} will {here}. To use your own "
                    f"there too, put a file such as {lost[0].name.split('.')[0]}_{word}.tif beside "
                    "it."
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
