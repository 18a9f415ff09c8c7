"""Damaged files of every kind through the whole of ``score``; run as a script by `test_fuzz`.

``python -m tests.scoring.fuzzing FOLDER FIRST NUMBER KIND ...`` makes, for each kind, the trials
with the seeds FIRST to FIRST + NUMBER - 1 and prints one JSON line for each: kind, seed, what came
of it, seconds, and the process's peak of memory in KiB.  A trial may end in a result or in one of
the library's own errors; all else is reported with its traceback.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

import islet_imaging.report
from islet_imaging.errors import IsletImagingError
from islet_imaging.network.weights import load_model
from islet_imaging.protocol import Channel, Nuclei, Positivity, Protocol, Reading
from islet_imaging.review.journal import Edit, Journal
from islet_imaging.run.folder import TABLES, Run
from islet_imaging.scoring.folder import score_folder
from islet_imaging.scoring.results import resummarise
from tests.mutations import mutated
from tests.reading.test_what_files_say import zarr_image
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")),
    nuclei=Nuclei(method="classical"),
    positivity={"INS": Positivity(method="otsu")},
)
#: of pictures whose files say no pixel size, or whose damage took it away
SIZED = PROTOCOL.replace(reading=Reading(pixel_size_um=0.5))
COLOURS = SIZED.replace(
    channels=(Channel("DAPI", "dna", source="blue"), Channel("INS", source="red"))
)
#: damaged pictures that are scored together
TOGETHER = 8
SHEET = "file,condition,batch,role\na.ome.tif,control,d1,sample\nb.ome.tif,drug,d2,sample\n"
#: pictures that go wrong, by the way they are written
IMAGES = (
    *("ome", "ome_zlib", "imagej", "big", "lzw", "jpeg_tiff", "tiled", "pages", "zarr"),
    *("png", "jpg"),
)
#: files of a finished run, by kind
RUN_FILES = {
    "provenance": "provenance.json",
    "table": "summary.csv",
    "cells": "cells.parquet",
    "fitted": "protocol.yaml",
    "record": ".work/a.ome.tif.record",
    "measured": ".work/a.ome.tif.cells.arrow",
    "labels": "labels/a.ome.tif.nuclei.tif",
    "hashes": ".work/.hashes.json",
    "lock": ".lock.json",
    "validation": "validation.csv",
}
OTHERS = ("sheet", "protocol", "journal", "package", *RUN_FILES)


def picture(path: Path, kind: str, seed: int) -> None:
    """A small staining, written in one of the ways of `IMAGES`."""
    stack = staining(seed, 0.5, (96, 96))
    options: dict[str, object] = {"metadata": {"axes": "CYX", "Channel": {"Name": ["DAPI", "INS"]}}}
    if kind in ("png", "jpg"):
        colours = np.stack([stack[1], stack[1] * 0, stack[0]], axis=-1)
        shown = np.clip(colours // 8, 0, 255).astype(np.uint8)
        encode = imagecodecs.png_encode if kind == "png" else imagecodecs.jpeg8_encode
        path.write_bytes(encode(shown))
    elif kind == "zarr":
        zarr_image(path, ("0.4", "0.5")[seed % 2], stack[:, np.newaxis])
    elif kind == "imagej":
        tifffile.imwrite(
            path, stack, imagej=True, metadata={"axes": "CYX", "Labels": ["DAPI", "INS"]}
        )
    elif kind == "pages":
        tifffile.imwrite(path, stack, photometric="minisblack")
    elif kind == "jpeg_tiff":
        shown = np.clip(stack // 8, 0, 255).astype(np.uint8)
        tifffile.imwrite(path, shown, ome=True, compression="jpeg", **options)
    else:
        more = {
            "ome_zlib": {"compression": "zlib"},
            "big": {"bigtiff": True},
            "lzw": {"compression": "lzw", "predictor": True},
            "tiled": {"tile": (32, 32), "compression": "deflate"},
        }
        tifffile.imwrite(path, stack, ome=True, **more.get(kind, {}), **options)


def prepare(folder: Path) -> None:
    """What trials start from: two images, a sheet, a finished run with corrections."""
    for seed, name in enumerate(("a.ome.tif", "b.ome.tif")):
        write(folder / "images" / name, staining(seed, 0.5, (96, 96)))
    (folder / "samples.csv").write_text(SHEET)
    (folder / "protocol.yaml").write_text(PROTOCOL.dump())
    run = _score(folder, folder / "run")
    journal = Journal(run.corrections)
    for r in run.cells.head(6).itertuples():
        journal.append(
            Edit("ana", r.image, "call", int(r.cell), r.y_px, r.x_px, "INS", r.INS_call, "positive")
        )
    rows = run.cells[["image", "cell"]].head(8).assign(marker="INS", label="positive", rater="bo")
    rows.to_csv(run.path / "validation.csv", index=False)
    _score(folder, folder / "run")


def _score(base: Path, out: Path, protocol: Protocol | Path = PROTOCOL) -> Run:
    return score_folder(
        base / "images", out, protocol=protocol, samples=base / "samples.csv", workers=1
    )


def _tables(run: Path) -> dict[str, bytes]:
    return {n: (run / n).read_bytes() for n in (*(f"{t}.csv" for t in TABLES), "cells.parquet")}


def flipped(data: bytes, seed: int) -> bytes:
    """``data`` with up to eight bytes changed where they stand."""
    rng = np.random.default_rng(seed)
    out = np.frombuffer(data, np.uint8).copy()
    at = rng.integers(0, len(out), int(rng.integers(1, 9)))
    out[at] = rng.integers(0, 256, len(at))
    return out.tobytes()


def trial(base: Path, work: Path, kind: str, seed: int) -> str:
    """Damage one file and go through everything; what came of it."""
    shutil.copytree(base, work)

    def damage(path: Path, own: int = seed) -> None:
        whole = path.read_bytes() if path.exists() else b""
        if kind in IMAGES and own % 2:  # bytes changed in place reach deeper into a decoder
            path.write_bytes(flipped(whole, own))
        else:
            path.write_bytes(mutated(whole, own, 1 + own % 4))

    if kind in IMAGES:
        images = work / "pictures"
        ending = {"zarr": ".ome.zarr", "png": ".png", "jpg": ".jpg"}.get(kind, ".tif")
        for k in range(TOGETHER * seed, TOGETHER * (seed + 1)):
            path = images / f"{k}{ending}"
            images.mkdir(exist_ok=True)
            picture(path, kind, k)
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            damage(files[k % len(files)], k)
        # one that is whole: the others may not take it with them
        picture(images / f"whole{ending}", kind, 0)
        used = COLOURS if kind in ("png", "jpg") else SIZED
        run = score_folder(images, work / "new", protocol=used, workers=1)
        found = run.images.set_index("image")["status"]
        assert found[f"whole{ending}"] == "scored", run.images["message"].tolist()
        assert len(found) <= TOGETHER + 1
        return str(found.value_counts().to_dict())
    if kind in ("sheet", "protocol"):
        damage(work / {"sheet": "samples.csv", "protocol": "protocol.yaml"}[kind])
        _score(work, work / "new", work / "protocol.yaml")
        return "scored"
    if kind == "package":
        folder = work / "network"
        shutil.copytree(load_model("islet-nuclei").folder, folder)
        files = ("bioimageio.yaml", "weights.onnx", "weights.safetensors")
        damage(folder / files[seed % 3])
        used = PROTOCOL.replace(nuclei=Nuclei(method="network", model=str(folder)))
        _score(work, work / "new", used)
        return "scored"
    damage(work / "run" / ("corrections.jsonl" if kind == "journal" else RUN_FILES[kind]))
    return _through_the_run(base, work, kind)


def _through_the_run(base: Path, work: Path, kind: str) -> str:
    """Everything that reads a run folder; and scoring again makes it what it was."""
    said = []
    for name, do in (("read", _read_all), ("summarize", lambda run: resummarise(run))):
        try:
            do(work / "run")
            said.append(name)
        except IsletImagingError:
            said.append(f"{name} refused")
    try:
        run = _score(work, work / "run")
    except IsletImagingError:
        return ", ".join([*said, "score refused"])
    # corrections and labels belong to people: what is left of them may be another result
    if kind not in ("journal", "validation"):
        wanted, found = _tables(base / "run"), _tables(run.path)
        other = [n for n in wanted if found[n] != wanted[n]]
        assert not other, f"a wrong result without a word: {other}"
    return ", ".join([*said, "score"])


def _read_all(path: Path) -> None:
    run = Run.open(path)
    for table in TABLES:
        run.table(table)
    run.labels("a.ome.tif")
    run.read_image("a.ome.tif").channel("INS")


def peak_kib() -> int:
    """Peak of this process's memory; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(v.split()[1]) for v in lines if v.startswith("VmHWM")), 0)


def main(folder: str, first: str, number: str, *kinds: str, say: Callable[[str], object]) -> None:
    root = Path(folder)
    islet_imaging.report.write_report = lambda path, data: path.write_text("report")  # type: ignore[attr-defined]
    prepare(root / "base")
    for kind in kinds:
        for seed in range(int(first), int(first) + int(number)):
            work = root / f"{kind}-{seed}"
            start = time.perf_counter()
            try:
                came = trial(root / "base", work, kind, seed)
            except IsletImagingError as error:
                came = f"refused: {error}"
            except BaseException:
                came = f"TRACEBACK {traceback.format_exc()}"
            took = time.perf_counter() - start
            say(json.dumps([kind, seed, came, round(took, 2), peak_kib()]))
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:], say=lambda line: print(line, flush=True))  # noqa: T201
