"""Seconds of Otsu's threshold and watershed on one image, nuclei 15 px across; one thread."""

import sys

import numpy as np
from otsu_watershed import segment
from timing import report

image = np.load(sys.argv[1])
report(lambda: segment(image, 15.0))
