"""What a file holds, before anybody names its channels: the common form of every format.

The idea: each format turns a file into one `Source`, channels by planes by rows by columns, with
what the file itself says of names, pixel size and acquisition; `read_image` then binds it to a
protocol in one place.  Pixels stay in the file until a region of a plane is asked for.
It fails, at opening, when the file's axes do not come down to channels, planes, Y and X.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region

#: ``read(channel, plane, region or None)`` gives pixels (Y, X)
PlaneReader = Callable[[int, int, Region | None], NDArray[Any]]


@dataclass(frozen=True)
class FileChannel:
    """One channel as the file has it."""

    #: what the file calls it; empty when it says nothing
    name: str = ""
    #: other words by which a protocol's ``source`` may find it (a dye, a file-name token)
    aliases: tuple[str, ...] = ()
    #: facts of this channel's acquisition (exposure_s, emission_nm, ...)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """Name and aliases, those that are not empty."""
        return tuple(w for w in (self.name, *self.aliases) if w)


@dataclass(frozen=True)
class Source:
    """An opened image file, or several that make one image."""

    paths: tuple[Path, ...]
    channels: tuple[FileChannel, ...]
    #: number of focal planes
    n_planes: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    read: PlaneReader = field(repr=False, compare=False)
    #: where channel names come from; empty when the file names none
    names_source: str = ""
    #: height and width of a pixel, um; None where the file does not say
    pixel_size_um: tuple[float, float] | None = None
    pixel_size_source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: the word for the axis that became channels: "channels", "pages", "colours"
    channel_axis: str = "channels"
    #: planes of one channel are separate pages without any axis information
    bare_pages: bool = False

    @property
    def named(self) -> bool:
        """Whether the file names its channels."""
        return any(c.name for c in self.channels)

    @property
    def labels(self) -> tuple[str, ...]:
        """A word for every channel: its name, else ``channel 1`` ..."""
        return tuple(c.name or f"channel {i}" for i, c in enumerate(self.channels, start=1))
