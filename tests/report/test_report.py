"""The report: complete, escaped, deterministic, and opened by a real browser without complaint."""

from __future__ import annotations

import dataclasses
import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from islet_imaging.protocol import Channel, Protocol
from islet_imaging.report import ReportData, build_report, write_report
from islet_imaging.report.figures import threshold_figure

from .example import EVIL, report_data


@pytest.fixture(scope="module")
def page() -> str:
    return build_report(report_data())


class _Tags(HTMLParser):
    """Collects tags, and checks that they are closed in order."""

    VOID = frozenset({"meta", "input", "br", "link", "img", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if dict(attrs).get("id"):
            self.ids.append(str(dict(attrs)["id"]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if dict(attrs).get("id"):
            self.ids.append(str(dict(attrs)["id"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def parsed(text: str) -> _Tags:
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    return tags


def test_well_formed_and_ids_unique(page: str) -> None:
    tags = parsed(page)
    assert len(tags.ids) == len(set(tags.ids))
    targets = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert targets <= set(tags.ids)


def test_headline_states_estimand_interval_and_n(page: str) -> None:
    row = report_data().summary.iloc[0]
    assert f"<strong>{100 * row.fraction:.1f} %</strong>" in page
    assert f"{100 * row.ci_low:.1f} to {100 * row.ci_high:.1f} %" in page
    assert "n = 4 batches, 32 islets, 4,000 cells" in page
    assert "the mean over batches of the share" in page


def test_what_must_be_known_of_a_number_stands_under_its_sentence() -> None:
    """In a table's last column nobody would scroll to it."""
    data = report_data()
    summary = data.summary.assign(note="2 of 4 batches lie far from the others")
    compared = data.comparisons.assign(note="rare fractions and 4 batches")
    made = build_report(dataclasses.replace(data, summary=summary, comparisons=compared))
    clause = '<p class="why">2 of 4 batches lie far from the others.</p>'
    assert made.count(clause) == len(summary)
    assert made.index(clause) < made.index("summary.csv")
    assert '<p class="why">Rare fractions and 4 batches.</p>' in made
    assert ">Note<" not in made.split("summary.csv")[1].split("</table>")[0]


def test_names_from_files_are_text(page: str) -> None:
    tags = parsed(page)
    assert "script" not in {t for t, _ in tags.seen}
    assert not [a for _, attrs in tags.seen for a in attrs if a.startswith("on")]
    assert "<script>alert" not in page
    assert html.escape(EVIL) in page


def test_loads_nothing(page: str) -> None:
    for tag, attrs in parsed(page).seen:
        for key in ("src", "href", "xlink:href", "data", "action"):
            value = attrs.get(key)
            if value is not None:
                assert value.startswith(("#", "data:image/jpeg;base64,")), (tag, value)
    assert "@import" not in page


def test_same_data_same_bytes(tmp_path: Path) -> None:
    a = write_report(tmp_path / "a.html", report_data()).read_bytes()
    b = write_report(tmp_path / "b.html", report_data()).read_bytes()
    assert a == b
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a.html", "b.html"]


def test_leaves_matplotlib_as_it_was() -> None:
    before = dict(mpl.rcParams)
    threshold_figure({"value": 1.0, "sample_values": [1.0, 2.0]}, name="x")
    assert dict(mpl.rcParams) == before


def test_every_call_has_its_own_line(page: str) -> None:
    for call in ("positive", "negative", "unsure", "excluded"):
        assert f'<polygon class="o-{call}"' in page
    assert ".o-unsure { stroke: #ff8ad1; stroke-width: 1.8; stroke-dasharray" in page


def test_flags_failures_and_missing_thresholds_are_said(page: str) -> None:
    assert "the file ends early" in page
    assert "No threshold could be estimated." in page
    assert "Fragile:" in page
    assert "3 more" in page  # 7 thick sections, 4 shown
    assert page.index("Serious:") < page.index("Look at this:")


def test_blanks_are_left_for_the_author(page: str) -> None:
    assert "[state: antibody, clone, RRID, dilution, dye]" in page  # GCG has no stain
    assert "guinea-pig anti-insulin, 1:500" in page
    assert "[state: section thickness]" not in page


def test_comparison_and_corrections_are_sentences(page: str) -> None:
    assert "<strong>+14.2</strong> percentage points (95 % interval +3.3 to +25.1)" in page
    assert "12 cells were changed by hand" in page
    assert "1 decision found no nucleus" in page
    assert page.count("broken.tif: broken.tif") == 0


def test_doubtful_thresholds_come_first(page: str) -> None:
    places = [page.index(f">INS, diff-{k}<") for k in (4, 2, 1, 3)]
    assert places == sorted(places)


def test_a_report_of_thousands_of_images_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("islet_imaging.report.evidence.KEPT_PANELS", 3)
    data = report_data()
    many = dataclasses.replace(
        data,
        images=pd.concat([data.images] * 700, ignore_index=True),
        flags=[dataclasses.replace(data.flags[0], image=f"{k}.tif") for k in range(3000)],
        thresholds=[{**data.thresholds[0], "batch": f"d{k}"} for k in range(5)],
    )
    text = build_report(many)
    parsed(text)
    assert "2996 more</summary>" in text
    assert "And 2,800 more, see the column flags of images.csv." in text
    assert f"And {len(many.images) - 1000:,} more images, see images.csv." in text
    assert "And 2 more thresholds, see protocol.yaml." in text


def test_empty_run_still_gives_a_page() -> None:
    data = report_data()
    empty = ReportData(
        protocol=Protocol(channels=(Channel("DAPI", "dna"), Channel("INS"))),
        summary=data.summary.iloc[:0],
        batches=data.batches.iloc[:0],
        images=data.images[data.images["status"] == "failed"],
        islets=data.islets.iloc[:0],
        cells=data.cells.iloc[:0],
    )
    text = build_report(empty)
    parsed(text)
    assert "there is no result" in text
    assert "the file ends early" in text


def test_raw_and_corrected_fractions_stand_side_by_side(page: str) -> None:
    assert "summarize RUN --draw 500" in page
    row = {
        "condition": "a", "marker": "INS", "raw_fraction": 0.41, "raw_low": 0.3, "raw_high": 0.5,
        "fraction": 0.388, "ci_low": 0.27, "ci_high": 0.49, "interval": "over batches",
        "status": "corrected", "sensitivity": 0.9, "specificity": 0.95,
        "n_labelled_positive": 210, "n_labelled_negative": 301, "sd_inflation": 1.18, "note": "",
    }  # fmt: skip
    nothing = dict.fromkeys(("fraction", "ci_low", "ci_high", "sensitivity"), float("nan"))
    refused = {**row, **nothing, "condition": "b", "status": "refused", "note": "too <few>"}
    below = {**row, "condition": "c", "status": "below the detection limit", "fraction": 0.0}
    table = pd.DataFrame([row, refused, below])
    text = build_report(dataclasses.replace(report_data(), validation=table))
    assert "--draw 500" not in text
    assert "raw 41.0 %" in text
    assert "27.0 to 49.0 %" in text
    assert "from 210 positive cells and 301 negative cells" in text
    assert "<b>Not corrected:</b> too &lt;few&gt;." in text
    assert "Up to 49.0 % cannot be excluded" in text
    assert "INS: sensitivity 90.0 %, specificity 95.0 %" in text  # methods and checklist


def test_one_batch_without_sheet_is_said() -> None:
    data = report_data()
    summary = data.summary.iloc[:1].assign(
        condition="", n_batches=1, interval="this batch only", ci_low=0.2, ci_high=0.6
    )
    batches = data.batches.iloc[:1].assign(condition="", batch="")
    slim = dataclasses.replace(data, summary=summary, batches=batches, thresholds=(), gallery=())
    text = build_report(slim)
    assert "n = 1 batch, 32 islets" in text
    assert "this batch only" in text
    assert "One batch says nothing" in text


@pytest.mark.parametrize(
    "values",
    [np.zeros(5), np.full(3, -7.0), np.array([1.0]), np.array([np.nan, 2.0]), np.array([])],
)
def test_threshold_figure_takes_odd_values(values: np.ndarray) -> None:
    info = {"marker": "INS", "batch": "", "value": 1.0, "sample_values": values}
    parsed(threshold_figure(info, name="odd"))


def test_missing_optional_columns() -> None:
    data = report_data()
    slim = dataclasses.replace(
        data,
        images=data.images[["image", "status"]],
        cells=data.cells[["image", "islet", "cell", "excluded"]],
        levels=None,
        composition=None,
        comparisons=None,
        thresholds=(),
        gallery=(),
        provenance={},
    )
    parsed(build_report(slim))


def test_gallery_crop_is_the_islet() -> None:
    from islet_imaging.report import gallery_entry

    labels = np.zeros((100, 200), np.int32)
    labels[40:50, 150:160] = 7
    plane = np.where(labels > 0, 500, 100).astype(np.uint16)
    cells = pd.DataFrame(
        {"cell": [7], "islet": [2], "y_px": [44.5], "x_px": [154.5], "excluded": [True],
         "INS_call": ["negative"]}
    )  # fmt: skip
    entry = gallery_entry(
        image="a", marker="INS", dna=plane, marker_plane=plane, nuclei=labels, cells=cells,
        pixel_size_um=1.0, islet=2,
    )  # fmt: skip
    assert entry.rgb.shape == (25, 25, 3)
    (line,) = entry.outlines
    assert line.call == "excluded"
    inside = entry.rgb[..., 1] > 100
    assert inside.sum() == 100
    box = [*line.points.min(axis=0), *line.points.max(axis=0)]
    assert np.allclose(box, [8, 8, 18, 18])  # edges of the pixels 8 to 17


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the report in")
def test_opens_in_a_browser(tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", report_data())
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
            "--v=0", "--dump-dom", "--window-size=390,800", path.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    assert "<h2>Result</h2>" in done.stdout
    assert done.stdout.count('role="img"') >= 2 + 4 + 3
    assert "<strong>" in done.stdout


def test_outlines_keep_to_the_line_with_no_more_points_than_scikit_image() -> None:
    from skimage.measure import approximate_polygon, find_contours

    from islet_imaging.report.gallery import simplified

    y, x = np.mgrid[-30:31, -30:31]
    for lobes in range(2, 9):
        mask = np.hypot(y, x) < 18 + 5 * np.cos(lobes * np.arctan2(y, x))
        line = find_contours(mask.astype(float), 0.5)[0]
        short = simplified(line, 0.6)
        assert len(short) <= len(approximate_polygon(line, 0.6)) + 1
        assert (short[0] == short[-1]).all()
        # every point of the line lies at most 0.6 from one of the pieces
        start, step = short[:-1, None], np.diff(short, axis=0)[:, None]
        along = ((line - start) * step).sum(-1) / (step**2).sum(-1)
        foot = start + np.clip(along, 0, 1)[..., None] * step
        away = np.hypot(*np.moveaxis(line - foot, -1, 0)).min(axis=0)
        assert away.max() <= 0.6 + 1e-9
