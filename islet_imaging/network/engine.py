"""What the network runs on: ONNX Runtime, or torch on a graphics card.

The idea: ONNX Runtime on the processor is small and needs no torch, so it is the default;
``benchmarks/nuclei/throughput.py`` holds it against torch and OpenVINO, which is faster only where
it rounds to bfloat16, so that calls would hang on the processor. A session uses one thread
and blocks run side by side, which is faster than sharing one block among threads and makes the sums
independent of the number of workers. When torch is installed and sees a CUDA or Apple card, the
same weights run there; that, and which engine it is, goes to the log.

It fails clearly when a device is asked for that is not there.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from islet_imaging._types import Float32
from islet_imaging.errors import ModelError

log = logging.getLogger(__name__)


class Engine(Protocol):
    """A network ready to run."""

    name: str
    settings: dict[str, Any]

    def run(self, image: Float32) -> Float32:
        """Map (1, C, Y, X) to the network's output; safe to call from several threads."""


class OnnxEngine:
    """A network in ONNX Runtime on the processor, one thread for each call."""

    def __init__(self, path: Path, settings: dict[str, Any] | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # blocks differ in shape at the image's end: patterns of memory would pile up
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = True
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self.name = f"ONNX Runtime {onnxruntime.__version__} (CPU)"
        self.settings = settings or {}

    def run(self, image: Float32) -> Float32:
        """See `Engine`."""
        output: Float32 = self._session.run(None, {self._input: image})[0]
        return output


class TorchEngine:
    """A network in torch, on a graphics card or for validation during training."""

    def __init__(self, net: Any, device: str, settings: dict[str, Any] | None = None) -> None:
        import torch

        self._torch = torch
        self._device = torch.device(device)
        self._net = net.to(self._device).eval()
        self._lock = threading.Lock()
        self.name = f"torch {torch.__version__} ({device})"
        self.settings = settings or {}

    def run(self, image: Float32) -> Float32:
        """See `Engine`."""
        with self._lock, self._torch.no_grad():
            x = self._torch.from_numpy(np.ascontiguousarray(image)).to(self._device)
            output: Float32 = self._net(x).float().cpu().numpy()
        return output


def find_card() -> str | None:
    """Name of torch's device if there is a card; torch is imported only when one is likely."""
    import platform
    import sys

    likely = Path("/dev/nvidiactl").exists() or os.name == "nt"
    likely = likely or (sys.platform == "darwin" and platform.machine() == "arm64")
    if not likely or importlib.util.find_spec("torch") is None:
        return None
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return None


def make_engine(model: str, device: str = "auto") -> Engine:
    """Make a network ready to run.

    Parameters
    ----------
    model : str
        Name of a shipped network or a folder that holds one.
    device : {"auto", "cpu", "cuda", "mps"}
        ``auto`` takes a card when torch sees one, otherwise the processor.

    Raises
    ------
    ModelError
        When the device is not there or the network's files are damaged.
    """
    from islet_imaging.network.weights import load_model

    loaded = load_model(model)
    if device == "auto":
        device = find_card() or "cpu"
    elif device not in ("cpu", "cuda", "mps"):
        raise ModelError(f"device {device!r} is not known; use auto, cpu, cuda or mps")
    elif device != "cpu" and find_card() != device:
        raise ModelError(f"device {device!r} was asked for, but torch does not see one here")
    engine: Engine
    if device == "cpu":
        engine = OnnxEngine(loaded.onnx_path, loaded.settings)
    else:
        engine = TorchEngine(loaded.torch_module(), device, loaded.settings)
    log.info("%s runs on %s", loaded.name, engine.name)
    return engine


@lru_cache(maxsize=4)
def shared_engine(model: str, device: str = "auto") -> Engine:
    """Return the engine of a model, made once in this process."""
    return make_engine(model, device)
