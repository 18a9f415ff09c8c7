"""Jobs: long work started from a widget, with progress and a cancel that works.

The idea: a `QProcess` runs `napari_islet_imaging.viewer.work`; its messages arrive in Qt's event
loop, so there is no thread to synchronise with and nothing that can block the window.
It fails, with what the process last said, when the process dies.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QProcess, QTimer, Signal

#: how long a cancelled job may take to stop by itself, ms
_PATIENCE_MS = 3000


class Job(QObject):
    """One piece of long work in a process of its own.

    Parameters
    ----------
    kind : str
        See `napari_islet_imaging.viewer.work`.
    parameters : dict
        Plain values.
    """

    #: done, total, what
    progress = Signal(int, int, str)
    #: whatever else the work tells before it is done
    news = Signal(dict)
    succeeded = Signal(dict)
    failed = Signal(str)
    cancelled = Signal()
    #: after any of these three
    ended = Signal()

    def __init__(
        self, kind: str, parameters: dict[str, Any], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._folder = tempfile.TemporaryDirectory(prefix="islet-imaging-")
        path = Path(self._folder.name) / "job.json"
        path.write_text(json.dumps({"kind": kind, **parameters}), encoding="utf-8")
        self._stopping = False
        self._outcome: dict[str, Any] = {}
        self._errors = b""
        self._buffer = b""
        self._process = QProcess(self)
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.readyReadStandardError.connect(self._read_errors)
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._not_started)
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self._process.kill)
        self._process.start(sys.executable, ["-m", "napari_islet_imaging.viewer.work", str(path)])

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return bool(self._process.state() != QProcess.ProcessState.NotRunning)

    def cancel(self) -> None:
        """Ask the work to stop; after a few seconds it is stopped."""
        if not self.running:
            return
        self._stopping = True
        self._process.write(b"cancel\n")
        self._patience.start(_PATIENCE_MS)

    def stop_now(self) -> None:
        """End the process at once, as when the window closes."""
        self._stopping = True
        if self.running:
            self._process.kill()
            self._process.waitForFinished(2000)

    def _read(self) -> None:
        self._buffer += bytes(self._process.readAllStandardOutput().data())
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if "what" in message:
                self.progress.emit(message["done"], message["total"], message["what"])
            elif "news" in message:
                self.news.emit(message["news"])
            else:
                self._outcome = message

    def _read_errors(self) -> None:
        self._errors = (self._errors + bytes(self._process.readAllStandardError().data()))[-4000:]

    def _not_started(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self.failed.emit(f"{sys.executable} could not be started")
            self.ended.emit()

    def _finished(self, *_: Any) -> None:
        self._patience.stop()
        self._read()
        self._folder.cleanup()
        if "result" in self._outcome:
            self.succeeded.emit(self._outcome["result"])
        elif self._stopping or "cancelled" in self._outcome:
            self.cancelled.emit()
        elif "error" in self._outcome:
            self.failed.emit(self._outcome["error"])
        else:
            last = self._errors.decode(errors="replace").strip().splitlines()[-1:]
            self.failed.emit("the work ended without a word" + (f": {last[0]}" if last else ""))
        self.ended.emit()
