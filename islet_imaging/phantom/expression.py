"""Which cell is what, and how brightly each marker stains it.

The idea: a smooth score over the cells of an aggregate (clusters, cords, rim, core, one side, or
nothing) is ranked, and ranks become types, so that the fractions asked for are met to one cell
whatever the arrangement. Levels are log-normal within a type; a share of expressing cells is
dim; negatives carry nonspecific stain; some take up insulin without making it.

How it fails: markers are independent given the type (apart from INS and CPEP), and the share of
dim cells is a guess, since stem-cell islets were not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from islet_imaging.phantom.parameters import DNA, NUCLEAR, PhantomParameters
from islet_imaging.phantom.scene import Cells

TYPES = ("other", "INS", "GCG", "SST", "INS+GCG", "EC", "exocrine", "stroma")
HORMONES = {
    "INS": ("INS", "INS+GCG"),
    "CPEP": ("INS", "INS+GCG"),
    "GCG": ("GCG", "INS+GCG"),
    "SST": ("SST",),
    "CHGA": ("INS", "GCG", "SST", "INS+GCG", "EC"),
}


@dataclass
class Expression:
    """Per cell: type, and per marker whether and how much."""

    type: NDArray[np.str_]
    expressed: dict[str, NDArray[np.bool_]]
    level: dict[str, NDArray[np.float64]]  # own product, relative to a typical expressing cell
    stain: dict[str, NDArray[np.float64]]  # light: own product, nonspecific stain and uptake
    product: dict[str, NDArray[np.float64]]  # light of the own product alone
    dim: NDArray[np.bool_]
    uptake: NDArray[np.bool_]
    pyknotic: NDArray[np.bool_]
    mitotic: NDArray[np.bool_]
    dna: NDArray[np.float64]


def express(rng: np.random.Generator, p: PhantomParameters, cells: Cells) -> Expression:
    """Draw types and levels for all cells of a scene."""
    n = len(cells)
    kind = _types(rng, p, cells)
    insulin = np.isin(kind, HORMONES["INS"])
    endocrine = cells.islet > 0
    core = (cells.relative_depth > 1.0 - p.necrotic_core) & (p.necrotic_core > 0)
    pyknotic = rng.random(n) < np.where(core, 0.6, p.pyknotic_fraction)
    mitotic = ~pyknotic & (rng.random(n) < p.mitotic_fraction)
    dim = rng.random(n) < p.dim_fraction
    uptake = endocrine & ~insulin & (rng.random(n) < p.uptake_fraction)

    expressed: dict[str, NDArray[np.bool_]] = {}
    level: dict[str, NDArray[np.float64]] = {}
    stain: dict[str, NDArray[np.float64]] = {}
    product: dict[str, NDArray[np.float64]] = {}
    shared = rng.standard_normal(n)  # INS and CPEP rise and fall together
    for marker in (c for c in (*HORMONES, *NUCLEAR)):
        # every marker is drawn, used or not, so that a channel's presence changes no other
        own = rng.standard_normal(n)
        fake = np.exp(p.nonspecific_sigma * rng.standard_normal(n))
        if marker in ("INS", "CPEP"):
            own = 0.95 * shared + 0.31 * own
        uniform = rng.random(n)
        sigma = p.expression_sigma if marker in HORMONES else 0.35
        amount = np.exp(sigma * own)
        if marker in HORMONES:
            positive = np.isin(kind, HORMONES[marker])
            amount = np.where(dim, 0.10 + 0.15 * uniform, amount)
            amount = np.where(kind == "INS+GCG", amount * 0.6, amount)
        elif marker == "NKX6.1":
            positive = uniform < np.where(insulin, p.nkx61_in_insulin, p.nkx61_in_other)
            positive &= endocrine
        elif marker == "PDX1":
            positive = (uniform < np.where(insulin, 0.9, 0.25)) & endocrine
        else:
            positive = (uniform < p.ki67_fraction) | mitotic
        dead_stain = np.where(pyknotic, 6.0, 1.0)  # dead cells bind antibody
        nonspecific = p.nonspecific_level * fake * dead_stain
        if marker == "INS":
            # 3 to 15 % of a typical cell, without C-peptide
            nonspecific = nonspecific + np.where(uptake, 0.03 + 0.12 * uniform, 0.0)
        on, antibody = _stained(p.control, marker)
        positive = positive & ~pyknotic
        reached = np.ones(n)
        if p.penetration_um > 0:
            reached = np.exp(-np.nan_to_num(np.maximum(cells.depth_um, 0.0)) / p.penetration_um)
        expressed[marker] = positive
        level[marker] = np.where(positive, amount, 0.0)
        stain[marker] = (on * level[marker] + antibody * nonspecific) * reached
        product[marker] = on * level[marker] * reached
    dna_on = p.control in ("none", "no_insulin", "secondary_only") or p.control.endswith(DNA)
    # unstained slides keep the DNA dye: without it no cell could be found on them
    dna_on |= p.control == "unstained"
    dna = np.exp(p.dna_cv * rng.standard_normal(n)) * float(dna_on)
    dna *= np.where(pyknotic, rng.uniform(1.5, 3.0, n), np.where(mitotic, 1.9, 1.0))
    return Expression(
        kind, expressed, level, stain, product, dim & insulin, uptake, pyknotic, mitotic, dna
    )


def _stained(control: str, marker: str) -> tuple[float, float]:
    """Whether the marker's product and its nonspecific binding give light on this slide."""
    if control in ("none", "no_insulin"):
        return 1.0, 1.0
    if control == "secondary_only":
        return 0.0, 1.0
    if control == f"single_stain:{marker}":
        return 1.0, 1.0
    return 0.0, 0.0


