"""A nucleus with a changed outline has the row that scoring these outlines would give."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import tifffile

pytest.importorskip("psygnal")
from napari_islet_imaging.session import reshape
from napari_islet_imaging.session.review import ReviewSession

from islet_imaging import Run, read_image, score_folder, score_image
from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Channel, Correction, Nuclei, Positivity, Protocol
from tests.scoring.test_given_folders import discs
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")),
    nuclei=Nuclei(method="classical"),
    positivity={"INS": Positivity(method="levels")},
)
NAME = "a.ome.tif"


def scored(tmp_path, *, correction=None, cells=None, pixels=None):
    """A review of one scored image with given nuclei; its protocol without thresholds."""
    images = tmp_path / "images"
    pixels = staining(1, 0.5) if pixels is None else pixels
    write(images / NAME, pixels)
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "a_masks.tif", discs(7))
    more = {}
    if cells is not None:
        (images / "cells").mkdir()
        tifffile.imwrite(images / "cells" / "a_masks.tif", cells)
        more = {"cells": images / "cells"}
    protocol = dataclasses.replace(PROTOCOL, correction=correction or Correction())
    run = score_folder(
        images, tmp_path / "run", protocol=protocol, nuclei=tmp_path / "masks", workers=1, **more
    )
    session = ReviewSession(run, reviewer="ana")
    session.open_image(NAME)
    return session


def split(session):
    return reshape.split_cell(session, 24)


def merge(session):
    return reshape.merge_cells(session, reshape.split_cell(session, 30))


def erase(session):
    labels = session.open.labels
    top = int(np.nonzero(labels == 10)[0].min())
    rim = labels[top : top + 4]
    rim[rim == 10] = 0
    return reshape.commit_painting(session)


def paint(session):
    """A new nucleus between four others."""
    new = reshape.free_label(session)
    session.open.labels[60:66, 56:62] = new
    assert reshape.commit_painting(session) == [new]
    return [new]


def assert_as_scored(session, change, path, **given):
    """Change outlines, and hold the new rows against a scoring of these outlines."""
    changed = [c for c in change(session) if (session.open.labels == c).any()]
    protocol = session.protocol.replace(fitted={}, fitted_from={})
    alone = score_image(
        read_image(path, protocol=protocol),
        protocol,
        nuclei=session.open.labels,
        thresholds=session.thresholds(),
        threads=1,
        **given,
    )
    # calls of a threshold with spill-over depend on the light of all cells: values are compared,
    # and what follows from them alone
    columns = [c for c in alone.cells if c.startswith(("INS_", "dna_", "nucleus_"))]
    derived = ("own", "spill", "call", "probability", "reason")
    columns = [c for c in columns if not c.endswith(derived)] + ["y_um", "excluded", "flags"]
    want = alone.cells.set_index("cell").loc[changed, columns]
    have = session.table.set_index("cell").loc[changed, columns]
    pd.testing.assert_frame_equal(have, want, check_dtype=False, rtol=1e-5)
    return changed


def test_by_whole_cells(tmp_path):
    """A run measured by cell minus nucleus stays so, whatever is done to its nuclei."""
    cells = discs(12)
    cells[cells == 17] = 0
    session = scored(tmp_path, cells=cells)
    path = tmp_path / "images" / NAME
    changed = assert_as_scored(session, split, path, cells=cells)
    rows = session.table.set_index("cell")
    # right by hand: the halves of a split nucleus share what is left of its cell
    ins = tifffile.imread(path)[1].astype(float)
    halves = changed
    own = (cells == 24) & (session.open.labels == 0)
    yy, xx = np.nonzero(own)
    near = [
        min(np.hypot(y - v, x - u) for v, u in np.argwhere(session.open.labels == halves[0]))
        <= min(np.hypot(y - v, x - u) for v, u in np.argwhere(session.open.labels == halves[1]))
        for y, x in zip(yy, xx, strict=True)
    ]
    assert rows.loc[halves[0], "INS_ring_mean"] == pytest.approx(ins[own][near].mean(), rel=0.02)
    for change in (merge, erase):
        assert_as_scored(session, change, path, cells=cells)
    # a nucleus that is painted beside all cells has no cytoplasm and does not count
    (new,) = assert_as_scored(session, paint, path, cells=cells)
    rows = session.table.set_index("cell")
    assert rows.loc[new, "excluded"]
    assert "no_cell" in rows.loc[new, "flags"].split(";")
    assert np.isnan(rows.loc[new, "INS_ring_mean"])
    # opened again it is as it was left
    again = ReviewSession(Run.open(session.run.path), reviewer="ana")
    pd.testing.assert_frame_equal(
        again.tables[NAME].sort_values("cell", ignore_index=True),
        session.table.sort_values("cell", ignore_index=True),
    )


def test_whole_cells_that_are_gone_are_told_before_anything_changes(tmp_path):
    session = scored(tmp_path, cells=discs(12))
    file = tmp_path / "images" / "cells" / "a_masks.tif"
    kept = file.read_bytes()
    tifffile.imwrite(file, discs(11))
    before = session.open.committed.copy()
    with pytest.raises(IsletImagingError, match=r"by whole cells of the file .*a_masks\.tif"):
        reshape.check_ready(session)
    with pytest.raises(IsletImagingError, match="Put it back"):
        reshape.split_cell(session, 24)
    assert (session.open.committed == before).all()
    assert not session.run.corrections.exists()
    # moved to where the reviewer says the images are, it is found by its bytes
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    (elsewhere / "a_masks.tif").write_bytes(kept)
    session.open.labels[...] = before
    session.image_folders.append(tmp_path / "elsewhere")
    assert len(reshape.split_cell(session, 24)) == 2


@pytest.mark.parametrize(
    "correction",
    [Correction(offset="auto"), Correction(background="local", background_um=30.0)],
    ids=["offset", "background"],
)
def test_numbers_of_the_whole_image_correct_a_part_of_it(tmp_path, correction):
    """Offset and background are the image's, not those of the crop that is measured again."""
    pixels = staining(1, 0.5, (200, 200)).astype(float)
    pixels += np.linspace(0, 400, 200)[None, None, :]  # a slope
    session = scored(tmp_path, correction=correction, pixels=pixels.astype(np.uint16))
    for change in (split, paint):
        assert_as_scored(session, change, tmp_path / "images" / NAME)


def test_a_nucleus_reshaped_beside_a_scale_bar_is_still_left_out(tmp_path):
    pixels = staining(1, 0.5)
    pixels[:, 150:156, 120:190] = 65535
    session = scored(tmp_path, pixels=pixels)
    flags = session.table.set_index("cell")["flags"]
    beside = [int(c) for c in flags.index if "burned_in" in flags[c]]
    assert beside
    changed = assert_as_scored(
        session, lambda s: reshape.split_cell(s, beside[0]), tmp_path / "images" / NAME
    )
    assert len(changed) == 2
    now = session.table.set_index("cell").loc[changed]
    assert now["excluded"].all()
    assert now["flags"].str.contains("burned_in").all()
