"""The app that the verbs hang on, and what they share: how to speak, how to fail."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

app = typer.Typer(
    name="islet-imaging",
    help=(
        "Count insulin-positive cells in immunofluorescence images of stem-cell-derived islets. "
        "Research use only."
    ),
    # plain text: markup would take the brackets of pip install 'islet-imaging[train]' for a style
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def say(text: str = "") -> None:
    """Print a line for the user."""
    typer.echo(text)


def fail(message: str, status: int = 2) -> NoReturn:
    """Say what is wrong on standard error and leave."""
    typer.echo(f"islet-imaging: {message}", err=True)
    sys.exit(status)


def _version(value: bool) -> None:
    if value:
        from islet_imaging import __version__

        say(f"islet-imaging {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[  # noqa: ARG001  the callback reads it
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say what is being done, to standard error.")
    ] = False,
) -> None:
    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
