"""One slide by many workers: the same bytes as by one, whatever becomes of a worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from islet_imaging import Channel, IsletImage, Protocol, score_folder
from islet_imaging.errors import IsletImagingError
from islet_imaging.network.normalise import MAX_SAMPLES, sampled_stripes
from islet_imaging.protocol import Nuclei
from islet_imaging.run.folder import Run
from islet_imaging.scoring import executors, regions, task
from islet_imaging.scoring.executors import _shared, _watch
from islet_imaging.scoring.image import measure_image
from islet_imaging.scoring.memory import Need, fitting
from islet_imaging.scoring.regions import ImageRegions
from islet_imaging.scoring.spread import OwnPool, Parts
from islet_imaging.scoring.task import Task
from tests.scoring.test_regions import SIZE_UM, stained
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="network")
)


class Later:
    """Hands parts out as `Parts` does, to nobody: the last is computed first."""

    def __init__(self, image: IsletImage, protocol: Protocol, scratch: Path) -> None:
        self.scratch, self.asked = scratch, []
        self._view = lambda: ImageRegions(image, protocol, scratch=scratch, there=True)

    def __call__(
        self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]
    ) -> Iterator[Any]:
        items = list(items)
        self.asked += [function.__name__] * len(items)
        found = [function(self._view(), *item) for item in reversed(items)]
        return reversed(found)


def test_parts_give_what_the_whole_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # few pixels of image, many of the networks: 3 x 3 blocks and more
    planes = stained(3, (300, 260))[:2]
    image = IsletImage.from_array(planes, ("DAPI", "INS"), SIZE_UM, name="slide")
    monkeypatch.setattr("islet_imaging.network.positivity.BLOCK_PX", 128)
    # bound when it was defined
    monkeypatch.setattr("islet_imaging.network.blocks.make_grid.__defaults__", (256,))
    whole = measure_image(image, PROTOCOL, tile_px=100)
    monkeypatch.setattr(regions, "WHOLE_PX", 1000)
    monkeypatch.setattr(regions, "TILE_PX", 100)
    spread = Later(image, PROTOCOL, tmp_path)
    parts = measure_image(image, PROTOCOL, scratch=tmp_path, spread=spread)
    assert spread.asked.count("leave_fields") >= 9
    assert spread.asked.count("nuclei_of_left") == spread.asked.count("leave_fields")
    assert spread.asked.count("sums_of_block") >= 9
    assert spread.asked.count("measure_tile") == 9
    assert spread.asked.count("numbers_of_window") >= 1
    # the scale: grey limits of the image, once for all who need them, and at least one look at it
    assert spread.asked.count("_sampled_dna") == len(sampled_stripes((300, 260), MAX_SAMPLES)[0])
    assert spread.asked.count("_on_nuclei_of") >= 1
    assert spread.asked.count("_look_at_view") >= 1
    assert spread.asked.count("patches_of_channel") == 2
    # islets are drawn, by whoever leads, while the network runs elsewhere
    assert spread.asked.index("sums_of_block") < spread.asked.index("measure_tile")
    assert parts.numbers.to_dict() == measure_image(image, PROTOCOL).numbers.to_dict()
    assert not list(tmp_path.glob("fields-*"))
    np.testing.assert_array_equal(parts.nuclei, whole.nuclei)
    np.testing.assert_array_equal(parts.islets, whole.islets)
    assert len(whole.cells) > 20
    assert parts.cells.equals(whole.cells)
    assert parts.pairs.equals(whole.pairs)


def test_tiles_of_the_classical_method_and_every_rung_of_the_scale_are_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nuclei twice as large as the pixel size says: the ladder is climbed
    planes = stained(4, (260, 260))[:2]
    image = IsletImage.from_array(planes, ("DAPI", "INS"), 2.2 * SIZE_UM, name="slide")
    protocol = PROTOCOL.replace(nuclei=Nuclei(method="classical"))
    monkeypatch.setattr("islet_imaging.segmentation.classical_tiles.TILE_PX", 130)
    whole = measure_image(image, protocol, tile_px=100)
    monkeypatch.setattr(regions, "WHOLE_PX", 1000)
    monkeypatch.setattr(regions, "TILE_PX", 100)
    spread = Later(image, protocol, tmp_path)
    parts = measure_image(image, protocol, scratch=tmp_path, spread=spread)
    assert spread.asked.count("_look_at_view") >= 7
    assert spread.asked.count("_tile_of_view") >= 4
    assert parts.record["scale"] == whole.record["scale"]
    assert parts.record["scale"]["source"] == "image"
    assert len(whole.cells) > 20
    np.testing.assert_array_equal(parts.nuclei, whole.nuclei)
    assert parts.cells.equals(whole.cells)


def products(run: Run) -> dict[str, bytes]:
    names = ("images.csv", "islets.csv", "cells.csv", "summary.csv")
    files = [run.path / n for n in names] + sorted((run.path / "labels").rglob("*.tif"))
    return {f.name: f.read_bytes() for f in files}


def test_a_slide_uses_all_workers_and_its_tables_are_those_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k, name in enumerate(("small", "slide")):
        write(tmp_path / "images" / f"{name}.ome.tif", staining(k, 0.5, (300 + k, 300)))
    monkeypatch.setattr(regions, "WHOLE_PX", 300 * 300)
    monkeypatch.setattr(task, "WHOLE_PX", 300 * 300)
    protocol = PROTOCOL.replace(nuclei=Nuclei(method="classical"))
    led = []

    class Noted(Parts):
        def __init__(self, pool: Any, given: Task, stop: Callable[[], None]) -> None:
            super().__init__(pool, given, stop)
            led.append(given.image)

    monkeypatch.setattr(executors, "Parts", Noted)
    with ProcessPoolExecutor(2) as pool:
        two = score_folder(
            tmp_path / "images", tmp_path / "two", protocol=protocol, executor=pool, workers=2
        )
    # the small one went to a worker, the large one was led from here
    assert led == ["slide.ome.tif"]
    assert list(two.images["status"]) == ["scored", "scored"]
    one = score_folder(tmp_path / "images", tmp_path / "one", protocol=protocol, workers=1)
    assert products(two) == products(one)
    assert not list((two.path / ".work").rglob("*.slide"))


def kill_once(_: object, flag: Path, value: int) -> int:
    """Kills its worker the first time."""
    if value == 2 and not flag.exists():
        flag.touch()
        os._exit(9)
    return value * value


def kill_always(_: object) -> None:
    os._exit(9)


@pytest.fixture
def given(tmp_path: Path) -> Task:
    write(tmp_path / "a.ome.tif", staining(1, 0.5, (60, 60)))
    (tmp_path / "run").mkdir()
    return Task(
        "a", (str(tmp_path / "a.ome.tif"),), {}, str(tmp_path / "run"), PROTOCOL.to_dict(), "", 1,
        "cpu", None,
    )  # fmt: skip


def test_a_worker_that_is_killed_loses_no_part(given: Task, tmp_path: Path) -> None:
    pool = OwnPool(2, _watch)
    try:
        parts = Parts(pool, given, lambda: None)
        found = list(parts(kill_once, [(tmp_path / "flag", k) for k in range(6)]))
        assert found == [0, 1, 4, 9, 16, 25]
        assert pool.renewed >= 1
        with pytest.raises(IsletImagingError, match="again and again"):
            list(parts(kill_always, [()]))
    finally:
        pool.kill()


def test_who_is_shared_out(given: Task) -> None:
    tasks = [replace(given, image=n) for n in ("a", "B", "c", "D", "E")]
    large = {"B", "D", "E"}

    def shared(workers: int) -> list[str]:
        whole, apart = _shared(tasks, large, workers)
        assert sorted(t.image for t in (*whole, *apart)) == sorted(t.image for t in tasks)
        return [t.image for t in apart]

    assert shared(1) == []
    assert shared(2) == ["E"]
    assert shared(3) == []
    assert shared(8) == ["B", "D", "E"]


def test_memory_is_told_and_workers_are_fewer_where_it_does_not_suffice() -> None:
    need = Need("a.tif", (4096, 4096), 3)
    room, said = fitting(4, need, 2.5 * need.bytes)
    assert room == 2
    assert "2 workers instead of 4" in said
    assert "a.tif, 4096 x 4096 px, 3 channels" in said
    assert fitting(4, need, 100 * need.bytes)[0] == 4
    assert "may not be enough" in fitting(1, need, 0.5 * need.bytes)[1]
    assert fitting(4, None, 1.0) == (4, "")
