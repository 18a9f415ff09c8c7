"""Names that a review shows: whose edits these are, and what a blinded reviewer calls an image.

The idea: the order of a blinded review hangs on run and reviewer alone, so the same person finds it
again after a break, and another person gets another.
It fails to hide an image whose look tells which one it is.
"""

from __future__ import annotations

import getpass
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def login_name() -> str:
    """The name under which edits are kept unless another is given."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "reviewer"


def seed_of(run: Path, reviewer: str) -> int:
    """What a person's order in a run is drawn from."""
    return zlib.crc32(f"{run.resolve()}\n{reviewer}".encode())


def blind_names(images: Iterable[str], seed: int) -> dict[str, str]:
    """A name for every image that tells nothing of it.

    Examples
    --------
    >>> sorted(blind_names(["b.tif", "a.tif"], 3).values())
    ['image 1', 'image 2']
    """
    names = sorted(images)
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[i]: f"image {k + 1}" for k, i in enumerate(order)}
