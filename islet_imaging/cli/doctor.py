"""`islet-imaging doctor`: is this installation whole?"""

from __future__ import annotations

import typer

from islet_imaging.cli.app import app, say


@app.command()
def doctor() -> None:
    """Check this installation: versions, models, extras, devices.

    Says what to do about what is missing.

    Exit status 1: something that scoring needs is missing.
    """
    from islet_imaging.doctor import check_installation

    checks = check_installation()
    for check in checks:
        say(f"{'ok     ' if check.ok else 'missing'} {check.name}: {check.message}")
    if any(c.needed and not c.ok for c in checks):
        raise typer.Exit(1)
