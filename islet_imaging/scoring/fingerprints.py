"""What a run and each of its images are known by: hashes of everything that changes a number.

The idea: an image's key is made of the bytes of its files, the protocol, the networks, the sheet's
facts of it and the versions of what computes; a run's key of all of these, its groups and its
corrections.  Whoever finds a result under the same key may keep it.
It fails where something that changes a number is in none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging._version import __version__
from islet_imaging.protocol import Protocol
from islet_imaging.reading.members import files_of
from islet_imaging.run.measurements import Stamps
from islet_imaging.run.proof import digest
from islet_imaging.scoring.results import library_versions

if TYPE_CHECKING:
    from islet_imaging.experiment.sample_sheet import Sample, SampleSheet

#: raised when the work of one image would come out differently than before
WORK_VERSION = 2

#: parts of a protocol that come after measuring: they make no image be measured again
_LATER = ("positivity", "statistics", "fitted", "fitted_from", "acquisition")


def _files_behind(sample: Sample) -> tuple[Path, ...]:
    """Every file that a sample's pixels come from, absolute.

    An image may be one of several in a file, or come from several files.
    """
    files = (f.absolute() for p in sample.paths for f in files_of(p))
    return tuple(dict.fromkeys(files))


class Inputs:
    """The files of a run, stamped before anything is read from them.

    Parameters
    ----------
    sheet : SampleSheet
        What is scored.
    folder, out : Path
        The scored folder, and the run folder, which remembers stamps.
    """

    def __init__(self, sheet: SampleSheet, folder: Path, out: Path) -> None:
        self._folder = folder.absolute()
        self.stamps: dict[str, dict[str, Any]] = {}
        known, good = Stamps(out), []
        self._files: dict[str, tuple[Path, ...]] = {}
        for sample in sheet.samples:
            self._files[sample.image] = _files_behind(sample)
            for path in self._files[sample.image]:
                try:
                    self.stamps[str(path)] = known.of(path)
                    good.append(path)
                except OSError as error:
                    # the same fault is met, and named, when the image is read
                    self.stamps[str(path)] = {"error": str(error)}
        known.keep(good)

    def files(self, sample: Sample) -> tuple[Path, ...]:
        """Every file that a sample's pixels come from, absolute."""
        return self._files[sample.image]

    def hashes(self, sample: Sample) -> list[str]:
        """SHA-256 of a sample's files; what is wrong where one cannot be read."""
        found = [self.stamps[str(p)] for p in self.files(sample)]
        return [str(f.get("sha256", f.get("error"))) for f in found]

    def of(self, sample: Sample) -> dict[str, dict[str, Any]]:
        """Stamps of one sample's files that can be read, by path."""
        paths = [str(p) for p in self.files(sample)]
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
        [s.image, s.condition, s.batch, s.role, dict(s.extra), inputs.hashes(s)]
        for s in sheet.samples
    ]
    problems = [dataclasses.asdict(p) for p in sheet.problems]
    return digest([rows, problems, protocol.to_dict(), _common(networks, flat_field, device)])


def image_key(sample: Sample, inputs: Inputs, common: str) -> str:
    """Hash of everything that an image's measurements depend on.

    Parameters
    ----------
    sample : Sample
        The image.
    inputs : Inputs
        Stamps of its files.
    common : str
        Hash of what all images of the run share: `measuring_part` and `common_key`.
    """
    own = [sample.image, inputs.hashes(sample), dict(sample.extra), sample.role]
    return digest([own, common])


def measuring_part(protocol: Protocol) -> dict[str, Any]:
    """What of a protocol changes measurements, as plain values."""
    plain = protocol.to_dict()
    for later in _LATER:
        plain.pop(later)
    plain["quality"].pop("blocked")
    plain["network_markers"] = protocol.network_markers
    return plain


def _common(networks: Mapping[str, str], flat_field: str, device: str) -> list[Any]:
    return [__version__, WORK_VERSION, library_versions(), dict(networks), flat_field, device]


def common_key(networks: Mapping[str, str], flat_field: str, device: str) -> str:
    """Hash of what all images of a run share: versions, networks, flat field, device."""
    return digest(_common(networks, flat_field, device))
