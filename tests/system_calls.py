"""What a process and its children do to files and to the network, seen from outside by strace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

#: calls that make, open for writing or move a file; the path is their last argument in quotes
_CHANGES = re.compile(
    r"\b(?:openat2?|open|creat|mkdir(?:at)?|rename(?:at2?)?|link(?:at)?|symlink(?:at)?|mknod(?:at)?)"
    r"\((.*)"
)
_OPENS = re.compile(r"O_CREAT|O_WRONLY|O_RDWR")
_NETWORK = re.compile(r"\b(?:socket|connect|sendto|sendmsg|sendmmsg|bind)\((.*)")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Traced:
    """What was seen.

    Attributes
    ----------
    done : CompletedProcess
        Of the command.
    written : list of Path
        Files and folders that were made, or opened for writing.
    network : list of str
        Calls that reach beyond this machine's own sockets.
    """

    done: subprocess.CompletedProcess[str]
    written: list[Path]
    network: list[str]

    def outside(self, *places: Path) -> list[Path]:
        """What was written elsewhere than in these places, and no device."""
        allowed = (*places, Path("/dev"), Path("/proc"))
        return sorted({p for p in self.written if not any(p.is_relative_to(a) for a in allowed)})


def traced(command: Sequence[str | Path], folder: Path, timeout_s: float = 600) -> Traced:
    """Run a command with an own home and temporary folder in ``folder``, watched.

    Parameters
    ----------
    command : sequence of str or Path
        What to run, in ``folder``.
    folder : Path
        Gets ``home``, ``tmp`` and ``calls.txt``.
    timeout_s : float
        Longest time.
    """
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    log = folder / "calls.txt"
    # an own telemetry switch of whoever runs the tests must not help
    kept = {k: v for k, v in os.environ.items() if "TELEMETRY" not in k and "XDG" not in k}
    kept.pop("NUMBA_CACHE_DIR", None), kept.pop("MPLCONFIGDIR", None)
    done = subprocess.run(
        ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=%network,%file", "-o", str(log),
         *map(str, command)],
        env={**kept, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")},
        cwd=folder, capture_output=True, text=True, check=False, timeout=timeout_s,
    )  # fmt: skip
    written, network = [], []
    for line in log.read_text("utf-8", "replace").splitlines():
        if re.search(r"= -1 E", line):
            continue
        if (found := _NETWORK.search(line)) is not None:
            # AF_UNIX: the display, and processes of this machine
            if "AF_INET" in found[1] or "AF_PACKET" in found[1] or "sin_addr" in found[1]:
                network.append(line)
        elif (found := _CHANGES.search(line)) is not None:
            if "open" in found[0][:5] and not _OPENS.search(found[1]):
                continue
            if paths := _TEXT.findall(found[1]):
                written.append(Path(os.path.normpath(folder / paths[-1])))
    log.unlink()
    return Traced(done, written, network)
