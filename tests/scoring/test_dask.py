"""A dask cluster: whole images and a slide's regions, and a worker that is killed in the middle."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from islet_imaging import Channel, Protocol, score_folder
from islet_imaging.cli.score import dask_executor
from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Nuclei
from islet_imaging.scoring import executors, regions, task
from islet_imaging.scoring.spread import Parts
from islet_imaging.scoring.task import Task
from tests.scoring.test_spread import products
from tests.stainings import staining, write

pytest.importorskip("distributed", reason="needs the dask extra")
# dask warns of its own deprecations, and of workers that are killed
pytestmark = pytest.mark.filterwarnings("default")

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical")
)


@pytest.mark.skipif(sys.platform == "win32", reason="kills a worker by a signal")
def test_a_worker_killed_in_the_middle_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(3):
        write(tmp_path / "images" / f"{k}.ome.tif", staining(k, 0.5, (120, 120)))
    write(tmp_path / "images" / "slide.ome.tif", staining(9, 0.5, (300, 301)))
    for module in (regions, task):
        monkeypatch.setattr(module, "WHOLE_PX", 300 * 300)
    killed: list[str] = []

    with dask_executor("local", 2) as (executor, workers):
        assert workers == 2
        client = executor._client  # type: ignore[attr-defined]

        def kill(what: str) -> None:
            pids = client.run(os.getpid)
            os.kill(next(iter(pids.values())), signal.SIGKILL)
            killed.append(what)

        class Dying(Parts):
            def __init__(self, pool: Any, given: Task, stop: Callable[[], None]) -> None:
                super().__init__(pool, given, stop)
                kill(given.image)

        monkeypatch.setattr(executors, "Parts", Dying)

        def progress(done: int, total: int, image: str) -> None:
            if image and not killed:
                kill(image)

        run = score_folder(
            tmp_path / "images", tmp_path / "dask", protocol=PROTOCOL, executor=executor,
            workers=workers, progress=progress,
        )  # fmt: skip
    assert killed[1:] == ["slide.ome.tif"]
    assert list(run.images["status"]) == ["scored"] * 4
    whole = score_folder(tmp_path / "images", tmp_path / "one", protocol=PROTOCOL, workers=1)
    assert products(run) == products(whole)


def test_no_scheduler_is_said_with_what_to_give() -> None:
    with (
        pytest.raises(IsletImagingError, match=r"no scheduler.*or local"),
        dask_executor("http://nobody", None),
    ):
        pass
