"""The background of blocks: the low quantile of their pixels outside cells, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.measurement.background import MIN_PIXELS, QUANTILE, REACH, OutsideGrid


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(9, 90),
    st.integers(9, 90),
    st.integers(9, 30),
    st.integers(0, 200),
    st.integers(0, 200),
    st.sampled_from(["u1", "u2", "f4"]),
)
def test_blocks_are_the_slow_ones(
    seed: int, height: int, width: int, block: int, y0: int, x0: int, dtype: str
) -> None:
    rng = np.random.default_rng(seed)
    occupied = rng.random((height, width)) < rng.random()
    image = (rng.random((height, width)) * 200).astype(dtype)
    y, x = np.divmod(np.arange(height * width), width)
    y, x = y.reshape(height, width) + y0, x.reshape(height, width) + x0
    free = ~occupied & (y % 2 == 0) & (x % 2 == 0)
    levels: dict[tuple[int, int], tuple[float, int]] = {}
    for row in range(y0 // block, (y0 + height - 1) // block + 1):
        for column in range(x0 // block, (x0 + width - 1) // block + 1):
            values = image[free & (y // block == row) & (x // block == column)].astype(np.float32)
            if values.size >= MIN_PIXELS:
                level = float(np.quantile(values.astype(float), QUANTILE))
                levels[row, column] = (level, values.size)
    grid = OutsideGrid(occupied, block, (y0, x0))
    # at the centres of blocks nothing is read between them
    rows = np.arange(y0 // block, (y0 + height - 1) // block + 1)
    columns = np.arange(x0 // block, (x0 + width - 1) // block + 1)
    at_row, at_column = (a.ravel() for a in np.meshgrid(rows, columns, indexing="ij"))
    found = grid.at(image, (at_row + 0.5) * block, (at_column + 0.5) * block)
    for row, column, value in zip(at_row, at_column, found, strict=True):
        total = weight = 0.0
        for (r, c), (level, n) in levels.items():
            if max(abs(r - row), abs(c - column)) <= REACH:
                w = n * np.exp(-0.5 * ((r - row) ** 2 + (c - column) ** 2) / (0.5 * REACH) ** 2)
                total, weight = total + w * level, weight + w
        if weight:
            assert value == pytest.approx(total / weight, rel=1e-5)
        else:
            assert np.isnan(value)
