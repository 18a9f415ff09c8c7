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
from typing import Any, Literal

from islet_imaging.errors import ProtocolError
from islet_imaging.protocol.plain import build, load_yaml, plain, shown
from islet_imaging.protocol.words import FEATURES, CallMethod, Compartment, FitMethod, Role

#: 2 ties fitted thresholds to the images they came from (`Protocol.fitted_from`)
FORMAT = "islet-imaging/2"
#: formats that are read; what an older one lacks takes its default
READ_FORMATS = ("islet-imaging/1", FORMAT)

#: lengths that are not stated are for nuclei of this diameter, um, and follow those that are found
USUAL_NUCLEUS_UM = 7.5
#: width of the ring, and largest gap in an islet, in nucleus diameters
RING, ISLET_GAP = 0.4, 1.6


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ProtocolError(message)


def _within(where: str, value: float | None, low: float, high: float) -> None:
    """A stated number must lie in its range; NaN lies in none."""
    _check(value is None or low <= value <= high, f"{where} is {value}: {low:g} to {high:g}")


@dataclass(frozen=True)
class Channel:
    """One channel: the name it has in tables, what it is for, and how files call it.

    Examples
    --------
    >>> Channel("INS", source="red").role
    'marker'
    >>> Channel("NKX6.1", compartment="nucleus").compartment
    'nucleus'
    """

    name: str
    role: Role = "marker"
    compartment: Compartment = "cytoplasm"
    #: how the files call it, when not by ``name`` (a dye, "red", "d0", "C2")
    source: str | None = None
    #: free text for the methods paragraph: antibody, clone, dilution, dye
    stain: str = ""

    def __post_init__(self) -> None:
        _check(bool(self.name.strip()), "a channel needs a name")
        _check(
            not set(self.name) & set(',;"\n\r\t'),
            f"channel name {self.name!r}: no comma, semicolon, quote, tab or line break",
        )
        _check(
            self.name.isprintable() and len(self.name) <= 100,
            f"channel name {shown(self.name)}: at most 100 characters, all of them visible",
        )


@dataclass(frozen=True)
class Reading:
    """How files become images."""

    #: overrides what the files say, um
    pixel_size_um: float | None = None
    #: what to do with a z-stack; "none" refuses stacks
    projection: Literal["none", "max", "mean", "plane"] = "none"
    #: the plane, counted from 0, for ``projection: plane``
    plane: int | None = None
    #: regular expression for one file per channel or plane, on the file's name, or on its path
    #: in the folder where it holds a slash; groups ``channel``, ``plane`` and, for what identifies
    #: the image, ``image``, ``well``, ``field``, ``time``, ``rest``
    file_pattern: str | None = None
    #: patterns with ``*`` and ``?`` on path, file or folder name: what to score, what to leave out
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = self.pixel_size_um
        _check(size is None or 0.01 <= size <= 50, f"reading.pixel_size_um is {size}: 0.01 to 50")
        _check(
            (self.projection == "plane") == (self.plane is not None),
            "reading: `projection: plane` and `plane` go together",
        )
        _within("reading.plane", self.plane, 0, 1e6)


@dataclass(frozen=True)
class Correction:
    """What is done to pixels before anything is measured."""

    #: camera offset in counts to subtract; "auto" takes it from unstained or dark pixels
    offset: float | Literal["off", "auto"] = "off"
    #: path of a flat-field image (relative to the protocol), "auto" to fit a smooth field, "off"
    flat_field: str = "off"
    #: subtraction of a smooth local background, of at least 3 cell diameters
    background: Literal["off", "local"] = "off"
    background_um: float = 60.0
    #: "controls" fits it from single-stain images, "off" leaves channels as they are
    bleed_through: Literal["off", "controls"] = "off"
    #: ``{source: {destination: fraction}}``, stated or fitted
    bleed_matrix: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.offset, str):
            _within("correction.offset", self.offset, 0, 65535)
        _within("correction.background_um", self.background_um, 1, 10_000)
        _check(bool(self.flat_field.strip()), "correction.flat_field is empty: off, auto or a path")
        for source, row in self.bleed_matrix.items():
            for target, share in row.items():
                _check(
                    source != target,
                    f"correction.bleed_matrix: {source!r} cannot bleed into itself",
                )
                _check(
                    0 <= share < 1,
                    f"correction.bleed_matrix.{source}.{target} is {share}: a share, 0 to below 1",
                )


