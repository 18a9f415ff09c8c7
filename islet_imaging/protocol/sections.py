"""The sections of a protocol: one frozen dataclass each, with its defaults and its limits.

The idea: a value that cannot be is an error where it is stated, in the words of the file; what is
left out takes the default that stands here.
They fail to see what two sections say together; `islet_imaging.protocol.model` looks at that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from islet_imaging.errors import ProtocolError
from islet_imaging.protocol.plain import shown

#: lengths that are not stated are for nuclei of this diameter, um, and follow those that are found
USUAL_NUCLEUS_UM = 7.5
#: width of the ring, and largest gap in an islet, in nucleus diameters
RING, ISLET_GAP = 0.4, 1.6

Role = Literal["dna", "marker", "autofluorescence", "ignore"]
#: where a marker lies; a marker of the membrane is measured in the ring around the nucleus
Compartment = Literal["cytoplasm", "nucleus", "membrane"]
#: the feature that tells most of a marker, by where it lies
FEATURES: dict[Compartment, str] = {
    "cytoplasm": "sector_p25",
    "nucleus": "nucleus_mean",
    "membrane": "ring_mean",
}
#: methods that need intensities only
CutMethod = Literal["control", "control_mixture", "mixture", "otsu", "manual"]
#: methods that a staining run is fitted with
FitMethod = Literal["network", "levels", CutMethod]
#: and what a protocol may say: "auto" leaves the choice to `Protocol.method`
CallMethod = Literal["auto", FitMethod]


#: what an image of the sheet is, but for a control or a single stain of one channel
ROLES = ("sample", "negative_control", "positive_control")


def negative_for(role: str, marker: str) -> bool:
    """Whether an image of that role is a negative control of a marker.

    Examples
    --------
    >>> negative_for("negative_control", "INS"), negative_for("negative_control:GCG", "INS")
    (True, False)
    """
    return role in ("negative_control", f"negative_control:{marker}")


def check(condition: bool, message: str) -> None:
    """Refuse a protocol in which a condition does not hold."""
    if not condition:
        raise ProtocolError(message)


def _within(where: str, value: float | None, low: float, high: float) -> None:
    """A stated number must lie in its range; NaN lies in none."""
    check(value is None or low <= value <= high, f"{where} is {value}: {low:g} to {high:g}")


def _place(where: str, value: str | None) -> None:
    """A stated place of files must be one."""
    check(value is None or bool(value.strip()), f"{where} is empty: a folder, or a pattern")


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
        check(bool(self.name.strip()), "a channel needs a name")
        check(
            not set(self.name) & set(',;"\n\r\t'),
            f"channel name {self.name!r}: no comma, semicolon, quote, tab or line break",
        )
        check(
            self.name.isprintable() and len(self.name) <= 100,
            f"channel name {shown(self.name)}: at most 100 characters, all of them visible",
        )


@dataclass(frozen=True)
class Limits:
    """What a file may ask for before it is refused as damaged, or made to do harm."""

    #: largest array that one read may make, GiB; a 46,000 x 46,000 plane of 16 bit fits, and larger
    #: images are read by region
    max_gib: float = 4.0
    #: pixels' bytes in a byte of the file: no codec packs real pixels tighter. What unpacks to
    #: less than 32 MiB is harmless whatever it claims
    max_compression: float = 2000.0
    #: the same above 256 MiB: what is packed that tightly is blank, and would take minutes
    max_compression_large: float = 250.0
    #: planes of one image; more are a damaged header or a film
    max_planes: int = 20_000

    def __post_init__(self) -> None:
        _within("reading.limits.max_gib", self.max_gib, 0.001, 1024)
        for name in ("max_compression", "max_compression_large"):
            _within(f"reading.limits.{name}", getattr(self, name), 1, 1e9)
        _within("reading.limits.max_planes", self.max_planes, 1, 10_000_000)


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
    #: what a file may ask for
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        size = self.pixel_size_um
        check(size is None or 0.01 <= size <= 50, f"reading.pixel_size_um is {size}: 0.01 to 50")
        check(
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
        check(bool(self.flat_field.strip()), "correction.flat_field is empty: off, auto or a path")
        for source, row in self.bleed_matrix.items():
            for target, share in row.items():
                check(
                    source != target,
                    f"correction.bleed_matrix: {source!r} cannot bleed into itself",
                )
                check(
                    0 <= share < 1,
                    f"correction.bleed_matrix.{source}.{target} is {share}: a share, 0 to below 1",
                )


@dataclass(frozen=True)
class Nuclei:
    """Segmentation of nuclei."""

    method: Literal["network", "classical"] = "network"
    #: folder or pattern of label files to take instead of finding nuclei, in the scored folder
    #: unless it is absolute; a column ``nuclei`` of the sample sheet goes before it
    labels: str | None = None
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
        _place("nuclei.labels", self.labels)
        d = self.diameter_um
        check(d is None or 2 <= d <= 60, f"nuclei.diameter_um is {d}: 2 to 60")
        low, high = self.areas_um2(USUAL_NUCLEUS_UM if d is None else d)
        check(0 <= low < high, "nuclei: min_area_um2 must be below max_area_um2")

    def areas_um2(self, nucleus_um: float) -> tuple[float, float]:
        """Smallest and largest nucleus, um2, where nuclei are ``nucleus_um`` across."""
        share = (nucleus_um / USUAL_NUCLEUS_UM) ** 2
        low = 8.0 * share if self.min_area_um2 is None else self.min_area_um2
        return low, 400.0 * share if self.max_area_um2 is None else self.max_area_um2


@dataclass(frozen=True)
class Cells:
    """The ring of cytoplasm around a nucleus."""

    #: folder or pattern of label files of whole cells, as for nuclei; then there is no ring
    labels: str | None = None
    #: None: 3 um for nuclei of 7.5 um, in proportion else
    ring_um: float | None = None
    gap_um: float = 0.0

    def __post_init__(self) -> None:
        _place("cells.labels", self.labels)
        ring = float("inf") if self.ring_um is None else self.ring_um
        check(
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

    #: "islets" groups nuclei; "field" takes the whole image as one islet (planar cultures);
    #: "drawn" takes what people drew, and an image without such a region is left out
    method: Literal["islets", "field", "drawn"] = "islets"
    #: folder or pattern of files of regions, what is islet and what is left out, as for nuclei;
    #: regions of the journal come from the window
    regions: str | None = None
    #: nuclei less apart form an islet; None: 12 um for nuclei of 7.5 um, in proportion else
    max_gap_um: float | None = None
    min_cells: int = 10
    #: islet equivalents are computed for whole aggregates only
    preparation: Literal["section", "whole", "monolayer"] = "section"

    def __post_init__(self) -> None:
        _place("islets.regions", self.regions)
        gap = self.max_gap_um
        check(gap is None or gap > 0, "islets.max_gap_um must be positive")
        check(self.min_cells >= 1, "islets.min_cells must be at least 1")
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
        check(0.5 < self.quantile < 1, f"positivity.quantile is {self.quantile}: 0.5 to 1")
        check(self.min_control_cells >= 1, "positivity.min_control_cells must be at least 1")
        check(self.min_control_images >= 1, "positivity.min_control_images must be at least 1")
        _within("positivity.threshold", self.threshold, -1e9, 1e9)
        check(
            0 <= self.unsure_low <= 0.5 <= self.unsure_high <= 1,
            "positivity: unsure_low <= 0.5 <= unsure_high",
        )
        check(
            self.method != "network" or self.feature in (None, "sector_p25"),
            f"positivity: `method: network` was fitted to sector_p25, not to {self.feature!r}",
        )
        check(
            (self.method == "manual") == (self.threshold is not None),
            "positivity: `method: manual` and `threshold` go together",
        )


@dataclass(frozen=True)
class Statistics:
    """What fractions are of, and how sure."""

    #: "islets" counts cells inside islets, "all" every cell, or a marker whose positives count
    denominator: str = "all"
    level: float = 0.95
    #: condition that the others are compared with; None compares all pairs
    reference: str | None = None
    #: pairs [condition, reference] to compare, instead of ``reference``
    contrasts: tuple[tuple[str, ...], ...] = ()
    #: markers to compare; none named compares all
    markers: tuple[str, ...] = ()
    #: "auto" takes all batches, shared ones with their correlation; "paired" only the shared ones;
    #: "unpaired" takes none for the same
    pairing: Literal["auto", "paired", "unpaired"] = "auto"
    #: what is replicated: "batch", or a column of the sample sheet above it (donor, line)
    unit: str = "batch"
    #: columns of the sample sheet within whose values conditions are compared (line, day)
    blocks: tuple[str, ...] = ()
    #: column of the sample sheet with numbers (dose, day) to fit a slope over
    trend: str | None = None
    #: margin in percentage points within which a difference does not matter
    equivalence_pp: float | None = None

    def __post_init__(self) -> None:
        check(0.5 < self.level < 1, f"statistics.level is {self.level}: 0.5 to 1")
        check(
            all(len(pair) == 2 for pair in self.contrasts),
            "statistics.contrasts: each is a pair, [condition, reference]",
        )
        check(
            self.reference is None or not self.contrasts,
            "statistics: state a reference or contrasts, not both",
        )
        margin = self.equivalence_pp
        check(
            margin is None or 0 < margin < 100,
            f"statistics.equivalence_pp is {margin}: above 0 and below 100 points",
        )


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
