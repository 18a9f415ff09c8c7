"""`islet-imaging review`: open a run in napari, at the cells most worth a look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app, fail


@app.command()
def review(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    image: Annotated[str | None, typer.Option(help="Begin with this image.")] = None,
    reviewer: Annotated[
        str | None, typer.Option(help="Your name in the journal; by default the login name.")
    ] = None,
    blinded: Annotated[
        bool, typer.Option("--blinded", help="Hide file and condition, shuffle the images.")
    ] = False,
) -> None:
    """Review a run's unsure and flagged cells in napari.

    Every edit is kept as it is made.
    """
    from islet_imaging.run.folder import Run

    opened = Run.open(run)
    try:
        import napari
    except ImportError:
        fail("review needs napari: pip install 'islet-imaging[all]'")
    from napari_islet_imaging import open_review

    viewer = napari.Viewer()
    open_review(viewer, opened, image=image, reviewer=reviewer, blinded=blinded)
    napari.run()