@dataclass(frozen=True)
class Nuclei:
    """Segmentation of nuclei."""

    method: Literal["network", "classical"] = "network"
    #: name or folder of the network
    model: str = "islet-nuclei"
    #: diameter, um; None takes 7.5 unless the image shows that its nuclei are others
    diameter_um: float | None = None
    #: nuclei outside are left out, um2; None: 8 and 400 for nuclei of 7.5 um, in proportion else
    min_area_um2: float | None = None
    max_area_um2: float | None = None
    exclude_border: bool = True
    #: whether condensed nuclei, taken for dying, count in no fraction; "auto": unless a channel is
    #: named as a marker of dividing or dying cells, whose nuclei are condensed
    exclude_pyknotic: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        d = self.diameter_um
        _check(d is None or 2 <= d <= 60, f"nuclei.diameter_um is {d}: 2 to 60")
        low, high = self.areas_um2(USUAL_NUCLEUS_UM if d is None else d)
        _check(0 <= low < high, "nuclei: min_area_um2 must be below max_area_um2")

    def areas_um2(self, nucleus_um: float) -> tuple[float, float]:
        """Smallest and largest nucleus, um2, where nuclei are ``nucleus_um`` across."""
        share = (nucleus_um / USUAL_NUCLEUS_UM) ** 2
        low = 8.0 * share if self.min_area_um2 is None else self.min_area_um2
        return low, 400.0 * share if self.max_area_um2 is None else self.max_area_um2


@dataclass(frozen=True)
class Cells:
    """The ring of cytoplasm around a nucleus."""

    #: None: 3 um for nuclei of 7.5 um, in proportion else
    ring_um: float | None = None
    gap_um: float = 0.0

    def __post_init__(self) -> None:
        ring = float("inf") if self.ring_um is None else self.ring_um
        _check(
            0 <= self.gap_um < ring and (self.ring_um is None or ring <= 20) and self.gap_um < 20,
            "cells: 0 <= gap_um < ring_um <= 20",
        )

    def ring_of(self, nucleus_um: float) -> float:
        """Width of the ring, um, where nuclei are ``nucleus_um`` across; wider than the gap."""
        if self.ring_um is not None:
            return self.ring_um
        return max(RING * nucleus_um, self.gap_um + 0.5 * RING * nucleus_um)


@dataclass(frozen=True)
class Islets:
    """Aggregates of nuclei."""

    #: "islets" groups nuclei; "field" takes the whole image as one islet (planar cultures)
    method: Literal["islets", "field"] = "islets"
    #: nuclei less apart form an islet; None: 12 um for nuclei of 7.5 um, in proportion else
    max_gap_um: float | None = None
    min_cells: int = 10
    #: islet equivalents are computed for whole aggregates only
    preparation: Literal["section", "whole", "monolayer"] = "section"

    def __post_init__(self) -> None:
        gap = self.max_gap_um
        _check(gap is None or gap > 0, "islets.max_gap_um must be positive")
        _check(self.min_cells >= 1, "islets.min_cells must be at least 1")
        _within("islets.max_gap_um", self.max_gap_um, 0, 1000)

    def gap_of(self, nucleus_um: float) -> float:
        """Largest gap between nuclei of an islet, um, where they are ``nucleus_um`` across."""
        return ISLET_GAP * nucleus_um if self.max_gap_um is None else self.max_gap_um


@dataclass(frozen=True)
class Positivity:
    """How a marker's calls are made."""

    #: "auto" is the network for a marker of the cytoplasm, "levels" for one of nucleus or membrane,
    #: or where another feature is stated
    method: CallMethod = "auto"
    #: name or folder of the network
    model: str = "islet-positivity"
    #: the feature that thresholds act on; None takes sector_p25, in nuclei nucleus_mean, of the
    #: membrane ring_mean
    feature: str | None = None
    #: the cut of ``method: manual``, in units of the feature
    threshold: float | None = None
    quantile: float = 0.995
    min_control_cells: int = 500
    min_control_images: int = 2
    spillover: bool = True
    unsure_low: float = 0.2
    unsure_high: float = 0.8

    def __post_init__(self) -> None:
        _check(0.5 < self.quantile < 1, f"positivity.quantile is {self.quantile}: 0.5 to 1")
        _check(self.min_control_cells >= 1, "positivity.min_control_cells must be at least 1")
        _check(self.min_control_images >= 1, "positivity.min_control_images must be at least 1")
        _within("positivity.threshold", self.threshold, -1e9, 1e9)
        _check(
            0 <= self.unsure_low <= 0.5 <= self.unsure_high <= 1,
            "positivity: unsure_low <= 0.5 <= unsure_high",
        )
        _check(
            self.method != "network" or self.feature in (None, "sector_p25"),
            f"positivity: `method: network` was fitted to sector_p25, not to {self.feature!r}",
        )
        _check(
            (self.method == "manual") == (self.threshold is not None),
            "positivity: `method: manual` and `threshold` go together",
        )


