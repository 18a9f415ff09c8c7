"""Random parameters over the whole range of stainings, for training and for stress.

The idea: a network that has seen every regime (thin and thick, clean and bleeding, no insulin
at all and nothing but insulin, any exposure) need not guess which one it meets. Ranges are those
of published protocols and of public stainings, widened a little.

How it fails: parameters are drawn almost independently, so some draws are pictures that no
laboratory would keep.
"""

from __future__ import annotations

import numpy as np

from islet_imaging.phantom.parameters import ARRANGEMENTS, PhantomParameters

PIXEL_SIZES_UM = (0.16, 0.20, 0.25, 0.32, 0.40, 0.50, 0.65)


def random_parameters(
    rng: np.random.Generator,
    *,
    shape: tuple[int, int] = (256, 256),
    channels: tuple[str, ...] = ("DAPI", "INS"),
    pixel_size_um: float | None = None,
    scene: str | None = None,
    texture: str = "standard",
) -> PhantomParameters:
    """Draw the parameters of one training crop.

    Parameters
    ----------
    rng
        Source of chance.
    shape, channels, pixel_size_um, scene, texture
        As in `PhantomParameters`; a size or scene that is not given is drawn as well.

    Returns
    -------
    PhantomParameters
        Set up for speed: only what the crop can show is made, planes 1.5 um apart, ring light
        not measured.

    Examples
    --------
    >>> import numpy as np
    >>> from islet_imaging.phantom import phantom, random_parameters
    >>> p = random_parameters(np.random.default_rng(0), shape=(64, 64))
    >>> phantom(p, seed=0).array.shape
    (2, 64, 64)
    """

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def log_between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def chance(share: float) -> bool:
        return bool(rng.random() < share)

    pixel = float(rng.choice(PIXEL_SIZES_UM)) if pixel_size_um is None else pixel_size_um
    place = scene if scene is not None else str(rng.choice(["islets", "tissue"], p=[0.7, 0.3]))
    confocal = chance(0.35)
    whole_mount = chance(0.25)
    field_um = min(shape) * pixel
    diameter = log_between(40, 300)
    fit = 1 if field_um < 1.3 * diameter else int(np.clip((field_um / diameter) ** 2 * 0.5, 1, 8))

    insulin, others = _shares(rng)
    stretched = chance(0.25)
    return PhantomParameters(
        shape=shape,
        pixel_size_um=pixel,
        channels=channels,
        scene=place,
        texture=texture,
        plane_um=1.5,
        measure_light=False,
        whole_aggregates=False,
        n_islets=0 if place == "tissue" and chance(0.5) else fit,
        islet_diameter_um=diameter,
        islet_diameter_sd_um=0.2 * diameter,
        islet_axis_ratio=between(1.0, 1.5),
        roughness=between(0.0, 0.12),
        cell_density_per_1000um3=between(0.75, 1.6),
        min_distance_um=between(6.5, 9.0),
        tissue_density_per_1000um3=between(0.4, 1.1),
        stroma_fraction=between(0.0, 0.5),
        lumens_per_mm2=0.0 if chance(0.5) else between(10, 150),
        necrotic_core=0.0 if chance(0.9) else between(0.2, 0.6),
        nucleus_diameter_um=between(6.0, 10.0),
        nucleus_cv=between(0.08, 0.18),
        nucleus_axis_ratio=between(1.1, 1.7),
        nucleus_irregularity=between(0.0, 0.14),
        beta_nucleus_scale=between(0.85, 1.05),
        chromatin_contrast=between(0.1, 0.7),
        chromatin_um=between(0.3, 1.2),
        dna_cv=between(0.08, 0.35),
        dna_background=log_between(0.005, 0.35),
        mitotic_fraction=between(0.0, 0.03),
        pyknotic_fraction=between(0.0, 0.10),
        cell_radius_um=between(6.5, 9.5),
        gap_um=between(0.0, 1.0),
        insulin_fraction=insulin,
        glucagon_fraction=others[0],
        somatostatin_fraction=others[1],
        bihormonal_fraction=others[2],
        enterochromaffin_fraction=others[3],
        arrangement=str(rng.choice(ARRANGEMENTS)),
        arrangement_strength=between(0.0, 1.0),
        expression_sigma=between(0.35, 0.9),
        dim_fraction=between(0.0, 0.2),
        nonspecific_level=log_between(0.005, 0.08),
        uptake_fraction=0.0 if chance(0.5) else between(0.0, 0.15),
        nuclear_ratio=log_between(0.03, 1.1),
        granule_contrast=between(0.2, 1.2),
        granule_um=between(0.25, 1.0),
        polarity=between(0.0, 0.9),
        autofluorescence=log_between(0.003, 0.10),
        background=log_between(0.003, 0.10),
        halo=0.0 if chance(0.3) else log_between(0.01, 0.9),
        halo_um=between(3.0, 30.0),
        pooling=0.0 if chance(0.5) else log_between(0.05, 1.5),
        specks_per_mm2=log_between(5, 3000),
        speck_level=log_between(0.2, 4.0),
        debris_per_mm2=log_between(1, 200),
        red_cells_per_mm2=0.0 if chance(0.6) else between(5, 100),
        preparation="whole_mount" if whole_mount else "section",
        modality="confocal" if confocal else "widefield",
        section_um=between(8, 18) if whole_mount and not confocal else between(3, 12),
        penetration_um=between(25, 150) if whole_mount else 0.0,
        numerical_aperture=between(0.6, 1.1) if confocal else between(0.3, 0.8),
        refractive_index=between(1.33, 1.52),
        defocus_um=between(-3.0, 3.0),
        chromatic_shift_um=between(0.0, 0.5),
        haze=0.0 if confocal else between(0.0, 0.45),
        haze_um=between(10, 40),
        bleed_dna=0.0 if chance(0.5) else log_between(0.005, 0.5),
        bleed_next=0.0 if chance(0.5) else log_between(0.005, 0.3),
        bleed_back=0.0 if chance(0.7) else log_between(0.001, 0.05),
        photons=log_between(30, 2500),
        dna_photons=log_between(60, 2500),
        gain=log_between(0.8, 5.0),
        read_noise=between(1, 10),
        offset=between(50, 400),
        camera_seed=int(rng.integers(2**31)),
        bits=int(rng.choice([8, 12, 16], p=[0.15, 0.5, 0.35])),
        vignetting=between(0.0, 0.4),
        seam=0.0 if chance(0.8) else between(0.0, 0.1),
        bleaching=0.0 if chance(0.8) else between(0.0, 0.3),
        rescale_8bit=stretched,
        gamma=between(0.5, 1.5) if stretched and chance(0.4) else 1.0,
        clip_fraction=log_between(0.0001, 0.08) if stretched else 0.0,
        jpeg_quality=int(rng.integers(60, 96)) if stretched and chance(0.5) else 0,
    )


def _shares(rng: np.random.Generator) -> tuple[float, list[float]]:
    """Share of insulin cells, with exact 0 and near 1 among them, and of the other types."""
    draw = rng.random()
    if draw < 0.10:
        insulin = 0.0
    elif draw < 0.15:
        insulin = float(rng.uniform(0.9, 1.0))
    else:
        insulin = float(rng.uniform(0.02, 0.9))
    rest = rng.dirichlet([1.2, 0.6, 0.4, 0.8, 2.0])[:4] * (1.0 - insulin) * 0.999
    if insulin == 0.0:
        rest[2] = 0.0  # no insulin means no bihormonal cells either
    return insulin, [float(share) for share in rest]
