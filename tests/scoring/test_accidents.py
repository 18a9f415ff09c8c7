"""Kill -9, a full disk, a read-only run: whatever happens, the next run is whole."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Channel, Nuclei, Protocol
from islet_imaging.run.files import RunWriteError
from islet_imaging.run.folder import TABLES, Run
from islet_imaging.scoring.folder import score_folder
from islet_imaging.scoring.results import resummarise
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical")
)


def make(root: Path, n: int) -> Path:
    for k in range(n):
        write(root / f"{k}.ome.tif", staining(k, 0.5))
    (root / "protocol.yaml").write_text(PROTOCOL.dump())
    return root


def tables(run: Path) -> dict[str, bytes]:
    return {n: (run / n).read_bytes() for n in (*(f"{t}.csv" for t in TABLES), "cells.parquet")}


def command(folder: Path, out: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "islet_imaging", "score", str(folder), "--out", str(out)),
        *("--protocol", str(folder / "protocol.yaml"), *more),
    ]


def test_a_disk_that_is_full_at_any_write_is_a_sentence_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system layer that fails at the n-th file, for every n."""
    monkeypatch.setattr(
        "islet_imaging.report.write_report", lambda path, data: path.write_text("report")
    )
    folder = make(tmp_path / "f", 1)
    score = {"protocol": PROTOCOL, "workers": 1}
    wanted = tables(score_folder(folder, tmp_path / "whole", **score).path)
    real, out = tempfile.mkstemp, tmp_path / "run"
    for n in range(1, 60):
        count = 0

        def full(*args: object, at: int = n, **more: object) -> tuple[int, str]:
            nonlocal count
            count += 1
            if count == at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **more)

        shutil.rmtree(out, ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("islet_imaging.run.files.tempfile.mkstemp", full)
            try:
                score_folder(folder, out, **score)
            except RunWriteError as error:
                assert "No space left" in str(error)  # noqa: PT017
                assert "goes on from there" in str(error)  # noqa: PT017
        if count < n:
            break
        assert tables(score_folder(folder, out, **score).path) == wanted
    assert n > 12


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_run_is_a_sentence(tmp_path: Path) -> None:
    folder = make(tmp_path / "f", 1)
    run = score_folder(folder, tmp_path / "run", protocol=PROTOCOL, workers=1)
    run.path.chmod(0o500)
    try:
        with pytest.raises(IsletImagingError, match="cannot be written"):
            resummarise(run)
        assert len(Run.open(run.path).summary) == 1
    finally:
        run.path.chmod(0o700)


@pytest.mark.slow
def test_a_mount_of_any_size_that_is_full_is_a_sentence(tmp_path: Path) -> None:
    """A small real disk, where a user may mount one."""
    folder, out = make(tmp_path / "f", 2), tmp_path / "run"
    out.mkdir()
    mounted = ["unshare", "-rm", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            [*mounted, f"mount -t tmpfs tmpfs {out}"], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    for size in ("40k", "100k", "200k", "400k", "700k", "1000k"):
        line = " ".join(command(folder, out, "--workers", "1"))
        done = subprocess.run(
            [*mounted, f"mount -t tmpfs -o size={size} tmpfs {out} && {line}"],
            check=False, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 2, 3)
        if done.returncode == 2:
            assert "space" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_stop_says_so_and_the_same_command_goes_on(tmp_path: Path) -> None:
    folder, out = make(tmp_path / "f", 3), tmp_path / "run"
    with subprocess.Popen(
        command(folder, out, "--workers", "1"), stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(2400):
            if list(out.glob(".work/*.record")) or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=300)
    if process.returncode == 130:
        assert "stopped; what is finished is kept" in told
        assert not (out / "provenance.json").exists()
    else:  # the signal came when the last image was done
        assert process.returncode in (0, 3)
    whole = score_folder(folder, tmp_path / "whole", protocol=PROTOCOL, workers=1)
    again = score_folder(folder, out, protocol=PROTOCOL, workers=1)
    assert tables(again.path) == tables(whole.path)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no kill -9")
def test_kill_9_dozens_of_times_leaves_what_a_whole_run_leaves(tmp_path: Path) -> None:
    folder, out = make(tmp_path / "f", 4), tmp_path / "run"
    other = tmp_path / "other.yaml"
    other.write_text(PROTOCOL.replace(nuclei=Nuclei(method="classical", min_area_um2=12)).dump())
    start = time.monotonic()
    whole = subprocess.run(command(folder, tmp_path / "whole"), check=False, capture_output=True)
    assert whole.returncode in (0, 3)
    wanted, took = tables(tmp_path / "whole"), time.monotonic() - start
    rng = np.random.default_rng(5)
    for k in range(36):
        line = command(folder, out, "--workers", str(1 + k % 2))
        if k % 3 == 2:
            line[line.index("--protocol") + 1] = str(other)
        with subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as killed:
            time.sleep(float(rng.uniform(0.2, 1.1)) * took)
            killed.kill()
        if k % 6 == 5:
            assert tables(score_folder(folder, out, protocol=PROTOCOL, workers=1).path) == wanted
            assert tables(resummarise(out).path) == wanted
            if k % 12 == 11:
                shutil.rmtree(out)
    assert not list(out.rglob("*.part*"))
