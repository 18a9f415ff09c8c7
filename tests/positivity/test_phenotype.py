import numpy as np
import pandas as pd
import pytest

from islet_imaging.positivity import (
    assign_phenotypes,
    fit_threshold,
    hormone_class,
    hormone_of,
    threshold_sensitivity,
)
from islet_imaging.protocol import Channel, Protocol

PROTOCOL = Protocol(
    (
        Channel("DAPI", "dna"),
        Channel("INS"),
        Channel("CPEP"),
        Channel("GCG"),
        Channel("NKX6.1", compartment="nucleus"),
    )
)


def cells(*rows):
    return pd.DataFrame(
        [dict(zip(("INS", "CPEP", "GCG", "NKX6.1"), row, strict=True)) for row in rows]
    ).rename(columns=lambda m: f"{m}_call")


def test_every_kind_of_cell():
    p, n, u = "positive", "negative", "unsure"
    got = assign_phenotypes(
        cells((p, p, n, p), (p, n, n, n), (p, p, p, n), (n, n, n, n), (p, u, n, n), (n, n, p, n)),
        PROTOCOL,
    )["phenotype"]
    assert list(got) == [
        "INS+/CPEP+/NKX6.1+",
        "INS+/CPEP-",
        "INS+/CPEP+/GCG+",
        "negative",
        "unsure",
        "GCG+",
    ]
    assert [hormone_class(g) for g in got] == [
        "monohormonal",
        "monohormonal",
        "bihormonal",
        "none",
        "unsure",
        "monohormonal",
    ]


def test_empty_table():
    empty = pd.DataFrame({"INS_call": np.array([], dtype=object)})
    assert list(assign_phenotypes(empty, PROTOCOL)["phenotype"]) == []


@pytest.mark.parametrize(
    ("name", "hormone"),
    [("C-peptide", "c-peptide"), ("C_PEP", "c-peptide"), ("Insulin", "insulin"), ("PDX1", None)],
)
def test_names_of_hormones(name, hormone):
    assert hormone_of(name) == hormone


def test_fragile_when_cells_crowd_at_the_cut():
    cut = fit_threshold(np.linspace(0, 100, 500), method="manual", value=200.0)
    crowd = np.random.default_rng(0).normal(200, 10, 1000)
    assert threshold_sensitivity(crowd, cut).fragile
    apart = np.concatenate([np.full(500, 10.0), np.full(500, 900.0)])
    got = threshold_sensitivity(apart, cut)
    assert not got.fragile
    assert got.fraction == (0.5,) * 9
