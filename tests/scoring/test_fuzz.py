"""Damaged files of every kind through the whole of ``score``: a result, or a sentence.

The trials are in `tests.scoring.fuzzing`, each made by its seed; they run in a process of their
own, so that time and memory are theirs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.scoring.fuzzing import IMAGES, OTHERS, TOGETHER

#: what a message never holds
_INTERNALS = re.compile(r"Traceback|\w+Error\b|object has no|NoneType|<class")


def trials(folder: Path, first: int, number: int, *kinds: str) -> list[list]:
    """Make them, and check what holds for every one."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.scoring.fuzzing", folder, str(first), str(number), *kinds],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
        timeout=60 + 20 * number * len(kinds),
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (found[-1:], done.stderr[-3000:])
    assert len(found) == number * len(kinds)
    assert [t for t in found if t[2].startswith("TRACEBACK")] == []
    for kind, seed, came, seconds, peak in found:
        assert seconds < 20, (kind, seed)
        assert peak < 2 * 1024**2, (kind, seed)
        assert not _INTERNALS.search(came), (kind, seed, came)
    return found


def test_a_few_damaged_files_of_every_place(tmp_path: Path) -> None:
    trials(tmp_path, 0, 1, "tiled", "sheet", "protocol", "journal", "provenance", "labels")


@pytest.mark.slow
@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_images_through_score(tmp_path: Path, kind: str) -> None:
    """48 of each of 11 kinds: 528 damaged images."""
    if kind == "zarr":
        pytest.importorskip("zarr", reason="needs the formats extra")
    found = trials(tmp_path, 0, 48 // TOGETHER, kind)
    counts = sum((Counter(json.loads(t[2].replace("'", '"'))) for t in found), Counter())
    # some of every kind can be read, and some cannot
    assert min(counts["scored"], counts["failed"]) >= len(found)


_NASTY = """
import sys
from pathlib import Path
from islet_imaging.protocol import Channel, Nuclei, Protocol, Reading
from islet_imaging.scoring.folder import score_folder
from tests.scoring.fuzzing import peak_kib
asked = Protocol(channels=(Channel("DAPI", "dna"),), reading=Reading(pixel_size_um=0.5),
                 nuclei=Nuclei(method="classical"))
import time
# of this process: other work of the machine is no hang, and a hang ends by the test's own limit
said = [None, 0.0]
def progress(done, total, image):
    now = time.process_time()
    said[1] = max(said[1], now - (said[0] or now))
    said[0] = now
run = score_folder(sys.argv[1], sys.argv[2], protocol=asked, workers=1, progress=progress)
print(len(run.images), max(run.images["message"].str.len()), said[1], peak_kib())
print("\\n".join(run.images["message"].fillna("")))
"""


@pytest.mark.slow
def test_hostile_images_under_every_suffix_through_score(data_dir: Path, tmp_path: Path) -> None:
    """Each file of the collection, under its own name and under that of another format."""
    suffixes = (".tif", ".ome.tif", ".png", ".jpg", ".czi", ".lif", ".nd2", ".svs", ".lsm", ".vsi")
    files = sorted(p for p in (data_dir / "nasty").rglob("*") if p.is_file())
    assert len(files) > 260
    for k, file in enumerate(files):
        for name in (f"{k}_own{file.suffix}", f"{k}_other{suffixes[k % len(suffixes)]}"):
            target = tmp_path / "images" / str(k % 20) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file)
    done = subprocess.run(
        [sys.executable, "-c", _NASTY, tmp_path / "images", tmp_path / "run"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    facts, *messages = done.stdout.splitlines()
    n, _, longest, peak = (float(v) for v in facts.split())
    assert n > 260
    assert longest < 20
    assert peak < 2 * 1024**2
    assert [m for m in messages if _INTERNALS.search(m)] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_damaged_files_of_a_run_through_score(tmp_path: Path, kind: str) -> None:
    """Sheet, protocol, journal, network, and every file of a run folder: 20 of each."""
    trials(tmp_path, 1, 20, kind)
