"""Flags that say nothing of a picture with one dye only are left out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from islet_imaging.protocol import Channel, Protocol
from islet_imaging.quality import Flag
from islet_imaging.run.called import ImageRow
from islet_imaging.run.image_checks import check_rows

PROTOCOL = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS")))


@pytest.mark.parametrize("code", ["out_of_domain", "nuclei_unlike_others", "few_cells"])
def test_nuclei_are_not_missed_where_no_dna_was_stained(code: str, tmp_path: Path) -> None:
    rows = [
        ImageRow(
            image=role,
            role=role,
            status="failed",  # nothing of it is looked up
            flags=(Flag(code, "warning", "said of its nuclei"),),
        )
        for role in ("sample", "single_stain:INS")
    ]
    checked, _ = check_rows(tmp_path, rows, PROTOCOL)
    assert {r.image: [f.code for f in r.flags] for r in checked} == {
        "sample": [code],
        "single_stain:INS": [],
    }
