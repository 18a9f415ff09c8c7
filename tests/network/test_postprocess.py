"""From ideal fields back to the labels that they were drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from islet_imaging.network.postprocess import draw_labels, find_instances
from islet_imaging.network.targets import N_FIELDS, make_targets
from islet_imaging.network.training.matching import match_labels


def discs(shape=(128, 160), radius=8.0, step=15, seed=0):
    """Touching discs: the distance between centres is under two radii."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    nearest = np.full(shape, np.inf)
    k = 0
    for cy in range(12, shape[0] - 8, step):
        for cx in range(12, shape[1] - 8, step):
            k += 1
            jy, jx = rng.uniform(-1, 1, 2)
            d = np.hypot(y - cy - jy, x - cx - jx)
            take = (d < radius) & (d < nearest)
            labels[take] = k
            nearest[take] = d[take]
    return labels


def ideal_fields(labels):
    t = make_targets(labels)
    fields = np.zeros((N_FIELDS, labels.shape[0] // 2, labels.shape[1] // 2), np.float32)
    logit = np.where(t["foreground"] > 0, 8.0, -8.0).astype(np.float32)
    for k, (dy, dx) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        fields[k] = logit[dy::2, dx::2]
    fields[4:6] = t["offset"]
    fields[6] = np.log((t["centre"] + 1e-3) / (1 - t["centre"] + 1e-3))
    fields[7] = t["distance"]
    return fields


def test_touching_nuclei_come_back():
    labels = discs()
    fields = ideal_fields(labels)
    found = draw_labels(fields, find_instances(fields), (0, 128), (0, 160), 1.0)
    m = match_labels(labels, found)
    assert m.n_found == m.n_true == m.tp(0.85)


def test_noise_in_offsets_does_not_split_nuclei():
    labels = discs()
    fields = ideal_fields(labels)
    fields[4:6] += np.random.default_rng(0).normal(0, 0.15, fields[4:6].shape).astype(np.float32)
    found = draw_labels(fields, find_instances(fields), (0, 128), (0, 160), 1.0)
    assert match_labels(labels, found).f1(0.7) > 0.97


@pytest.mark.parametrize("zoom", [0.4, 1.7])
def test_drawn_at_the_resolution_of_the_image(zoom):
    labels = discs()
    fields = ideal_fields(labels)
    shape = (round(128 / zoom), round(160 / zoom))
    found = draw_labels(fields, find_instances(fields), (0, shape[0]), (0, shape[1]), zoom)
    y = np.clip(((np.arange(shape[0]) + 0.5) * zoom).astype(int), 0, 127)
    x = np.clip(((np.arange(shape[1]) + 0.5) * zoom).astype(int), 0, 159)
    truth = labels[np.ix_(y, x)]
    assert match_labels(truth, found).f1(0.8) > 0.97


def test_parts_are_drawn_as_the_whole_is():
    labels = discs()
    fields = ideal_fields(labels)
    found = find_instances(fields)
    whole = draw_labels(fields, found, (0, 256), (0, 320), 0.5)
    part = draw_labels(fields, found, (37, 101), (50, 222), 0.5)
    assert np.array_equal(part, whole[37:101, 50:222])


def test_nothing_in_nothing_out():
    fields = np.full((N_FIELDS, 16, 16), -8, np.float32)
    found = find_instances(fields)
    assert found.labels.max() == 0
    assert len(found.centres) == 0
    assert draw_labels(fields, found, (0, 32), (0, 32), 1.0).max() == 0


def test_centres_are_in_raster_order_and_on_their_nucleus():
    labels = discs()
    found = find_instances(ideal_fields(labels))
    order = found.centres[:, 0] * 10_000 + found.centres[:, 1]
    assert (np.diff(order) > 0).all()
    at = found.labels[tuple(found.centres.T)]
    assert np.array_equal(at, np.arange(1, len(found.centres) + 1))


def test_specks_are_not_nuclei():
    labels = np.zeros((64, 64), np.int32)
    labels[20:22, 20:22] = 1
    labels[40:52, 40:52] = 2
    assert len(find_instances(ideal_fields(labels)).centres) == 1


def test_a_small_nucleus_counts_as_a_large_one_does():
    """Its edge cuts through most of its 2x2 blocks, which says nothing about confidence."""
    labels = np.zeros((64, 64), np.int32)
    y, x = np.indices(labels.shape)
    labels[np.hypot(y - 15.3, x - 14.6) < 2.6] = 1
    labels[np.hypot(y - 40, x - 40) < 9] = 2
    fields = ideal_fields(labels)
    found = draw_labels(fields, find_instances(fields), (0, 64), (0, 64), 1.0)
    assert match_labels(labels, found).tp() == 2
