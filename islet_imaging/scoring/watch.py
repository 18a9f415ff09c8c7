"""A folder that is still being filled: scored again whenever new files are whole.

The idea: the folder is listed every few seconds, and a file is taken once its size and time have
not changed for a while, measured by our own clock, so it works on network shares, where nobody
tells of changes and clocks differ.  Each round is an ordinary `score_folder` over the files that
are whole: finished images are kept, tables are exchanged at once, and a stop at any moment leaves
those of the last round.  What the last round wrote is what one `score_folder` would have written.
It fails for a microscope that pauses within a file for longer than the wait; such an image is
measured again when its file has changed.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from islet_imaging.errors import Cancelled, IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.reading.listing import is_run_folder
from islet_imaging.run.files import RunWriteError
from islet_imaging.run.folder import Run
from islet_imaging.scoring.folder import FolderProgress, score_folder
from islet_imaging.scoring.places import check_places

log = logging.getLogger(__name__)

#: a file is whole when nothing of it has changed for so long, s
SETTLE_S = 10.0
#: seconds between two looks at the folder, as a part of `SETTLE_S`
_LOOKS = 4
#: seconds between two looks whether to stop
_ASK_S = 0.2

#: size in bytes and time of the last change, ns
Facts = tuple[int, int]


class Settling:
    """Which files of a folder have not changed for a while.

    Parameters
    ----------
    root : Path
        The folder.
    settle_s : float
        For how long a file must be unchanged, s.
    clock : callable
        Seconds that only go forward.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> _ = (root / "a.tif").write_bytes(b"part")
    >>> now = [0.0]
    >>> folder = Settling(root, 10.0, lambda: now[0])
    >>> [p.name for p in folder.look()], folder.settled
    (['a.tif'], {})
    >>> now[0] = 10.0
    >>> folder.look(), [p.name for p in folder.settled]
    (set(), ['a.tif'])
    """

    def __init__(
        self, root: Path, settle_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root, self._settle_s, self._clock = root, settle_s, clock
        self._since: dict[Path, tuple[Facts, float]] = {}
        #: files that are whole, with what the system says of them
        self.settled: dict[Path, Facts] = {}

    def look(self) -> set[Path]:
        """List the folder once more; the files that are still being written."""
        now = self._clock()
        since: dict[Path, tuple[Facts, float]] = {}
        for path, facts in _facts_of_folder(self._root):
            before = self._since.get(path)
            since[path] = before if before is not None and before[0] == facts else (facts, now)
        self._since = since
        self.settled = {
            p: facts for p, (facts, t) in since.items() if facts[0] and now - t >= self._settle_s
        }
        return {p for p in since if p not in self.settled}


def _facts_of_folder(folder: Path) -> list[tuple[Path, Facts]]:
    """Every file under a folder but those of runs; an OME-Zarr counts as one file."""
    found: list[tuple[Path, Facts]] = []
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda e: e.name)
    except OSError as error:  # a share that is away for a moment: nothing new is there
        log.warning("%s: cannot be listed (%s)", folder, error.strerror or error)
        return found
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith((".", "~")):
            continue
        if entry.is_dir():
            if entry.is_symlink() or is_run_folder(path):
                continue
            inside = _facts_of_folder(path)
            if path.suffix.lower() == ".zarr":
                sizes = [facts[0] for _, facts in inside]
                times = [facts[1] for _, facts in inside]
                found.append((path, (sum(sizes), max(times, default=0) + len(sizes))))
            else:
                found += inside
            continue
        try:
            stat = path.stat()  # of the entry's own, Windows gives what it noted at some time
        except OSError:
            continue
        found.append((path, (stat.st_size, stat.st_mtime_ns)))
    return found


def watch_folder(
    folder: str | Path,
    out: str | Path,
    *,
    settle_s: float = SETTLE_S,
    protocol: Protocol | str | Path | None = None,
    samples: str | Path | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    nuclei: str | Path | None = None,
    cells: str | Path | None = None,
    regions: str | Path | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    device: str = "auto",
    progress: FolderProgress | None = None,
    scored: Callable[[Run, int], None] | None = None,
    waits: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool],
) -> Run | None:
    """Score a folder again and again while it is being filled.

    Parameters
    ----------
    folder, out, protocol, samples, include, exclude, nuclei, cells, regions
        As for `score_folder`.
    workers, executor, device, progress
        As for `score_folder`.  Without a protocol one is drafted in every round, from the files
        that are there by then.  A sample sheet is read anew in every round; rows whose file is not
        there yet are failed until it is.
    settle_s : float
        A file is taken once its size and time have not changed for so long, s.
    scored : callable, optional
        ``scored(run, waiting)`` after every round, with the number of files still being written.
    waits : callable, optional
        Told why there is nothing to score yet; once for every reason.
    cancelled : callable
        Asked all the time; True ends the watch.

    Returns
    -------
    Run or None
        Of the last round that was finished; None if there was none.

    Raises
    ------
    IsletImagingError
        If folder, run folder or protocol cannot be used at all.

    Examples
    --------
    Watched until one image is scored:

    >>> import tempfile
    >>> from islet_imaging import watch_folder
    >>> from islet_imaging.phantom import write_experiment
    >>> folder, rounds = Path(tempfile.mkdtemp()), []
    >>> sheet = write_experiment(folder / "stainings", n_conditions=1, n_batches=1, n_islets=1,
    ...                          controls=False, shape=(160, 160))
    >>> run = watch_folder(folder / "stainings", folder / "run", settle_s=0.2, workers=1,
    ...                    scored=lambda run, waiting: rounds.append(len(run.images)),
    ...                    cancelled=lambda: bool(rounds))
    >>> rounds
    [1]
    """
    root, out = Path(folder), Path(out)
    check_places(root, out)
    if protocol is not None and not isinstance(protocol, Protocol):
        Protocol.load(protocol)  # what is wrong with it will not heal by waiting
    settling = Settling(root, settle_s)
    last: Run | None = None
    done: object = None
    told = ""
    while not cancelled():
        waiting = settling.look()
        sheet = None if samples is None else _facts(Path(samples))
        if settling.settled and (state := (settling.settled, sheet)) != done:
            try:
                last = score_folder(
                    root,
                    out,
                    protocol=protocol,
                    samples=samples,
                    include=include,
                    exclude=exclude,
                    nuclei=nuclei,
                    cells=cells,
                    regions=regions,
                    waiting=waiting,
                    workers=workers,
                    executor=executor,
                    device=device,
                    progress=progress,
                    cancelled=cancelled,
                )
            except Cancelled:
                break
            except RunWriteError:
                raise
            except IsletImagingError as error:
                # more files may settle what these do not say
                if str(error) != told and waits is not None:
                    waits(str(error))
                told = str(error)
            else:
                told = ""
                if scored is not None:
                    scored(last, len(waiting))
            done = state
        _sleep(settle_s / _LOOKS, cancelled)
    return last


def _facts(path: Path) -> Facts | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _sleep(seconds: float, cancelled: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not cancelled():
        time.sleep(min(left, _ASK_S))
