"""InstanSeg with its real weights (fluorescence_nuclei_and_cells 0.1.1, TorchScript).

The network wants 0.5 um per px.  When the diameter is told, the image is rescaled so that a
nucleus is 16 px across, which is 8 um at that size; when not, it is given as it is, which is what
happens without a pixel size.  ``INSTANSEG_DIAMETER_PX`` changes the 16, to look for its best scale.
Percentiles 0.1 and 99.9 as its own code does.
"""

import os
import sys
from pathlib import Path

import instanseg_folder
import numpy as np
import torch
from common import run
from torch.nn.functional import interpolate

torch.set_num_threads(2)
net = torch.jit.load(
    Path(instanseg_folder.PATH) / "fluorescence_nuclei_and_cells/0.1.1/instanseg.pt"
)
DIAMETER_PX = float(os.environ.get("INSTANSEG_DIAMETER_PX", "16"))


def segment(dna, diameter):
    image = torch.from_numpy(dna.astype(np.float32))[None, None]
    if diameter:
        size = [max(32, round(n * DIAMETER_PX / diameter)) for n in dna.shape]
        image = interpolate(image, size=size, mode="bilinear", antialias=True)
    low, high = np.percentile(image.numpy(), [0.1, 99.9])
    image = (image - low) / max(1e-3, high - low)
    pad = [(-n) % 32 for n in image.shape[-2:]]
    padded = torch.nn.functional.pad(image, (0, pad[1], 0, pad[0]), mode="replicate")
    with torch.no_grad():
        found = net(padded, target_segmentation=torch.tensor([1, 0]))
    found = found[:, :1, : image.shape[-2], : image.shape[-1]].float()
    return interpolate(found, size=dna.shape, mode="nearest")[0, 0].numpy()


sys.stdout.flush()
run(segment)
