"""Packages that carry the name of the one function they are for: `phantom` and `export`.

The idea: Python binds a subpackage to its parent's attribute when it is imported, so
``islet_imaging.export`` would be the function or the package depending on what was imported
before.  Making the package itself callable lets the name work either way.
It fails for anything but calling: help texts show the package.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def make_callable(package: str, function: Callable[..., Any]) -> None:
    """Let the imported package named ``package`` be called as ``function``."""

    class CallablePackage(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

    sys.modules[package].__class__ = CallablePackage
