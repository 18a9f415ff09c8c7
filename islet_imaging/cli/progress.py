"""A progress bar over images, with the time left; silent where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def image_progress() -> Iterator[Callable[[int, int, str], None]]:
    """Show images done, images in all and time left while the block runs.

    Yields
    ------
    callable
        ``tell(done, total, message)``.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("images"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        row = bar.add_task("", total=None)

        def tell(done: int, total: int, message: str) -> None:
            bar.update(row, completed=done, total=total, description=message)

        yield tell
