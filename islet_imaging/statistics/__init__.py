"""Statistics of nested counts: cells in islets, islets in batches, batches in conditions.

The idea: the batch (a differentiation) is the unit of replication.  Everything here counts cells,
and nothing here takes them for independent.
"""

from __future__ import annotations

from islet_imaging.statistics.agreement import (
    Agreement,
    bland_altman,
    concordance,
    icc_2_1,
)
from islet_imaging.statistics.comparison import Design, compare_conditions
from islet_imaging.statistics.composition import hormone_number
from islet_imaging.statistics.control_chart import control_chart
from islet_imaging.statistics.exact import holm, permutation_test, sign_flip_test
from islet_imaging.statistics.intervals import Interval, batch_interval, islet_interval
from islet_imaging.statistics.labelled_cells import corrected_fractions, draw_validation
from islet_imaging.statistics.manual import compare_with_manual
from islet_imaging.statistics.misclassification import (
    Corrected,
    ErrorRates,
    correct_batches,
    correct_fraction,
    correct_interval,
    error_rates,
    lang_reiczigel,
)
from islet_imaging.statistics.planner import (
    batch_se_pp,
    batches_for_difference,
    batches_for_fractions,
    batches_for_width,
    plan,
    power,
    power_for_fractions,
)
from islet_imaging.statistics.prior_shift import prior_shift
from islet_imaging.statistics.rare import (
    cells_to_detect,
    clopper_pearson,
    describe_rare,
    upper_bound,
)
from islet_imaging.statistics.raters import cohen_kappa, dawid_skene, majority
from islet_imaging.statistics.sections import (
    abercrombie,
    abercrombie_fraction,
    apparent_fraction,
    radial_weights,
)
from islet_imaging.statistics.summary import Summary, summarise
from islet_imaging.statistics.trend import trend
from islet_imaging.statistics.variance import VarianceSplit, variance_split, variance_table

__all__ = [
    "Agreement",
    "Corrected",
    "Design",
    "ErrorRates",
    "Interval",
    "Summary",
    "VarianceSplit",
    "abercrombie",
    "abercrombie_fraction",
    "apparent_fraction",
    "batch_interval",
    "batch_se_pp",
    "batches_for_difference",
    "batches_for_fractions",
    "batches_for_width",
    "bland_altman",
    "cells_to_detect",
    "clopper_pearson",
    "cohen_kappa",
    "compare_conditions",
    "compare_with_manual",
    "concordance",
    "control_chart",
    "correct_batches",
    "correct_fraction",
    "correct_interval",
    "corrected_fractions",
    "dawid_skene",
    "describe_rare",
    "draw_validation",
    "error_rates",
    "holm",
    "hormone_number",
    "icc_2_1",
    "islet_interval",
    "lang_reiczigel",
    "majority",
    "permutation_test",
    "plan",
    "power",
    "power_for_fractions",
    "prior_shift",
    "radial_weights",
    "sign_flip_test",
    "summarise",
    "trend",
    "upper_bound",
    "variance_split",
    "variance_table",
]
