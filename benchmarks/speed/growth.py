"""How time and memory grow with pixels, cells, images and workers.

The idea: every case is a folder of drawn stainings, scored by `score_folder` in a process of its
own; a second process adds up the memory of it and all its workers (on Linux shared pages count
once).  Each case is a row of ``results/growth.csv``; ``table`` writes ``results/growth.md`` and the
picture ``docs/images/growth.svg`` of what was measured so far.  Cases given together run one right
after the other, and ratios are taken between them alone: a machine is not the same all day.  Of a
case that is given twice the quicker one counts.

    cd benchmarks/speed
    python growth.py images --count 200 --workers 1 2 dask 1 2 dask --scratch /tmp/g
    python growth.py images --count 1000 --workers 1 2 --scratch /tmp/g
    python growth.py slide --edge 20000 --workers 1 2 --scratch /tmp/g
    python growth.py tables --count 200 --scratch /tmp/g
    python growth.py tables --count 1000 --scratch /tmp/g
    python growth.py table

``tables`` makes the tables of the last run of a folder again, in one process: what is held of
images and cells, without what measuring takes.

Seconds on the wall mean something on a quiet machine only; the load stands beside.  Seconds of the
processor hold under load too: of the leading process, of its workers, and from both the time that
the case would take if nothing overlapped, ``lead + workers / n``.
Each case runs on as many cores as it has workers.
It fails to show what real stainings have and drawn ones, turned and dimmed, have not.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from stopwatch import KINDS_OF_WORK, Stopwatch, read_seconds

HERE = Path(__file__).parent
RESULT = HERE / "results" / "growth.csv"
TABLES = HERE / "results" / "growth_tables.csv"
PICTURE = HERE.parents[1] / "docs" / "images" / "growth.svg"
#: different stainings that a folder is made of, their edge, and that of a piece of one, px
KINDS, DRAWN_PX, PIECE_PX = 8, 1024, 512
#: images that are stained together, as one batch; at least four batches
STAINED_TOGETHER = 50
CHANNELS = ("DAPI", "INS", "GCG")


def piece(planes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square out of drawn channels (C, Y, X), turned, scaled and dimmed, as none is twice.

    Each pixel is one that was drawn, so that noise stays noise; and hardly a field of one image is
    found in another, as in a laboratory's folder.
    """
    from scipy import ndimage as ndi

    angle, zoom = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.1, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    turn[:, 1] *= rng.choice((-1, 1))
    half = PIECE_PX / 2 * np.sqrt(2) / 0.9
    middle = rng.uniform(half, DRAWN_PX - half, 2)
    begin = middle - turn @ np.full(2, (PIECE_PX - 1) / 2)
    bright = rng.uniform(0.85, 1.15)
    return bright * np.stack([
        ndi.affine_transform(plane, turn, begin, (PIECE_PX, PIECE_PX), order=0) for plane in planes
    ])  # fmt: skip


