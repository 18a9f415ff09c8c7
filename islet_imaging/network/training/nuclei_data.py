"""Training crops of the nuclei network: from images and masks to batches.

The idea: each image is brought near the working scale once, when it is read (`Sample`); a crop is
a random affine and elastic view of it with the nuclei at a random size around the working diameter,
then augmented and drawn as targets.  Crop number i of a run depends on the run's seed and i alone,
so a stopped run goes on exactly, and the number of workers changes nothing.

Sources are kept apart by name (``cultures``, ``tissue``, ``phantoms``, a user's folder) with a
share each: tissue is rare in the data and common in use, so it is drawn more often than its number.

It fails when a mask's image has no nucleus to measure a diameter on: then the diameter must be in
the index, or the median of its source is taken.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from islet_imaging._types import Float32, Labels
from islet_imaging.errors import ImageReadError
from islet_imaging.network.normalise import WORKING_DIAMETER_PX, compress, grey_limits
from islet_imaging.network.targets import make_targets
from islet_imaging.network.training.augmentation import IGNORED, augment, smooth_noise

MIN_OBJECT_AREA_PX = 15
"""Objects below this area (native px) count in no loss and in no score."""


@dataclass
class Sample:
    """One annotated image, near the working scale, ready to be cropped.

    Attributes
    ----------
    name : str
        For logs.
    group : str
        Look-alikes: images of one group share a weight.
    levels : list of (image, labels, diameter_px)
        The image with black 0 and white 1, its nuclei and their median diameter, at one or two
        scales; downsampling was done with anti-aliasing.
    """

    name: str
    group: str
    levels: list[tuple[Float32, Labels, float]] = field(repr=False)


def median_diameter(labels: NDArray[np.integer]) -> float:
    """Median equivalent diameter of the labels in px; NaN without any."""
    areas = np.bincount(np.maximum(labels, 0).ravel())[1:]
    areas = areas[areas >= MIN_OBJECT_AREA_PX]
    return float(np.median(2 * np.sqrt(areas / np.pi))) if areas.size else float("nan")


def make_sample(
    image: NDArray[np.generic],
    labels: NDArray[np.integer],
    *,
    name: str,
    group: str,
    diameter_px: float | None = None,
) -> Sample:
    """Prepare an image and its mask for cropping.

    Parameters
    ----------
    image : (Y, X) or (Y, X, C)
        DNA channel; of a colour picture the brightest of the first three channels.
    labels : (Y, X) int
        Its nuclei.
    name, group : str
        See `Sample`.
    diameter_px : float, optional
        Median diameter; measured on the labels when not given.
    """
    image = _grey(image)
    if image.shape != labels.shape:
        raise ImageReadError(
            f"{name}: image {image.shape} and mask {labels.shape} differ in shape; "
            "a mask must have one label per pixel of its image"
        )
    if diameter_px is None or not np.isfinite(diameter_px):
        diameter_px = median_diameter(labels)
    if not np.isfinite(diameter_px):
        diameter_px = WORKING_DIAMETER_PX
    low, high = grey_limits(lambda y, x: image[y, x], (image.shape[0], image.shape[1]))
    grey = (image.astype(np.float32) - low) / (high - low)
    grey = np.clip(grey, -0.1, 8.0).astype(np.float32)
    ids = labels.astype(np.int32)
    levels = []
    largest = 1.8 * WORKING_DIAMETER_PX
    for wanted in (largest, WORKING_DIAMETER_PX):
        if diameter_px > 1.15 * wanted:
            levels.append((*_rescale(grey, ids, wanted / diameter_px), wanted))
        elif not levels:
            levels.append((grey, ids, float(diameter_px)))
    return Sample(name, group, levels)


def _rescale(image: Float32, labels: Labels, zoom: float) -> tuple[Float32, Labels]:
    smooth = ndi.gaussian_filter(image, 0.5 * (1 / zoom - 1)) if zoom < 1 else image
    small = ndi.zoom(smooth, zoom, order=1, mode="nearest", grid_mode=True)
    ids = ndi.zoom(labels, zoom, order=0, mode="nearest", grid_mode=True)
    return small.astype(np.float32), ids.astype(np.int32)


def read_index(
    data_dir: Path, *, datasets: Iterable[str], roles: Iterable[str] = ("train",)
) -> list[dict[str, str]]:
    """Read the rows of ``nuclei/index.csv`` of these data sets and roles."""
    path = data_dir / "nuclei" / "index.csv"
    if not path.exists():
        raise ImageReadError(
            f"{path}: not found; give the folder that holds nuclei/index.csv as data_dir "
            "or in the environment variable ISLET_IMAGING_DATA"
        )
    wanted, allowed = set(datasets), set(roles)
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    return [r for r in rows if r["dataset"] in wanted and r["role"] in allowed]


def split_names(data_dir: Path) -> dict[str, set[str]]:
    """Read the published split of dsb2018: file names of ``train``, ``val`` and ``test``."""
    path = data_dir / "nuclei" / "split_dsb2018.json"
    return {k: set(v) for k, v in json.loads(path.read_text()).items()}


def read_row(data_dir: Path, row: dict[str, str]) -> tuple[NDArray[np.generic], Labels, float]:
    """Read one image of the index: DNA channel, human mask, median diameter in px (or NaN)."""
    import tifffile

    image = _grey(tifffile.imread(data_dir / "nuclei" / row["image"]))
    labels = tifffile.imread(data_dir / "nuclei" / row["mask"]).astype(np.int32)
    return image, labels, float(row["median_diam_px"] or "nan")


def load_rows(data_dir: Path, rows: Sequence[dict[str, str]]) -> list[Sample]:
    """Read the images of index rows as samples."""
    samples = []
    for row in rows:
        image, labels, diameter = read_row(data_dir, row)
        samples.append(
            make_sample(image, labels, name=row["image"], group=row["group"], diameter_px=diameter)
        )
    return samples


def _grey(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """Of a colour picture the brightest of the first three channels."""
    return image[..., :3].max(axis=-1) if image.ndim == 3 else image


def folder_pairs(folder: Path) -> Iterator[tuple[Path, NDArray[np.generic], Labels]]:
    """Read a user's folder: each ``images/NAME.tif`` with its ``masks/NAME.tif``.

    Raises
    ------
    ImageReadError
        When there is no image, or an image has no mask or one of another shape.
    """
    import tifffile

    images = sorted((folder / "images").glob("*.tif*"))
    if not images:
        raise ImageReadError(
            f"{folder}: no images/*.tif found; put DNA images in images/ and label images "
            "of the same name in masks/"
        )
    for path in images:
        mask = folder / "masks" / path.name
        if not mask.exists():
            raise ImageReadError(f"{path}: its mask {mask} is missing")
        image, labels = _grey(tifffile.imread(path)), tifffile.imread(mask)
        if image.shape != labels.shape:
            raise ImageReadError(
                f"{path}: image {image.shape} and mask {labels.shape} differ in shape; "
                "a mask must have one label per pixel of its image"
            )
        yield path, image, labels.astype(np.int32)


def load_folder(folder: Path, only: Iterable[str] | None = None) -> list[Sample]:
    """Read a user's folder, or the images of these file names, as samples."""
    wanted = None if only is None else set(only)
    return [
        make_sample(image, labels, name=path.name, group=folder.name)
        for path, image, labels in folder_pairs(folder)
        if wanted is None or path.name in wanted
    ]


