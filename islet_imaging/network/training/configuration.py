"""Read the configuration of a training from YAML.

The idea: a training is a frozen dataclass; its file names the fields that differ from the defaults.
It fails, naming them, on keys that the dataclass does not have.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from islet_imaging.errors import ProtocolError

T = TypeVar("T")


def read_config(kind: type[T], path: Path) -> T:
    """Make a dataclass from a YAML file; lists become tuples."""
    values: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ProtocolError(
            f"{path}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
