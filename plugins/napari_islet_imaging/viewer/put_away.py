"""Images that are out of sight while another one is scored.

The idea: choosing an image shows it alone, and an image that is chosen again is shown as it was:
only what was hidden here is shown again.
It fails for layers of other plugins, which stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from napari_islet_imaging.viewer.layers import layers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari

    from napari_islet_imaging.viewer.stained import StainedImage


class PutAway:
    """Layers that are hidden because another image is looked at.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._layers: WeakSet[Any] = WeakSet()

    def show_only(self, chosen: StainedImage, images: Sequence[StainedImage]) -> None:
        """Show an image and hide all others.

        Parameters
        ----------
        chosen : StainedImage
            What is shown, as it was when it was hidden.
        images : sequence of StainedImage
            All that there are.
        """
        shown = self._of(chosen)
        changed = False
        for image in images:
            for layer in self._of(image):
                if layer not in shown and layer.visible:
                    self._layers.add(layer)
                    layer.visible = False
                    changed = True
        for layer in shown:
            if layer in self._layers:
                self._layers.discard(layer)
                layer.visible = True
                changed = True
        if changed:
            self._viewer.reset_view()

    def _of(self, image: StainedImage) -> list[Any]:
        if image.session is None:
            return list(image.layers)
        return layers_of(self._viewer, image.session)