@dataclass
class CropSource:
    """Endless numbered training crops from named sets of samples.

    Parameters
    ----------
    sources : dict of name -> list of Sample
        Where crops come from.
    shares : dict of name -> float
        Relative frequency of each source.
    size_px : int
        Height and width of a crop at working scale.
    seed : int
        With the crop's number it fixes the crop.
    scale_jitter : (float, float)
        Range of the nucleus diameter relative to the working diameter.
    empty_share : float
        Share of crops with nothing but noise and background.
    plain_share : float
        Share of crops that show an image as it is, near the working diameter: without them the
        network learns the augmentations' blur and noise, and loses the marks by which people
        part nuclei that touch.
    """

    sources: dict[str, list[Sample]]
    shares: dict[str, float]
    size_px: int = 128
    seed: int = 0
    scale_jitter: tuple[float, float] = (0.6, 1.7)
    empty_share: float = 0.02
    plain_share: float = 0.0

    def __post_init__(self) -> None:
        self._names = [n for n in self.sources if self.sources[n] and self.shares.get(n, 0) > 0]
        share = np.array([self.shares[n] for n in self._names], float)
        self._share = share / share.sum()
        self._weights = {n: _group_weights(self.sources[n]) for n in self._names}

    def crop(self, number: int) -> dict[str, Float32]:
        """Make crop `number`: ``image`` (1, Y, X) and the fields of ``targets.make_targets``."""
        rng = np.random.default_rng((self.seed, number))
        if rng.random() < self.empty_share:
            image, labels = self._empty(rng)
        elif self.plain_share and rng.random() < self.plain_share:
            image, labels = self._view(rng, plain=True)
        else:
            image, labels = self._view(rng)
            other = self._view(rng) if rng.random() < 0.45 else None
            if other is not None and ((labels == IGNORED).any() or (other[1] == IGNORED).any()):
                # phantoms are dense as they are, and ignored pixels cannot be laid over
                other = None
            image, labels = augment(image, labels, rng, other=other)
        ignore, labels = labels == IGNORED, np.maximum(labels, 0)
        ignore = ignore | _small_objects(labels)
        labels = np.where(ignore, 0, labels).astype(np.int32)
        targets = make_targets(labels, ignore)
        return {"image": compress(np.clip(image, -0.1, 10.0))[None], **targets}

    def _view(self, rng: np.random.Generator, *, plain: bool = False) -> tuple[Float32, Labels]:
        name = self._names[int(rng.choice(len(self._names), p=self._share))]
        samples = self.sources[name]
        sample = samples[int(rng.choice(len(samples), p=self._weights[name]))]
        low, high = np.log(self.scale_jitter) / (3 if plain else 1)
        # triangular in the logarithm: most crops near the working diameter, all sizes present
        target = WORKING_DIAMETER_PX * np.exp(rng.triangular(low, 0.0, high))
        level = min(
            (lv for lv in sample.levels if lv[2] >= 0.9 * target),
            key=lambda lv: lv[2],
            default=sample.levels[0],
        )
        return warp(level[0], level[1], target / level[2], self.size_px, rng)

    def _empty(self, rng: np.random.Generator) -> tuple[Float32, Labels]:
        shape = (self.size_px, self.size_px)
        image = 0.3 + rng.normal(0, rng.uniform(0.05, 0.4), shape)
        if rng.random() < 0.7:
            image = ndi.gaussian_filter(image, float(rng.uniform(0.3, 1.0)))
        image = image + rng.uniform(0, 0.4) * smooth_noise(shape, float(rng.uniform(4, 40)), rng)
        return image.astype(np.float32), np.zeros(shape, np.int32)


