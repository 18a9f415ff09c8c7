"""`islet-imaging summarize`: tables and report of a run again, human corrections included."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli import study
from islet_imaging.cli.app import app, fail, say
from islet_imaging.cli.score import tell_result


@app.command()
def summarize(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    draw: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pick this many cells by chance, for people to label, into RUN/validation.csv "
            "(500 is a good number), and stop there.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Take labels from this sheet (image, cell, label, rater) first."),
    ] = None,
    marker: Annotated[
        str | None, typer.Option(help="The marker that is labelled; by default the first.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which cells are picked.")] = 0,
    reference: study.Reference = None,
    contrast: study.Contrast = None,
    compare: study.Compare = None,
    pairing: study.Pairing = None,
    unit: study.Unit = None,
    block: study.Block = None,
    trend: study.Trend = None,
    equivalence_pp: study.Equivalence = None,
) -> None:
    """Make a run's tables and report again, corrections included.

    Where cells of RUN/validation.csv are labelled, positive or negative, in the sheet or in a
    review, the fraction corrected for wrong calls is given beside the raw one (corrected.csv).
    Switches that say how conditions are compared go into the run's protocol and stay there.
    """
    from islet_imaging.run.folder import Run
    from islet_imaging.run.lock import RunLock
    from islet_imaging.run.validation_sheet import add_labels, draw_validation_sheet
    from islet_imaging.scoring.results import resummarise

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
    statistics = None
    if study.given(switches):
        if draw is not None:
            fail("--draw picks cells and makes no tables: leave out how conditions are compared")
        statistics = study.changed(Run.open(run).protocol.statistics, **switches)
    if draw is None and labels is None:
        tell_result(
            resummarise(run, statistics=statistics)
        )  # which also finishes what was stopped in its last step
        return
    opened = Run.open(run)
    if draw is not None:
        if labels is not None:
            fail("--draw picks cells that are to be labelled, --labels takes labels: one at a time")
        with RunLock(run, "summarize --draw"):
            path = draw_validation_sheet(opened, marker, n=draw, seed=seed)
        say(f"wrote {path}")
        say("Fill its column `label` with positive or negative without looking at the calls, or")
        say(
            f"call these cells in `islet-imaging review {run}`. Then: islet-imaging summarize {run}"
        )
        return
    if labels is not None:
        with RunLock(run, "summarize --labels"):
            add_labels(opened, labels, marker=marker)
    tell_result(resummarise(opened, statistics=statistics))