def write_images(folder: Path, count: int, edge: int) -> None:
    """Images of 3 channels of 16 bit: pieces of drawn stainings side by side."""
    import tifffile

    from islet_imaging import phantom

    drawn = [
        phantom("ffpe20x", seed=k, shape=(DRAWN_PX, DRAWN_PX), channels=CHANNELS).image
        for k in range(min(KINDS, count))
    ]
    planes = [np.stack([i.channel(n) for n in CHANNELS]).astype(np.float32) for i in drawn]
    rng = np.random.default_rng(0)
    rows = ["file,condition,batch,role"]
    times = -(-edge // PIECE_PX)
    batches = max(4, count // STAINED_TOGETHER)
    for k in range(count):
        tiles = [
            [piece(planes[(k + 3 * y + 5 * x) % len(planes)], rng) for x in range(times)]
            for y in range(times)
        ]
        stack = np.concatenate([np.concatenate(row, axis=2) for row in tiles], axis=1)
        pixels = np.clip(stack[:, :edge, :edge], 0, 65535)
        batch = f"batch{k % batches}"
        name = f"{batch}/{k:06d}.ome.tif"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(
            folder / name, pixels.astype(np.uint16), ome=True, compression="zlib",
            compressionargs={"level": 1}, photometric="minisblack",
            metadata={"axes": "CYX", "Channel": {"Name": list(CHANNELS)},
                      "PhysicalSizeX": drawn[0].pixel_size_um,
                      "PhysicalSizeY": drawn[0].pixel_size_um},
        )  # fmt: skip
        rows.append(f"{name},{'ab'[k % 2]},{batch},sample")
    (folder / "samples.csv").write_text("\n".join(rows) + "\n", "utf-8")


#: where the processes of a run leave what they added up
STOPWATCHES = "GROWTH_STOPWATCHES"
if __name__ == "__mp_main__" and STOPWATCHES in os.environ:  # in a worker
    Stopwatch(os.environ[STOPWATCHES])


def score(folder: Path, out: Path, workers: int, dask: bool) -> dict[str, Any]:
    """Score in this process, twice; what it took."""
    from contextlib import ExitStack

    with tempfile.TemporaryDirectory() as stopwatches:
        os.environ[STOPWATCHES] = stopwatches
        Stopwatch(stopwatches)
        # imported before the clock starts
        import islet_imaging.positivity.fitting
        import islet_imaging.positivity.staining_run
        import islet_imaging.scoring.image  # noqa: F401
        from islet_imaging import score_folder
        from islet_imaging.cli.score import dask_executor

        if hasattr(os, "sched_setaffinity"):
            # a core for each worker: one worker alone would use threads on the others
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:workers])
        sheet = folder / "samples.csv"
        samples = sheet if sheet.is_file() else None
        with ExitStack() as stack:
            executor = None
            if dask:
                executor, _ = stack.enter_context(dask_executor("local", workers))
            begun, cpu = time.perf_counter(), time.process_time()
            run = score_folder(folder, out, samples=samples, workers=workers, executor=executor)
            wall, lead = time.perf_counter() - begun, time.process_time() - cpu
        for child in multiprocessing.active_children():
            child.join(10)
        kept = read_seconds(stopwatches)
        others = resource.getrusage(resource.RUSAGE_CHILDREN)
        begun = time.perf_counter()
        score_folder(folder, out, samples=samples, workers=1)
        again = time.perf_counter() - begun
    work = {f"{kind}_cpu_s": round(seconds, 1) for kind, seconds in kept.items()}
    images = run.images
    return {
        "failed": int((images["status"] == "failed").sum()),
        "n_cells": int(images["n_cells"].sum()),
        "seconds": round(wall, 1),
        "lead_cpu_s": round(lead, 1),
        "workers_cpu_s": round(others.ru_utime + others.ru_stime, 1),
        # of all processes
        **work,
        "second_run_s": round(again, 1),
        "report_mb": round((out / "report.html").stat().st_size / 1e6, 2),
        "provenance_mb": round((out / "provenance.json").stat().st_size / 1e6, 2),
    }


