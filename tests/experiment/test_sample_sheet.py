"""A bad sheet is an error, a bad row takes out only its own image and says its number."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.errors import IsletImagingError, ProtocolError
from islet_imaging.experiment.drafting import draft_samples
from islet_imaging.experiment.sample_sheet import (
    SampleSheet,
    images_in_folder,
    read_samples,
    samples_without_sheet,
)
from islet_imaging.protocol import Channel, Protocol, Reading
from tests.mutations import mutated

PROTOCOL = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS")))
SETS = PROTOCOL.replace(
    reading=Reading(file_pattern="(?P<image>.+)_(?P<channel>DAPI|INS)[.]tif"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.tif", "b.tif", "drug/c.tif", "drug/d.png", ".hidden.tif", "notes.txt"):
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "images"


def sheet(folder: Path, text: str, **options: object) -> SampleSheet:
    file = folder.parent / "samples.csv"
    file.write_text(text, encoding=str(options.get("encoding", "utf-8")))
    return read_samples(file, folder, PROTOCOL)


def test_images_of_a_folder(folder: Path) -> None:
    names = [i.name for i in images_in_folder(folder)]
    assert names == ["a.tif", "b.tif", "drug/c.tif", "drug/d.png"]
    everything = samples_without_sheet(folder)
    assert [s.image for s in everything.samples] == names
    assert {(s.role, s.batch) for s in everything.samples} == {("sample", "")}
    with pytest.raises(ProtocolError, match="no such folder"):
        images_in_folder(folder / "none")


def test_the_folder_of_a_run_holds_no_images(folder: Path) -> None:
    run = folder / "run" / "labels"
    run.mkdir(parents=True)
    (run / "a.nuclei.tif").touch()
    (run.parent / "provenance.json").touch()
    assert len(images_in_folder(folder)) == 4


def test_the_truth_of_a_synthetic_experiment_holds_no_images(folder: Path) -> None:
    before = images_in_folder(folder)
    (folder / "truth" / "labels").mkdir(parents=True)
    (folder / "truth" / "labels" / "islet01.nuclei.tif").touch()
    (folder / "truth" / "batches.csv").touch()
    assert images_in_folder(folder) == before


def test_one_file_per_channel(tmp_path: Path) -> None:
    for name in ("x_DAPI.tif", "x_INS.tif", "s/y_DAPI.tif", "s/y_INS.tif", "overview.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images = images_in_folder(tmp_path, SETS)
    assert [(i.name, [p.name for p in i.paths]) for i in images] == [
        ("s/y", ["y_DAPI.tif", "y_INS.tif"]),
        ("x", ["x_DAPI.tif", "x_INS.tif"]),
    ]
    file = tmp_path / "samples.csv"
    file.write_text("file,condition,batch,role\nx_INS.tif,a,1,sample\ns/y,a,1,sample\n")
    read = read_samples(file, tmp_path, SETS)
    assert [s.image for s in read.samples] == ["x", "s/y"]
    file.write_text("file,condition,batch,role\nx_INS.tif,a,1,sample\nx,a,1,sample\n")
    read = read_samples(file, tmp_path, SETS)
    assert not read.samples
    assert "rows 2, 3" in read.problems[0].message
    file.write_text("file,condition,batch,role\noverview.tif,a,1,sample\n")
    assert "file_pattern" in read_samples(file, tmp_path, SETS).problems[0].message


def test_a_good_sheet_keeps_further_columns(folder: Path) -> None:
    read = sheet(
        folder,
        "file,condition,batch,role,line,section_um\n"
        "a.tif,ctrl,b1,sample,H1,5\n"
        "drug/c.tif,drug,b1,sample,H1,\n"
        "b.tif,,b1,negative_control,,5.5\n"
        "drug\\d.png,,b1,single_stain:INS,,\n",
    )
    assert not read.problems
    assert [s.image for s in read.samples] == ["a.tif", "drug/c.tif", "b.tif", "drug/d.png"]
    assert read.samples[0].extra == {"line": "H1", "section_um": "5"}
    assert read.samples[3].single_stain == "INS"
    assert read.samples[0].single_stain is None
    frame = read.to_frame()
    assert list(frame.columns) == ["image", "condition", "batch", "role", "line", "section_um"]
    assert frame.loc[0, "line"] == "H1"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a.tif,x,b1,smaple", r"row 3: unknown role 'smaple'.*Did you mean 'sample'"),
        ("a.tif,x,b1,Sample", "unknown role 'Sample'.*mean 'sample'"),
        ("a.tif,x,b1,single_stain:GFP", r"'GFP' is not a channel"),
        ("a.tif,x,b1,single_stain:", "not a channel"),
        ("a.tif,x,,sample", "row 3: empty cell in batch"),
        ("a.tif,,b1,sample", "empty cell in condition"),
        ("a.tif,x,b1,", "empty cell in role"),
        ("a.tif,x", "empty cell in batch, role"),
        (",x,b1,sample", "empty cell in file"),
        ("A.tif,x,b1,sample", r"no file 'A.tif'.*did you mean 'a.tif'"),
        ("../images/a.tif,x,b1,sample", "outside"),
        ("notes.txt,x,b1,sample", "suffix"),
        ("a.tif,x,b1,sample,5,6", "6 cells under 5 columns"),
        ("a.tif,x,b1,sample,thick", "section_um is 'thick'"),
    ],
)
def test_a_bad_row_is_a_problem_and_others_go_on(folder: Path, row: str, says: str) -> None:
    read = sheet(folder, f"file,condition,batch,role,section_um\nb.tif,x,b1,sample,5\n{row}\n")
    assert [s.image for s in read.samples] == ["b.tif"]
    assert len(read.problems) == 1
    assert read.problems[0].row == 3
    import re

    assert re.search(says, read.problems[0].message), read.problems[0].message


def test_one_image_twice_fails_that_image_only(folder: Path) -> None:
    read = sheet(
        folder,
        "file,condition,batch,role\na.tif,x,1,sample\nb.tif,x,1,sample\n./a.tif,y,1,sample\n",
    )
    assert [s.image for s in read.samples] == ["b.tif"]
    assert [p.image for p in read.problems] == ["a.tif"]
    assert "rows 2, 4" in read.problems[0].message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\n", "empty"),
        ("file,condition,batch,role\n", "no rows"),
        ("file,condition,batch,role\n,,,\n", "no rows"),
        ("name,condition,batch\na,b,c\n", "no column file, role"),
        ("file,condition,batch,role,role\na,b,c,d,e\n", "occurs twice"),
        ("file,condition,batch,role,,x\na,b,c,d,e,f\n", "column 5 has no name"),
        ("file,condition,batch,role,image\na,b,c,d,e\n", "may not be called"),
        ('file,condition,batch,role\n"a,b,c,d\n', "not a readable CSV"),
        ("PK\0\0\0", "not a text file"),
    ],
)
def test_a_bad_sheet(folder: Path, text: str, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        sheet(folder, text)
    with pytest.raises(ProtocolError, match="no such sample sheet"):
        read_samples(folder / "none.csv", folder)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_what_spreadsheets_write(folder: Path, encoding: str, separator: str) -> None:
    lines = ["file,Condition,batch,role,note,,", "a.tif,5 µM,1,sample,é,,", ",,,,,,"]
    text = "\r\n".join(lines).replace(",", separator)
    read = sheet(folder, text, encoding=encoding)
    assert not read.problems
    assert read.samples[0].condition == "5 µM"
    assert read.samples[0].extra == {"note": "é"}


def test_accents_in_either_form_are_one_name(tmp_path: Path) -> None:
    import unicodedata

    name = "îlot é.tif"
    (tmp_path / unicodedata.normalize("NFD", name)).touch()
    file = tmp_path / "s.csv"
    file.write_text(f"file,condition,batch,role\n{unicodedata.normalize('NFC', name)},a,1,sample\n")
    read = read_samples(file, tmp_path)
    assert not read.problems
    assert len(read.samples) == 1


@pytest.mark.parametrize(
    ("column", "first", "second"), [("batch", "B1", "b1"), ("condition", "Drug  A", "drug A")]
)
def test_one_batch_in_two_spellings_is_refused(
    folder: Path, column: str, first: str, second: str
) -> None:
    cells = [{"batch": "1", "condition": "x", column: v} for v in (first, second)]
    rows = "".join(f"{f},{c['condition']},{c['batch']},sample\n"
                   for f, c in zip(("a.tif", "b.tif"), cells, strict=True))  # fmt: skip
    with pytest.raises(ProtocolError, match=f"{column} is written"):
        sheet(folder, f"file,condition,batch,role\n{rows}")


def test_an_endless_name_is_a_problem_of_its_row(folder: Path) -> None:
    text = f"file,condition,batch,role\n{'x' * 5000},a,1,sample\nb.tif,a,1,sample\n"
    read = sheet(folder, text)
    assert [s.image for s in read.samples] == ["b.tif"]
    assert "5000 characters" in read.problems[0].message
    assert len(read.problems[0].message) < 400


def test_a_projection_that_the_sheet_lists_is_scored(folder: Path) -> None:
    (folder / "MAX_a.tif").touch()
    read = sheet(folder, "file,condition,batch,role\nMAX_a.tif,x,1,sample\n")
    assert [s.image for s in read.samples] == ["MAX_a.tif"]
    assert not read.problems


def test_what_a_sheet_leaves_out_and_what_it_only_guessed(folder: Path) -> None:
    read = sheet(folder, "file,condition,batch,role,note\n"
                 "a.tif,x,1,negative_control,CHECK role: guessed from the name\n"
                 "b.tif,x,1,sample,\n")  # fmt: skip
    assert read.guessed == ("a.tif (negative_control)",)
    assert ("drug/c.tif", "not in samples.csv") in [(s.name, s.why) for s in read.skipped]


@pytest.mark.parametrize("word", ["=1+1", "+a", "-2", "@x"])
def test_a_draft_with_formulas_is_harmless_and_reads_back(tmp_path: Path, word: str) -> None:
    (tmp_path / word).mkdir()
    (tmp_path / word / f"{word}.tif").touch()
    text = draft_samples(tmp_path)
    assert all(not cell.startswith(word) for line in text.splitlines() for cell in line.split(","))
    (tmp_path / "s.csv").write_text(text, encoding="utf-8")
    (found,) = read_samples(tmp_path / "s.csv", tmp_path).samples
    assert found.image == f"{word}/{word}.tif"


@given(seed=st.integers(0, 2**32), n=st.integers(1, 12))
@settings(max_examples=100)
def test_a_mutated_sheet_is_read_or_named(tmp_path: Path, seed: int, n: int) -> None:
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).touch()
    sheet = "file,condition,batch,role,note\na.tif,x,b1,sample,\nb.tif,,b1,negative_control,seen\n"
    (tmp_path / "s.csv").write_bytes(mutated(sheet.encode(), seed, n))
    with contextlib.suppress(IsletImagingError):
        found = read_samples(tmp_path / "s.csv", tmp_path)
        assert {s.image for s in found.samples} <= {"a.tif", "b.tif"}
