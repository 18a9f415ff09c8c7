"""What a run and each of its images are known by: hashes of everything that changes a number.

The idea: an image's key is made of the bytes of its files, the protocol, the networks, the sheet's
facts of it and the versions of what computes; a run's key of all of these, its groups and its
corrections.  Whoever finds a result under the same key may keep it.
It fails where something that changes a number is in none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging._types import usable_cores
from islet_imaging._version import __version__
from islet_imaging.protocol import Protocol
from islet_imaging.reading.members import files_of
from islet_imaging.run.measurements import Stamps
from islet_imaging.run.proof import digest
from islet_imaging.scoring.results import library_versions

if TYPE_CHECKING:
    from islet_imaging.experiment.sample_sheet import Sample, SampleSheet

#: raised when the work of one image would come out differently than before
WORK_VERSION = 3

#: of what may be given with an image, what changes its measurements
MEASURED = ("nuclei", "cells")

#: parts of a protocol that come after measuring: they make no image be measured again
_LATER = ("positivity", "statistics", "fitted", "fitted_from", "acquisition")


def _files_behind(sample: Sample) -> tuple[Path, ...]:
    """Every file that a sample's pixels come from, absolute.

    An image may be one of several in a file, or come from several files.
    """
    files = (f.absolute() for p in sample.paths for f in files_of(p))
    return tuple(dict.fromkeys(files))


def given_of(sample: Sample) -> dict[str, Path]:
    """Files of nuclei, cells and regions that go with a sample, absolute, by what they are."""
    return {what: path.absolute() for what, path in sample.given.items()}


def _stamp(known: Stamps, path: Path) -> dict[str, Any]:
    try:
        return known.of(path)
    except OSError as error:
        # the same fault is met, and named, when the image is read
        return {"error": str(error)}


class Inputs:
    """The files of a run, stamped before anything is read from them.

    Parameters
    ----------
    sheet : SampleSheet
        What is scored.
    folder, out : Path
        The scored folder, and the run folder, which remembers stamps.
    only : collection of str, optional
        Images whose files are stamped; all by default.
    remember : bool
        Whether the run folder is written to.
    """

    def __init__(
        self,
        sheet: SampleSheet,
        folder: Path,
        out: Path,
        *,
        only: Collection[str] | None = None,
        remember: bool = True,
    ) -> None:
        self._folder = folder.absolute()
        self.stamps: dict[str, dict[str, Any]] = {}
        known = Stamps(out)
        self._files: dict[str, tuple[Path, ...]] = {}
        self._given: dict[str, dict[str, Path]] = {}
        for sample in sheet.samples:
            wanted = only is None or sample.image in only
            self._files[sample.image] = _files_behind(sample) if wanted else ()
            self._given[sample.image] = given_of(sample) if wanted else {}
        groups = (*self._files.values(), *(g.values() for g in self._given.values()))
        paths = list(dict.fromkeys(path for group in groups for path in group))
        # hashing, which is what takes time, holds no lock
        with ThreadPoolExecutor(usable_cores()) as threads:
            for path, stamp in zip(paths, threads.map(partial(_stamp, known), paths), strict=True):
                self.stamps[str(path)] = stamp
        good = [path for path in paths if "error" not in self.stamps[str(path)]]
        if remember:
            known.keep(good)

    def files(self, sample: Sample) -> tuple[Path, ...]:
        """Every file that a sample's pixels come from, absolute."""
        return self._files[sample.image]

    def hashes(self, sample: Sample) -> list[str]:
        """SHA-256 of a sample's files; what is wrong where one cannot be read."""
        found = [self.stamps[str(p)] for p in self.files(sample)]
        return [str(f.get("sha256", f.get("error"))) for f in found]

    def given(self, sample: Sample) -> dict[str, str]:
        """SHA-256 of the files of nuclei, cells and regions that go with a sample, by what."""
        found = {what: self.stamps[str(p)] for what, p in self._given[sample.image].items()}
        return {what: str(f.get("sha256", f.get("error"))) for what, f in found.items()}

    def measured(self, sample: Sample) -> tuple[Path, ...]:
        """Every file that a sample's measurements come from, absolute."""
        given = self._given[sample.image]
        return (*self.files(sample), *(given[what] for what in MEASURED if what in given))

    def of(self, sample: Sample) -> dict[str, dict[str, Any]]:
        """Stamps of the files that a sample's measurements come from, of those that can be read."""
        paths = [str(p) for p in self.measured(sample)]
        return {p: self.stamps[p] for p in paths if "sha256" in self.stamps[p]}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """For the provenance: bytes and hash by the path within the scored folder."""
        found: dict[str, dict[str, Any]] = {}
        for name, stamp in self.stamps.items():
            path = Path(name)
            inside = path.is_relative_to(self._folder)
            shown = path.relative_to(self._folder).as_posix() if inside else path.as_posix()
            found[shown] = {k: stamp[k] for k in ("bytes", "sha256", "error") if k in stamp}
        return found


def run_key(
    protocol: Protocol,
    sheet: SampleSheet,
    inputs: Inputs,
    *,
    networks: Mapping[str, str],
    flat_field: str,
    device: str,
) -> str:
    """Hash of everything that a run's tables depend on, corrections aside."""
    rows = [
        [s.image, s.condition, s.batch, s.role, dict(s.extra), inputs.hashes(s), inputs.given(s)]
        for s in sheet.samples
    ]
    problems = [dataclasses.asdict(p) for p in sheet.problems]
    shared = shared_parts(protocol, networks, flat_field, device)
    return digest([rows, problems, protocol.to_dict(), shared])


def shared_parts(
    protocol: Protocol, networks: Mapping[str, str], flat_field: str, device: str
) -> dict[str, str]:
    """What the measurements of all images of a run depend on, part by part: name and hash."""
    sections = {f"protocol {k}": digest(v) for k, v in measuring_part(protocol).items()}
    used = {f"network {name}": found for name, found in networks.items()}
    versions = {"islet-imaging": __version__, "work": str(WORK_VERSION), **library_versions()}
    return {**sections, **used, **versions, "flat field": flat_field, "device": device}


def image_parts(sample: Sample, inputs: Inputs, shared: Mapping[str, str]) -> dict[str, str]:
    """Everything that an image's measurements depend on, part by part; their hash is its key.

    Parameters
    ----------
    sample : Sample
        The image.
    inputs : Inputs
        Stamps of its files.
    shared : mapping
        `shared_parts` of the run.
    """
    row = [sample.image, dict(sample.extra), sample.role]
    given = {f"given {k}": v for k, v in inputs.given(sample).items() if k in MEASURED}
    return {"input": digest(inputs.hashes(sample)), "sheet": digest(row), **given, **shared}


def measuring_part(protocol: Protocol) -> dict[str, Any]:
    """What of a protocol changes measurements, as plain values."""
    plain = protocol.to_dict()
    for later in _LATER:
        plain.pop(later)
    plain["quality"].pop("blocked")
    # where labels lie changes nothing, what they hold is in the image's key
    for section in MEASURED:
        plain[section].pop("labels")
    plain["islets"].pop("regions")  # they are laid over what is measured
    # they say which images there are, and which are refused, not what the others hold
    for which in ("include", "exclude", "limits"):
        plain["reading"].pop(which)
    plain["network_markers"] = protocol.network_markers
    return plain
