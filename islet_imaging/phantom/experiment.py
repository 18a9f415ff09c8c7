"""A whole synthetic experiment on disk: conditions, batches, islets, controls, sheet, truth.

The idea: the share of insulin cells varies as it does in laboratories, between batches and
between islets of a batch (normal on the logit scale), staining strength varies between batches,
and every batch brings its own controls, taken with the same camera. The folder is what a user
would have, plus ``truth/``.

How it fails: batches differ in fraction and staining strength only, not in texture, thickness or
operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging.errors import IsletImagingError
from islet_imaging.phantom.parameters import DNA, PhantomParameters
from islet_imaging.phantom.presets import get_preset
from islet_imaging.phantom.render import phantom
from islet_imaging.phantom.truth import Phantom

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_COLUMNS = (
    "file", "condition", "batch", "role", "islet", "section_um", "modality", "control_kind",
)  # fmt: skip

#: noise of a camera packs no better with more effort
QUICK = {"level": 1}


@dataclass(frozen=True)
class _Job:
    """One picture to render and write."""

    file: str
    sheet: dict[str, Any]
    parameters: PhantomParameters
    seed: int
    population_fraction: float


def write_experiment(
    folder: str | Path,
    *,
    preset: str | PhantomParameters = "ffpe20x",
    seed: int = 0,
    n_conditions: int = 2,
    n_batches: int = 3,
    n_islets: int = 6,
    insulin_fractions: Sequence[float] | None = None,
    batch_logit_sd: float = 0.35,
    islet_logit_sd: float = 0.5,
    staining_sd: float = 0.15,
    controls: bool = True,
    control_islets: int = 5,
    single_stain_batches: int | None = None,
    workers: int = 1,
    **changes: Any,
) -> pd.DataFrame:
    """Write pictures, controls, ``samples.csv`` and ``truth/`` of a synthetic experiment.

    Parameters
    ----------
    folder
        Is made; must not hold a ``samples.csv`` already.
    preset, **changes
        As for `phantom`. Without ``shape`` a picture is 1.5 mean islet diameters wide.
    seed
        Decides everything; the same arguments write the same bytes, whatever ``workers``.
    n_conditions, n_batches, n_islets
        Conditions; batches (differentiations), each with all conditions; islets per batch and
        condition, one picture each.
    insulin_fractions
        Mean share of insulin cells per condition; by default from 0.35 to 0.50.
    batch_logit_sd, islet_logit_sd
        Spread between batches, and between islets of a batch, of the logit of that share.
    staining_sd
        Spread of staining strength between batches, SD of its logarithm.
    controls, control_islets
        Whether each batch gets controls, and how many islets a negative control picture shows:
        two secondary-only, one insulin-negative (INS-/-), one unstained (DNA dye only), a
        positive control like a donor islet, and a single stain of each channel.
    single_stain_batches
        How many batches, the first ones, get single stains; all if not given. Bleed-through
        belongs to dyes and filters, so one batch tells it.
    workers
        Processes.

    Returns
    -------
    DataFrame
        The sample sheet as written.

    Raises
    ------
    IsletImagingError
        If the folder holds an experiment already, or numbers do not fit together.

    Notes
    -----
    ``truth/`` holds ``batches.csv``, ``images.csv``, ``islets.csv``, ``cells.csv`` and
    ``labels/<picture>.{nuclei,partial,islets}.tif``.

    Examples
    --------
    >>> import tempfile
    >>> from islet_imaging.phantom import write_experiment
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sheet = write_experiment(folder, n_conditions=1, n_batches=1, n_islets=1,
    ...                              controls=False, shape=(128, 128))
    >>> list(sheet["role"])
    ['sample']
    """
    import pandas as pd

    folder = Path(folder)
    if (folder / "samples.csv").exists():
        raise IsletImagingError(
            f"{folder}: holds a samples.csv already; choose an empty folder for the experiment"
        )
    base = get_preset(preset) if isinstance(preset, str) else preset
    base = base.with_changes(**_one_islet(base, changes), **changes)
    fractions = _fractions(insulin_fractions, n_conditions)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    jobs = list(
        _jobs(rng, base, fractions, n_batches, n_islets, batch_logit_sd, islet_logit_sd,
              staining_sd, control_islets if controls else 0,
              n_batches if single_stain_batches is None else single_stain_batches)
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            results = list(pool.map(_write, [folder] * len(jobs), jobs))
    else:
        results = [_write(folder, job) for job in jobs]

    truth = folder / "truth"
    images = pd.DataFrame([image for image, _, _ in results])
    cells = pd.concat([cells for _, cells, _ in results], ignore_index=True)
    islets = pd.concat([islets for _, _, islets in results], ignore_index=True)
    images.to_csv(truth / "images.csv", index=False)
    cells.to_csv(truth / "cells.csv", index=False)
    islets.to_csv(truth / "islets.csv", index=False)
    _batch_truth(images, base).to_csv(truth / "batches.csv", index=False)
    sheet = pd.DataFrame([job.sheet for job in jobs], columns=list(SAMPLE_COLUMNS))
    # last, so that an interrupted run is not taken for a finished one
    sheet.to_csv(folder / "samples.csv", index=False)
    return sheet


def _one_islet(base: PhantomParameters, changes: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    diameter = float(changes.get("islet_diameter_um", base.islet_diameter_um))
    pixel = float(changes.get("pixel_size_um", base.pixel_size_um))
    if "shape" not in changes:
        side = 32 * int(np.ceil(1.5 * diameter / pixel / 32))
        values["shape"] = (side, side)
    if "n_islets" not in changes:
        values["n_islets"] = 1
    return values


def _fractions(given: Sequence[float] | None, n_conditions: int) -> list[float]:
    if given is None:
        return [float(f) for f in np.linspace(0.35, 0.50, n_conditions)]
    if len(given) != n_conditions:
        raise IsletImagingError(
            f"phantom: {len(given)} insulin_fractions for {n_conditions} conditions"
        )
    return [float(f) for f in given]


def _shift(fraction: float, step: float) -> float:
    """Move a fraction on the logit scale; 0 and 1 stay."""
    if fraction in (0.0, 1.0):
        return fraction
    return float(1.0 / (1.0 + (1.0 - fraction) / fraction * np.exp(-step)))


def _with_insulin(p: PhantomParameters, fraction: float) -> PhantomParameters:
    """Set the share of insulin cells; the others keep their proportions."""
    others = {
        name: getattr(p, name)
        for name in (
            "glucagon_fraction",
            "somatostatin_fraction",
            "bihormonal_fraction",
            "enterochromaffin_fraction",
        )
    }
    room = (1.0 - fraction) / max(1.0 - p.insulin_fraction, 1e-9)
    scale = min(room, (1.0 - fraction) / max(sum(others.values()), 1e-9))
    changes = {name: value * scale for name, value in others.items()}
    return p.with_changes(insulin_fraction=fraction, **changes)


def _jobs(
    rng: np.random.Generator,
    base: PhantomParameters,
    fractions: list[float],
    n_batches: int,
    n_islets: int,
    batch_sd: float,
    islet_sd: float,
    staining_sd: float,
    control_islets: int,
    single_stain_batches: int,
) -> Iterator[_Job]:
    names = ["control" if k == 0 else f"treated{k}" for k in range(len(fractions))]
    if len(names) == 1:
        names = ["untreated"]
    elif len(names) == 2:
        names = ["control", "treated"]
    for b in range(n_batches):
        batch = f"batch{b + 1}"
        batch_step = batch_sd * rng.standard_normal()
        strength = float(np.exp(staining_sd * rng.standard_normal()))
        stained = base.with_changes(photons=base.photons * strength)
        for condition, fraction in zip(names, fractions, strict=True):
            # a batch moves all its conditions together, and each a little on its own
            own_step = 0.3 * batch_sd * rng.standard_normal()
            batch_fraction = _shift(fraction, batch_step + own_step)
            for i in range(n_islets):
                share = _shift(batch_fraction, islet_sd * rng.standard_normal())
                file = f"{batch}/{condition}/islet{i + 1:02d}.ome.tif"
                sheet = _row(base, file, condition, batch, "sample", str(i + 1), "")
                p = _with_insulin(stained, share)
                yield _Job(file, sheet, p, int(rng.integers(2**31)), batch_fraction)
        if control_islets:
            jobs = _control_jobs(rng, stained, batch, control_islets)
            single = b < single_stain_batches
            # made even where left out: all others draw the same
            yield from (j for j in jobs if single or j.sheet["control_kind"] != "single_stain")


def _control_jobs(
    rng: np.random.Generator, p: PhantomParameters, batch: str, n_islets: int
) -> Iterator[_Job]:
    # several islets in one field: a threshold needs hundreds of negative cells
    side = int(np.ceil(p.shape[0] * np.sqrt(n_islets) * 0.75 / 32)) * 32
    wide = {"shape": (side, side), "n_islets": n_islets, "measure_light": False}
    donor = _with_insulin(p.with_changes(glucagon_fraction=0.28, somatostatin_fraction=0.08), 0.55)
    planned: list[tuple[str, str, str, PhantomParameters]] = []
    for k in (1, 2):
        q = p.with_changes(control="secondary_only", **wide)
        planned.append((f"secondary_only{k}", "negative_control", "secondary_only", q))
    q = p.with_changes(control="no_insulin", **wide)
    planned.append(("insulin_negative", "negative_control:INS", "insulin_negative", q))
    q = p.with_changes(control="unstained", measure_light=False)
    planned.append(("unstained", "negative_control", "unstained", q))
    q = donor.with_changes(measure_light=False, arrangement="cords")
    planned.append(("donor_islet", "positive_control", "donor_islet", q))
    for channel in p.channels:
        q = donor.with_changes(control=f"single_stain:{channel}", measure_light=False)
        name = "single_" + channel.replace(".", "")
        planned.append((name, f"single_stain:{channel}", "single_stain", q))
    for name, role, kind, parameters in planned:
        file = f"{batch}/controls/{name}.ome.tif"
        sheet = _row(p, file, "", batch, role, "", kind)
        yield _Job(file, sheet, parameters, int(rng.integers(2**31)), float("nan"))


def _row(
    p: PhantomParameters, file: str, condition: str, batch: str, role: str, islet: str, kind: str
) -> dict[str, Any]:
    values = (file, condition, batch, role, islet, p.section_um, p.modality, kind)
    return dict(zip(SAMPLE_COLUMNS, values, strict=True))


def _write(folder: Path, job: _Job) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Render and write one picture with its labels; return its rows of truth."""
    import tifffile

    made = phantom(job.parameters, seed=job.seed)
    write_ome_tiff(folder / job.file, made)
    stem = job.file.removesuffix(".ome.tif")
    labels = {
        "nuclei": made.truth.nuclei,
        "partial": made.truth.partial_nuclei,
        "islets": made.truth.islets,
    }
    for name, array in labels.items():
        path = folder / "truth" / "labels" / f"{stem}.{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, array, compression="zlib", compressionargs=QUICK)
    cells, islets = made.truth.cells.copy(), made.truth.islet_table.copy()
    cells.insert(0, "image", job.file)
    islets.insert(0, "image", job.file)
    sheet = job.sheet
    counted = cells[(cells["islet"] > 0) & cells["visible"] & ~cells["pyknotic"]]
    row: dict[str, Any] = {"image": job.file}
    row |= {name: sheet[name] for name in ("condition", "batch", "role", "control_kind")}
    row |= {"seed": job.seed, "population_fraction": job.population_fraction}
    row |= {"n_cells": len(counted)}
    for marker in (c for c in job.parameters.channels if c != DNA):
        expressed = counted[f"{marker}_expressed"]
        row[f"{marker}_n_positive"] = int(expressed.sum())
        row[f"{marker}_section_fraction"] = float(expressed.mean()) if len(counted) else np.nan
        whole = islets[f"{marker}_aggregate_fraction"]
        row[f"{marker}_aggregate_fraction"] = float(whole.mean()) if len(whole) else np.nan
    return row, cells, islets


