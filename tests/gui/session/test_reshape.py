"""Nuclei painted, split, merged and deleted, and all of it undone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("psygnal")
from napari_islet_imaging.session import reshape
from napari_islet_imaging.session.drawing import CallOutlines
from napari_islet_imaging.session.review import ReviewSession

from islet_imaging.errors import IsletImagingError
from islet_imaging.run.folder import Run


def _split_by_erasing(session):
    cell = int(session.table["cell"].iloc[8])
    ys, _ = np.nonzero(session.open.labels == cell)
    middle = (ys.min() + ys.max()) // 2
    session.open.labels[middle][session.open.labels[middle] == cell] = 0
    return cell


def test_erasing_a_line_splits_and_measures_as_the_whole_image_would(session):
    from islet_imaging.measurement.measure import measure_cells
    from islet_imaging.segmentation.cells import grow_cells

    session.open_image(session.image_names[0])
    cell = _split_by_erasing(session)
    changed = reshape.commit_painting(session)
    assert len(changed) == 2
    assert cell in changed
    opened = session.open
    whole = measure_cells(
        opened.labels,
        grow_cells(opened.labels, ring_um=3.0, gap_um=0.0, pixel_size_um=0.3),
        {c: opened.image.channel(c) for c in opened.image.channel_names},
        dna="DAPI",
        pixel_size_um=0.3,
        islets=opened.islets,
    ).set_index("cell")
    now = session.table.set_index("cell")
    for one in changed:
        for column in ("nucleus_area_um2", "INS_ring_p25", "INS_nucleus_mean", "y_um", "x_px"):
            assert now.loc[one, column] == pytest.approx(whole.loc[one, column], rel=1e-5), column
        assert now.loc[one, "INS_call"] in ("positive", "negative", "unsure")


def test_a_reshaped_run_opens_as_it_was_left(session, run):
    session.open_image(session.image_names[0])
    name = session.open.name
    _split_by_erasing(session)
    reshape.commit_painting(session)
    cells = session.table["cell"].tolist()
    reshape.merge_cells(session, reshape.split_cell(session, cells[20]))
    reshape.split_cell(session, cells[21])
    reshape.delete_cells(session, [cells[3]])
    again = ReviewSession(Run.open(run.path), reviewer="ana")
    again.open_image(name)
    np.testing.assert_array_equal(again.open.labels, session.open.labels)
    pd.testing.assert_frame_equal(
        again.table.sort_values("cell", ignore_index=True),
        session.table.sort_values("cell", ignore_index=True),
        check_exact=False,
    )


@pytest.mark.parametrize("kind", ["split", "merge", "delete", "erase"])
def test_undo_of_outlines_restores_pixels_rows_and_lines(session, kind):
    outlines = CallOutlines(session)
    session.open_image(session.image_names[0])
    labels, table = session.open.labels.copy(), session.table.copy()
    lines = session.open.outlines.copy()
    cells = table["cell"].tolist()
    if kind == "split":
        changed = reshape.split_cell(session, cells[7])
        assert len(changed) == 2
    elif kind == "merge":
        halves = reshape.split_cell(session, cells[7])
        labels, table = session.open.labels.copy(), session.table.copy()
        lines = session.open.outlines.copy()
        changed = reshape.merge_cells(session, halves)
        assert len(session.table[~session.table["excluded"]]) < len(table[~table["excluded"]])
    elif kind == "delete":
        changed = reshape.delete_cells(session, cells[7:9])
    else:
        _split_by_erasing(session)
        changed = reshape.commit_painting(session)
    assert changed
    assert (session.open.labels != labels).any()
    session.undo()
    np.testing.assert_array_equal(session.open.labels, labels)
    np.testing.assert_array_equal(session.open.committed, labels)
    assert lines.any()
    np.testing.assert_array_equal(session.open.outlines, lines)
    outlines.redraw()
    np.testing.assert_array_equal(session.open.outlines, lines)

    pd.testing.assert_frame_equal(session.table, table)


def test_nuclei_that_do_not_touch_are_not_merged(session):
    session.open_image(session.image_names[0])
    before = session.open.labels.copy()
    cells = session.table["cell"].tolist()
    with pytest.raises(IsletImagingError, match="do not touch"):
        reshape.merge_cells(session, [cells[0], cells[-1]])
    np.testing.assert_array_equal(session.open.labels, before)


def test_undo_of_growing_a_nucleus_gives_the_small_one_back(session):
    session.open_image(session.image_names[0])
    before = session.open.labels.copy()
    cell = int(session.table["cell"].iloc[8])
    ys, xs = np.nonzero(before == cell)
    session.open.labels[ys.max() + 1 : ys.max() + 5, xs.min() : xs.max()] = cell
    assert cell in reshape.commit_painting(session)
    session.undo()
    np.testing.assert_array_equal(session.open.labels, before)


def test_a_new_nucleus_painted_by_hand_gets_a_row(session):
    session.open_image(session.image_names[0])
    before = len(session.table)
    free = np.argwhere(session.open.labels[:60, :60] == 0)[0]
    label = reshape.free_label(session)
    y, x = free
    patch = session.open.labels[y : y + 12, x : x + 12]
    patch[patch == 0] = label
    reshape.commit_painting(session)
    assert len(session.table) >= before + 1
    assert session.row(label) is not None


def test_a_person_s_call_survives_painting(session):
    session.open_image(session.image_names[0])
    cell = int(session.table["cell"].iloc[8])
    session.call("unsure", cell)
    ys, _ = np.nonzero(session.open.labels == cell)
    session.open.labels[ys.min(), :][session.open.labels[ys.min(), :] == cell] = 0
    reshape.commit_painting(session)
    assert session.row(cell)["INS_call"] == "unsure"


def test_a_lobed_nucleus_is_split_at_its_waist_and_the_larger_part_keeps_its_number(session):
    """Two discs that overlap, one with a small bump: the bump is no lobe."""
    session.open_image(session.image_names[0])
    opened = session.open
    opened.labels[:70, :90] = 0
    yy, xx = np.mgrid[:70, :90]
    big = (yy - 35) ** 2 + (xx - 35) ** 2 < 15**2
    small = (yy - 35) ** 2 + (xx - 58) ** 2 < 11**2
    bump = (yy - 19) ** 2 + (xx - 35) ** 2 < 3**2
    cell = reshape.free_label(session)
    opened.labels[:70, :90][big | small | bump] = cell
    reshape.commit_painting(session)
    changed = reshape.split_cell(session, cell)
    assert len(changed) == 2
    other = next(c for c in changed if c != cell)
    part = opened.labels[:70, :90]
    # the larger lobe keeps the number, and each has its own side of the waist
    assert (part[big & ~small] == cell).mean() > 0.97
    assert (part[small & ~big] == other).mean() > 0.95


def test_a_nucleus_without_a_waist_is_cut_across_its_middle(session):
    session.open_image(session.image_names[0])
    labels = session.open.labels
    cell = int(session.table["cell"].iloc[10])
    row = session.row(cell)
    y, x = round(row["y_px"]), round(row["x_px"])
    yy, xx = np.mgrid[: labels.shape[0], : labels.shape[1]]
    # an ellipse, turned: its distance from the edge has one top
    a, b = (yy - y) * 0.8 + (xx - x) * 0.6, (yy - y) * -0.6 + (xx - x) * 0.8
    labels[((a / 9) ** 2 + (b / 6) ** 2 <= 1) & ((labels == 0) | (labels == cell))] = cell
    reshape.commit_painting(session)
    whole = int((labels == cell).sum())
    changed = reshape.split_cell(session, cell)
    parts = [int((labels == c).sum()) for c in changed]
    assert len(parts) == 2
    assert sum(parts) == whole
    assert min(parts) > 0.4 * whole
