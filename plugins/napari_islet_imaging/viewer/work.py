"""Long work in a process of its own: ``python -m napari_islet_imaging.viewer.work JOB.json``.

The idea: scoring and exporting hold Python's lock for long stretches, so they run beside napari,
not in it; the window stays quick, running out of memory ends the child only, and stopping is sure.
The job comes as a JSON file, progress goes out as JSON lines, and the word ``cancel`` on the input
(or its end, when napari is gone) stops the work at the next safe place.
It fails with one line ``{"error": ...}`` that is meant to be shown.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Tell = Callable[[int, int, str], None]


class Teller:
    """Tells the window of progress, and of whatever else happens before a job is done."""

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say

    def __call__(self, done: int, total: int, what: str) -> None:
        """Tell how much is done, and what was last."""
        self._say(done=done, total=total, what=what)

    def news(self, **message: Any) -> None:
        """Plain values that the window knows what to do with."""
        self._say(news=message)


def score_folder(job: dict[str, Any], tell: Tell, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Score a folder into a run."""
    import islet_imaging.scoring.folder

    run = islet_imaging.scoring.folder.score_folder(
        **_asked(job), workers=job.get("workers"), progress=tell, cancelled=cancelled
    )
    if job.get("regions") is not None:
        run = _with_regions(run, job["regions"], job["who"])
    return {"run": str(run.path)}


def watch(job: dict[str, Any], tell: Teller, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Score what arrives in a folder until it is stopped; every round is news."""
    from islet_imaging.errors import Cancelled
    from islet_imaging.scoring.watch import SETTLE_S, watch_folder

    run = watch_folder(
        **_asked(job),
        settle_s=job["settle_s"] or SETTLE_S,
        workers=job.get("workers"),
        progress=tell,
        scored=lambda run, waiting: tell.news(run=str(run.path), waiting=waiting),
        waits=lambda why: tell.news(why=why),
        cancelled=cancelled,
    )
    if run is None:
        raise Cancelled("stopped before the first round")
    return {"run": str(run.path)}


def _asked(job: dict[str, Any]) -> dict[str, Any]:
    """What the form of a folder says, as the library's functions take it."""
    from islet_imaging.protocol import Protocol

    protocol = job.get("protocol")
    return {
        "folder": job["folder"],
        "out": job["out"],
        "protocol": None if protocol is None else Protocol.from_dict(protocol),
        "samples": job.get("samples"),
        "include": job.get("include"),
        "exclude": job.get("exclude"),
        **job.get("given", {}),
    }


def _with_regions(run: Any, regions: list[dict[str, Any]], who: str) -> Any:
    """The run of one image with the regions that were drawn in it."""
    import numpy as np

    from islet_imaging.reading.annotations import Outline
    from islet_imaging.scoring.region_files import keep_regions

    outlines = [
        Outline(tuple(np.array(r, float) for r in o["rings"]), o["name"], o["kind"])
        for o in regions
    ]
    images = run.images
    image = images.loc[images["role"] == "sample", "image"].iloc[0]
    return keep_regions(run, str(image), outlines, who)


def ledger(job: dict[str, Any], tell: Tell, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Say what scoring a folder would do with each image."""
    from islet_imaging.scoring.ledger import scoring_ledger

    found = scoring_ledger(**_asked(job))
    return {"entries": [str(e) for e in found.entries], "sum": str(found)}


def summarise(job: dict[str, Any], tell: Tell, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Write a run's tables and report again, corrections included."""
    from islet_imaging.scoring.results import resummarise

    return {"run": str(resummarise(job["run"]).path)}


def export(job: dict[str, Any], tell: Tell, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Export a run for other tools."""
    from islet_imaging.export import export as export_run
    from islet_imaging.run.folder import Run

    written = export_run(Run.open(job["run"]), job["out"], format=job["format"])
    return {"paths": [str(p) for p in written]}


def teach(job: dict[str, Any], tell: Tell, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Fine-tune the positivity network on a run's corrected calls."""
    from islet_imaging.errors import IsletImagingError

    try:
        from islet_imaging.network.training.positivity_finetune import finetune_positivity

        result = finetune_positivity(
            Path(job["run"]),
            Path(job["out"]),
            name=job["name"],
            marker=job["marker"],
            model=job["model"],
            progress=lambda done, total: tell(done, total, "learning"),
            cancelled=cancelled,
        )
    except ModuleNotFoundError as error:
        raise IsletImagingError(
            f"teaching needs {error.name}: pip install 'islet-imaging[train]'"
        ) from error
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(result).items()}


_KINDS: dict[str, Callable[[dict[str, Any], Teller, Callable[[], bool]], dict[str, Any]]] = {
    "score_folder": score_folder,
    "watch": watch,
    "ledger": ledger,
    "summarise": summarise,
    "export": export,
    "teach": teach,
}


def main(path: str) -> int:
    """Do the job described in a file."""
    stop = threading.Event()
    out = sys.stdout
    # what libraries print must not be taken for a message
    sys.stdout = sys.stderr

    def say(**message: Any) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == "cancel":
                break
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    from islet_imaging.errors import Cancelled, IsletImagingError

    job = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        result = _KINDS[job["kind"]](job, Teller(say), stop.is_set)
    except Cancelled:
        say(cancelled=True)
        return 3
    except IsletImagingError as error:
        say(error=str(error))
        return 1
    except MemoryError:
        say(error="not enough memory; crop the image or close other programs")
        return 1
    except Exception as error:
        import traceback

        traceback.print_exc()
        say(error=f"{type(error).__name__}: {error}")
        return 1
    say(result=result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
