"""Seconds of StarDist's network (2D_versatile_fluo's configuration, random weights) on one image.

Its weights cannot be had without a download from outside the package index, so this is speed only,
without its post-processing.
"""

import sys
import tempfile

import numpy as np
import tensorflow as tf
from stardist.models import Config2D, StarDist2D
from timing import report

tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[2]))
config = Config2D(n_rays=32, grid=(2, 2), n_channel_in=1)
image = np.load(sys.argv[1]).astype(np.float32)
image = (image - image.min()) / (image.max() - image.min())
with tempfile.TemporaryDirectory() as folder:
    model = StarDist2D(config, name="speed", basedir=folder)
    report(lambda: model.predict(image))
