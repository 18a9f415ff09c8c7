"""A folder that fills while it is watched: whole files only, and the tables of a plain score."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from islet_imaging import Channel, Protocol, Run, score_folder, watch_folder
from islet_imaging.errors import ProtocolError
from islet_imaging.protocol import Nuclei
from islet_imaging.run.folder import TABLES
from islet_imaging.scoring.watch import Settling
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical")
)


def test_a_file_is_whole_when_its_size_and_time_have_stood_still(tmp_path: Path) -> None:
    now = 0.0
    seen = Settling(tmp_path, 10.0, lambda: now)
    file = tmp_path / "sub" / "a.tif"
    file.parent.mkdir()
    file.write_bytes(b"")
    assert seen.look() == {file}
    now = 20.0
    assert seen.look() == {file}  # an empty file is no image, however old
    file.write_bytes(b"part")
    assert seen.look() == {file}
    now = 29.0
    assert seen.look() == {file}
    now = 30.0
    assert seen.look() == set()
    with file.open("ab") as stream:
        stream.write(b"more")
    assert seen.look() == {file}
    file.unlink()
    assert seen.look() == set()
    assert seen.settled == {}


def test_a_zarr_is_one_file_and_its_chunks_are_counted(tmp_path: Path) -> None:
    now = 0.0
    seen = Settling(tmp_path, 5.0, lambda: now)
    chunk = tmp_path / "a.zarr" / "0" / "0"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"12")
    assert seen.look() == {tmp_path / "a.zarr"}
    now = 5.0
    assert seen.look() == set()
    chunk.with_name("1").write_bytes(b"34")
    assert seen.look() == {tmp_path / "a.zarr"}


def watch(folder: Path, out: Path, until: object, **more: object) -> Run | None:
    limit = time.monotonic() + 120

    def cancelled() -> bool:
        assert time.monotonic() < limit, "watched in vain"
        return bool(until())  # type: ignore[operator]

    return watch_folder(
        folder, out, settle_s=0.3, workers=1, cancelled=cancelled, **more  # type: ignore[arg-type]
    )  # fmt: skip


def test_files_come_one_by_one_and_the_end_is_that_of_a_plain_score(tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "run"
    write(folder / "a.ome.tif", staining(1, 0.5, (100, 100)))
    whole = tmp_path / "b.ome.tif"
    write(whole, staining(2, 0.5, (100, 100)))
    data = whole.read_bytes()
    rounds: list[tuple[list[str], int]] = []
    part = folder / "b.ome.tif"
    part.write_bytes(data[:4000])
    growing = threading.Event()

    def grow() -> None:
        """A file that is written for longer than it may stand still."""
        while not growing.wait(0.1):
            part.write_bytes(data[:4000])
        part.write_bytes(data)

    writer = threading.Thread(target=grow)
    writer.start()

    def scored(run: Run, waiting: int) -> None:
        rounds.append((list(run.images["image"]), waiting))
        assert set(run.images["status"]) == {"scored"}
        growing.set()

    try:
        run = watch(folder, out, lambda: len(rounds) == 2, protocol=PROTOCOL, scored=scored)
    finally:
        growing.set()
        writer.join()
    assert rounds == [(["a.ome.tif"], 1), (["a.ome.tif", "b.ome.tif"], 0)]
    assert run is not None
    plain = score_folder(folder, tmp_path / "plain", protocol=PROTOCOL, workers=1)
    for table in TABLES:
        assert (out / f"{table}.csv").read_bytes() == (plain.path / f"{table}.csv").read_bytes()
    assert run.protocol == plain.protocol


def test_an_empty_folder_is_waited_for_and_a_bad_protocol_is_not(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "notes.txt").write_text("soon")
    why: list[str] = []
    assert watch(tmp_path / "images", tmp_path / "run", lambda: why, waits=why.append) is None
    assert "no images" in why[0]
    (tmp_path / "bad.yaml").write_text("format: islet-imaging/2\nchannels: []\nnonsense: 1\n")
    with pytest.raises(ProtocolError):
        watch(tmp_path / "images", tmp_path / "run", lambda: True, protocol=tmp_path / "bad.yaml")


def test_a_stop_while_measuring_leaves_the_tables_of_the_last_round(tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "run"
    write(folder / "a.ome.tif", staining(1, 0.5, (100, 100)))
    rounds: list[Run] = []
    stop = threading.Event()

    def scored(run: Run, _: int) -> None:
        rounds.append(run)
        write(folder / "b.ome.tif", staining(2, 0.5, (100, 100)))

    def progress(done: int, total: int, image: str) -> None:
        if total == 2 and not image:
            stop.set()

    run = watch(folder, out, stop.is_set, protocol=PROTOCOL, scored=scored, progress=progress)
    assert run is not None
    assert list(Run.open(out).table("images")["image"]) == ["a.ome.tif"]
