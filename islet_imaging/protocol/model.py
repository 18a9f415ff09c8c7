"""The protocol: everything that changes a number, in one frozen, validated object.

The idea: the API, the command line and the plugin share this one tree of dataclasses; it is read
from and written to YAML; an unknown key or an impossible value is an error that names it; its
fingerprint goes into the provenance.  A run writes its protocol, with the thresholds it fitted,
so that it can be repeated from its own folder.
It fails when a parameter that changes a number lives anywhere else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from islet_imaging.errors import ProtocolError
from islet_imaging.protocol.plain import build, load_yaml, plain, shown
from islet_imaging.protocol.sections import (
    FEATURES,
    Acquisition,
    Cells,
    Channel,
    Correction,
    FitMethod,
    Islets,
    Nuclei,
    Positivity,
    Quality,
    Reading,
    Statistics,
    check,
)

#: 2 ties fitted thresholds to the images they came from (`Protocol.fitted_from`)
FORMAT = "islet-imaging/2"
#: formats that are read; what an older one lacks takes its default
READ_FORMATS = ("islet-imaging/1", FORMAT)


@dataclass(frozen=True)
class Protocol:
    """Everything that changes a number.

    Examples
    --------
    >>> p = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS")))
    >>> Protocol.from_dict(p.to_dict()) == p
    True
    """

    channels: tuple[Channel, ...]
    reading: Reading = field(default_factory=Reading)
    correction: Correction = field(default_factory=Correction)
    nuclei: Nuclei = field(default_factory=Nuclei)
    cells: Cells = field(default_factory=Cells)
    islets: Islets = field(default_factory=Islets)
    positivity: Mapping[str, Positivity] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=Statistics)
    quality: Quality = field(default_factory=Quality)
    acquisition: Acquisition = field(default_factory=Acquisition)
    #: thresholds a run fitted, ``{staining: {marker: {...}}}``; used instead of fitting again, for
    #: the images they were fitted on only
    fitted: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    #: what each was fitted on, images and settings, ``{staining: {marker: sha256}}``
    fitted_from: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    format: str = FORMAT

    def __post_init__(self) -> None:
        check(
            self.format in READ_FORMATS,
            f"format is {shown(self.format)}; this version reads {' and '.join(READ_FORMATS)}",
        )
        object.__setattr__(self, "format", FORMAT)
        names = [c.name for c in self.channels]
        check(len(set(names)) == len(names), f"channel names are not unique: {names}")
        dna = [c.name for c in self.channels if c.role == "dna"]
        check(len(dna) == 1, f"exactly one channel must have `role: dna`; found {dna}")
        for marker in self.positivity:
            check(
                marker in self.markers,
                f"positivity: {marker!r} is not a marker; markers are {list(self.markers)}",
            )
            check(
                self.calling(marker).method != "network"
                or self.channel(marker).compartment == "cytoplasm",
                f"positivity: the network knows markers of the cytoplasm only, not such as "
                f"{marker!r} of the {self.channel(marker).compartment}; use `levels`",
            )
        for source, row in self.correction.bleed_matrix.items():
            for name in (source, *row):
                check(
                    name in names,
                    f"correction.bleed_matrix: {name!r} is not a channel; channels are {names}",
                )
        for marker in self.statistics.markers:
            check(
                marker in self.markers,
                f"statistics.markers: {marker!r} is not a marker; markers are {list(self.markers)}",
            )
        known = {"all", "islets", *self.markers}
        check(
            self.statistics.denominator in known,
            f"statistics.denominator is {self.statistics.denominator!r}: one of {sorted(known)}",
        )

    @property
    def dna(self) -> str:
        """Name of the DNA channel."""
        return next(c.name for c in self.channels if c.role == "dna")

    @property
    def markers(self) -> tuple[str, ...]:
        """Names of the channels that are called."""
        return tuple(c.name for c in self.channels if c.role == "marker")

    def channel(self, name: str) -> Channel:
        """The channel of that name."""
        for c in self.channels:
            if c.name == name:
                return c
        raise ProtocolError(f"the protocol has no channel {name!r}")

    def calling(self, marker: str) -> Positivity:
        """How ``marker`` is called: its own entry, or the defaults."""
        self.channel(marker)
        return self.positivity.get(marker, Positivity())

    def method(self, marker: str) -> FitMethod:
        """Method that ``marker`` is called by, with "auto" resolved."""
        stated = self.calling(marker).method
        if stated != "auto":
            return stated
        # thresholds on another feature, or of another place, are nothing the network was shown
        inside = self.channel(marker).compartment == "cytoplasm"
        other = self.calling(marker).feature not in (None, "sector_p25")
        return "network" if inside and not other else "levels"

    def feature(self, marker: str) -> str:
        """Column of the cells table that thresholds of ``marker`` act on."""
        own = self.calling(marker).feature
        if own is None:
            own = FEATURES[self.channel(marker).compartment]
        return f"{marker}_{own}"

    @property
    def network_markers(self) -> dict[str, list[str]]:
        """Markers that the positivity network is asked about, by the network's name."""
        found: dict[str, list[str]] = {}
        for marker in self.markers:
            if self.method(marker) == "network":
                found.setdefault(self.calling(marker).model, []).append(marker)
        return found

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the networks in use."""
        nuclei = [self.nuclei.model] if self.nuclei.method == "network" else []
        return tuple(sorted({*nuclei, *self.network_markers}))

    def replace(self, **changes: Any) -> Protocol:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and scalars, ready for YAML or JSON."""
        out: dict[str, Any] = plain(self)
        return {"format": out.pop("format"), **out}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Protocol:
        """Build from plain dictionaries; unknown keys and wrong types are errors."""
        built: Protocol = build(cls, data, "protocol")
        return built

    @classmethod
    def load(cls, path: str | Path) -> Protocol:
        """Read a YAML file.

        Raises
        ------
        ProtocolError
            If the file cannot be read, or holds what no protocol may hold; both are named.
        """
        path = Path(path)
        try:
            data = load_yaml(path)
        except ProtocolError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise ProtocolError(
                    f"{path}: there is no such protocol; `islet-imaging init FOLDER` drafts one"
                ) from None
            raise
        if not isinstance(data, dict):
            raise ProtocolError(f"{path}: a protocol is a YAML mapping, this is not")
        try:
            return cls.from_dict(data)
        except ProtocolError as error:
            raise ProtocolError(f"{path}: {error}") from None

    def dump(self) -> str:
        """The protocol as YAML text."""
        import yaml

        return str(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100))

    def fingerprint(self) -> str:
        """SHA-256 of everything that changes a number, fitted thresholds aside."""
        data = self.to_dict()
        for own in ("fitted", "fitted_from"):
            data.pop(own)
        text = json.dumps(data, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()