def opens(report: Path) -> float | None:
    """Seconds that headless Chromium takes to start, open a report and have its whole page.

    The quickest of three: the browser itself may lie on the disk at first.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        return None
    seconds = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as profile:
            command = [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={profile}", "--dump-dom", report.absolute().as_uri(),
            ]  # fmt: skip
            begun = time.perf_counter()
            done = subprocess.run(command, capture_output=True, timeout=300, check=True)
            seconds.append(time.perf_counter() - begun)
        if b"<h2>Result</h2>" not in done.stdout:
            sys.exit(f"{report}: the browser did not show it")
    return round(min(seconds), 1)


class Peak:
    """The most memory that a process and all that it started have had together, bytes.

    Shared pages count once where the system says so.  That takes the system as long as the
    processes' work of some milliseconds, so it is asked only where their plain sizes have grown.
    """

    def __init__(self, process: psutil.Process) -> None:
        self._process, self._largest, self.bytes = process, 0.0, 0.0

    def look(self) -> None:
        """Look once."""
        family = [self._process, *self._process.children(recursive=True)]
        plain = sum(self._of(one, "memory_info") for one in family)
        if plain > 1.01 * self._largest:
            self._largest = plain
            self.bytes = max(self.bytes, sum(self._of(one, "memory_full_info") for one in family))

    @staticmethod
    def _of(one: psutil.Process, how: str) -> float:
        try:
            info = getattr(one, how)()
        except psutil.Error:  # it has ended
            return 0.0
        return float(getattr(info, "pss", info.rss))


def case(kind: str, given: argparse.Namespace, workers: int, dask: bool, together: int) -> None:
    """Make a folder where it is missing, score it beside a watcher, add a row."""
    count = given.count if kind == "images" else 1
    folder = given.scratch / f"{kind}-{count}-{given.edge}"
    if not folder.is_dir():
        if kind == "images":
            write_images(folder, count, given.edge)
        else:
            sys.path.insert(0, str(HERE))
            from slide import write_slide

            write_slide(folder / "slide.ome.tif", given.edge)
    out = given.scratch / f"run-{kind}-{count}-{given.edge}-{time.time_ns()}"
    command = [sys.executable, __file__, "score", "--folder", str(folder), "--out", str(out)]
    command += ["--workers", str(workers), *(["--dask"] if dask else [])]
    load = os.getloadavg()[0]
    said, peak = watched(command)
    row = {
        "what": kind, "images": count, "edge_px": given.edge,
        "workers": workers, "dask": int(dask), "together": together, **said,
        # by a process of its own, whose memory is not the run's
        "report_opens_s": opens(out / "report.html"),
        "peak_gb": peak,
        "load_before": round(load, 1), "cores": os.cpu_count(), "machine": platform.machine(),
    }  # fmt: skip
    add_row(RESULT, row)


def watched(command: list[str]) -> tuple[dict[str, Any], float]:
    """Run a command beside a watcher of its memory: what it says, and the most it had, GB."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = Peak(psutil.Process(process.pid))

        def watch() -> None:
            while process.poll() is None:
                try:
                    peak.look()
                except psutil.Error:
                    return
                time.sleep(0.3)

        watcher = threading.Thread(target=watch)
        watcher.start()
        said, _ = process.communicate()
        watcher.join()
        if process.returncode:
            sys.exit(process.returncode)
    return json.loads(said.strip().splitlines()[-1]), round(peak.bytes / 1e9, 2)


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Append a row to a table that may have other columns."""
    path.parent.mkdir(exist_ok=True)
    rows = [row]
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [*csv.DictReader(stream), row]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, dict.fromkeys(k for r in rows for k in r))
        writer.writeheader()
        writer.writerows(rows)
    print(row)


def tables_case(given: argparse.Namespace) -> None:
    """Make the tables of the last run of a folder again, beside a watcher, and add a row."""
    runs = sorted(given.scratch.glob(f"run-images-{given.count}-{given.edge}-*"))
    if not runs:
        sys.exit(f"{given.scratch}: no run of {given.count} images; `growth.py images` first")
    said, peak = watched([sys.executable, __file__, "again", "--out", str(runs[-1])])
    add_row(TABLES, {"images": given.count, "edge_px": given.edge, **said, "peak_gb": peak})


def tables_again(out: Path) -> dict[str, Any]:
    """Make the tables of a run again in this process; what it took."""
    import islet_imaging.positivity.fitting
    import islet_imaging.positivity.staining_run  # noqa: F401
    from islet_imaging import resummarise

    cpu = time.process_time()
    run = resummarise(out)
    seconds = time.process_time() - cpu
    return {"n_cells": int(run.images["n_cells"].sum()), "cpu_s": round(seconds, 1)}


def _unoverlapped(row: dict[str, float]) -> float:
    """Seconds if the leading process and its workers never worked at the same time."""
    return row["lead_cpu_s"] + row["workers_cpu_s"] / max(1, row["workers"])


def table() -> None:
    """Write the table and the picture of all rows."""
    import pandas as pd

    rows = pd.read_csv(RESULT)
    rows["mp"] = rows["images"] * rows["edge_px"] ** 2 / 1e6
    rows["cpu"] = rows["lead_cpu_s"] + rows["workers_cpu_s"]
    rows["path_s"] = [_unoverlapped(r) for r in rows.to_dict("records")]
    lines = [
        "# Growth",
        "",
        "Written by `python benchmarks/speed/growth.py table` from growth.csv. Drawn stainings of "
        f"3 channels, 16 bit; a staining run for {STAINED_TOGETHER} images. "
        "CPU s/MP: seconds of the processor, all processes, a megapixel. Path: "
        "seconds of the processor of the leading process and 1/n of its n workers', the time on a "
        "free machine if nothing overlapped. Overhead: what the processes of a run do beside "
        "measuring, fitting and calling, which `score_image` does too, over these; not of slides "
        "that workers share. Of it: label images and tables that are written, images held against "
        "each other, the report; the rest is loading, planning, hashes and bookkeeping. Memory: of "
        "all processes together. Opens: Chromium from its start to the whole page. Beside what is "
        "asked stands the quickest of the rows of a case.",
        "",
        "| what | images | edge, px | cells | workers | wall, s | load before | CPU s/MP | path, s "
        "| overhead | of it written, compared, report | peak, GB | second run, s | report, MB "
        "| opens, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows.to_dict("records"):
        alone = parts = ""
        if r["what"] == "images" or r["workers"] == 1:
            work = r["measuring_cpu_s"] + r["calling_cpu_s"]
            alone = f"{100 * (r['cpu'] - work) / work:.1f} %"
            each = [100 * r[f"{kind}_cpu_s"] / work for kind in KINDS_OF_WORK[2:]]
            # rows of an earlier benchmark have no parts
            parts = ", ".join(f"{share:.1f} %" for share in each if not np.isnan(share))
        lines.append(
            f"| {r['what']} | {r['images']:,} | {r['edge_px']:,} | {r['n_cells']:,} "
            f"| {r['workers']}{' (dask)' if r['dask'] else ''} | {r['seconds']:.0f} "
            f"| {r['load_before']} | {r['cpu'] / r['mp']:.2f} | {r['path_s']:.0f} "
            f"| {alone} | {parts} | {r['peak_gb']} | {r['second_run_s']} "
            f"| {r['report_mb']} | {r['report_opens_s']} |"
        )
    lines += ["", "## Beside what is asked", "", *asked(rows)]
    lines += ["", "## Tables made again", ""]
    lines += [
        "By one process that measures and fits nothing: compared, called, counted, written.",
        "",
    ]
    lines += ["| images | edge, px | cells | CPU, s | peak, GB |", "|---|---|---|---|---|"]
    for r in pd.read_csv(TABLES).to_dict("records"):
        lines.append(
            f"| {r['images']:,} | {r['edge_px']:,} | {r['n_cells']:,} | {r['cpu_s']:.0f} "
            f"| {r['peak_gb']} |"
        )
    (HERE / "results" / "growth.md").write_text("\n".join(lines) + "\n", "utf-8")
    _picture(rows)
    print("\n".join(lines))


def asked(rows: Any) -> list[str]:
    """Ratios of the cases that were measured, beside what is asked of them; a line each."""
    case = ["what", "images", "edge_px", "workers", "dask"]
    latest = rows.groupby(case)["together"].transform("max")
    # of a case that was given several times the quickest: the machine did least beside it
    of_latest = rows[rows["together"] == latest].sort_values("seconds", kind="stable")
    known = of_latest.drop_duplicates(case).sort_index()
    lines = ["| asked | measured | from |", "|---|---|---|"]

    def line(what: str, text: str, where: str) -> None:
        lines.append(f"| {what} | {text} | {where} |")

    def name(r: Any) -> str:
        dask = ", dask" if r["dask"] else ""
        return f"{r['images']:,} x {r['edge_px']:,} px, {r['workers']} workers{dask}"

    every = known.to_dict("records")
    images = [r for r in every if r["what"] == "images"]
    for r in images:
        if not r["dask"] and r["images"] >= 100:
            work = r["measuring_cpu_s"] + r["calling_cpu_s"]
            share = 100 * (r["cpu"] - work) / work
            line("overhead of a folder < 5 %", f"{share:.1f} %", name(r))
        if r["images"] >= 100:
            line("second run < 10 s", f"{r['second_run_s']} s", name(r))
            line("report < 20 MB, opens in 3 s",
                 f"{r['report_mb']} MB, {r['report_opens_s']} s", name(r))  # fmt: skip
    for few in images:
        for many in images:
            alike = all(few[k] == many[k] for k in ("edge_px", "workers", "dask"))
            if alike and many["images"] > few["images"] >= 100:
                line("memory flat", f"{few['peak_gb']} to {many['peak_gb']} GB",
                     f"{few['images']:,} to {name(many)}")  # fmt: skip
    for one in every:
        for other in every:
            same = all(one[k] == other[k] for k in ("what", "images", "edge_px", "together"))
            pool = not one["dask"] and not other["dask"]
            if same and pool and (one["workers"], other["workers"]) == (1, 2):
                wanted = 1.8 if one["what"] == "images" else 1.7
                times = one["seconds"] / other["seconds"]
                line(f"two workers {wanted} times one", f"{times:.2f}",
                     f"{one['what']}, {name(other)}")  # fmt: skip
            if same and not one["dask"] and other["dask"] and one["workers"] == other["workers"]:
                times = other["seconds"] / one["seconds"]
                line("dask within 10 % of the pool", f"{100 * (times - 1):+.0f} %", name(other))
    slides = [r for r in every if r["what"] == "slide"]
    for slide in slides:
        line("slide < 2 GB", f"{slide['peak_gb']} GB", name(slide))
        for small in slides:
            pair = small["workers"] == slide["workers"] == 1
            if pair and small["edge_px"] == 2048 < slide["edge_px"]:
                # what is done once, as loading and the report, is not the pixels'
                each = [r["measuring_cpu_s"] / r["mp"] for r in (slide, small)]
                wall = [r["seconds"] / r["mp"] for r in (slide, small)]
                line("a megapixel at most 1.3 times that of 2048 x 2048",
                     f"{each[0] / each[1]:.2f} measuring, {wall[0] / wall[1]:.2f} the whole run",
                     name(slide))  # fmt: skip
    return lines


def _picture(rows: Any) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    for (axis, x, y), words in zip(
        (
            (axes[0], "mp", "cpu"),
            (axes[1], "mp", "peak_gb"),
            (axes[2], "n_cells", "cpu"),
        ),
        (
            ("megapixels", "CPU seconds, all processes"),
            ("megapixels", "peak memory, GB, all processes"),
            ("cells", "CPU seconds, all processes"),
        ),
        strict=True,
    ):
        for (what, workers), some in rows.groupby(["what", "workers"]):
            axis.plot(some[x], some[y], "o" if what == "images" else "s", alpha=0.8,
                      label=f"{what}, {workers} worker{'s' if workers > 1 else ''}")  # fmt: skip
        wide = "log" if rows[x].max() > 30 * rows[x].min() else "linear"
        axis.set(xscale=wide, yscale=wide, xlabel=words[0], ylabel=words[1])
        if wide == "linear":
            axis.set(xlim=(0, None), ylim=(0, None))
    axes[0].legend(fontsize=7)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


def main() -> None:
    """Run a case, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["images", "slide", "tables", "table", "score", "again"])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--edge", type=int, default=1024)
    each = "a case for each number of workers; dask: two workers of a local Dask cluster"
    parser.add_argument("--workers", nargs="+", default=["1"], metavar="N", help=each)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--dask", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.what == "table":
        table()
    elif given.what == "tables":
        tables_case(given)
    elif given.what == "again":
        print(json.dumps(tables_again(given.out)))
    elif given.what == "score":
        print(json.dumps(score(given.folder, given.out, int(given.workers[0]), given.dask)))
    else:
        together = int(time.time())
        for workers in given.workers:
            dask = workers == "dask"
            case(given.what, given, 2 if dask else int(workers), dask, together)


if __name__ == "__main__":
    main()
