"""The lens: how each depth of the specimen is blurred before it lands on the camera.

The idea: everything linear happens in Fourier space. Each plane of the specimen is transformed
once, multiplied by the transfer function of its distance from focus, summed, and transformed
back once per channel. Widefield keeps the light of all depths and blurs it more with distance;
confocal keeps little of it. Haze is a wide second Gaussian; secreted marker (halo) is an
exponential one.

How it fails: Gaussian and geometric defocus stand in for diffraction theory, there is no
spherical aberration, and the field wraps at its (padded) edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from islet_imaging.phantom.parameters import PhantomParameters

WAVELENGTHS_UM = (0.46, 0.52, 0.60, 0.67, 0.78)
Transfer = NDArray[np.complex64]


@dataclass(frozen=True)
class Lens:
    """Blur of one channel: lateral width in focus, growth with defocus, axial sensitivity."""

    sigma_um: float
    defocus_slope: float  # radius of the defocus disc per um out of focus
    axial_sigma_um: float  # 0: widefield, all depths count the same
    focus_um: float
    shift_um: tuple[float, float]
    haze: float
    haze_um: float
    texture: str

    def weight(self, z_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of a plane's light that reaches the camera."""
        if self.axial_sigma_um == 0:
            return np.ones_like(z_um)
        return np.exp(-0.5 * ((z_um - self.focus_um) / self.axial_sigma_um) ** 2)

    def defocus_radius_um(self, z_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Radius of the geometric blur disc of a plane."""
        radius: NDArray[np.float64] = np.abs(z_um - self.focus_um) * self.defocus_slope
        return radius

    def transfer(self, z_um: float, shape: tuple[int, int], pixel_um: float) -> Transfer:
        """Transfer function of one plane on the half-complex grid of `rfft2`."""
        fy = np.fft.fftfreq(shape[0], pixel_um).astype(np.float32)[:, None]
        fx = np.fft.rfftfreq(shape[1], pixel_um).astype(np.float32)[None, :]
        radius = float(self.defocus_radius_um(np.array([z_um]))[0])
        wide = _gaussian(fy, self.haze_um) * _gaussian(fx, self.haze_um)
        if self.texture == "heldout":
            # sharp core with long tails, and astigmatism that turns with the side of focus
            sign = 1.0 if z_um > self.focus_um else -1.0
            sy = np.hypot(self.sigma_um, 0.55 * radius * (1 + 0.25 * sign))
            sx = np.hypot(self.sigma_um, 0.55 * radius * (1 - 0.25 * sign))
            core = _gaussian(fy, 0.8 * sy) * _gaussian(fx, 0.8 * sx)
            scaled = np.sqrt((fy * sy) ** 2 + (fx * sx) ** 2)
            core = 0.7 * core + 0.3 * np.exp(-2 * np.pi * 0.9 * scaled)
        else:
            # a disc of radius r blurs like a Gaussian of r/2
            sigma = float(np.hypot(self.sigma_um, 0.5 * radius))
            core = _gaussian(fy, sigma) * _gaussian(fx, sigma)
        weight = float(self.weight(np.array([z_um]))[0])
        blur = weight * ((1.0 - self.haze) * core + self.haze * wide)
        dy, dx = self.shift_um
        phase_y = np.exp(-2j * np.pi * fy * dy).astype(np.complex64)
        phase_x = np.exp(-2j * np.pi * fx * dx).astype(np.complex64)
        result: Transfer = (blur * phase_y * phase_x).astype(np.complex64)
        return result


def _gaussian(frequency: NDArray[np.float32], sigma_um: float) -> NDArray[np.float32]:
    result: NDArray[np.float32] = np.exp(
        np.float32(-2.0 * (np.pi * sigma_um) ** 2) * frequency * frequency
    )
    return result


def gaussian_transfer(
    shape: tuple[int, int], pixel_um: float, sigma_um: float
) -> NDArray[np.float32]:
    """Transfer function of a Gaussian blur."""
    fy = np.fft.fftfreq(shape[0], pixel_um).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(shape[1], pixel_um).astype(np.float32)[None, :]
    return _gaussian(fy, sigma_um) * _gaussian(fx, sigma_um)


def halo_transfer(shape: tuple[int, int], pixel_um: float, length_um: float) -> Transfer:
    """Transfer function of an exponential fall-off in the plane, 1/e at `length_um`."""
    fy = np.fft.fftfreq(shape[0], pixel_um)[:, None]
    fx = np.fft.rfftfreq(shape[1], pixel_um)[None, :]
    square = (2 * np.pi * length_um) ** 2 * (fy * fy + fx * fx)
    result: Transfer = ((1.0 + square) ** -1.5).astype(np.complex64)
    return result


def make_lens(rng: np.random.Generator, p: PhantomParameters, dye: int) -> Lens:
    """The lens as the given dye sees it; colours differ in sharpness, focus and place."""
    wavelength = WAVELENGTHS_UM[min(dye, len(WAVELENGTHS_UM) - 1)]
    na, n = p.numerical_aperture, p.refractive_index
    sigma = 0.51 * wavelength / na / 2.355
    axial = 0.88 * wavelength / (n - np.sqrt(n * n - na * na)) / 2.355
    slope = na / np.sqrt(n * n - na * na)
    direction = rng.uniform(0, 2 * np.pi)
    chromatic = p.chromatic_shift_um * dye / 3.0
    confocal = p.modality == "confocal"
    return Lens(
        sigma_um=sigma * (0.85 if confocal else 1.0),
        defocus_slope=slope * (0.5 if confocal else 1.0),
        axial_sigma_um=float(axial) if confocal else 0.0,
        focus_um=p.defocus_um + chromatic * float(rng.uniform(-1, 1)),
        shift_um=(chromatic * float(np.sin(direction)), chromatic * float(np.cos(direction))),
        haze=p.haze,
        haze_um=p.haze_um,
        texture=p.texture,
    )


def plane_depths_um(p: PhantomParameters, lens: Lens) -> NDArray[np.float64]:
    """Depths of the planes to render: the section, or what the lens sees of a whole mount."""
    depth = p.section_um
    if p.preparation == "whole_mount" and p.modality == "confocal":
        depth = float(np.clip(4.5 * lens.axial_sigma_um, 3.0, 30.0))
    count = int(np.clip(round(depth / p.plane_um), 3, 14))
    edges = np.linspace(-depth / 2, depth / 2, count + 1)
    middle: NDArray[np.float64] = 0.5 * (edges[1:] + edges[:-1])
    return middle
