"""One writer at a time in a run folder.

The idea: whoever writes a run holds the operating system's lock on ``RUN/.lock``.  The system gives
it back when the holder ends, however it ends, so there is no stale lock to clear on Linux, macOS or
Windows; who holds it stands beside in ``.lock.json``, for the message only.  Readers need none:
what they read proves itself (`docs/run_folder.md`).
It fails to keep two machines apart on a network folder whose server does not know locks; then the
log says so and the run goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from islet_imaging.errors import IsletImagingError

log = logging.getLogger(__name__)


class RunBusyError(IsletImagingError):
    """Somebody else is writing into the run folder."""


class RunLock:
    """The right to write into a run folder, for one process or one part of it.

    Parameters
    ----------
    run : path
        The run folder; it must exist.
    doing : str
        What for, in one word or two: shown to whoever comes second.

    Raises
    ------
    RunBusyError
        On entering, at once, where another process, or another part of this one, holds it; the
        message says who and since when.
    IsletImagingError
        Where the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with RunLock(folder, "score"):
    ...     try:
    ...         RunLock(folder, "summarize").acquire()
    ...     except RunBusyError as error:
    ...         print("score" in str(error))
    True
    >>> RunLock.holder(folder) is None
    True
    """

    def __init__(self, run: str | os.PathLike[str], doing: str = "write") -> None:
        self.run = Path(run)
        self.doing = doing
        self._held: Any = None

    def acquire(self) -> RunLock:
        """Take the lock or raise; never waits for longer than a moment."""
        import filelock

        path = self.run / ".lock"
        if not self.run.is_dir():
            raise IsletImagingError(f"{self.run}: there is no such folder")
        # a moment's patience: somebody may only be asking who holds it
        lock = filelock.FileLock(path, timeout=0.2, thread_local=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise RunBusyError(
                f"{self.run}: {_told(self.run)}; wait until it is done, or write into another "
                "run folder"
            ) from None
        except NotImplementedError:
            log.warning("%s: this folder knows no locks; do not score into it twice", self.run)
            return self
        except OSError as error:
            raise IsletImagingError(
                f"{self.run}: this run folder cannot be written ({error.strerror or error}); "
                "check its permissions"
            ) from error
        self._held = lock
        holder = {
            "doing": self.doing,
            "process": os.getpid(),
            "machine": socket.gethostname(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        with contextlib.suppress(OSError):  # for a message only
            (self.run / ".lock.json").write_text(json.dumps(holder), "utf-8")
        return self

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        if self._held is not None:
            with contextlib.suppress(OSError):
                (self.run / ".lock.json").unlink()
            self._held.release()
            self._held = None

    def __enter__(self) -> RunLock:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    @staticmethod
    def holder(run: str | os.PathLike[str]) -> dict[str, Any] | None:
        """Who writes into a run folder now: ``doing, process, machine, since``; None for nobody.

        Parameters
        ----------
        run : path
            The run folder.
        """
        import filelock

        if not (Path(run) / ".lock").exists():
            return None
        try:
            with filelock.FileLock(Path(run) / ".lock", timeout=0):
                return None
        except filelock.Timeout:
            return _holder(Path(run))
        except (OSError, NotImplementedError):
            return None


def _holder(run: Path) -> dict[str, Any]:
    try:
        found = json.loads((run / ".lock.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _told(run: Path) -> str:
    who = _holder(run)
    if not who:
        return "another process is writing into this run folder"
    return (
        f"`{who.get('doing')}` is writing into this run folder (process {who.get('process')} on "
        f"{who.get('machine')}, since {who.get('since')})"
    )
