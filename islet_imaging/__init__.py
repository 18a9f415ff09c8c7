"""islet-imaging: the share of insulin-positive cells in stained islets, with its uncertainty.

Names are loaded when first used, so that importing the package is quick and silent.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "IsletImage": "image",
    "Protocol": "protocol",
    "Channel": "protocol",
    "IsletImagingError": "errors",
}

__all__ = sorted(_WHERE)

if TYPE_CHECKING:
    from islet_imaging.errors import IsletImagingError
    from islet_imaging.image import IsletImage
    from islet_imaging.protocol import Channel, Protocol


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'islet_imaging' has no attribute {name!r}")
    return getattr(importlib.import_module(f"islet_imaging.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
