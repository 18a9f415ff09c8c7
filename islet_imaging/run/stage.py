"""All tables of a run exchanged at once, or none.

The idea: tables, protocol and report are written beside the run first.  When all of them are there
one small file says so (the commit); then they are moved into place and the provenance, which holds
their stamps, is written last.  A stop before the commit leaves the old run as it was; a stop after
it is made good by whoever writes next, and readers are told in the meantime.
It fails, and says to score again, where the files of a committed exchange were damaged.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from islet_imaging.errors import IsletImagingError
from islet_imaging.run.files import RunWriteError, write_text
from islet_imaging.run.proof import hash_file, stamp_of

_FOLDER = ".next"
_COMMIT = ".next.json"


def stage_folder(run: Path) -> Path:
    """An empty folder to write a run's new files into.

    Parameters
    ----------
    run : Path
        The run folder; whoever asks holds its lock.
    """
    folder = run / ".work" / _FOLDER
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunWriteError(f"{folder}: cannot be made ({error.strerror or error})") from error
    return folder


def exchange(run: Path, facts: dict[str, Any], *, removed: list[str]) -> None:
    """Put the staged files into place, with the provenance that proves them.

    Parameters
    ----------
    run : Path
        The run folder.
    facts : dict
        The provenance; ``files`` is added to it.
    removed : list of str
        Files of the run before that are not part of it any more.
    """
    staged = run / ".work" / _FOLDER
    hashes = {p.name: hash_file(p) for p in sorted(staged.iterdir()) if not p.name.startswith(".")}
    text = json.dumps({"facts": facts, "hashes": hashes, "removed": removed}, ensure_ascii=False)
    write_text(run / ".work" / _COMMIT, text)
    finish_exchange(run)


def exchange_waits(run: Path) -> bool:
    """Whether new files of a run are complete but not all in place."""
    return (run / ".work" / _COMMIT).is_file()


def finish_exchange(run: Path) -> None:
    """Finish an exchange that was committed, if there is one; whoever calls holds the lock.

    Raises
    ------
    IsletImagingError
        If its files are damaged; the exchange is then given up and the run must be scored again.
    """
    commit, staged = run / ".work" / _COMMIT, run / ".work" / _FOLDER
    if not commit.is_file():
        return
    try:
        waiting = json.loads(commit.read_text("utf-8"))
        facts, stamps = waiting["facts"], {}
        for name in waiting["removed"]:
            (run / Path(name).name).unlink(missing_ok=True)
        for name, sha256 in waiting["hashes"].items():
            target = run / Path(name).name
            if (staged / target.name).is_file():
                os.replace(staged / target.name, target)
            stamps[name] = stamp_of(target)
            if stamps[name]["sha256"] != sha256:
                raise ValueError(f"{target} is damaged")
        facts["files"] = stamps
        text = json.dumps(facts, indent=1, ensure_ascii=False)
    except OSError as error:
        raise RunWriteError(
            f"{run}: its new tables cannot be put into place ({error.strerror or error}); "
            "the same command, or `islet-imaging summarize`, goes on from there"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        commit.unlink(missing_ok=True)
        raise IsletImagingError(
            f"{run}: tables that were about to be put into place are damaged ({error}); score the "
            "folder again into this run folder"
        ) from error
    write_text(run / "provenance.json", text)
    commit.unlink(missing_ok=True)
    shutil.rmtree(staged, ignore_errors=True)
