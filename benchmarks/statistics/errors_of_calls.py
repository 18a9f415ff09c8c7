"""Recovery of the true fraction from wrong calls, and of planted errors of raters."""

from __future__ import annotations

import numpy as np
import pandas as pd
from nested import WORLDS, draw, per_batch
from scipy import special

from islet_imaging.errors import NotEstimableError
from islet_imaging.statistics import (
    batch_interval,
    bland_altman,
    correct_batches,
    correct_interval,
    dawid_skene,
    error_rates,
    icc_2_1,
    islet_interval,
    lang_reiczigel,
    prior_shift,
    variance_split,
)
from islet_imaging.statistics.misclassification import ErrorRates


def correction(seed: int, runs: int) -> pd.DataFrame:
    """Batches called with known errors, the errors estimated from 300 + 300 labelled cells."""
    world = next(w for w in WORLDS if w.name == "typical")
    rows = []
    for se, sp in ((0.95, 0.98), (0.9, 0.95), (0.85, 0.9)):
        for fraction in (0.05, 0.2, 0.43, 0.8):
            for batches in (3, 4, 6, 10):
                rng = np.random.default_rng([seed, batches, int(1000 * fraction), len(rows)])
                raw, got, hit, hit_raw, below = [], [], 0, 0, 0
                for _ in range(runs):
                    k, n, group = draw(rng, world, fraction, batches)
                    called = rng.binomial(k.astype(int), se)
                    called = called + rng.binomial((n - k).astype(int), 1 - sp)
                    kb, nb = per_batch(called.astype(float), n, group)
                    rates = error_rates(_labels(rng, se, sp), "INS")
                    c = correct_batches(kb, nb, rates, draws=4000, seed=int(rng.integers(2**31)))
                    raw.append(c.apparent)
                    got.append(c.fraction)
                    hit += c.low <= fraction <= c.high
                    i = batch_interval(kb, nb)
                    hit_raw += i.low <= fraction <= i.high
                    below += c.status != "corrected"
                rows.append(
                    {
                        "sensitivity": se,
                        "specificity": sp,
                        "true_%": 100 * fraction,
                        "batches": batches,
                        "runs": runs,
                        "apparent_%": 100 * np.mean(raw),
                        "corrected_%": 100 * np.mean(got),
                        "coverage_apparent_%": 100 * hit_raw / runs,
                        "coverage_corrected_%": 100 * hit / runs,
                        "below_limit_%": 100 * below / runs,
                    }
                )
    return pd.DataFrame(rows)


def correction_in_one_batch(seed: int, runs: int) -> pd.DataFrame:
    """Islets of one batch called with known errors: is that batch's fraction covered?"""
    world = next(w for w in WORLDS if w.name == "typical")
    rows = []
    for se, sp in ((0.95, 0.98), (0.85, 0.9)):
        for fraction in (0.05, 0.43, 0.8):
            for islets in (5, 10, 20):
                rng = np.random.default_rng([seed, islets, int(1000 * fraction), len(rows)])
                hit = hit_raw = refused = 0
                for _ in range(runs):
                    p = special.expit(special.logit(fraction) + rng.normal(0, world.islet_sd, 4000))
                    n = np.maximum(np.round(120 * rng.lognormal(-0.18, 0.6, islets)), 10)
                    k = rng.binomial(n.astype(int), p[:islets])
                    called = rng.binomial(k, se) + rng.binomial(n.astype(int) - k, 1 - sp)
                    raw = islet_interval(called, n)
                    rates = error_rates(_labels(rng, se, sp), "INS")
                    try:
                        c = correct_interval(raw, rates, draws=4000, seed=int(rng.integers(2**31)))
                    except NotEstimableError:
                        refused += 1
                        continue
                    hit += c.low <= p.mean() <= c.high
                    hit_raw += raw.low <= p.mean() <= raw.high
                rows.append(
                    {
                        "sensitivity": se,
                        "specificity": sp,
                        "true_%": 100 * fraction,
                        "islets": islets,
                        "runs": runs,
                        "coverage_apparent_%": 100 * hit_raw / (runs - refused),
                        "coverage_corrected_%": 100 * hit / (runs - refused),
                        "refused_%": 100 * refused / runs,
                    }
                )
    return pd.DataFrame(rows)


def _labels(rng: np.random.Generator, se: float, sp: float) -> pd.DataFrame:
    """300 positive and 300 negative cells from 30 islets whose error rates differ a little."""
    islet = np.repeat(np.arange(30), 20)
    positive = np.tile(np.arange(20) < 10, 30)
    chance = np.where(
        positive,
        rng.beta(50 * se, 50 * (1 - se), 30)[islet],
        rng.beta(50 * sp, 50 * (1 - sp), 30)[islet],
    )
    correct = rng.random(600) < chance
    call = np.where(positive == correct, "positive", "negative")
    return pd.DataFrame(
        {
            "image": "a",
            "islet": islet + 1,
            "label": np.where(positive, "positive", "negative"),
            "INS_call": call,
            "INS_probability": 0.5,
        }
    )


def independent_cells(seed: int, runs: int) -> pd.DataFrame:
    """Lang and Reiczigel's interval where cells are independent."""
    rows = []
    rng = np.random.default_rng(seed)
    for fraction in (0.05, 0.2, 0.43, 0.8):
        hit = refused = 0
        for _ in range(runs):
            rates = ErrorRates(
                rng.binomial(200, 0.9) / 200, rng.binomial(200, 0.95) / 200, 200, 200
            )
            k = rng.binomial(500, fraction * 0.9 + (1 - fraction) * 0.05)
            try:
                i = lang_reiczigel(k, 500, rates)
            except NotEstimableError:
                refused += 1
                continue
            hit += i.low <= fraction <= i.high
        rows.append({"true_%": 100 * fraction, "runs": runs, "coverage_%": 100 * hit / runs})
    return pd.DataFrame(rows)


