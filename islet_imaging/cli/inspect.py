"""`islet-imaging inspect`: what is understood of a file or folder, before anything is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app, say


@app.command()
def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Images or folders.")],
    protocol: Annotated[
        Path | None, typer.Option(help="Read the images the way this protocol says.")
    ] = None,
) -> None:
    """Print shape, channels, pixel size and where each was found, for every image.

    Exit status 1: some of the files cannot be read; each is named with the reason.
    """
    from islet_imaging.drafting import inspect_path
    from islet_imaging.protocol import Protocol

    used = Protocol.load(protocol) if protocol is not None else None
    bad = False
    for path in paths:
        for entry in inspect_path(path, protocol=used):
            say(entry.text())
            bad = bad or not entry.readable
    if bad:
        raise typer.Exit(1)
