"""One writer at a time, and no lock that outlives its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from islet_imaging.errors import IsletImagingError
from islet_imaging.run.lock import RunBusyError, RunLock

_HOLDER = """
import sys, time
from islet_imaging.run.lock import RunLock
with RunLock(sys.argv[1], "score"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_told_who_and_at_once(tmp_path: Path) -> None:
    with RunLock(tmp_path, "score"):
        with pytest.raises(RunBusyError, match=f"`score`.*process {os.getpid()}"):
            RunLock(tmp_path, "summarize").acquire()
        assert RunLock.holder(tmp_path)["doing"] == "score"
    assert RunLock.holder(tmp_path) is None
    with RunLock(tmp_path, "summarize"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        assert RunLock.holder(tmp_path)["process"] == process.pid
        with pytest.raises(RunBusyError):
            RunLock(tmp_path, "score").acquire()
        os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()
    assert RunLock.holder(tmp_path) is None
    with RunLock(tmp_path, "score"):
        pass


def test_releasing_twice_is_no_harm(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, "score").acquire()
    lock.release()
    lock.release()


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsletImagingError, match="no such folder"):
        RunLock(tmp_path / "nowhere", "score").acquire()
    assert not (tmp_path / "nowhere").exists()
