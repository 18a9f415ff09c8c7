"""What proves that a file is the one that was meant: its SHA-256, and facts that spare hashing it.

The idea: whatever a run says of a file, it says of bytes it has seen.  A *stamp* is the hash of a
file with the facts that the system keeps of it (size, times, number); where all facts are as they
were the bytes are taken to be the same, where any differs they are hashed again.  The time of the
last change of the inode cannot be set back by copying, so a file put in another's place shows.
It fails where a file system lies about these facts; `hash_file` does not use them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: what the system says of a file, beside its bytes
FACTS = ("bytes", "modified_ns", "changed_ns", "number")


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON, keys in order.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def facts_of(path: Path) -> dict[str, int]:
    """What the system says of a file: bytes, times in ns, its number.

    Raises
    ------
    OSError
        If there is no such file.
    """
    stat = path.stat()
    values = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return dict(zip(FACTS, values, strict=True))


def stamp_of(path: Path, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The facts of a file and its SHA-256.

    Parameters
    ----------
    path : Path
        The file.
    known : mapping, optional
        An earlier stamp of it; where the facts are the same it is not read again.

    Returns
    -------
    dict
        `FACTS` and ``sha256``.

    Raises
    ------
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a"
    >>> _ = file.write_bytes(b"a")
    >>> stamp_of(file)["bytes"], is_same(file, stamp_of(file))
    (1, True)
    """
    facts = facts_of(path)
    if known is not None and _same_facts(facts, known):
        return {**facts, "sha256": known["sha256"]}
    while True:
        sha256 = hash_file(path)
        after = facts_of(path)
        if after == facts:
            return {**facts, "sha256": sha256}
        facts = after  # written to while it was read


def is_same(path: Path, stamp: Any) -> bool:
    """Whether a file is still the one that was stamped, wherever it lies now."""
    if not isinstance(stamp, Mapping):
        return False
    try:
        facts = facts_of(path)
        if _same_facts(facts, stamp):
            return True
        return facts["bytes"] == stamp.get("bytes") and hash_file(path) == stamp.get("sha256")
    except OSError:
        return False


def _same_facts(facts: Mapping[str, int], stamp: Mapping[str, Any]) -> bool:
    return "sha256" in stamp and all(facts[name] == stamp.get(name) for name in FACTS)