def quantification(seed: int) -> pd.DataFrame:
    """Counting calls, averaging probabilities, and EM, when the mix differs from training.

    One score of AUC 0.98, calibrated where 40 % are positive.
    """
    d = np.sqrt(2) * 2.0537  # difference of means, in SDs, that gives an AUC of 0.98
    rng = np.random.default_rng(seed)
    rows = []
    for fraction in (0.01, 0.05, 0.2, 0.4, 0.8):
        positive = rng.random(400_000) < fraction
        score = rng.normal(np.where(positive, d, 0.0), 1)
        p = special.expit(d * score - d**2 / 2 + special.logit(0.4))
        rows.append(
            {
                "true_%": 100 * fraction,
                "called_%": 100 * np.mean(p > 0.5),
                "mean_probability_%": 100 * p.mean(),
                "em_%": 100 * prior_shift(p, 0.4).fraction,
            }
        )
    return pd.DataFrame(rows)


def raters(seed: int, runs: int) -> pd.DataFrame:
    """Raters with planted bias count 60 islets of 4 batches; what is recovered."""
    rows = []
    for bias in (-5.0, 0.0, 2.0, 8.0):
        rng = np.random.default_rng([seed, int(bias + 100)])
        found, hit, inside, icc = [], 0, [], []
        for _ in range(runs):
            batch = np.repeat(np.arange(4), 15)
            true = np.clip(rng.normal(45, 8, 4)[batch] + rng.normal(0, 11, 60), 5, 95)
            automatic = true + rng.normal(0, 2, 60)
            manual = true - bias + rng.normal(0, 0.5, 4)[batch] + rng.normal(0, 2, 60)
            b = bland_altman(automatic, manual, batch)
            found.append(b.bias)
            hit += b.bias_low <= bias <= b.bias_high
            new = bias - rng.normal(0, 0.5, 500) + rng.normal(0, np.sqrt(8), 500)
            inside.append(np.mean((b.low <= new) & (new <= b.high)))
            icc.append(icc_2_1(np.column_stack([automatic, manual])).value)
        rows.append(
            {
                "planted_bias_pp": bias,
                "runs": runs,
                "recovered_pp": np.mean(found),
                "sd_of_recovered_pp": np.std(found),
                "coverage_bias_%": 100 * hit / runs,
                "new_islets_within_limits_%": 100 * np.mean(inside),
                "icc": np.mean(icc),
            }
        )
    return pd.DataFrame(rows)


def consensus(seed: int, runs: int) -> pd.DataFrame:
    """Three raters of unequal skill: how often majority and Dawid-Skene find the true label."""
    rng = np.random.default_rng(seed)
    se, sp = np.array([0.95, 0.9, 0.7]), np.array([0.97, 0.95, 0.8])
    right = np.zeros(2)
    skill = np.zeros((2, 3))
    for _ in range(runs):
        truth = rng.random(600) < 0.4
        said = rng.random((600, 3)) < np.where(truth[:, None], se, 1 - sp)
        c = dawid_skene(said)
        right += [np.mean((said.sum(axis=1) > 1) == truth), np.mean((c.probability > 0.5) == truth)]
        skill += [c.sensitivity, c.specificity]
    return pd.DataFrame(
        {
            "rater": ["A", "B", "C"],
            "true_sensitivity": se,
            "found_sensitivity": skill[0] / runs,
            "true_specificity": sp,
            "found_specificity": skill[1] / runs,
            "majority_right_%": 100 * right[0] / runs,
            "dawid_skene_right_%": 100 * right[1] / runs,
        }
    )


def variances(seed: int, runs: int) -> pd.DataFrame:
    """Variance components of the beta world (batch 8, islets 11 points at 43 %), recovered."""
    rows = []
    for batches in (3, 6, 12, 30):
        rng = np.random.default_rng([seed, batches])
        got = []
        for _ in range(runs):
            nu = 0.43 * 0.57 / 0.08**2 - 1
            p = rng.beta(0.43 * nu, 0.57 * nu, batches)
            group = np.repeat(np.arange(batches), 10)
            mean = p[group]
            islet_nu = np.mean(0.43 * 0.57 - 0.08**2) / 0.114**2 - 1
            share = rng.beta(mean * islet_nu, (1 - mean) * islet_nu)
            k = rng.binomial(150, share)
            s = variance_split(k, np.full(len(k), 150), group)
            got.append((s.batch_sd_pp, s.islet_sd_pp, s.icc_islet, s.design_effect_islet))
        q = np.quantile(got, [0.1, 0.5, 0.9], axis=0)
        rows.append(
            {
                "batches": batches,
                "runs": runs,
                "batch_sd_pp (true 8.0)": f"{q[1, 0]:.1f} ({q[0, 0]:.1f} to {q[2, 0]:.1f})",
                "islet_sd_pp (true 11.4)": f"{q[1, 1]:.1f} ({q[0, 1]:.1f} to {q[2, 1]:.1f})",
                "icc_islet (true 0.079)": f"{q[1, 2]:.3f} ({q[0, 2]:.3f} to {q[2, 2]:.3f})",
            }
        )
    return pd.DataFrame(rows)
