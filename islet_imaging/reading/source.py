"""What a file holds, before anybody names its channels: the common form of every format.

The idea: each format turns a file into one `Source`, channels by planes by rows by columns, with
what the file itself says of names, pixel size and acquisition; `read_image` then binds it to a
protocol in one place.  Pixels stay in the file until a region of a plane is asked for.
It fails, at opening, when the file's axes do not come down to channels, planes, Y and X.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import ImageReadError

COLOURS = ("red", "green", "blue")

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
    #: names that the file gives to another number of channels than it has
    unplaced: tuple[str, ...] = ()
    #: every file that pixels or metadata come from, where those are more than ``paths``
    members: tuple[Path, ...] = ()

    @property
    def named(self) -> bool:
        """Whether the file names its channels."""
        return any(c.name for c in self.channels)

    @property
    def labels(self) -> tuple[str, ...]:
        """A word for every channel that no other has: its name, else a dye, else ``channel 1``."""
        names = [c.name for c in self.channels]
        words = [w for c in self.channels for w in {*c.words}]
        out = []
        for i, channel in enumerate(self.channels, start=1):
            own = [w for w in channel.words if words.count(w) == 1]
            name = channel.name if channel.name and names.count(channel.name) == 1 else ""
            out.append(name or (own[0] if own else f"channel {i}"))
        return tuple(out)


def no_scene(path: Path, scene: str | None) -> None:
    """Refuse a part of a file that has no parts."""
    if scene is not None:
        raise ImageReadError(f"{path}: holds one image, none called {scene!r}; leave that away")


def pick_scene(path: Path, names: tuple[str, ...], scene: str | None) -> int:
    """Number of the scene that is asked for, among a file's several.

    Raises
    ------
    ImageReadError
        If the file has several and none is asked for, or not the one that is.
    """
    if scene is not None and scene in names:
        return names.index(scene)
    if len(names) == 1 and scene is None:
        return 0
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    if scene is not None:
        raise ImageReadError(f"{path}: holds no image {scene!r}; it has {shown}")
    raise ImageReadError(
        f"{path}: holds {len(names)} images ({shown}); name one of them behind the file, such as "
        f"{path.name}/{names[0]}, or score the folder"
    )


def scene_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of a file's scenes as parts of a path: each once, none empty, no separators.

    Examples
    --------
    >>> scene_names(["Series 1", "a/b", "a/b", ""])
    ('Series 1', 'a_b', 'a_b 3', 'scene 4')
    """
    out: list[str] = []
    for i, name in enumerate(names, start=1):
        plain = re.sub(r'[\x00-\x1f/\\\\:*?"<>|]', "_", name).strip(" .")[:100] or f"scene {i}"
        if plain.casefold() in {o.casefold() for o in out}:
            plain = f"{plain} {i}"
        out.append(plain)
    return tuple(out)
