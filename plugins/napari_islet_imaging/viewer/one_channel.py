"""One channel alone, in grey: what the eye reads intensities from best.

The idea: the marker under review (DNA where there is none) is shown in grey and the other stains
are hidden; asking again brings every colour back as it was.
It fails to bring back a layer that was removed meanwhile.
"""

from __future__ import annotations

from typing import Any

from napari_islet_imaging.viewer.layers import tag_of


class OneChannel:
    """Shows one channel of some layers in grey, or all of them as they were."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, bool, Any]] = []

    @property
    def on(self) -> bool:
        """Whether one channel alone is shown."""
        return bool(self._before)

    def show(self, layers: list[Any], channel: str) -> None:
        """Show a channel alone; of the other stains nothing.

        Parameters
        ----------
        layers : list of layers
            Those of a run.
        channel : str
            As the run calls it.
        """
        stains = [x for x in layers if "channel" in tag_of(x)]
        if not any(tag_of(x)["channel"] == channel for x in stains):
            return
        self.restore()
        self._before = [(x, x.visible, x.colormap) for x in stains]
        for layer in stains:
            layer.visible = tag_of(layer)["channel"] == channel
            if layer.visible:
                layer.colormap = "gray"

    def restore(self) -> None:
        """Every stain as it was."""
        for layer, visible, colours in self._before:
            layer.visible = visible
            layer.colormap = colours
        self._before = []
