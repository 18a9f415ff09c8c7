"""What the model folders say of the networks, apart from what export finds out by itself.

The idea: text and names of channels in one place, so that export is the same for both networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Described:
    """The unchanging part of a network's BioImage.IO description.

    Attributes
    ----------
    name, text : str
        Name and one-sentence description.
    inputs, outputs : tuple of str
        Channel names.
    input_text, output_text : str
        What they hold.
    tags : tuple of str
    cite : tuple of dict
        ``text`` and ``doi`` of the data that it was trained on.
    """

    name: str
    text: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_text: str
    output_text: str
    tags: tuple[str, ...]
    cite: tuple[dict[str, Any], ...]


NUCLEI = Described(
    name="islet-nuclei",
    text="Nuclei instances in fluorescence images of DNA, dense tissue included: "
    "foreground, offset to the centre, centre and distance at half resolution.",
    inputs=("dna",),
    outputs=(
        "foreground00",
        "foreground01",
        "foreground10",
        "foreground11",
        "offset_y",
        "offset_x",
        "centre",
        "distance",
    ),
    input_text="DNA, nuclei 16 px across; percentiles 0.5 and 99.5 of the image "
    "to 0 and 1, then asinh(4 x) / asinh(4).",
    output_text="Foreground logits of 2x2 px; offset to centre and distance to edge "
    "in units of 8 px; centre logit.",
    tags=("nuclei", "segmentation", "fluorescence", "dapi", "tissue", "islet", "2d"),
    cite=(
        {
            "text": "Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 "
            "Data Science Bowl, Nat Methods 16:1247 (2019)",
            "doi": "10.1038/s41592-019-0612-7",
        },
        {
            "text": "Mahbod et al., Investigating the impact of the bit depth of "
            "fluorescence-stained images on the performance of deep learning-based nuclei "
            "instance segmentation, Diagnostics 11:967 (2021)",
            "doi": "10.3390/diagnostics11060967",
        },
    ),
)

POSITIVITY = Described(
    name="islet-positivity",
    text="Does each nucleus's own cell express the cytoplasmic marker: own light, freed of "
    "neighbours' light, and log odds, to be averaged over each nucleus.",
    inputs=("dna", "marker_coarse", "marker_fine"),
    outputs=("own_light_q10", "own_light_q50", "own_light_q90", "expressed"),
    input_text="0.47 um/px; DNA as for islet-nuclei; marker, 0 and 1 at percentiles 1 and 99 on "
    "nuclei, asinh(c x)/asinh(c), c = 3, 30.",
    output_text="Quantiles of own light, asinh(30 x)/asinh(30); log odds of expression; "
    "half resolution.",
    tags=("islet", "insulin", "immunofluorescence", "classification", "fluorescence", "2d"),
    cite=({"text": "Synthetic stained islets of islet-imaging, see the card", "url":
           "https://github.com/islet-imaging/islet-imaging"},),
)  # fmt: skip
