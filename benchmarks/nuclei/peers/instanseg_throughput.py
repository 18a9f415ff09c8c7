"""Seconds of InstanSeg with its own post-processing on one image at 0.5 um per px."""

import sys

import numpy as np
import torch
from instanseg import InstanSeg
from instanseg.utils.utils import download_model
from timing import report

torch.set_num_threads(int(sys.argv[2]))
model = InstanSeg(download_model("fluorescence_nuclei_and_cells", "0.1.1"), "cpu", verbosity=0)
image = np.load(sys.argv[1]).astype(np.float32)
report(
    lambda: model.eval_small_image(
        image, pixel_size=0.5, target="nuclei", return_image_tensor=False
    )
)
