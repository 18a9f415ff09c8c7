"""Regions of files, written into a run's journal once they are known to fit their image.

The idea: whatever regions lie over an image stand in one place, the journal, whether a file brought
them or somebody drew them in the window; a file that is already there, by its hash, is not written
again, so that what people drew after it stays above it.
It fails, for its image alone, where a file cannot be used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from islet_imaging.errors import IsletImagingError
from islet_imaging.reading.annotations import Outline, read_regions
from islet_imaging.review.journal import Journal, effective
from islet_imaging.review.regions import region_edit, regions_digest, source_of
from islet_imaging.review.subject import same_pixels
from islet_imaging.run.folder import Run
from islet_imaging.scoring.results import resummarise
from islet_imaging.scoring.task import Outcome


def keep_region_files(
    run: Path, files: Mapping[str, Path], hashes: Mapping[str, str], outcomes: Mapping[str, Outcome]
) -> None:
    """Write the regions of files into a run's journal, each file once.

    Parameters
    ----------
    run : Path
        The run folder; whoever calls holds its lock.
    files : mapping of str to Path
        File of regions by image.
    hashes : mapping of str to str
        SHA-256 of each, by image.
    outcomes : mapping of str to Outcome
        How the images fared; one whose file cannot be used has failed after this.
    """
    journal = Journal(run / "corrections.jsonl")
    held = [e for e in effective(journal.edits()) if e.action == "regions"]
    for image, path in files.items():
        outcome = outcomes[image]
        if outcome.status != "scored":
            continue
        pixels = tuple(outcome.record["pixels"])
        known = any(
            e.image == image and source_of(e) == hashes[image] and same_pixels(e.pixels, pixels)
            for e in held
        )
        if known:
            continue  # and what people drew since stands above it
        try:
            height, width = outcome.record["shape_px"]
            outlines = read_regions(path, (int(height), int(width)))
        except IsletImagingError as error:
            outcome.status, outcome.message = "failed", f"{image}: {error}"
            continue
        journal.append(
            region_edit(f"file {path.name}", image, outlines, source=hashes[image], pixels=pixels)
        )


def keep_regions(run: Run, image: str, outlines: Sequence[Outline], who: str) -> Run:
    """Give an image of a run these regions, and make its tables again where they changed.

    Parameters
    ----------
    run : Run
        A run folder.
    image : str
        The image's name.
    outlines : sequence of Outline
        What is islet and what is left out; none takes all regions away.
    who : str
        Who drew them.

    Returns
    -------
    Run
    """
    journal = Journal(run.corrections)
    if regions_digest(run.regions().get(image, [])) != regions_digest(outlines):
        journal.append(region_edit(who, image, outlines))
    return resummarise(run) if run.corrections_pending else run
