"""How much memory a folder's images will take, told before the first is opened.

The idea: what an image takes follows from its size and channels, with coefficients that were
measured (`benchmarks/speed/growth.py`); the largest images decide, so only the headers of the
largest files are read.  What is free is what the system says, or what a container or a cluster's
job may still use, whichever is less.  If not all workers fit, fewer are started, with a word.
It fails where other programs take the memory afterwards, and for files that hold far more pixels
than their size on disk tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from islet_imaging.image import WHOLE_PX
from islet_imaging.protocol import Protocol
from islet_imaging.scoring.task import Task, read_task

#: a process with its libraries and networks, bytes
PROCESS = 450e6
#: of an image that is worked on whole, bytes per pixel: labels and masks; and each channel
PER_PX, PER_CHANNEL_PX = 45.0, 12.0
#: of an image that is worked on in parts: tiles; and bands of labels, bytes per pixel of a row
PARTS, PER_ROW_PX = 500e6, 22_000.0
#: headers that are read, of the largest files
LOOKED_AT = 8
#: share of the free memory that may be used
SHARE = 0.9


@dataclass(frozen=True)
class Need:
    """What the image that takes most will take.

    Parameters
    ----------
    image : str
        Its name.
    shape : tuple of int
        Height and width, px.
    channels : int
        How many.
    """

    image: str
    shape: tuple[int, int]
    channels: int

    @property
    def bytes(self) -> float:
        """Of one process that scores it, libraries included.

        Examples
        --------
        >>> round(Need("a.tif", (2048, 2048), 3).bytes / 1e9, 1)
        0.8
        >>> round(Need("slide.tif", (20_000, 20_000), 3).bytes / 1e9, 1)
        1.4
        """
        pixels = self.shape[0] * self.shape[1]
        if pixels > WHOLE_PX:
            return PROCESS + PARTS + PER_ROW_PX * self.shape[1]
        return PROCESS + pixels * (PER_PX + PER_CHANNEL_PX * self.channels)

    def __str__(self) -> str:
        return (
            f"memory: about {self.bytes / 1e9:.1f} GB ({self.image}, {self.shape[1]} x "
            f"{self.shape[0]} px, {self.channels} channels)"
        )


def largest_need(tasks: Sequence[Task]) -> Need | None:
    """What the most demanding image needs; None where no header can be read."""

    def size(task: Task) -> int:
        return sum(int(stamp.get("bytes", 0)) for stamp in task.stamps.values())

    found = []
    for task in sorted(tasks, key=size, reverse=True)[:LOOKED_AT]:
        # what is wrong with an image is said when it is measured
        with suppress(Exception):
            image = read_task(task, Protocol.from_dict(task.protocol))
            found.append(Need(task.image, image.shape, len(image.channel_names)))
    return max(found, key=lambda n: n.bytes, default=None)


def free_bytes() -> float:
    """Memory that new processes may take, bytes.

    Examples
    --------
    >>> free_bytes() > 1e6
    True
    """
    import psutil

    free = float(psutil.virtual_memory().available)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes",
         "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):  # fmt: skip
        try:
            most = Path(limit).read_text("ascii").strip()
            taken = Path(used).read_text("ascii").strip()
        except OSError:
            continue
        if most.isdigit() and taken.isdigit():
            free = min(free, max(float(most) - float(taken), 0.0))
    return free


def fitting(workers: int, need: Need | None, free: float) -> tuple[int, str]:
    """How many of the workers fit into the memory, and a sentence.

    Parameters
    ----------
    workers : int
        Wanted.
    need : Need or None
        Of the largest image.
    free : float
        Bytes.

    Examples
    --------
    >>> need = Need("a.tif", (4096, 4096), 3)
    >>> print(fitting(1, need, 100e9)[1])
    memory: about 1.8 GB (a.tif, 4096 x 4096 px, 3 channels) for one worker; 100.0 GB are free
    >>> fitting(4, need, 4.5e9)[0], fitting(4, need, 1e9)[0]
    (2, 1)
    """
    if need is None:
        return workers, ""
    room = max(1, min(workers, int(SHARE * free / need.bytes)))
    each = f"for each of {workers} workers" if workers > 1 else "for one worker"
    said = f"{need} {each}; {free / 1e9:.1f} GB are free"
    if room < workers:
        said += f": {room} worker{'s' if room > 1 else ''} instead of {workers}"
    elif need.bytes > free:
        said += ": it may not be enough; close other programs, or crop the image"
    return room, said
