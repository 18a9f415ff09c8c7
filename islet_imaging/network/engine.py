"""What the network runs on: ONNX Runtime, or torch on a graphics card.

The idea: ONNX Runtime on the processor is small and needs no torch, so it is the default;
``benchmarks/nuclei/throughput.py`` holds it against torch and OpenVINO, which is faster only where
it rounds to bfloat16, so that calls would hang on the processor. A session uses one thread
and blocks run side by side, which is faster than sharing one block among threads and makes the sums
independent of the number of workers. When torch is installed and sees a CUDA or Apple card, the
same weights run there; that, and which engine it is, goes to the log.

Nothing is sent: ONNX Runtime's wheels of 2026 queue events for their vendor unless
``ORT_DISABLE_TELEMETRY`` stands in the environment while the library is loaded; its own switch
comes too late.  The variable is therefore set for exactly that moment and put back
(`onnx_runtime`), in every process that runs a network.

On the processor the network's integer weights run where it has them: about three times as fast, and
made so that every processor gives the same bits (``training/integers.py``).  Float32 is for cards
and for networks without integers; its last bits hang on the processor.

It fails clearly when a device is asked for that is not there.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from islet_imaging._types import Float32
from islet_imaging.errors import ModelError

if TYPE_CHECKING:
    from islet_imaging.network.weights import Model

log = logging.getLogger(__name__)

_SILENT = "ORT_DISABLE_TELEMETRY"
_loading = threading.Lock()


def onnx_runtime() -> Any:
    """ONNX Runtime, loaded with its telemetry off; the environment is afterwards as it was.

    A program that has loaded ``onnxruntime`` itself before has decided for itself.

    Examples
    --------
    >>> "CPUExecutionProvider" in onnx_runtime().get_available_providers()
    True
    """
    with _loading:
        if "onnxruntime" in sys.modules:
            return sys.modules["onnxruntime"]
        before = os.environ.get(_SILENT)
        os.environ[_SILENT] = "1"
        try:
            library = importlib.import_module("onnxruntime")
        finally:
            if before is None:
                del os.environ[_SILENT]
            else:
                os.environ[_SILENT] = before
        library.disable_telemetry_events()
        return library


class Engine(Protocol):
    """A network ready to run."""

    name: str
    settings: dict[str, Any]

    def run(self, image: Float32) -> Float32:
        """Map (1, C, Y, X) to the network's output; safe to call from several threads."""


@lru_cache(maxsize=1)
def _share_memory(library: Any) -> None:
    """One arena of memory for all networks of this process instead of one for each."""
    kinds = library.OrtAllocatorType.ORT_ARENA_ALLOCATOR, library.OrtMemType.DEFAULT
    where = library.OrtMemoryInfo("Cpu", kinds[0], 0, kinds[1])
    try:
        library.create_and_register_allocator(where, None)
    except Exception as error:  # one that the program around us has registered before serves
        log.debug("memory of networks is shared as the program set it: %s", error)


class OnnxEngine:
    """A network in ONNX Runtime on the processor, one thread for each call."""

    def __init__(
        self,
        model: Path | bytes,
        settings: dict[str, Any] | None = None,
        *,
        numbers: str = "float32",
    ) -> None:
        onnxruntime = onnx_runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # blocks differ in shape at the image's end: patterns of memory would pile up
        options.enable_mem_pattern = False
        # what one network gave back is there for the next
        _share_memory(onnxruntime)
        options.add_session_config_entry("session.use_env_allocators", "1")
        # bytes, so that a graph can point to no file beside it, which nobody checked
        data = model.read_bytes() if isinstance(model, Path) else model
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library raises nine kinds of its own
            text = " ".join(str(error).split())[:200]
            raise ModelError(f"the network cannot be run: {text}") from error
        self._input = self._session.get_inputs()[0].name
        self.name = f"ONNX Runtime {onnxruntime.__version__} (CPU, {numbers})"
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

    return _engine_of(load_model(model), device)


def _engine_of(loaded: Model, device: str) -> Engine:
    if device == "auto":
        device = find_card() or "cpu"
    elif device not in ("cpu", "cuda", "mps"):
        raise ModelError(f"device {device!r} is not known; use auto, cpu, cuda or mps")
    elif device != "cpu" and find_card() != device:
        raise ModelError(f"device {device!r} was asked for, but torch does not see one here")
    engine: Engine
    if device == "cpu":
        file = loaded.processor_weights
        numbers = "float32" if file == "weights.onnx" else "8-bit integers"
        engine = OnnxEngine(loaded.weights(file), loaded.settings, numbers=numbers)
    else:
        engine = TorchEngine(loaded.torch_module(), device, loaded.settings)
    log.info("%s runs on %s", loaded.name, engine.name)
    return engine


def device_of(device: str) -> str:
    """The device that "auto" means here; another as it is."""
    return find_card() or "cpu" if device == "auto" else device


def shared_engine(model: str, device: str = "auto") -> Engine:
    """Return the engine of a model, made once in this process for the same files."""
    from islet_imaging.network.weights import load_model

    return _kept_engine(_ByIdentity(load_model(model)), device)


class _ByIdentity:
    """A model that is equal to another with the same weights and settings only."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._key = (str(model.folder), model.package_sha256)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self._key == other._key


@lru_cache(maxsize=4)
def _kept_engine(one: _ByIdentity, device: str) -> Engine:
    return _engine_of(one.model, device)
