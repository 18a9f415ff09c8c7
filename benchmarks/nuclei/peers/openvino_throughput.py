"""Seconds of a network in OpenVINO on one block."""

import sys

import numpy as np
import openvino
from timing import report

block = np.load(sys.argv[1])
settings = {"INFERENCE_NUM_THREADS": int(sys.argv[2]), "INFERENCE_PRECISION_HINT": sys.argv[4]}
compiled = openvino.Core().compile_model(sys.argv[3], "CPU", settings)
report(lambda: compiled(block))
