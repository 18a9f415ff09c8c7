"""`islet-imaging score`: a folder of images to a run folder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from islet_imaging.cli import study
from islet_imaging.cli.app import app, fail, say
from islet_imaging.cli.progress import image_progress
from islet_imaging.cli.signals import stop_on_signals

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

    from islet_imaging.run.folder import Run
    from islet_imaging.scoring.ledger import Ledger


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(help="Folder of images, sub-folders included.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Run folder to write; what is done there is kept.")
    ],
    samples: Annotated[
        Path | None,
        typer.Option(help="Sample sheet (file, condition, batch, role). `init` drafts one."),
    ] = None,
    protocol: Annotated[
        Path | None,
        typer.Option(help="protocol.yaml. Without it the draft that `init` would write is used."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            help="Score only what matches: * and ? on path, file or folder name; repeatable."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave out what matches; as --include.")
    ] = None,
    nuclei: Annotated[
        Path | None,
        typer.Option(
            help="Your own nuclei: a folder of masks, or a pattern such as "
            "'masks/{image}_cp_masks.png'. The sheet's column nuclei goes before it."
        ),
    ] = None,
    cells: Annotated[
        Path | None, typer.Option(help="Your own whole cells, as --nuclei; instead of rings.")
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(
            help="What is islet and what is left out: GeoJSON, ImageJ ROIs or label images, found "
            "as --nuclei."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say of every image what would be done and why; no more."),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Go on scoring what is added to the folder, until Ctrl-C. A file is taken once it "
            "has not changed for --settle seconds.",
        ),
    ] = False,
    settle: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds, for --watch; by default 10.")
    ] = None,
    pixel_size_um: Annotated[
        float | None,
        typer.Option(help="Pixel size in um, instead of what protocol and files say."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one per core.")
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            help="Address of a dask scheduler (tcp://...) that sees the same files; local starts "
            "workers here."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps, for the networks.")] = "auto",
    keep_blocked: Annotated[
        bool,
        typer.Option(
            "--keep-blocked", help="Count images too that a blocking flag would leave out."
        ),
    ] = False,
    reference: study.Reference = None,
    contrast: study.Contrast = None,
    compare: study.Compare = None,
    pairing: study.Pairing = None,
    unit: study.Unit = None,
    block: study.Block = None,
    trend: study.Trend = None,
    equivalence_pp: study.Equivalence = None,
) -> None:
    """Score a folder: % positive per islet, batch and condition.

    Writes a run folder of tables, label images and a report.

    Exit status 0: all images scored; 1: some failed or were left out, they are named; 2: wrong
    use; 3: all images scored, but a share is not estimable, or there is no marker to call.
    """
    import dataclasses

    from islet_imaging.experiment.drafting import protocol_of_folder
    from islet_imaging.experiment.given_files import left_out
    from islet_imaging.protocol import Protocol
    from islet_imaging.scoring.folder import score_folder
    from islet_imaging.scoring.ledger import scoring_ledger
    from islet_imaging.scoring.places import with_absolute_paths
    from islet_imaging.scoring.watch import watch_folder

    used: Protocol | Path | None = protocol
    switches = {
        "reference": reference,
        "contrast": contrast,
        "compare": compare,
        "pairing": pairing,
        "unit": unit,
        "block": block,
        "trend": trend,
        "equivalence_pp": equivalence_pp,
    }
    asked = bool(study.given(switches))
    if pixel_size_um is not None or keep_blocked or asked:
        if protocol is not None:
            used = with_absolute_paths(Protocol.load(protocol), protocol.parent)
        else:
            used = protocol_of_folder(
                folder, include or (), [*(exclude or ()), *left_out(folder, nuclei, cells, regions)]
            )
    if pixel_size_um is not None and isinstance(used, Protocol):
        used = used.replace(reading=dataclasses.replace(used.reading, pixel_size_um=pixel_size_um))
    if keep_blocked and isinstance(used, Protocol):
        used = used.replace(quality=dataclasses.replace(used.quality, blocked="keep"))
    if asked and isinstance(used, Protocol):
        statistics = study.changed(used.statistics, **switches)
        used = used.replace(statistics=statistics or used.statistics)
    what: dict[str, Any] = {
        "protocol": used,
        "samples": samples,
        "include": include,
        "exclude": exclude,
        "nuclei": nuclei,
        "cells": cells,
        "regions": regions,
        "device": device,
    }
    if watch and isinstance(used, Protocol) and protocol is None:
        fail("--watch with switches that change the protocol needs --protocol: `init` drafts one")
    if dry_run:
        tell_ledger(scoring_ledger(folder, out, **what))
        return
    with ExitStack() as stack:
        executor = None
        if dask is not None:
            executor, workers = stack.enter_context(dask_executor(dask, workers))
        what |= {
            "workers": workers,
            "executor": executor,
            "progress": stack.enter_context(image_progress()),
            "cancelled": stack.enter_context(stop_on_signals()),
        }
        if watch:
            if settle is not None:
                what["settle_s"] = settle
            say(f"Watching {folder}; Ctrl-C ends it.")
            seen = watch_folder(folder, out, **what, scored=tell_round, waits=tell_wait)
            if seen is None:
                fail("stopped before anything was scored", 1)
            run = seen
        else:
            run = score_folder(folder, out, **what, say=say)
    if protocol is None:
        say("No protocol given: one was drafted from the channel names; it is in the run folder.")
    tell_result(run)
    if status := exit_status(run):
        raise typer.Exit(status)


def tell_round(run: Run, waiting: int) -> None:
    """Say how far a watched folder is."""
    n = int((run.images["status"] == "scored").sum())
    more = f"; {waiting} files still being written" if waiting else ""
    say(f"{n} of {len(run.images)} images scored{more}. Waiting for more.")


def tell_wait(why: str) -> None:
    """Say why a watched folder cannot be scored yet."""
    say(f"Nothing to score yet: {why}")


def tell_ledger(ledger: Ledger) -> None:
    """Print what would be done with every image; exit status 1 where one would be refused."""
    for entry in ledger.entries:
        say(str(entry))
    say(f"{ledger}. Nothing was written.")
    if ledger.count("refuse"):
        raise typer.Exit(1)


def exit_status(run: Run) -> int:
    """What a script is told of a run: 0, or 1 for images not counted, 3 for shares not given."""
    from islet_imaging.statistics.counting import ESTIMATED

    if run.images["status"].isin(["failed", "skipped"]).any():
        return 1
    return 0 if len(run.summary) and (run.summary["status"] == ESTIMATED).all() else 3


def tell_result(run: Run) -> None:
    """Print the headline, what failed or was left out, and where the report is."""
    tell_summary(run.summary, run.table("comparisons"))
    images = run.images
    failed = images[images["status"] == "failed"]
    for row in failed.to_dict("records"):
        typer.echo(f"failed: {row['image']}: {row['message']}", err=True)
    skipped = images[images["status"] == "skipped"]
    for row in skipped.to_dict("records"):
        typer.echo(f"skipped: {row['image']}: {row['message']}", err=True)
    left_out = run.provenance.get("left_out", [])
    if left_out:
        say(f"{len(left_out)} left out of the folder, all named in {run.path / 'run.log'}:")
        for item in left_out[:5]:
            say(f"  {item}")
    if not run.protocol.markers:
        say("The protocol has no marker: nuclei were counted, nothing was called.")
    n_scored = len(images) - len(failed) - len(skipped)
    say(f"{n_scored} of {len(images)} images scored.")
    say(f"Report: {run.path / 'report.html'}")


def tell_summary(summary: pd.DataFrame, comparisons: pd.DataFrame) -> None:
    """Print the share of each condition, what is to be known of it, and how conditions compare."""
    from islet_imaging.statistics.counting import ESTIMATED

    notes: dict[str, list[str]] = {}
    rows = summary.to_dict("records")
    for row in rows:
        name = " ".join(n for n in (row["condition"], row["marker"]) if n)
        where = f"{row['condition']}: " if row["condition"] else ""
        if row["status"] != ESTIMATED:
            bounds = ""
            if not math.isnan(row["fraction_low"]):
                low, high = 100 * row["fraction_low"], 100 * row["fraction_high"]
                bounds = f" (between {low:.0f} and {high:.0f} %)"
            say(f"{where}{row['marker']} not estimable{bounds}")
            for note in filter(None, row["note"].split("; ")):
                notes.setdefault(note, []).append(name)
            continue
        interval = ""
        if not math.isnan(row["ci_low"]):
            interval = f" [{100 * row['ci_low']:.1f} to {100 * row['ci_high']:.1f}]"
        numbers = [
            (row["n_batches"], "batch", "es"),
            (row["n_islets"], "islet", "s"),
            (row["n_cells"], "cell", "s"),
        ]
        counted = [f"{n} {word}{'' if n == 1 else end}" for n, word, end in numbers if n]
        say(
            f"{where}{row['marker']} {100 * row['fraction']:.1f} %{interval}  "
            f"({', '.join(counted)}; {row['interval']})"
        )
        for note in filter(None, row["note"].split("; ")):
            notes.setdefault(note, []).append(name)
    # several rows share most of their notes: what all share needs no name
    for note, names in notes.items():
        say(f"  {note}" if len(names) == len(rows) else f"  {', '.join(names)}: {note}")
    for line in study.compared(comparisons):
        say(line)


def _local_settings() -> dict[str, Any]:
    """Of a local cluster: nothing that costs an image time and gives it nothing.

    Dask lets its workers hand memory back to the system at every chance, so that every plane has to
    ask for it anew, and looks a hundred times a second at what they do.
    """
    import dask

    environ = dict(dask.config.get("distributed.nanny.pre-spawn-environ", {}))
    environ.pop("MALLOC_TRIM_THRESHOLD_", None)
    return {
        "distributed.nanny.pre-spawn-environ": environ,
        "distributed.worker.profile.enabled": False,
    }


@contextmanager
def dask_executor(address: str, workers: int | None) -> Iterator[tuple[Executor, int]]:
    """An executor on a dask cluster, and how many tasks it runs at a time.

    Parameters
    ----------
    address : str
        Of a running scheduler, or "local" for workers of one thread each on this machine.
    workers : int or None
        How many of the latter; by default one per core.
    """
    from islet_imaging._types import usable_cores
    from islet_imaging.errors import IsletImagingError

    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise IsletImagingError(
            "--dask needs the dask extra: pip install 'islet-imaging[dask]'"
        ) from None
    with ExitStack() as stack:
        if address == "local":
            with dask.config.set(_local_settings()):
                cluster = LocalCluster(
                    n_workers=workers or usable_cores(),
                    threads_per_worker=1,
                    dashboard_address=None,  # nothing is served beside the work
                )
            client = Client(stack.enter_context(cluster))
        else:
            try:
                client = Client(address, timeout=15)
            except (OSError, ValueError, TypeError, ImportError) as error:
                text = " ".join(str(error).split())[:200]
                raise IsletImagingError(
                    f"--dask {address}: no scheduler answers there ({text}); give the address that "
                    "`dask scheduler` prints, such as tcp://host:8786, or local"
                ) from None
        stack.enter_context(client)
        yield client.get_executor(), workers or sum(client.nthreads().values())
