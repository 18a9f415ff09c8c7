"""`islet-imaging init`: draft a protocol and a sample sheet from what is in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app, fail, say


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of images.")],
    include: Annotated[
        list[str] | None,
        typer.Option(help="Only what matches: * and ? on path, file or folder name; repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave out what matches; as --include.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace drafts that are there already.")
    ] = False,
) -> None:
    """Draft a protocol and a sample sheet from a folder of images.

    Writes FOLDER/protocol.yaml and FOLDER/samples.csv, ready to edit, then to `score`; one that is
    there already is kept.
    """
    from islet_imaging.experiment.drafting import draft_protocol, draft_samples
    from islet_imaging.protocol import Protocol
    from islet_imaging.run.files import write_text
    from islet_imaging.scoring.plan import with_patterns

    targets = [folder / "protocol.yaml", folder / "samples.csv"]
    there = [t for t in targets if t.exists() and not force]
    if len(there) == len(targets):
        fail(f"{', '.join(map(str, there))} exist already; --force replaces them")
    draft = draft_protocol(folder, include or (), exclude or ())
    protocol = draft.protocol
    if targets[0] in there:
        protocol = with_patterns(Protocol.load(targets[0]), include, exclude)
    texts = [draft.text, draft_samples(folder, protocol)]
    for target, text in zip(targets, texts, strict=True):
        if target in there:
            say(f"kept {target}, which was there; --force replaces it")
            continue
        write_text(target, text)
        say(f"wrote {target}")
    for question in draft.questions:
        say(f"to settle in protocol.yaml: {question}")
    say("Edit both: channel roles, condition, batch and role of every file. Then:")
    say(f"  islet-imaging score {folder} --out RUN --samples {targets[1]} --protocol {targets[0]}")