@dataclass(frozen=True)
class Statistics:
    """What fractions are of, and how sure."""

    #: "islets" counts cells inside islets, "all" every cell, or a marker whose positives count
    denominator: str = "all"
    level: float = 0.95

    def __post_init__(self) -> None:
        _check(0.5 < self.level < 1, f"statistics.level is {self.level}: 0.5 to 1")


@dataclass(frozen=True)
class Quality:
    """Limits beyond which an image or a cell is flagged."""

    saturated_fraction: float = 0.001
    saturated_fraction_block: float = 0.01
    min_cells: int = 100
    min_focus: float = 0.0
    exposure_ratio: float = 1.05
    #: shares of an image's nuclei above which it is flagged
    border_fraction: float = 0.3
    pyknotic_fraction: float = 0.06
    autofluorescent_fraction: float = 0.05
    #: spots that glow in several dyes at once, per mm2
    specks_per_mm2: float = 1600.0
    #: light of one dye in another's channel, as a share, above which bleed-through is suspected
    bleed_through: float = 0.1
    #: what becomes of an image with a blocking flag; "keep" counts it all the same
    blocked: Literal["leave_out", "keep"] = "leave_out"

    def __post_init__(self) -> None:
        for name in (
            *("saturated_fraction", "saturated_fraction_block", "border_fraction"),
            *("pyknotic_fraction", "autofluorescent_fraction", "bleed_through"),
        ):
            _within(f"quality.{name}", getattr(self, name), 0, 1)
        _within("quality.min_cells", self.min_cells, 0, 1e9)
        _within("quality.min_focus", self.min_focus, 0, 1e9)
        _within("quality.exposure_ratio", self.exposure_ratio, 1, 1000)
        _within("quality.specks_per_mm2", self.specks_per_mm2, 0, 1e9)


@dataclass(frozen=True)
class Acquisition:
    """What the microscopist knows and files often do not say; for warnings and the methods text."""

    modality: Literal["unknown", "widefield", "confocal", "light_sheet", "scanner"] = "unknown"
    section_um: float | None = None
    objective: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        _within("acquisition.section_um", self.section_um, 0.01, 10_000)


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
    reading: Reading = Reading()
    correction: Correction = Correction()
    nuclei: Nuclei = Nuclei()
    cells: Cells = Cells()
    islets: Islets = Islets()
    positivity: Mapping[str, Positivity] = field(default_factory=dict)
    statistics: Statistics = Statistics()
    quality: Quality = Quality()
    acquisition: Acquisition = Acquisition()
    #: thresholds a run fitted, ``{staining: {marker: {...}}}``; used instead of fitting again, for
    #: the images they were fitted on only
    fitted: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    #: what each was fitted on, images and settings, ``{staining: {marker: sha256}}``
    fitted_from: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    format: str = FORMAT

    def __post_init__(self) -> None:
        _check(
            self.format in READ_FORMATS,
            f"format is {shown(self.format)}; this version reads {' and '.join(READ_FORMATS)}",
        )
        object.__setattr__(self, "format", FORMAT)
        names = [c.name for c in self.channels]
        _check(len(set(names)) == len(names), f"channel names are not unique: {names}")
        dna = [c.name for c in self.channels if c.role == "dna"]
        _check(len(dna) == 1, f"exactly one channel must have `role: dna`; found {dna}")
        for marker in self.positivity:
            _check(
                marker in self.markers,
                f"positivity: {marker!r} is not a marker; markers are {list(self.markers)}",
            )
            _check(
                self.calling(marker).method != "network"
                or self.channel(marker).compartment == "cytoplasm",
                f"positivity: the network knows markers of the cytoplasm only, not such as "
                f"{marker!r} of the {self.channel(marker).compartment}; use `levels`",
            )
        for source, row in self.correction.bleed_matrix.items():
            for name in (source, *row):
                _check(
                    name in names,
                    f"correction.bleed_matrix: {name!r} is not a channel; channels are {names}",
                )
        known = {"all", "islets", *self.markers}
        _check(
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
    def asked(self) -> dict[str, list[str]]:
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
        return tuple(sorted({*nuclei, *self.asked}))

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