def _types(rng: np.random.Generator, p: PhantomParameters, cells: Cells) -> NDArray[np.str_]:
    kind = np.where(cells.stroma, "stroma", "exocrine").astype("<U8")
    for label in range(1, int(cells.islet.max(initial=0)) + 1):
        member = np.flatnonzero(cells.islet == label)
        n = len(member)
        if n == 0:
            continue
        shares = _shares(rng, p)
        score = arrangement_score(rng, p, cells.centre[member], cells.relative_depth[member])
        order = np.argsort(-score)
        counts = {k: int(np.floor(share * n + rng.random())) for k, share in shares.items()}
        kind[member] = "other"
        start = 0
        for name in ("INS", "INS+GCG"):
            kind[member[order[start : start + counts[name]]]] = name
            start += counts[name]
        stop = n
        cut = max(start, stop - counts["GCG"])
        kind[member[order[cut:stop]]] = "GCG"
        rest = rng.permutation(member[order[start:cut]])
        kind[rest[: counts["SST"]]] = "SST"
        kind[rest[counts["SST"] : counts["SST"] + counts["EC"]]] = "EC"
    return kind


def _shares(rng: np.random.Generator, p: PhantomParameters) -> dict[str, float]:
    """Share of each type in one aggregate, moved by the spread between aggregates."""
    shares = {
        "INS": p.insulin_fraction,
        "INS+GCG": p.bihormonal_fraction,
        "GCG": p.glucagon_fraction,
        "SST": p.somatostatin_fraction,
        "EC": p.enterochromaffin_fraction,
    }
    step = p.islet_logit_sd * rng.standard_normal()
    if 0.0 < p.insulin_fraction < 1.0:
        # the other types keep their proportions among themselves
        odds = p.insulin_fraction / (1.0 - p.insulin_fraction) * np.exp(step)
        insulin = float(odds / (1.0 + odds))
        scale = (1.0 - insulin) / (1.0 - p.insulin_fraction)
        shares = {name: share * scale for name, share in shares.items()} | {"INS": insulin}
    if p.control == "no_insulin":
        # INS-/-: the cells are there and make no insulin
        shares |= {"INS": 0.0, "INS+GCG": 0.0, "GCG": shares["GCG"] + shares["INS+GCG"]}
    return shares


def arrangement_score(
    rng: np.random.Generator,
    p: PhantomParameters,
    centre: NDArray[np.float64],
    relative_depth: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Score whose highest cells become beta cells and whose lowest become alpha cells."""
    n = len(centre)
    noise = rng.standard_normal(n)
    local = centre - centre.mean(axis=0)
    if p.arrangement == "random" or n < 5:
        structured = rng.standard_normal(n)
    elif p.arrangement == "core":
        structured = relative_depth
    elif p.arrangement == "periphery":
        structured = -relative_depth
    elif p.arrangement == "polarised":
        direction = rng.standard_normal(3)
        structured = local @ (direction / np.linalg.norm(direction))
    elif p.arrangement == "cords":
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        z, y, x = (local @ turn).T * (2 * np.pi / rng.uniform(35.0, 60.0))
        structured = np.abs(np.sin(z) * np.cos(y) + np.sin(y) * np.cos(x) + np.sin(x) * np.cos(z))
    elif p.texture == "heldout":
        # clones: patches grown from random founders
        founders = local[rng.integers(0, n, max(2, n // 12))]
        _, clone = cKDTree(founders).query(local)
        structured = rng.standard_normal(len(founders))[clone]
    else:
        # like draws like: smooth white noise over near neighbours
        _, near = cKDTree(local).query(local, k=min(8, n))
        structured = rng.standard_normal(n)
        for _ in range(2):
            structured = structured[near].mean(axis=1)
    spread = structured.std()
    structured = (structured - structured.mean()) / (spread if spread > 0 else 1.0)
    s = p.arrangement_strength
    mixed: NDArray[np.float64] = s * structured + (1.0 - s) * noise
    return mixed
