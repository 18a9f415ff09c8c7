"""Words that every room shares: arrays by what they hold, readers, and how work is to be done.

The idea: a word means one thing in the whole library, so it is defined once, here.
It fails to check shapes; docstrings state them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import Cancelled

Item = TypeVar("Item")
Result = TypeVar("Result")
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
#: a label image: 0 is background
Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
#: rows and columns of an image, px
Region = tuple[slice, slice]
#: ``read(rows, columns)`` gives that part of one plane
ReadPlane = Callable[[slice, slice], NDArray[Any]]
#: ``read(channel, region)`` gives that part of a channel
ReadChannel = Callable[[str, Region], NDArray[Any]]


class View(Protocol):
    """An image as a worker sees it who computes a part of it."""

    #: where parts leave what others need, a folder that all workers see
    scratch: Path
    #: where networks run
    device: str

    def dna(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Corrected pixels of the DNA channel."""

    def corrected(self, name: str, rows: slice, columns: slice) -> NDArray[Any]:
        """Corrected pixels of any channel."""

    def stored(self, name: str, region: Region) -> NDArray[Any]:
        """Pixels of any channel as stored."""

    def labels(self, rows: slice, columns: slice) -> Labels:
        """Nuclei, once they are there."""


class Spread(Protocol):
    """Computes parts of a large image wherever there is room."""

    #: where parts leave what others need
    scratch: Path

    def __call__(
        self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]
    ) -> Iterator[Any]:
        """Begin ``function(view, *item)`` for all items; the results, in the items' order."""


@dataclass(frozen=True)
class Work:
    """How a piece of work is done and who watches; changes no number.

    Parameters
    ----------
    threads : int, optional
        Threads at the same time; the number of usable cores when not given.
    device : {"auto", "cpu", "cuda", "mps"}
        Where networks run.
    tile_px : int, optional
        Edge of the parts worked on at a time, px; changes memory, never labels.
    progress : callable, optional
        Called with (done, total).
    cancelled : callable, optional
        Asked now and then; when true, :class:`~islet_imaging.errors.Cancelled` is raised.
    spread : callable, optional
        Computes parts of a large image elsewhere; see `Spread`.

    Examples
    --------
    >>> Work(cancelled=lambda: False).stop_if_asked("segmentation")
    """

    threads: int | None = None
    device: str = "auto"
    tile_px: int | None = None
    progress: Callable[[int, int], None] | None = None
    cancelled: Callable[[], bool] | None = None
    spread: Spread | None = None

    @property
    def at_once(self) -> int:
        """Threads to use, at least one."""
        return max(1, usable_cores() if self.threads is None else self.threads)

    def stop_if_asked(self, what: str) -> None:
        """Raise `Cancelled` if whoever watches wants no more of it."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled(f"{what} was stopped on request")

    def tell(self, done: int, total: int) -> None:
        """Say how much is done."""
        if self.progress is not None:
            self.progress(done, total)


def side_by_side(
    call: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> list[Result]:
    """Results of ``call`` for each item, in order, so many at the same time.

    Worth its while for calls that spend their time inside numpy on large arrays.

    Examples
    --------
    >>> side_by_side(abs, [-1, 2], threads=2)
    [1, 2]
    """
    todo = list(items)
    if min(threads, len(todo)) < 2:
        return [call(item) for item in todo]
    with ThreadPoolExecutor(min(threads, len(todo))) as pool:
        return list(pool.map(call, todo))


def usable_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
