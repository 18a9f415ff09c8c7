"""Random changes of training crops that make the network indifferent to the microscope.

The idea: a laboratory that is not in the training data differs in optics, exposure, background,
camera and file, and in how dense its nuclei lie.  So every crop is put through a random microscope:
other nuclei laid over it (dense tissue from sparse cultures), ghosts out of focus, haze and
background gradients, texture of autofluorescence, blur, gain, gamma, photon and read noise, coarse
grey levels, JPEG.  Contrast is never inverted: the dye is bright.

All functions take linear grey values scaled so that black is 0 and white is 1, and an explicit
generator.  It fails where a change makes the human mask wrong: blur and noise are limited
for that reason.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from scipy import ndimage as ndi

from islet_imaging._types import Float32, Labels

IGNORED = -1
"""Value of pixels in a training mask where a nucleus is neither right nor wrong."""


def smooth_noise(shape: tuple[int, int], scale_px: float, rng: np.random.Generator) -> Float32:
    """Draw noise with structures of about `scale_px`, mean 0, standard deviation 1."""
    coarse = [max(2, int(np.ceil(n / scale_px)) + 2) for n in shape]
    field = rng.standard_normal(coarse).astype(np.float32)
    zoom = [(n + 2 * scale_px) / c for n, c in zip(shape, coarse, strict=True)]
    big = ndi.zoom(field, zoom, order=1, mode="nearest", grid_mode=True)
    dy, dx = (
        int(rng.integers(0, max(1, b - n + 1))) for b, n in zip(big.shape, shape, strict=True)
    )
    out = big[dy : dy + shape[0], dx : dx + shape[1]]
    if out.shape != shape:
        out = np.pad(out, [(0, n - o) for n, o in zip(shape, out.shape, strict=True)], mode="edge")
    return np.asarray(out / (out.std() + 1e-6), np.float32)


def overlay(
    image: Float32,
    labels: Labels,
    other_image: Float32,
    other_labels: Labels,
    rng: np.random.Generator,
) -> tuple[Float32, Labels]:
    """Lay the nuclei of another crop over this one, as a thick section does.

    Light adds where nuclei overlap; the upper nucleus gets the pixels.  What is left of a nucleus
    that loses more than half of its area is `IGNORED`: neither nucleus nor background.

    Returns
    -------
    image, labels
        The mixed crop; new labels follow the old ones.
    """
    upper = other_labels > 0
    soft = ndi.gaussian_filter(upper.astype(np.float32), 0.7)
    background = np.float32(np.median(other_image[~upper])) if (~upper).any() else np.float32(0)
    light = np.clip(other_image - background, 0, None) * soft * np.float32(rng.uniform(0.6, 1.2))
    transmit = np.float32(rng.uniform(0.2, 1.0))
    mixed = image * (1 - soft * (1 - transmit)) + light
    before = np.bincount(labels.ravel())
    out = labels.copy()
    top = int(labels.max())
    covered = np.bincount(labels[upper], minlength=len(before))
    hidden = covered > 0.5 * before
    hidden[0] = False
    out[hidden[labels]] = IGNORED
    out[upper] = other_labels[upper] + top
    return np.asarray(mixed, np.float32), np.asarray(out, np.int32)


def ghosts(image: Float32, other: Float32, rng: np.random.Generator) -> Float32:
    """Add nuclei that lie out of focus: another crop, blurred and dim."""
    sigma = float(rng.uniform(2.5, 7.0))
    blurred = ndi.gaussian_filter(other, sigma)
    return np.asarray(image + np.float32(rng.uniform(0.1, 0.6)) * blurred, np.float32)


def background(image: Float32, rng: np.random.Generator) -> Float32:
    """Add a pedestal, a gradient, haze around nuclei and autofluorescent texture."""
    out = image
    shape = image.shape
    if rng.random() < 0.4:
        haze = ndi.gaussian_filter(image, float(rng.uniform(8, 25)), mode="reflect")
        out = out + np.float32(rng.uniform(0.1, 0.8)) * haze
    if rng.random() < 0.4:
        slope = rng.uniform(-1, 1, 2)
        y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
        plane = slope[0] * y + slope[1] * x
        out = out + np.float32(rng.uniform(0, 0.2)) * (plane - plane.min())
    if rng.random() < 0.35:
        # tissue autofluorescence: blotches, fibres are blotches stretched along one direction
        texture = smooth_noise(shape, float(rng.uniform(3, 30)), rng)
        if rng.random() < 0.4:
            texture = ndi.gaussian_filter1d(texture, 8.0, axis=int(rng.integers(2)))
            texture /= texture.std() + 1e-6
        strength = rng.uniform(0.01, 0.12)
        out = out + np.float32(strength) * np.clip(texture + 1.5, 0, None)
    if rng.random() < 0.15:
        # specks: lipofuscin, dust, antibody aggregates; far smaller than a nucleus
        n = int(rng.integers(3, 40))
        specks = np.zeros(shape, np.float32)
        specks[rng.integers(0, shape[0], n), rng.integers(0, shape[1], n)] = rng.uniform(0.3, 3, n)
        sigma = float(rng.uniform(0.5, 1.0))
        out = out + ndi.gaussian_filter(specks, sigma) * np.float32(2 * np.pi * sigma**2)
    return np.asarray(out, np.float32)


def optics(image: Float32, rng: np.random.Generator) -> Float32:
    """Blur a little, or sharpen as a deconvolution does."""
    u = rng.random()
    if u < 0.3:
        return np.asarray(ndi.gaussian_filter(image, float(rng.uniform(0.3, 1.8))), np.float32)
    if u < 0.4:
        blurred = ndi.gaussian_filter(image, float(rng.uniform(0.8, 2.0)))
        return np.asarray(
            np.clip(image + rng.uniform(0.2, 1.0) * (image - blurred), 0, None), np.float32
        )
    return image


def per_nucleus_gain(image: Float32, labels: Labels, rng: np.random.Generator) -> Float32:
    """Make some nuclei brighter and some dimmer than they are."""
    gain = np.exp(rng.normal(0, rng.uniform(0.1, 0.5), int(labels.max()) + 1)).astype(np.float32)
    gain[0] = 1.0
    outside = image[labels == 0]
    floor = np.float32(np.median(outside)) if outside.size else np.float32(0)
    field = ndi.gaussian_filter(gain[labels], 0.8)
    return np.asarray(floor + (image - floor) * field, np.float32)


def chromatin(image: Float32, labels: Labels, rng: np.random.Generator) -> Float32:
    """Multiply nuclei by a texture of foci and holes, as chromatin and nucleoli make."""
    texture = smooth_noise(image.shape, float(rng.uniform(1.5, 5.0)), rng)
    field = np.exp(np.float32(rng.uniform(0.05, 0.3)) * np.clip(texture, -2, 2))
    return np.asarray(np.where(labels > 0, image * field, image), np.float32)


def camera(image: Float32, rng: np.random.Generator) -> Float32:
    """Expose, add photon and read noise, quantise, compress as a file may have been."""
    out = np.clip(image, 0, None)
    if rng.random() < 0.6:
        photons = float(np.exp(rng.uniform(np.log(15), np.log(3000))))
        out = np.asarray(rng.poisson(out * photons) / photons, np.float32)
        out = out + rng.normal(0, rng.uniform(0.0, 0.03), out.shape).astype(np.float32)
        if rng.random() < 0.3:
            # interpolated or binned data: noise is correlated between pixels
            out = ndi.gaussian_filter(out, float(rng.uniform(0.3, 0.8)))
    if rng.random() < 0.15:
        out = np.minimum(out, np.float32(rng.uniform(0.5, 1.0)) * np.float32(out.max() + 1e-6))
    if rng.random() < 0.2:
        levels = int(rng.integers(16, 256))
        out = np.asarray(np.round(out * levels) / levels, np.float32)
    if rng.random() < 0.12:
        out = _jpeg(out, int(rng.integers(50, 95)))
    return np.asarray(out, np.float32)


def _jpeg(image: Float32, quality: int) -> Float32:
    from PIL import Image

    top = max(float(image.max()), 1e-6)
    grey = Image.fromarray(np.clip(image / top * 255, 0, 255).astype(np.uint8))
    buffer = BytesIO()
    grey.save(buffer, "JPEG", quality=quality)
    buffer.seek(0)
    return np.asarray(Image.open(buffer), np.float32) / np.float32(255 / top)


def grey_scale(image: Float32, rng: np.random.Generator) -> Float32:
    """Change black, white and gamma, as another exposure or display scaling does."""
    out = np.clip(image, 0, None)
    if rng.random() < 0.4:
        top = np.float32(max(float(out.max()), 1e-6))
        out = (out / top) ** np.float32(np.exp(rng.uniform(np.log(0.55), np.log(1.8)))) * top
    gain = np.exp(rng.normal(0, 0.35))
    offset = rng.normal(0, 0.02) + (rng.uniform(0, 0.25) if rng.random() < 0.25 else 0.0)
    return np.asarray(out * np.float32(gain) + np.float32(offset), np.float32)


def augment(
    image: Float32,
    labels: Labels,
    rng: np.random.Generator,
    *,
    other: tuple[Float32, Labels] | None = None,
) -> tuple[Float32, Labels]:
    """Put one crop through a random microscope.

    Parameters
    ----------
    image : (Y, X) float32
        Linear grey values, black 0, white 1.
    labels : (Y, X) int32
        Its nuclei.
    rng : numpy.random.Generator
        Source of all chance.
    other : (image, labels), optional
        A second crop, laid over the first one in focus or out of focus.

    Returns
    -------
    image, labels
        The changed crop; labels change only where nuclei are laid over it (see `overlay`).
    """
    if other is not None:
        u = rng.random()
        if u < 0.5:
            image, labels = overlay(image, labels, *other, rng)
        else:
            image = ghosts(image, other[0], rng)
    if labels.max() > 0:
        nuclei = np.maximum(labels, 0)
        if rng.random() < 0.3:
            image = per_nucleus_gain(image, nuclei, rng)
        if rng.random() < 0.25:
            image = chromatin(image, nuclei, rng)
    image = optics(image, rng)
    image = background(image, rng)
    image = grey_scale(image, rng)
    image = camera(image, rng)
    return image, labels