def _group_weights(samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Weight images so that a group counts by the root of its number of images."""
    groups = [s.group for s in samples]
    counts = {g: groups.count(g) for g in set(groups)}
    weight = np.array([counts[g] ** -0.4 for g in groups])
    return np.asarray(weight / weight.sum(), np.float64)


def _small_objects(labels: Labels) -> NDArray[np.bool_]:
    """Slivers at working scale: too small to teach anything."""
    areas = np.bincount(labels.ravel())
    small = areas < 10
    small[0] = False
    return np.asarray(small[labels], np.bool_)


def warp(
    image: Float32, labels: Labels, zoom: float, size_px: int, rng: np.random.Generator
) -> tuple[Float32, Labels]:
    """Cut a rotated, flipped, slightly sheared and bent square out of an image.

    Parameters
    ----------
    image, labels : (Y, X)
        Source and its nuclei.
    zoom : float
        Output px per source px.
    size_px : int
        Side of the square in output px.
    rng : numpy.random.Generator
        Source of all chance.

    Returns
    -------
    image, labels : (size_px, size_px)
        Linear interpolation for the image, nearest for labels; outside is mirrored.
    """
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else rng.integers(4) * np.pi / 2
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    shape = np.diag([stretch, 1 / stretch]) @ np.array([[1, rng.uniform(-0.1, 0.1)], [0, 1]])
    flip = np.diag(rng.choice([-1, 1], 2))
    matrix = rotation @ shape @ flip / zoom
    if rng.random() < 0.85 and (labels > 0).any():
        inside = np.flatnonzero(labels > 0)
        focus = np.array(np.unravel_index(inside[rng.integers(inside.size)], labels.shape), float)
        focus += matrix @ rng.uniform(-0.4, 0.4, 2) * size_px
    else:
        focus = rng.uniform(0, 1, 2) * labels.shape
    grid = np.indices((size_px, size_px), dtype=np.float32).reshape(2, -1) - (size_px - 1) / 2
    if rng.random() < 0.4:
        bend = rng.uniform(0.3, 1.5)
        side = (size_px, size_px)
        grid = grid + bend * np.stack([smooth_noise(side, 24.0, rng).ravel() for _ in range(2)])
    # keep the square inside the image where it fits, as windows of a larger image are
    extent = np.abs(matrix).sum(1) * size_px / 2
    for axis, length in enumerate(labels.shape):
        if 2 * extent[axis] <= length:
            focus[axis] = np.clip(focus[axis], extent[axis], length - extent[axis])
        else:
            focus[axis] = length / 2
    where = (matrix @ grid + focus[:, None]).reshape(2, size_px, size_px)
    view = ndi.map_coordinates(image, where, order=1, mode="mirror")
    ids = ndi.map_coordinates(labels, where, order=0, mode="mirror")
    return view.astype(np.float32), _relabel_pieces(ids.astype(np.int32))


def _relabel_pieces(labels: Labels) -> Labels:
    """Give each connected piece its own label: mirroring and cutting may split a nucleus."""
    if not labels.any():
        return labels
    from skimage.measure import label

    pieces = label(np.maximum(labels, 0), background=0, connectivity=1)
    return np.where(labels == IGNORED, IGNORED, pieces).astype(np.int32)
