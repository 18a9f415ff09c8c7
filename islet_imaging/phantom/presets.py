"""Named settings: six ways in which laboratories photograph islets.

A preset is values of `PhantomParameters` and nothing else. `HARD_PRESETS` names those in which
neighbours' light reaches the ring around a nucleus so strongly that a threshold on the ring
mean overcalls.
"""

from __future__ import annotations

from islet_imaging.errors import IsletImagingError
from islet_imaging.phantom.parameters import PhantomParameters

PRESETS: dict[str, PhantomParameters] = {
    "easy_confocal": PhantomParameters(
        pixel_size_um=0.20, n_islets=2, islet_diameter_um=110.0, section_um=4.0,
        modality="confocal", numerical_aperture=0.8, haze=0.0, halo=0.01, pooling=0.02,
        specks_per_mm2=20.0, debris_per_mm2=5.0, dim_fraction=0.05, bleed_dna=0.0,
        bleed_next=0.005, bleed_back=0.0, photons=900.0, dna_photons=1200.0, vignetting=0.03,
        nonspecific_level=0.015, nuclear_ratio=0.06,
    ),
    "ffpe20x": PhantomParameters(
        pixel_size_um=0.32, n_islets=3, section_um=5.0, numerical_aperture=0.5, haze=0.10,
        halo=0.04, autofluorescence=0.03, specks_per_mm2=300.0, red_cells_per_mm2=15.0,
        defocus_um=0.5,
    ),
    "cryo10um_widefield": PhantomParameters(
        pixel_size_um=0.32, n_islets=3, section_um=10.0, numerical_aperture=0.5, haze=0.25,
        haze_um=15.0, halo=0.10, halo_um=20.0, pooling=0.2, defocus_um=1.0, autofluorescence=0.02,
        nonspecific_level=0.02, specks_per_mm2=150.0, bleed_dna=0.03, bleed_next=0.04,
        vignetting=0.15, nuclear_ratio=0.15,
    ),
    "wholemount": PhantomParameters(
        pixel_size_um=0.50, n_islets=5, islet_diameter_um=170.0, islet_diameter_sd_um=35.0,
        preparation="whole_mount", modality="confocal", section_um=4.0, numerical_aperture=0.75,
        refractive_index=1.40, penetration_um=60.0, haze=0.06, halo=0.03, vignetting=0.06,
        photons=350.0, dna_photons=600.0, specks_per_mm2=40.0, debris_per_mm2=30.0,
    ),
    "hcs0.65": PhantomParameters(
        pixel_size_um=0.65, n_islets=10, islet_diameter_um=120.0, islet_diameter_sd_um=30.0,
        preparation="whole_mount", modality="widefield", section_um=11.0,
        numerical_aperture=0.45, haze=0.20, haze_um=25.0, halo=0.06, defocus_um=1.5,
        bleed_dna=0.03, bleed_next=0.04, vignetting=0.25, photons=300.0, dna_photons=500.0,
        gain=1.2, bits=16, debris_per_mm2=40.0,
    ),
    "abused_8bit": PhantomParameters(
        pixel_size_um=0.50, n_islets=4, section_um=6.0, numerical_aperture=0.4, haze=0.15,
        halo=0.08, defocus_um=1.0, bleed_dna=0.04, bleed_next=0.06, vignetting=0.20, seam=0.06,
        bleaching=0.1, autofluorescence=0.04, rescale_8bit=True, gamma=0.8, clip_fraction=0.01,
        jpeg_quality=85, specks_per_mm2=600.0, photons=250.0, dna_photons=400.0,
    ),
}  # fmt: skip

HARD_PRESETS = ("cryo10um_widefield", "hcs0.65")


def get_preset(name: str) -> PhantomParameters:
    """Return the parameters of a preset by name."""
    if name not in PRESETS:
        raise IsletImagingError(
            f"phantom: no preset called {name!r}; choose one of {', '.join(PRESETS)}"
        )
    return PRESETS[name]
