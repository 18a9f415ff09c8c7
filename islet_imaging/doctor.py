"""Is this installation whole: versions, models, extras, devices.

The idea: the first thing to run when something is odd, and the first thing to paste into a bug
report.  It loads what scoring loads, without changing anything.
It fails to see what only shows on real images: for that there is `islet-imaging demo`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from dataclasses import dataclass

from islet_imaging.errors import IsletImagingError

_EXTRAS = {
    "napari": ("napari", "looking at calls and correcting them in napari"),
    "formats": ("bioio", "CZI, LIF and ND2 files"),
    "export": ("anndata", "AnnData, OME-Zarr and ImageJ ROI export"),
    "dask": ("distributed", "running on a dask cluster"),
    "cloud": ("fsspec", "reading s3://, gs:// and https:// addresses"),
    "train": ("torch", "training and fine-tuning, CUDA and MPS"),
}
_CORE = ("numpy", "scipy", "scikit-image", "tifffile", "pandas", "pyarrow", "onnxruntime")


@dataclass(frozen=True)
class Check:
    """One thing looked at: its name, whether it is there, whether scoring needs it."""

    name: str
    ok: bool
    needed: bool
    message: str


def check_installation() -> list[Check]:
    """Look at Python, libraries, bundled models, extras and devices.

    Returns
    -------
    list of Check

    Examples
    --------
    >>> all(c.ok for c in check_installation() if c.name == "python")
    True
    """
    from islet_imaging import __version__

    checks = [
        Check("islet-imaging", True, True, __version__),
        Check(
            "python",
            sys.version_info >= (3, 11),
            True,
            f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        ),
    ]
    for name in _CORE:
        try:
            checks.append(Check(name, True, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name, False, True, "pip install --upgrade islet-imaging"))
    checks += _models()
    for extra, (module, purpose) in _EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        message = purpose if there else f"{purpose}: pip install 'islet-imaging[{extra}]'"
        checks.append(Check(f"extra {extra}", there, False, message))
    return checks + _windows()


def _windows() -> list[Check]:
    """The one release of a window library that is known to end napari."""
    try:
        found = importlib.metadata.version("PySide6")
    except importlib.metadata.PackageNotFoundError:
        return []
    broken = found == "6.12.0" and sys.version_info < (3, 12)
    told = f"{found} ends Python 3.11 after a while: pip install 'PySide6<6.12', or Python 3.12"
    return [Check("PySide6", not broken, False, told if broken else found)]


def _models() -> list[Check]:
    from islet_imaging.network.weights import load_model, model_names

    checks = []
    for name in model_names():
        try:
            load_model(name)
            checks.append(Check(f"model {name}", True, True, "weights are whole"))
        except IsletImagingError as error:
            checks.append(Check(f"model {name}", False, True, str(error)))
    return checks
