"""Hashes of what a run is made of: files, and anything that can be written as JSON.

The idea: a run is known by the bytes of its inputs and by its parameters, so an unchanged one is
recognised, and a changed file is never mistaken for the old one.
It fails to notice a file that was changed without its size or time of change moving.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from islet_imaging.experiment.sample_sheet import SampleSheet


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


def hash_inputs(sheet: SampleSheet, folder: Path, out: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 of every file; one that has not changed since the last run is not read again."""
    try:
        known = json.loads((out / "provenance.json").read_text("utf-8"))["inputs"]
    except (OSError, ValueError, KeyError):
        known = {}
    found: dict[str, dict[str, Any]] = {}
    for sample in sheet.samples:
        for path in sample.paths:
            name = path.relative_to(folder).as_posix()
            try:
                stat = path.stat()
                facts = {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
                before = known.get(name, {})
                if {k: before.get(k) for k in facts} == facts:
                    found[name] = before
                else:
                    found[name] = {**facts, "sha256": hash_file(path)}
            except OSError as error:
                # the same fault is met, and named, when the image is read
                found[name] = {"error": str(error)}
    return found


def inputs_of(inputs: Mapping[str, Mapping[str, Any]], path: Path) -> str:
    """The hash of one input file, by its path."""
    for name, facts in inputs.items():
        if path.as_posix().endswith(name):
            return str(facts.get("sha256", facts.get("error")))
    return ""
