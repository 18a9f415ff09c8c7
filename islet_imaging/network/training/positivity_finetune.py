"""Teach the positivity network a stain from the calls that a person corrected.

The idea: cells that were called by hand in a run are examples of a stain that the network may not
have seen.  Whole islets of them are held out; the others are trained on, mixed with rendered runs
against forgetting; then both networks score the held-out cells on the whole way of an image
(levels, controls, threshold, calls), and rendered runs that neither was shown.  The new network is
written to a folder of its own beside that comparison; nothing that exists is replaced.

It fails to be believable with few cells, and where all of them lie in one islet: then cells of
that islet are held out, and the comparison says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import NotEstimableError, ProtocolError
from islet_imaging.network.training.positivity_data import (
    StainCropSource,
    StainedSample,
    make_stained_sample,
    run_samples,
)
from islet_imaging.positivity.scores import auc, balanced_accuracy, ece

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.protocol import Protocol
    from islet_imaging.run.folder import Run

log = logging.getLogger(__name__)

MIN_CELLS = 40
"""Corrected cells below which nothing can be both learned and judged."""

MIN_OF_EACH = 8

#: rendered runs mixed in, and others that judge what was forgotten; no training saw these numbers
REHEARSED = range(100_000, 100_012)
REFERENCE = range(100_100, 100_106)
SIDE_PX = 288
#: images of controls that each staining run is judged with, at most
MOST_CONTROLS = 3


@dataclass(frozen=True)
class PositivityFinetuneResult:
    """What a fine-tuning gave.

    Attributes
    ----------
    model : Path
        Folder of the new network.
    marker : str
        What was taught.
    n_corrections : int
        Cells called by hand that were used, held-out ones included.
    held_out : tuple of str
        Islets (``image / islet``) whose cells were not trained on.
    before, after : dict
        ``balanced_accuracy``, ``auc``, ``ece`` and ``n`` on the held-out cells, called on the whole
        way of an image by the network it came from and by the new one.
    old_before, old_after : dict
        The same of the picture alone on rendered runs: what was forgotten.
    after_float32, old_after_float32 : dict
        Of the new network's float32 weights; the others are of the weights that are kept.
    weights : str
        Which weights of the new network run on a processor, and why.
    """

    model: Path
    marker: str
    n_corrections: int
    held_out: tuple[str, ...]
    before: dict[str, float]
    after: dict[str, float]
    old_before: dict[str, float]
    old_after: dict[str, float]
    after_float32: dict[str, float]
    old_after_float32: dict[str, float]
    weights: str


@dataclass(frozen=True)
class _Picture:
    """One image of the run, as the network is asked about it."""

    image: str
    batch: str
    role: str
    channels: dict[str, NDArray[Any]]
    nuclei: NDArray[np.int32]
    pixel_size_um: float
    cells: pd.DataFrame


def finetune_positivity(
    run: Path,
    out_dir: Path,
    *,
    name: str,
    marker: str | None = None,
    model: str = "islet-positivity",
    held_out_share: float = 0.25,
    steps: int = 400,
    seed: int = 0,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> PositivityFinetuneResult:
    """Fine-tune the positivity network on a run's corrected calls and compare before and after.

    Parameters
    ----------
    run : Path
        Run folder; its journal holds calls made by hand, its images must still be there.
    out_dir : Path
        Gets checkpoint, log, ``comparison.json`` and the new network in ``model/``.  The same
        call goes on after a stop.
    name : str
        Of the new network, for its card.
    marker : str, optional
        Which marker; the first with calls made by hand when not given.
    model : str
        Name or folder of the network to start from.
    held_out_share : float
        Share of the corrected cells that is kept for the comparison, by whole islets.
    steps, seed, threads
        See ``training.LoopConfig``.
    progress, cancelled : callable, optional
        See ``training.train``.

    Returns
    -------
    PositivityFinetuneResult

    Raises
    ------
    NotEstimableError
        With fewer than `MIN_CELLS` corrected cells, or `MIN_OF_EACH` of either call.
    ProtocolError
        If the marker is not one of the cytoplasm.
    """
    from islet_imaging.network import architecture
    from islet_imaging.network.engine import make_engine
    from islet_imaging.network.stain import WORKING_PIXEL_UM
    from islet_imaging.network.training.export_model import export_model
    from islet_imaging.network.training.integers import choose_weights
    from islet_imaging.network.training.loop import LoopConfig, train
    from islet_imaging.network.training.model_cards import POSITIVITY
    from islet_imaging.network.training.positivity_evaluation import judge
    from islet_imaging.network.training.positivity_loss import positivity_loss
    from islet_imaging.network.weights import load_model
    from islet_imaging.run.folder import Run

    opened = Run.open(run)
    protocol = opened.protocol
    cells, marker = _taught_cells(opened, protocol, marker, held_out_share, seed)
    pictures = _pictures(opened, protocol, cells)
    samples = [_sample(p, protocol.dna, marker) for p in pictures]
    cache = out_dir / "runs"
    start = load_model(model)
    net = start.torch_module()
    assert isinstance(net, architecture.UNet)
    about = {"network": "positivity", "start": start.sha256, "marker": marker, "name": name,
             "cells": _digest(cells), "steps": steps, "seed": seed}  # fmt: skip
    _same_teaching(out_dir, about)
    crops = StainCropSource(
        run_samples(REHEARSED, cache, side_px=SIDE_PX),
        size_px=128,
        seed=seed,
        preferred=[s for s in samples if s is not None],
        preferred_share=0.4,
        plain_share=0.5,
    )
    tuned = train(
        net,
        crops,
        positivity_loss,
        LoopConfig(
            steps=steps,
            checkpoint_every=50,
            batch_size=8,
            learning_rate=7e-4,
            ema_decay=0.98,
            seed=seed,
            threads=threads,
            workers=0,
        ),
        out_dir,
        about=about,
        progress=progress,
        cancelled=cancelled,
    )
    assert isinstance(tuned, architecture.UNet)
    new = out_dir / "model"
    new.mkdir(parents=True, exist_ok=True)
    (new / "README.md").unlink(missing_ok=True)
    described = dataclasses.replace(POSITIVITY, name=name)
    export_model(
        tuned,
        new,
        described,
        version=f"{start.version.removesuffix('+finetuned')}+finetuned",
        settings={"working_pixel_um": WORKING_PIXEL_UM},
        training=about,
    )
    reference = run_samples(REFERENCE, cache, side_px=SIDE_PX)

    def score(which: str) -> tuple[dict[str, float], dict[str, float]]:
        here = _score(pictures, protocol, marker, which)
        return here, judge(make_engine(which, "cpu"), reference)

    before, old_before = score(model)
    chosen = choose_weights(new, crops, lambda: score(str(new)), "balanced_accuracy")
    (after, old_after), single = chosen.scores, chosen.float32
    result = PositivityFinetuneResult(
        model=new,
        marker=marker,
        n_corrections=int(cells["taught"].sum()),
        held_out=tuple(sorted(set(_islets(cells[cells["held_out"]])))),
        before=before,
        after=after,
        old_before=old_before,
        old_after=old_after,
        after_float32=single[0],
        old_after_float32=single[1],
        weights=chosen.note,
    )
    (new / "README.md").write_text(_card(name, result, start.name), encoding="utf-8")
    (out_dir / "comparison.json").write_text(
        json.dumps({k: v for k, v in vars(result).items() if k != "model"}, indent=1)
    )
    return result


def _digest(cells: pd.DataFrame) -> str:
    """Which cells were called how, and which of them are held out."""
    taught = cells.loc[cells["taught"], ["image", "cell", "truth", "held_out"]]
    return hashlib.sha256(taught.to_csv(index=False).encode()).hexdigest()


def _same_teaching(out_dir: Path, about: dict[str, Any]) -> None:
    """Refuse to go on with a teaching of other cells: it may have seen those that judge now."""
    kept = out_dir / "run.json"
    if (out_dir / "checkpoint.pt").exists() and (
        not kept.exists() or json.loads(kept.read_text()) != json.loads(json.dumps(about))
    ):
        raise ProtocolError(
            f"{out_dir}: holds a teaching of other calls or settings; give another folder"
        )


def _islets(cells: pd.DataFrame) -> NDArray[np.str_]:
    return (cells["image"].astype(str) + " / " + cells["islet"].astype(str)).to_numpy(str)


def _taught_cells(
    run: Run, protocol: Protocol, marker: str | None, share: float, seed: int
) -> tuple[pd.DataFrame, str]:
    """All cells with the journal laid over them, and the marker.

    ``taught`` marks those called by hand, ``truth`` how, ``held_out`` which of them judge.
    """
    from islet_imaging.review.journal import Journal
    from islet_imaging.review.replay import apply_corrections
    from islet_imaging.run.image_checks import raw_cells

    possible = [m for m in protocol.markers if protocol.channel(m).compartment == "cytoplasm"]
    if marker is not None and marker not in possible:
        raise ProtocolError(
            f"{run.path}: the positivity network learns markers of the cytoplasm, here "
            f"{', '.join(possible) or 'none'}; not {marker!r}"
        )
    cells = apply_corrections(
        raw_cells(run), Journal(run.corrections).edits(), pixels=run.pixels
    ).cells
    if not len(cells):
        raise NotEstimableError(f"{run.path}: the run has no called cells; see its images.csv")
    found = []
    for name in possible if marker is None else [marker]:
        by_hand = cells[f"{name}_reason"].str.startswith("called by ", na=False)
        known = cells[f"{name}_call"].isin(["positive", "negative"])
        taught = (by_hand & known & ~cells["excluded"].astype(bool)).to_numpy()
        truth = (cells[f"{name}_call"] == "positive").to_numpy()
        n, positive = int(taught.sum()), int((taught & truth).sum())
        if n >= MIN_CELLS and MIN_OF_EACH <= positive <= n - MIN_OF_EACH:
            held_out = np.zeros(len(cells), bool)
            groups = _islets(cells[taught])
            if len(set(groups)) == 1:
                # one islet only: its cells are all there is to hold out
                groups = np.arange(n).astype(str)
            held_out[taught] = held_out_groups(groups, truth[taught], share, seed)
            return cells.assign(taught=taught, truth=truth, held_out=held_out), name
        found.append(f"{n} of {name} ({positive} positive)")
    raise NotEstimableError(
        f"{run.path}: teaching needs at least {MIN_CELLS} cells of one marker called by hand, "
        f"{MIN_OF_EACH} of them positive and {MIN_OF_EACH} negative; found {', '.join(found)}"
    )


def held_out_groups(
    groups: NDArray[np.str_], truth: NDArray[np.bool_], share: float, seed: int
) -> NDArray[np.bool_]:
    """Choose whole groups, about this share of all, so that both calls stand on both sides.

    Parameters
    ----------
    groups : (N,) str
        Which islet each cell is of.
    truth : (N,) bool
        Its call.
    share : float
        Wanted share of cells.
    seed : int
        Of the choice.

    Returns
    -------
    (N,) bool
    """
    names, which = np.unique(groups, return_inverse=True)
    sizes = np.bincount(which)
    best, least = np.zeros(len(groups), bool), np.inf
    for k in range(200):
        order = np.random.default_rng((seed, k)).permutation(len(names))
        taken = order[: 1 + int(np.searchsorted(np.cumsum(sizes[order]), share * len(groups)))]
        out = np.isin(which, taken[: max(1, len(names) - 1)])
        poor = sum(min(t.sum(), (~t).sum()) < 3 for t in (truth[out], truth[~out]))
        miss = 10.0 * poor + abs(float(out.mean()) - share)
        if miss < least:
            best, least = out, miss
    return best


def _pictures(run: Run, protocol: Protocol, cells: pd.DataFrame) -> list[_Picture]:
    """Images with taught cells, and some controls of their staining runs."""
    from islet_imaging.correction.image import correct_image
    from islet_imaging.review.journal import Journal
    from islet_imaging.review.replay import apply_corrections
    from islet_imaging.run.image_checks import raw_cells

    scored = raw_cells(run)  # outlines are replayed on what was scored, not on what they became
    edits = Journal(run.corrections).edits()
    rows = run.images.set_index("image")
    wanted = list(dict.fromkeys(cells.loc[cells["taught"], "image"]))
    dark = rows[(rows["role"] == "negative_control") & (rows["status"] == "scored")]
    for batch in sorted(set(rows.loc[wanted, "batch"])):
        wanted += list(dark.index[dark["batch"] == batch][:MOST_CONTROLS])
    used = [c.name for c in protocol.channels if c.role != "ignore"]
    flat = run.flat_fields() or None
    made = []
    for image in dict.fromkeys(wanted):
        file = run.read_image(image)
        size = file.require_pixel_size()
        raw = {n: np.asarray(file.channel(n)) for n in used}
        channels, _ = correct_image(raw, protocol.correction, pixel_size_um=size, flat_fields=flat)
        own = cells[cells["image"] == image].reset_index(drop=True)
        labels = {image: run.labels(image)}
        before = scored[scored["image"] == image].reset_index(drop=True)
        nuclei = apply_corrections(before, edits, labels=labels, pixels=run.pixels).labels
        row = rows.loc[image]
        made.append(
            _Picture(
                image,
                str(row["batch"]),
                str(row["role"]),
                channels,
                labels[image] if nuclei is None else nuclei,
                run.scale(image).working_pixel_um,
                own,
            )
        )
    return made


def _sample(picture: _Picture, dna: str, marker: str) -> StainedSample | None:
    """The image's taught cells that are trained on."""
    table = picture.cells
    use = table["taught"] & ~table["held_out"]
    return make_stained_sample(
        picture.image,
        picture.channels[dna],
        picture.channels[marker],
        picture.nuclei,
        pixel_size_um=picture.pixel_size_um,
        cells=table.loc[use, "cell"].to_numpy(np.int64),
        expressed=table.loc[use, "truth"].to_numpy(bool),
    )


