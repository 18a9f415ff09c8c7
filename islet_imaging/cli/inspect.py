"""`islet-imaging inspect`: what is understood of a file or folder, before anything is scored."""

from __future__ import annotations

from typing import Annotated

import typer

from islet_imaging.cli.app import app, say


@app.command()
def inspect(
    paths: Annotated[
        list[str], typer.Argument(help="Images or folders, or addresses of images (s3://...).")
    ],
) -> None:
    """Print what is understood of images before they are scored.

    Shape, channels, pixel size, and where each was found.

    Exit status 1: a file cannot be read; it is named with the reason.
    """
    from islet_imaging.errors import IsletImagingError
    from islet_imaging.experiment.drafting import inspect_path

    bad = False
    for path in paths:
        try:
            found = inspect_path(path)
            say(found)
            bad |= any(line.startswith("  cannot be read:") for line in found.splitlines())
        except IsletImagingError as error:
            typer.echo(f"islet-imaging: {error}", err=True)
            bad = True
    if bad:
        raise typer.Exit(1)
