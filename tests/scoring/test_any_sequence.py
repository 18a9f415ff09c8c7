"""Any sequence of scoring, changing, exchanging, stopping, editing, moving and opening again.

After each step the run is either what a fresh run over the same folder, protocol and corrections
gives, byte for byte, or it refuses to be read and says what to do.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Cells, Channel, Nuclei, Positivity, Protocol
from islet_imaging.review.journal import Edit, Journal
from islet_imaging.run.folder import TABLES, Run
from islet_imaging.scoring.folder import score_folder
from islet_imaging.scoring.results import resummarise
from tests.stainings import staining, write

A = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")),
    nuclei=Nuclei(method="classical"),
    positivity={"INS": Positivity(method="otsu")},
)
PROTOCOLS = (A, A.replace(cells=Cells(ring_um=1.5)), A.replace(positivity={}))
NAMES = ("1.ome.tif", "11.ome.tif", "d/1.ome.tif")
#: where a stop can strike, by module and name
STOPS = (
    "islet_imaging.scoring.task.write_labels",
    "islet_imaging.scoring.task.write_arrow",
    "islet_imaging.scoring.task.write_record",
    "islet_imaging.scoring.results.write_table",
    "islet_imaging.scoring.results.exchange",
    "islet_imaging.run.stage.stamp_of",
    "islet_imaging.run.stage.write_text",
)


def _tables(run: Path) -> dict[str, bytes]:
    names = (*(f"{t}.csv" for t in TABLES), "cells.parquet", "protocol.yaml")
    return {n: (run / n).read_bytes() for n in names}


class AnySequence(RuleBasedStateMachine):
    """A folder, a run, and what people and accidents do to both."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.folder, self.out = self.root / "f", self.root / "run"
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(
            "islet_imaging.report.write_report", lambda path, data: path.write_text("report")
        )
        #: (protocol) that the run was last asked for and finished with
        self.finished: Protocol | None = None
        #: whether folder, measurements or tables were touched since
        self.touched = False

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.root, ignore_errors=True)

    def _fresh(self, protocol: Protocol) -> dict[str, bytes]:
        """What a fresh run with the same corrections gives."""
        out = self.root / "fresh"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        journal = self.out / "corrections.jsonl"
        if journal.exists():
            shutil.copy(journal, out)
        score_folder(self.folder, out, protocol=protocol, workers=1)
        return _tables(out)

    @initialize()
    def start(self) -> None:
        for seed, name in enumerate(NAMES[:2]):
            write(self.folder / name, staining(seed, 0.5))

    @rule(protocol=st.sampled_from(PROTOCOLS))
    def score(self, protocol: Protocol) -> None:
        score_folder(self.folder, self.out, protocol=protocol, workers=1)
        self.finished, self.touched = protocol, False
        assert _tables(self.out) == self._fresh(protocol)

    @rule(protocol=st.sampled_from(PROTOCOLS), where=st.sampled_from(STOPS), at=st.integers(1, 4))
    def score_stopped(self, protocol: Protocol, where: str, at: int) -> None:
        import importlib

        module, name = where.rsplit(".", 1)
        real, count = getattr(importlib.import_module(module), name), 0

        def stop(*args: object, **more: object) -> object:
            nonlocal count
            count += 1
            if count == at:
                raise KeyboardInterrupt
            return real(*args, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, stop)
            try:
                score_folder(self.folder, self.out, protocol=protocol, workers=1)
            except KeyboardInterrupt:
                self.touched = True
            else:
                self.finished, self.touched = protocol, False

    @rule(name=st.sampled_from(NAMES), seed=st.integers(0, 3))
    def exchange(self, name: str, seed: int) -> None:
        write(self.folder / name, staining(seed, 0.5))
        self.touched = True

    @rule()
    def swap(self) -> None:
        one, two = (self.folder / n for n in NAMES[:2])
        one.rename(self.root / "aside")
        two.rename(one)
        (self.root / "aside").rename(two)
        self.touched = True

    @rule(n=st.integers(1, 30), after=st.sampled_from(["positive", "negative"]))
    def edit(self, n: int, after: str) -> None:
        try:
            run = Run.open(self.out)
            cells = run.cells.head(n)
        except IsletImagingError:
            return
        journal = Journal(run.corrections)
        for r in cells.itertuples():
            journal.append(
                Edit("ana", r.image, "call", int(r.cell), r.y_px, r.x_px, "INS", r.INS_call, after)
            )

    @rule()
    def summarise_again(self) -> None:
        try:
            run = resummarise(self.out)
        except IsletImagingError as error:
            assert "score" in str(error)  # noqa: PT017
            return
        assert not run.corrections_pending
        if self.finished is not None and not self.touched:
            assert _tables(self.out) == self._fresh(self.finished)

    @rule(which=st.sampled_from(["labels", ".work", "summary.csv", "cells.parquet"]))
    def damage(self, which: str) -> None:
        found = [self.out / which] if "." in which[1:] else sorted((self.out / which).rglob("*.*"))
        for path in [p for p in found if p.is_file()][:1]:
            path.write_bytes(path.read_bytes()[:-7])
            self.touched = True

    @rule()
    def move(self) -> None:
        if self.out.exists():
            shutil.copytree(self.out, self.root / "moved")
            shutil.rmtree(self.out)
            (self.root / "moved").rename(self.out)

    @invariant()
    def what_is_read_is_of_one_run(self) -> None:
        try:
            run = Run.open(self.out)
            for table in TABLES:
                run.table(table)
            protocol = run.protocol
        except IsletImagingError:
            return
        if self.finished is not None and not self.touched:
            assert protocol.cells == self.finished.cells
            assert protocol.positivity == self.finished.positivity


AnySequence.TestCase.settings = settings(
    max_examples=4,
    stateful_step_count=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


class TestAnySequence(AnySequence.TestCase):
    """A few sequences on every run of the tests."""


class _Longer(AnySequence):
    pass


_Longer.TestCase.settings = settings(
    AnySequence.TestCase.settings, max_examples=15, stateful_step_count=12, derandomize=False
)


@pytest.mark.slow
class TestAnyLongerSequence(_Longer.TestCase):
    """Many and longer ones."""
