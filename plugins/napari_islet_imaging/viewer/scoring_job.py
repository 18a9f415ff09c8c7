"""What scoring one image of the viewer needs: files, a sample sheet, a folder that is free.

The idea: the image (with its controls) becomes a sample sheet for the library's folder runner;
layers that have no file are written as one first, with their names and pixel size.
It fails, with the system's message, where the folder cannot be written.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_islet_imaging.viewer.stained import files_of_run, input_folder

if TYPE_CHECKING:
    from islet_imaging.protocol import Protocol
    from islet_imaging.reading.annotations import Outline
    from napari_islet_imaging.viewer.stained import StainedImage


def holds_another(out: Path, chosen: StainedImage) -> bool:
    """Whether a folder holds results of another image than this one."""
    held = files_of_run(out)
    if held is None:
        return False
    if chosen.session is not None and chosen.session.run.path.resolve() == out.resolve():
        return False
    own = [p.resolve() for p in chosen.paths]
    if len(own) == 1:
        return held != own
    return not same_pixels(held, chosen)


def same_pixels(files: list[Path], chosen: StainedImage) -> bool:
    """Whether a file that was written for layers holds exactly those of this image."""
    import tifffile

    if len(files) != 1:
        return False
    try:
        written = tifffile.imread(files[0])
    except (OSError, ValueError):
        return False
    return bool(np.array_equal(written, np.stack([np.asarray(x.data) for x in chosen.layers])))


def lay_out(
    image: StainedImage,
    controls: list[Path],
    out: Path,
    protocol: Protocol,
    *,
    given: Mapping[str, Path] | None = None,
    of_controls: Mapping[str, Mapping[Path, Path]] | None = None,
    regions: Sequence[Outline] | None = None,
    who: str = "",
) -> dict[str, Any]:
    """Lay out what the folder runner needs: files, a sample sheet, a protocol.

    Parameters
    ----------
    image : StainedImage
        Its layers.
    controls : list of Path
        Negative controls.
    out : Path
        The run folder.
    protocol : Protocol
        From the form.
    given : mapping of str to Path, optional
        Files of ``nuclei`` to take instead of finding them, of whole ``cells`` instead of rings.
    of_controls : mapping of str to mapping, optional
        The same of controls, as far as they have such files.
    regions : sequence of Outline, optional
        What is islet and what is left out; None leaves what the run holds.
    who : str
        Who drew them.

    Returns
    -------
    dict
        Parameters of the job.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = image.paths
    if len(paths) != 1 or not paths[0].is_file() or image.tokens:
        paths = [_write_image(image, input_folder(out), protocol)]
    files = [*paths, *controls]
    folder = Path(os.path.commonpath([str(p.resolve().parent) for p in files]))
    sheet = out / "samples.csv"
    with sheet.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        more = list(given or {})
        writer.writerow(["file", "condition", "batch", "role", *more])
        for k, path in enumerate(files):
            relative = path.resolve().relative_to(folder).as_posix()
            role = "sample" if k == 0 else "negative_control"
            # one image is one staining run; the tables say that nothing follows for others
            files_of = [
                (given or {}).get(what) if k == 0 else (of_controls or {}).get(what, {}).get(path)
                for what in more
            ]
            own = ["" if one is None else str(one.resolve()) for one in files_of]
            writer.writerow([relative, "this image", "this image", role, *own])
    job: dict[str, Any] = {
        "folder": str(folder),
        "out": str(out),
        "samples": str(sheet),
        "protocol": protocol.to_dict(),
        "workers": 1,
    }
    if regions is not None:
        job["regions"] = [
            {"name": o.name, "kind": o.kind, "rings": [r.tolist() for r in o.rings]}
            for o in regions
        ]
        job["who"] = who
    return job


def _write_image(image: StainedImage, folder: Path, protocol: Protocol) -> Path:
    """Write layers that have no file of their own as an OME-TIFF with names and pixel size."""
    import tifffile

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{image.stem}.ome.tif"
    size = protocol.reading.pixel_size_um
    pixels = np.stack([np.asarray(x.data) for x in image.layers])
    if not path.is_file() or not same_pixels([path], image):  # what is there stays as it was
        tifffile.imwrite(
            path,
            pixels,
            ome=True,
            photometric="minisblack",
            metadata={
                "axes": "CZYX" if pixels.ndim == 4 else "CYX",
                "Channel": {"Name": image.channels},
                "PhysicalSizeX": size,
                "PhysicalSizeY": size,
            },
        )
    return path
