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
    from collections.abc import Iterable, Mapping, Sequence

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

    def show_only(self, shown: Sequence[Any], others: Iterable[Any]) -> None:
        """Show layers as they were when they were hidden, and hide others.

        Parameters
        ----------
        shown, others : iterable of layers
            What is in both is shown; None among the others is nothing.
        """
        changed = False
        for layer in others:
            if layer is not None and layer not in shown and layer.visible:
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


def layers_of_all(viewer: napari.Viewer, images: Mapping[str, StainedImage]) -> list[Any]:
    """All layers of images: of one that was scored those of its run."""
    found: list[Any] = []
    for image in images.values():
        own = image.layers if image.session is None else layers_of(viewer, image.session)
        found += own
    return found
