"""The command line, as a shell calls it: what it prints, what it leaves, how it exits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from islet_imaging.cli import app
from islet_imaging.errors import ProtocolError
from tests.stainings import staining, write

VERBS = (
    *("demo", "inspect", "init", "score", "review", "summarize"),
    *("train", "evaluate", "export", "phantom", "quantize", "doctor", "contribute"),
    "combine",
)


def call(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    return result.exit_code, result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "stainings"
    for k, batch in enumerate(("batch1", "batch2")):
        write(root / batch / "islet.ome.tif", staining(6 + k, 0.5))
        write(root / batch / "secondary_only.ome.tif", staining(3 + k, 0.0))
    return root


@pytest.mark.parametrize("verb", VERBS)
def test_help_prints_every_word_as_written(verb: str) -> None:
    """Brackets too: `pip install 'islet-imaging[train]'` once lost its `[train]` to markup."""
    status, text = call(verb, "--help")
    assert status == 0
    assert "Usage" in text
    command = get_command(app).commands[verb]  # type: ignore[attr-defined]
    printed = _letters(text)
    for written in (command.help, *(getattr(p, "help", None) for p in command.params)):
        for paragraph in (written or "").split("\n\n"):
            assert _letters(paragraph) in printed


def _letters(text: str) -> str:
    # where lines break, and whether inside a word with a hyphen, is the terminal's business
    return "".join(text.split())


def test_the_list_of_verbs_has_whole_sentences() -> None:
    status, text = call("--help")
    assert status == 0
    listed = text.split("Commands:")[1]
    assert "..." not in listed
    assert {line.split()[0] for line in listed.splitlines() if line.strip()} == set(VERBS)


def test_from_init_to_a_number(folder: Path, tmp_path: Path) -> None:
    assert call("init", folder)[0] == 0
    assert call("init", folder, "--force")[0] == 0
    drafted = yaml.safe_load((folder / "protocol.yaml").read_text())
    assert [c["name"] for c in drafted["channels"]] == ["DAPI", "INS"]
    sheet = pd.read_csv(folder / "samples.csv", keep_default_na=False)
    assert set(sheet["role"]) == {"sample", "negative_control"}
    assert set(sheet["batch"]) == {"batch1", "batch2"}
    sheet["condition"] = "day 30"
    sheet.to_csv(folder / "samples.csv", index=False)
    drafted["nuclei"] = {"method": "classical"}
    (folder / "protocol.yaml").write_text(yaml.safe_dump(drafted))
    run = tmp_path / "run"
    status, text = call(
        "score", folder, "--out", run,
        "--samples", folder / "samples.csv", "--protocol", folder / "protocol.yaml",
    )  # fmt: skip
    assert status == 0
    assert "day 30: INS" in text
    assert "2 batches" in text
    assert "report.html" in text
    assert (run / "report.html").is_file()
    status, text = call("summarize", run)
    assert status == 0
    assert "day 30: INS" in text


def test_a_failed_image_is_named_and_the_status_is_1(folder: Path, tmp_path: Path) -> None:
    (folder / "page.tif").write_bytes(b"<html></html>")
    status, text = call("score", folder, "--out", tmp_path / "run", "--workers", "1")
    assert status == 1
    assert "page.tif" in text
    assert "4 of 5 images scored" in text


def test_a_pixel_size_can_be_given(tmp_path: Path) -> None:
    import tifffile

    root = tmp_path / "f"
    root.mkdir()
    tifffile.imwrite(root / "a.tif", staining(1, 0.5), imagej=True,
                     metadata={"axes": "CYX", "Labels": ["DAPI", "INS"]})  # fmt: skip
    status, text = call("score", root, "--out", tmp_path / "r1")
    assert status == 1
    assert "pixel size" in text
    assert call("score", root, "--out", tmp_path / "r2", "--pixel-size-um", "0.5")[0] == 0


def test_inspect_names_what_it_understood(folder: Path) -> None:
    status, text = call("inspect", folder / "batch1" / "islet.ome.tif")
    assert status == 0
    assert "INS" in text
    assert "0.5 um" in text
    (folder / "empty.tif").write_bytes(b"")
    assert call("inspect", folder / "empty.tif")[0] == 1


def test_doctor_finds_this_installation_whole() -> None:
    status, text = call("doctor")
    assert status == 0
    assert "islet-nuclei" in text


@pytest.mark.parametrize(
    "words",
    [
        ("score", "nowhere", "--out", "run"),
        ("score",),
        ("review", "nowhere"),
        ("summarize", "."),
        ("phantom", "out", "--preset", "nothing"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(words: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "islet_imaging", *words],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_designs_on_the_shell_go_into_the_run_and_its_tables(folder: Path, tmp_path: Path) -> None:
    """A trend over days of batches followed twice, then a reference asked for afterwards."""
    rows = ["file,condition,batch,role,day"]
    for k, batch in enumerate(("batch1", "batch2")):
        write(folder / batch / "later.ome.tif", staining(8 + k, 0.7))
        rows.append(f"{batch}/islet.ome.tif,early,{batch},sample,20")
        rows.append(f"{batch}/later.ome.tif,late,{batch},sample,30")
    sheet = folder / "samples.csv"
    sheet.write_text("\n".join(rows) + "\n")
    run = tmp_path / "run"
    words = ("score", folder, "--out", run, "--samples", sheet, "--workers", 1)
    status, text = call(*words, "--keep-blocked", "--trend", "day", "--compare", "INS")
    assert status in (0, 3), text
    assert "INS: per day" in text
    table = pd.read_csv(run / "comparisons.csv")
    assert set(table["marker"].dropna()) <= {"INS"}
    assert "per day" in set(table["condition"])
    assert pd.read_csv(run / "cells.csv")["day"].isin([20, 30]).all()
    status, text = call("summarize", run, "--contrast", "early:late", "--equivalence-pp", 20)
    protocol = yaml.safe_load((run / "protocol.yaml").read_text("utf-8"))["statistics"]
    assert protocol["contrasts"] == [["early", "late"]]
    assert (protocol["trend"], protocol["equivalence_pp"]) == ("day", 20)
    again = pd.read_csv(run / "comparisons.csv")
    assert (again["reference"].dropna() == "late").all()
    assert "early against late" in text
    status, text = call("summarize", run, "--contrast", "early")
    assert status == 2
    before = (run / "protocol.yaml").read_bytes()
    for switch in ("--reference", "--block"):
        status, text = call("summarize", run, switch, "")
        assert status == 2
        assert f"{switch} is empty" in text
    with pytest.raises(ProtocolError, match="above 0 and below 100"):
        call("summarize", run, "--equivalence-pp", 0)
    assert (run / "protocol.yaml").read_bytes() == before


def test_patterns_and_a_ledger_on_the_shell(folder: Path, tmp_path: Path) -> None:
    write(folder / "old" / "islet.ome.tif", staining(1, 0.5))
    status, text = call("init", folder, "--exclude", "old", "--exclude", "[x], *.bak")
    assert status == 0
    drafted = yaml.safe_load((folder / "protocol.yaml").read_text())
    assert drafted["reading"]["exclude"] == ["old", "[x], *.bak"]
    assert "old/" not in (folder / "samples.csv").read_text()
    run = tmp_path / "run"
    status, text = call(
        "score", folder, "--out", run, "--dry-run", "--include", "batch*", "--exclude", "sec*"
    )
    assert status == 0
    assert not run.exists()
    assert "measure    batch1/islet.ome.tif: new" in text
    assert "leave out  old/islet.ome.tif: matches none of reading.include" in text
    assert "2 to measure (2 new), 3 left out; tables and report would be made." in text


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal")
def test_a_watch_ends_with_ctrl_c_and_its_tables_are_whole(folder: Path, tmp_path: Path) -> None:
    import signal

    command = [sys.executable, "-m", "islet_imaging", "score", str(folder), "--out",
               str(tmp_path / "run"), "--watch", "--settle", "0.2", "--workers", "1"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Waiting for more" in line:
                process.send_signal(signal.SIGINT)
        status = process.wait()
    assert lines[0].startswith(f"Watching {folder}")
    assert "4 of 4 images scored. Waiting for more." in lines[1]
    assert lines[-1].startswith("Report: ")
    assert status in (0, 3)
    assert len(pd.read_csv(tmp_path / "run" / "images.csv")) == 4


@pytest.mark.parametrize("switch", [(), ("--pixel-size-um", 0.5), ("--keep-blocked",)])
def test_a_flat_field_beside_the_protocol_is_found_with_every_switch(
    switch: tuple[str | float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is relative to the protocol, wherever the shell stands."""
    made = staining(1, 0.5)
    write(tmp_path / "images" / "a.ome.tif", made)
    (tmp_path / "lab").mkdir()
    tifffile.imwrite(tmp_path / "lab" / "flat.tif", np.ones(made.shape[-2:], np.float32))
    (tmp_path / "lab" / "protocol.yaml").write_text(
        "format: islet-imaging/2\nchannels: [{name: DAPI, role: dna}, {name: INS}]\n"
        "nuclei: {method: classical}\ncorrection: {flat_field: flat.tif}\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    words = ("score", "../images", "--out", "run", "--protocol", "../lab/protocol.yaml", *switch)
    status, text = call(*words, "--workers", 1)
    assert status in (0, 3), text
    assert pd.read_csv("run/images.csv")["status"].tolist() == ["scored"]
