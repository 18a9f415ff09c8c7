"""Seconds of StarDist's network (2D_versatile_fluo's configuration, random weights) on one image.

Its weights cannot be had without a download from outside the package index, so this is speed only,
without its post-processing.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from stardist.models import Config2D, StarDist2D

config = Config2D(n_rays=32, grid=(2, 2), n_channel_in=1)
image = np.load(Path(sys.argv[1]) / "0.npy").astype(np.float32)
image = (image - image.min()) / (image.max() - image.min())
with tempfile.TemporaryDirectory() as folder:
    model = StarDist2D(config, name="speed", basedir=folder)
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        model.keras_model.predict(image[None, ..., None], verbose=0)
        seconds.append(time.perf_counter() - begun)
print(json.dumps({"seconds": min(seconds[1:])}))
