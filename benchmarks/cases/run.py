"""Score inputs rebuilt from public bug reports, through the ways that everybody uses.

Run: python benchmarks/cases/run.py [CASES] --out benchmarks/cases
     (CASES, or the environment variable ISLET_IMAGING_CASES, is the folder of cases)

Each case is a folder with a ``make.py`` that draws stained islets of known truth in the structure
that a report describes.  It is made in a temporary folder, drafted by ``init`` where it has no
protocol and no sheet of its own, and scored by ``score_folder``.  Where the files do not say which
channel is DNA or how large a pixel is, what a user would answer is filled in.  A case is *right*
when every image's fraction is within 5 points of its truth, all images are there and what must be
flagged is; where no share must be given (a control that holds
positive cells, one that is no control of its samples, light of another dye) none is and a note says
why.  It is *refused* when one line says what is wrong, *open* when calls are not estimable, else
*wrong*.  Writes ``cases.csv``.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from islet_imaging.errors import IsletImagingError
from islet_imaging.experiment.drafting import draft_protocol, draft_samples
from islet_imaging.experiment.sample_sheet import images_in_folder
from islet_imaging.protocol import Channel, Protocol
from islet_imaging.reading import read_image
from islet_imaging.run import Run
from islet_imaging.scoring.folder import score_folder

TOLERANCE = 0.05
THREE = {"islet_A": 0.504, "islet_B": 0.2, "secondary_only": 0.0}


@dataclass(frozen=True)
class Case:
    """What is scored, and what is right."""

    name: str
    #: part of an image's name -> its true fraction
    truth: dict[str, float] = field(default_factory=dict)
    folder: str = "in"
    sheet: str | None = "sheet.csv"
    protocol: str | None = None
    #: number of images that count
    n_images: int = 3
    #: a flag that must be raised on the first image
    flag: str = ""
    #: pixel sizes alone are compared (file name part -> um or None)
    sizes: dict[str, float | None] = field(default_factory=dict)
    #: conditions and batches that a drafted sheet must have
    design: tuple[list[str], list[str]] | None = None
    #: an error or an open result is the right answer
    must_refuse: bool = False
    #: images of which no share is the right answer, where a note of ``summary.csv`` says this
    no_share: tuple[str, ...] = ()
    because: str = ""


_UM = ("um", "micron", "microns", "esc_micro", "esc_mu", "latin1", "utf8_micro", "utf8_mu",
       "double", "micrometer", "Microns", "mikrometer", "um_dot", "micra", "sp", "nm", "mm",
       "cm")  # fmt: skip

CASES = (
    Case("04-imagej-unit-spellings", sheet=None,
         sizes={**dict.fromkeys(_UM, 0.5), "pixel": None, "none": None}),
    Case("05-imagej-order-zct", THREE),
    Case("07-ome-renamed", {"control_line": 0.504, "Experiment-01": 0.2, "secondary_only": 0.0}),
    Case("07-ome-renamed", {"renamed": 0.504}, folder="alone", sheet=None, n_images=1),
    Case("08-ome-ifd-shuffled", THREE),
    Case("09-duplicate-names", THREE, protocol="protocol_source.yaml"),
    Case("09-duplicate-names", protocol="protocol_no_source.yaml", must_refuse=True),
    Case("10-page-names", THREE, protocol="protocol.yaml"),
    Case("13-lasx-plane-per-file", {"001": 0.504, "002": 0.2, "003": 0.0}, sheet=None),
    Case("14-phenix-names", {"r02": 0.504, "r03": 0.2, "r04": 0.0}, sheet=None),
    Case("16-folder-per-channel", THREE, sheet=None),
    Case("17-metaxpress", {"B02": 0.504, "B03": 0.2, "B04": 0.0}, sheet=None),
    Case("20-saturated-12bit-shifted", THREE, folder="in/plain12", sheet="sheet_plain12.csv",
         flag="saturated"),
    Case("20-saturated-12bit-shifted", THREE, folder="in/shifted", sheet="sheet_shifted.csv",
         flag="saturated"),
    Case("21-saturated-offset-32768", THREE, flag="saturated"),
    Case("22-float01-saturated", THREE, flag="saturated"),
    Case("24-folder-per-well", {"A02": 0.5, "B02": 0.2, "C03": 0.5, "D03": 0.2, "E04": 0.5},
         sheet=None, n_images=5, design=(["all"], ["1"])),
    Case("25-folder-per-day", {"D14": 0.1, "D21": 0.4, "D28": 0.6}, sheet=None, n_images=6,
         design=(["D14", "D21", "D28"], ["1"])),
    Case("27-names-that-look-like-channels", {"": 0.5}, sheet=None, n_images=10),
    Case("28-background-per-well", THREE, no_share=("secondary_only",),
         because="negative controls not used"),
    Case("30-uneven-light", THREE),
    Case("31-dense-nuclei", THREE),
    Case("32-large-nuclei", {"islet_A": 0.519, "islet_B": 0.192, "secondary_only": 0.0}),
    Case("34-burned-in-scale-bar", THREE),
    Case("34-burned-in-scale-bar", THREE, folder="in16"),
    Case("35-channels-saved-as-slices", THREE),
    Case("36-projection-beside-stack", THREE, sheet=None),
    Case("37-grey-with-alpha", THREE, protocol="protocol.yaml"),
    Case("38-nis-ome-objective", {"xy01": 0.504, "xy02": 0.2, "xy03": 0.0}),
    Case("40-three-channels-as-rgb-composite", THREE, protocol="protocol.yaml"),
    Case("41-czi-colour-camera", THREE, protocol="protocol_colours.yaml"),
    Case("42-czi-without-scaling", THREE, protocol="protocol.yaml"),
    Case("43-control-that-is-not-negative", {"islet_A": 0.5, "islet_B": 0.2},
         no_share=("islet_A", "islet_B", "secondary_only"),
         because="a negative control is not negative"),
    Case("44-fibre-at-the-ceiling", THREE),
    Case("45-ome-one-file-per-channel", THREE, sheet=None),
    Case("47-bleed-through", {"islet_A": 0.3, "islet_B": 0.2},
         no_share=("islet_A", "islet_B", "secondary_only"),
         because="light of another dye lies in this channel"),
)  # fmt: skip


def answered(drafted: Protocol, folder: Path) -> Protocol:
    """A draft with what a user would answer: which channel is which, how large a pixel is."""
    channels = list(drafted.channels)
    known = {c.name for c in channels if c.role in ("dna", "marker")}
    if not {"INS"} & known and len(channels) == 2:
        channels = [
            Channel("DAPI", "dna", source=channels[0].source or channels[0].name),
            Channel("INS", source=channels[1].source or channels[1].name),
        ]
    size = drafted.reading.pixel_size_um
    first = images_in_folder(folder, drafted)[0]
    paths = list(first.paths) if len(first.paths) > 1 else first.paths[0]
    plain = drafted.replace(channels=tuple(channels))
    projection = {"max": "max"}.get(drafted.reading.projection, "none")
    if read_image(paths, protocol=plain, projection=projection).pixel_size_um is None:
        size = 0.5
    return plain.replace(reading=dataclasses.replace(drafted.reading, pixel_size_um=size))


def outcome(case: Case, made: Path) -> tuple[str, str]:
    """Verdict and what came of a case."""
    folder = made / case.folder
    if case.sizes:
        wrong = []
        for name, expected in case.sizes.items():
            got = read_image(folder / f"unit_{name}.tif").pixel_size_um
            if (got is None) != (expected is None) or (
                got and expected and abs(got - expected) > 1e-3
            ):
                wrong.append(f"{name}: {got}")
        return ("wrong", "; ".join(wrong)) if wrong else ("right", f"{len(case.sizes)} files")
    said = ""
    try:
        if case.protocol:
            protocol = Protocol.load(made / case.protocol)
        else:
            protocol = answered(draft_protocol(folder).protocol, folder)
        sheet = made / case.sheet if case.sheet else made / "drafted.csv"
        if case.sheet is None:
            sheet.write_text(draft_samples(folder, protocol), "utf-8")
        if case.design is not None:
            rows = list(csv.DictReader(sheet.read_text("utf-8").splitlines()))
            found = [sorted({r[k] for r in rows}) for k in ("condition", "batch")]
            if found != [*case.design]:
                return "wrong", f"design {found}"
            said = f"design {found}; "
        run = score_folder(folder, made / "run", protocol=protocol, samples=sheet, workers=1)
    except IsletImagingError as error:
        text = " ".join(str(error).split())
        return ("right" if case.must_refuse else "refused"), text.replace(f"{made}/", "")[:300]
    verdict, text = judged(case, run)
    return verdict, said + text.replace(f"{made}/", "")


def judged(case: Case, run: Run) -> tuple[str, str]:
    """Compare a finished run with the truth."""
    images = run.images
    good = images[images["status"] == "scored"]
    failed = images[images["status"] == "failed"]
    if len(good) == 0:
        message = " ".join(str(images["message"].iloc[0]).split())[:300] if len(images) else "none"
        return ("right" if case.must_refuse else "refused"), message
    got, off, is_open = [], [], []
    for row in good.to_dict("records"):
        value = float(row.get("INS_fraction", float("nan")))
        truth = next((t for part, t in case.truth.items() if part in str(row["image"])), None)
        got.append(f"{row['image']} {100 * value:.1f}" if value == value else f"{row['image']} -")
        if value != value:
            is_open.append(str(row["image"]))
        elif truth is not None and abs(value - truth) > TOLERANCE:
            off.append(str(row["image"]))
    text = ", ".join(got)
    if len(images) != case.n_images:
        return "wrong", f"{len(images)} images for {case.n_images}: {text}"
    left_out = images[images["status"] == "skipped"]
    if len(left_out):
        shared = " ".join(str(left_out["message"].iloc[0]).split())[:120]
        text += f"; {len(left_out)} left out ({shared})"
    if len(failed):
        return "refused", f"{text}; {' '.join(str(failed['message'].iloc[0]).split())[:200]}"
    if off:
        flags = sorted({f for names in good["flags"].fillna("") for f in str(names).split("; ")})
        return "wrong", f"{text}; flags: {', '.join(f for f in flags if f)[:200]}"
    if case.flag and case.flag not in str(good["flags"].iloc[0]):
        return "wrong", f"{text}; not flagged {case.flag}"
    told = " ".join(str(n) for n in run.summary["note"].dropna())
    if is_open and case.because and case.because in told:
        is_open = [name for name in is_open if not any(part in name for part in case.no_share)]
        text += f"; {case.because}"
    return ("open" if is_open else "wrong" if case.must_refuse else "right"), text


def make(case: Case, cases: Path, at: Path) -> Path:
    """Make a case's files in a temporary folder, once."""
    made = at / case.name
    if not made.exists():
        shutil.copytree(cases / case.name, made)
        if not (at / "scene.py").exists():
            shutil.copy(cases / "scene.py", at)
        subprocess.run([sys.executable, "make.py"], cwd=made, check=True, capture_output=True)
    shutil.rmtree(made / "run", ignore_errors=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("ISLET_IMAGING_CASES")
    parser.add_argument("cases", nargs="?", type=Path, default=Path(default) if default else None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of cases' names")
    options = parser.parse_args()
    if options.cases is None or not options.cases.is_dir():
        parser.error("give the folder of cases, or set ISLET_IMAGING_CASES")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for case in CASES:
            if options.only and not any(case.name.startswith(o) for o in options.only):
                continue
            which = " ".join(w for w in (case.folder, case.protocol or "", case.sheet or "") if w)
            verdict, got = outcome(case, make(case, options.cases, Path(temporary)))
            rows.append({"case": case.name, "what": which, "verdict": verdict, "got": got})
            print(f"{verdict:8} {case.name} ({which}): {got}", flush=True)
    if not options.only:
        with (options.out / "cases.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print({v: sum(r["verdict"] == v for r in rows) for v in ("right", "refused", "open", "wrong")})


if __name__ == "__main__":
    main()
