"""Every number that shapes a phantom, in one frozen record.

The idea: a preset, a training draw and a test all differ only in the values of one
`PhantomParameters`. Nothing about a picture hides in code that the record cannot say, so a
phantom is repeated from its parameters and its seed alone.

How it fails: values are checked one by one, not for their combination; an aggregate of 400 um
in a field of 80 um renders, but shows only flesh.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from islet_imaging.errors import IsletImagingError

CYTOPLASMIC = ("INS", "CPEP", "GCG", "SST", "CHGA")
NUCLEAR = ("NKX6.1", "PDX1", "KI67")
DNA = "DAPI"
SCENES = ("islets", "tissue", "empty")
TEXTURES = ("standard", "heldout")
ARRANGEMENTS = ("random", "clusters", "cords", "periphery", "core", "polarised")
MODALITIES = ("widefield", "confocal")
PREPARATIONS = ("section", "whole_mount")
CONTROLS = ("none", "secondary_only", "unstained", "no_insulin")


@dataclass(frozen=True, kw_only=True)
class PhantomParameters:
    """What is on the slide, through which lens and camera, and what became of the file.

    Fractions are 0 to 1. Marker levels are relative: 1.0 is the light of a typical
    expressing cytoplasm that fills the section. Ranges are those of published protocols and of
    public stainings of human islets.
    """

    # field
    shape: tuple[int, int] = (1024, 1024)
    pixel_size_um: float = 0.32
    channels: tuple[str, ...] = ("DAPI", "INS", "GCG")
    scene: str = "islets"
    texture: str = "standard"
    control: str = "none"  # one of CONTROLS, or single_stain:<channel>

    # how much is computed
    plane_um: float = 1.0  # distance between rendered planes; 2.0 is enough for training
    measure_light: bool = True  # own and neighbours' light per ring (half of the time of a crop)
    whole_aggregates: bool = True  # False: make only the cells that the section can show

    # aggregates
    n_islets: int = 3
    islet_diameter_um: float = 140.0
    islet_diameter_sd_um: float = 30.0
    islet_axis_ratio: float = 1.25
    roughness: float = 0.06
    fused_fraction: float = 0.1
    equatorial: bool = False
    cell_density_per_1000um3: float = 1.1  # of the whole; the rim holds fewer centres
    min_distance_um: float = 7.6
    tissue_density_per_1000um3: float = 0.85
    stroma_fraction: float = 0.15  # tissue: share of elongated nuclei (fibroblasts, vessels)
    lumens_per_mm2: float = 0.0  # round holes, some filled with bright plasma
    necrotic_core: float = 0.0  # radius as a share of the aggregate's

    # nuclei
    nucleus_diameter_um: float = 7.5
    nucleus_cv: float = 0.12
    nucleus_axis_ratio: float = 1.45
    nucleus_irregularity: float = 0.05  # lobes and corners of the outline, share of the radius
    beta_nucleus_scale: float = 0.97
    chromatin_contrast: float = 0.35
    chromatin_um: float = 0.6
    dna_cv: float = 0.16
    dna_background: float = 0.06  # of cytoplasm in the DNA channel, share of a nucleus
    mitotic_fraction: float = 0.01
    pyknotic_fraction: float = 0.02

    # cell bodies
    cell_radius_um: float = 8.0
    gap_um: float = 0.4

    # cell types, shares of the cells of an aggregate
    insulin_fraction: float = 0.40
    glucagon_fraction: float = 0.12
    somatostatin_fraction: float = 0.05
    bihormonal_fraction: float = 0.03
    enterochromaffin_fraction: float = 0.10
    islet_logit_sd: float = 0.0  # spread of the insulin share between aggregates, SD of its logit
    arrangement: str = "clusters"
    arrangement_strength: float = 0.6
    nkx61_in_insulin: float = 0.85
    nkx61_in_other: float = 0.10
    ki67_fraction: float = 0.04

    # light of the markers
    expression_sigma: float = 0.55
    dim_fraction: float = 0.10
    nonspecific_level: float = 0.03
    nonspecific_sigma: float = 0.3
    uptake_fraction: float = 0.03  # cells without insulin that took some up from the medium
    nuclear_ratio: float = 0.10  # marker light made inside the nucleus / in the cytoplasm
    granule_contrast: float = 0.8
    granule_um: float = 0.45
    polarity: float = 0.3
    # where in its cytoplasm a cell keeps its product (phantom/pattern.py); as given, evenly
    granule_share: float = 0.0  # share of the product that lies in separate granules
    granules_per_cell: float = 12.0  # of a cell that is shown as a whole, median
    granule_size_um: float = 0.7
    cap_share: float = 1.0  # share of the directions from the nucleus that hold product
    perinuclear_um: float = 0.0  # from the nucleus product falls off as exp(-d/this); 0: not at all
    patch_share: float = 1.0  # share of the cytoplasm that holds product, in patches
    patch_um: float = 2.5
    pattern_cells: float = 1.0  # share of the cells that show the pattern
    autofluorescence: float = 0.02
    background: float = 0.01
    halo: float = 0.04  # secreted marker around the cells, share of the light
    halo_um: float = 15.0
    pooling: float = 0.1  # marker that gathers in the clefts and capillaries between cells
    penetration_um: float = 0.0  # antibody reaches in as exp(-depth/this); 0: everywhere

    # dirt
    specks_per_mm2: float = 150.0
    speck_level: float = 1.0
    debris_per_mm2: float = 20.0
    red_cells_per_mm2: float = 0.0

    # section and optics
    preparation: str = "section"
    modality: str = "widefield"
    section_um: float = 5.0
    numerical_aperture: float = 0.5
    refractive_index: float = 1.45
    defocus_um: float = 0.0
    chromatic_shift_um: float = 0.1
    haze: float = 0.10
    haze_um: float = 20.0

    # spectral bleed, share of the source's light
    bleed_dna: float = 0.01  # DAPI into the next dye
    bleed_next: float = 0.02  # each further dye into the one after it
    bleed_back: float = 0.002  # each further dye into the one before it

    # camera
    photons: float = 500.0  # of a typical expressing cytoplasm
    dna_photons: float = 900.0
    gain: float = 2.5
    read_noise: float = 2.5
    offset: float = 100.0
    camera_seed: int = 0  # decides the flat field: pictures of one microscope share it
    hot_pixels: float = 1e-5
    bits: int = 12
    vignetting: float = 0.08
    seam: float = 0.0  # intensity step between the tiles of a 2x2 mosaic
    bleaching: float = 0.0  # loss from the first tile to the last

    # what became of the file
    rescale_8bit: bool = False
    gamma: float = 1.0
    clip_fraction: float = 0.0  # share of pixels clipped by the stretch to 8 bit
    jpeg_quality: int = 0  # 0: not compressed

    def __post_init__(self) -> None:
        for name, allowed in (
            ("scene", SCENES),
            ("texture", TEXTURES),
            ("arrangement", ARRANGEMENTS),
            ("modality", MODALITIES),
            ("preparation", PREPARATIONS),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise IsletImagingError(
                    f"phantom: {name}={value!r} is not known; choose one of {', '.join(allowed)}"
                )
        known = (DNA, *CYTOPLASMIC, *NUCLEAR)
        for channel in self.channels:
            if channel not in known:
                raise IsletImagingError(
                    f"phantom: no marker called {channel!r}; choose from {', '.join(known)}"
                )
        if len(set(self.channels)) != len(self.channels) or not self.channels:
            raise IsletImagingError(f"phantom: channels must differ, got {self.channels}")
        single = self.control.removeprefix("single_stain:")
        if self.control not in CONTROLS and single not in self.channels:
            raise IsletImagingError(
                f"phantom: control={self.control!r} is not known; choose one of "
                f"{', '.join(CONTROLS)} or single_stain:<channel>"
            )
        shares = (
            self.insulin_fraction,
            self.glucagon_fraction,
            self.somatostatin_fraction,
            self.bihormonal_fraction,
            self.enterochromaffin_fraction,
        )
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise IsletImagingError(
                f"phantom: shares of cell types must be >= 0 and sum to at most 1, got {shares}"
            )
        for name in ("granule_share", "pattern_cells"):
            if not 0 <= getattr(self, name) <= 1:
                raise IsletImagingError(f"phantom: {name} must be from 0 to 1")
        for name in ("cap_share", "patch_share"):
            if not 0 < getattr(self, name) <= 1:
                raise IsletImagingError(f"phantom: {name} must be above 0 and at most 1")
        if self.perinuclear_um < 0:
            raise IsletImagingError("phantom: perinuclear_um must be >= 0")
        for name in (
            "pixel_size_um",
            "section_um",
            "numerical_aperture",
            "plane_um",
            "granules_per_cell",
            "granule_size_um",
            "patch_um",
        ):
            if getattr(self, name) <= 0:
                raise IsletImagingError(f"phantom: {name} must be > 0")
        if self.numerical_aperture >= self.refractive_index:
            raise IsletImagingError("phantom: numerical_aperture must be below refractive_index")
        if self.bits not in (8, 12, 16):
            raise IsletImagingError(f"phantom: bits must be 8, 12 or 16, got {self.bits}")
        if min(self.shape) < 16:
            raise IsletImagingError(f"phantom: shape must be at least 16x16, got {self.shape}")

    def with_changes(self, **changes: Any) -> PhantomParameters:
        """Return a copy with some values changed; an unknown name is an error that lists all."""
        names = {f.name for f in fields(self)}
        unknown = sorted(set(changes) - names)
        if unknown:
            raise IsletImagingError(
                f"phantom: unknown parameter {', '.join(unknown)}; "
                f"known: {', '.join(sorted(names))}"
            )
        return replace(self, **changes)