def write_ome_tiff(path: Path, made: Phantom) -> None:
    """Write a phantom's picture as OME-TIFF with channel names and pixel size."""
    import tifffile

    p = made.parameters
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "axes": "CYX",
        "Channel": {"Name": list(p.channels)},
        "PhysicalSizeX": p.pixel_size_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": p.pixel_size_um,
        "PhysicalSizeYUnit": "µm",
        # tifffile would draw a random one, and the same experiment would differ in its bytes
        "UUID": f"urn:uuid:{made.seed:08x}-0000-4000-8000-{abs(hash_of(p)):012x}",
    }
    tifffile.imwrite(
        path, made.array, ome=True, metadata=metadata, compression="zlib",
        compressionargs=QUICK, photometric="minisblack", tile=None,
    )  # fmt: skip


def hash_of(p: PhantomParameters) -> int:
    """A number of 48 bits that depends on the parameters alone, the same in every process."""
    import hashlib

    return int.from_bytes(hashlib.sha256(repr(p).encode()).digest()[:6], "big")


def _batch_truth(images: pd.DataFrame, p: PhantomParameters) -> pd.DataFrame:
    """True fractions per condition, batch and marker: cells pooled over the islets."""
    import pandas as pd

    rows = []
    samples = images[images["role"] == "sample"]
    for (condition, batch), group in samples.groupby(["condition", "batch"], sort=False):
        for marker in (c for c in p.channels if c != DNA):
            n = int(group["n_cells"].sum())
            k = int(group[f"{marker}_n_positive"].sum())
            rows.append(
                {
                    "condition": condition,
                    "batch": batch,
                    "marker": marker,
                    "n_islets": len(group),
                    "n_cells": n,
                    "n_positive": k,
                    "section_fraction": k / n if n else np.nan,
                    "aggregate_fraction": float(group[f"{marker}_aggregate_fraction"].mean()),
                    "insulin_population_fraction": float(group["population_fraction"].iloc[0]),
                }
            )
    return pd.DataFrame(rows)
