"""Numbers of the planning tables, computed by the library beside the values expected."""

from __future__ import annotations

import numpy as np
import pandas as pd

from islet_imaging.statistics import (
    apparent_fraction,
    batch_se_pp,
    batches_for_difference,
    cells_to_detect,
    correct_fraction,
    radial_weights,
    sign_flip_test,
    upper_bound,
)


def reproduce() -> pd.DataFrame:
    rows: list[tuple[str, float, float]] = []
    for islets, expected in ((5, 5.2), (10, 3.7), (20, 2.6), (40, 1.9)):
        rows.append(
            (f"SE of a batch, {islets} islets, pp", expected, batch_se_pp(islets, fraction=0.43))
        )
    for difference, unpaired, pairs in ((5, 52, 17), (10, 14, 6), (15, 7, 4), (20, 5, 4)):
        rows.append(
            (
                f"batches per arm for {difference} pp",
                unpaired,
                batches_for_difference(difference, sd_pp=9, paired=False),
            )
        )
        rows.append(
            (
                f"pairs for {difference} pp",
                pairs,
                batches_for_difference(difference, sd_pp=0.75 * 9, paired=True),
            )
        )
    for thickness, expected in ((3, 46.5), (5, 47.1), (10, 47.9)):
        p = apparent_fraction(
            0.5, section_um=thickness, positive_height_um=7.0, negative_height_um=8.5
        )
        rows.append((f"50 % as read in a section of {thickness} um, %", expected, 100 * float(p)))
    r = np.sqrt((np.arange(200_000) + 0.5) / 200_000)
    share = np.where(r < 0.7, 0.2, 0.6)
    rows.append(("core and mantle, equatorial section, %", 40.4, 100 * float(share.mean())))
    weighted = float(np.average(share, weights=radial_weights(r, radius_um=1.0)))
    rows.append(("core and mantle, radially weighted, %", 46.3, 100 * weighted))
    for se, sp, expected in ((0.95, 0.98, 6.7), (0.9, 0.95, 9.3), (0.85, 0.9, 13.7)):
        apparent = 0.05 * se + 0.95 * (1 - sp)
        rows.append((f"true 5 % as read at Se {se}, Sp {sp}, %", expected, 100 * apparent))
        back = float(correct_fraction(apparent, se, sp))
        rows.append((f"the same corrected (Se {se}, Sp {sp}), %", 5.0, 100 * back))
    for se, sp, expected in ((0.95, 0.98, 1.08), (0.9, 0.95, 1.18), (0.85, 0.9, 1.33)):
        rows.append((f"SD inflation at Se {se}, Sp {sp}", expected, 1 / (se + sp - 1)))
    rows.append(("floor of the sign-flip test, 3 pairs", 0.25, sign_flip_test([1, 2, 3])[1]))
    rows.append(("floor of the sign-flip test, 6 pairs", 0.031, sign_flip_test(range(1, 7))[1]))
    rows.append(("0 of 3000 cells, upper bound, %", 0.1, 100 * upper_bound(3000)))
    rows.append(("cells to detect 0.1 %", 3000, cells_to_detect(0.001)))
    for batch_sd, islet_sd, icc in ((5, 8.5, 0.03), (8, 14, 0.08), (11, 18, 0.14)):
        # islet SD in total, the batch's share included, at a fraction of 43 %
        rows.append(
            (
                f"ICC of an islet, SD {islet_sd} pp in total (batch {batch_sd})",
                icc,
                islet_sd**2 / 1e4 / (0.43 * 0.57),
            )
        )
    return pd.DataFrame(rows, columns=["quantity", "expected", "computed"])