def _score(
    pictures: Sequence[_Picture], protocol: Protocol, marker: str, model: str
) -> dict[str, float]:
    """Call the held-out cells on the whole way of an image, with one network."""
    import pandas as pd

    from islet_imaging.network.engine import shared_engine
    from islet_imaging.network.positivity import network_columns, network_logits
    from islet_imaging.positivity import call_marker, fit_marker

    how = dataclasses.replace(
        protocol.calling(marker), method="network", feature=None, threshold=None, model=model
    )
    protocol = protocol.replace(positivity={**protocol.positivity, marker: how}, fitted={})
    called = []
    for batch in sorted({p.batch for p in pictures}):
        samples: list[pd.DataFrame] = []
        controls: list[pd.DataFrame] = []
        for picture in (p for p in pictures if p.batch == batch):
            logits = network_logits(
                picture.channels[protocol.dna],
                {marker: picture.channels[marker]},
                picture.nuclei,
                pixel_size_um=picture.pixel_size_um,
                engine=shared_engine(model, "cpu"),
            )
            table = picture.cells.assign(
                **network_columns(picture.cells["cell"].to_numpy(), logits)
            )
            (controls if picture.role == "negative_control" else samples).append(table)
        threshold = fit_marker(samples, controls, marker, protocol)
        called += [call_marker(t, marker, threshold, protocol) for t in (*samples, *controls)]
    judged = pd.concat(called)
    judged = judged[judged["held_out"]]
    probability = judged[f"{marker}_probability"].to_numpy(float)
    truth = judged["truth"].to_numpy(bool)
    return {
        "balanced_accuracy": balanced_accuracy(truth, probability > 0.5),
        "auc": auc(truth, probability),
        "ece": ece(truth, probability, bins=5),
        "n": float(len(probability)),
    }


def _card(name: str, result: PositivityFinetuneResult, start: str) -> str:
    """The new network's README."""
    rows = [
        f"| {key} | {result.before[key]:.3f} | {result.after[key]:.3f} | "
        f"{result.after_float32[key]:.3f} | {result.old_before[key]:.3f} | "
        f"{result.old_after[key]:.3f} | {result.old_after_float32[key]:.3f} |"
        for key in ("balanced_accuracy", "auc", "ece")
    ]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"`{start}`, fine-tuned on {result.n_corrections} cells of {result.marker} that were "
            "called by hand. Research use only.",
            "",
            "## Validation",
            "",
            f"{result.before['n']:.0f} cells of held-out islets "
            f"({', '.join(result.held_out)}), and rendered islets that tell what was forgotten:",
            "",
            "| | held out, before | after | float32 | rendered, before | after | float32 |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"After: as kept, {result.weights}.",
            "",
            "Use it in a protocol: `positivity: {" + result.marker + ": {method: network, "
            f"model: {name}}}}}`.",
            "",
        ]
    )
