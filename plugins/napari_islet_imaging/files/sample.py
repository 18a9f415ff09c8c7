"""Sample data: a synthetic stained islet, made on the spot without a network.

The idea: `islet_imaging.phantom` renders it with its truth, so a newcomer can score an image whose
answer is known.  It fails to look like every lab's staining; it is a phantom, and its name says so.
"""

from __future__ import annotations

from typing import Any

LayerData = tuple[Any, dict[str, Any], str]


def synthetic_islet() -> list[LayerData]:
    """Layers of a synthetic islet stained for DNA, insulin and glucagon."""
    from islet_imaging.phantom import phantom
    from napari_islet_imaging.session.layer_data import channel_layers

    made = phantom("ffpe20x", seed=7, shape=(768, 768))
    return channel_layers(made.image)
