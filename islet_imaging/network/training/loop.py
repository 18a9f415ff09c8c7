"""One resumable training loop for both networks.

The idea: the loop knows nothing of nuclei or insulin.  It takes a network, a source of numbered
items (item i is a function of the seed and i only), a loss and a validation function.  The
learning rate follows one cycle over a total number of steps, so a run fits the time there is.  An
exponential moving average of the weights is what gets validated and released.  A checkpoint holds
everything; a run that was stopped goes on from its last one as if nothing had happened.  The log
is a CSV that a plot can be made of at any time.

It fails, by design, on a checkpoint of another network: shapes must match.
"""

from __future__ import annotations

import csv
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from islet_imaging.errors import Cancelled, ProtocolError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """What the loop needs to know.

    Attributes
    ----------
    steps : int
        Total number of steps; the learning rate's cycle is fitted to it.
    batch_size : int
        Items per step.
    learning_rate : float
        Peak of the cycle.
    weight_decay : float
        Of AdamW.
    warmup : float
        Share of the steps in which the rate rises.
    ema_decay : float
        Of the moving average; the window is shorter at the start.
    checkpoint_every, validate_every : int
        In steps.
    seed : int
        Of weights and items.
    workers : int
        Processes that make items; 0 makes them in this one.
    threads : int
        Threads of torch.
    precision : {"float32", "bfloat16"}
        Of the convolutions; losses, weights and averages stay float32.  Processors with bfloat16
        arithmetic train two to three times as fast with it; others train slower.
    """

    steps: int = 4000
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    ema_decay: float = 0.998
    checkpoint_every: int = 100
    validate_every: int = 500
    seed: int = 0
    workers: int = 1
    threads: int = 2
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise ProtocolError(
                f"precision {self.precision!r} is not known; use float32 or bfloat16"
            )

    @classmethod
    def of(cls, config: Any) -> LoopConfig:
        """Take the loop's settings out of a training's configuration."""
        return cls(
            **{f.name: getattr(config, f.name) for f in fields(cls) if hasattr(config, f.name)}
        )


class ItemSource(Protocol):
    """Anything that makes item i."""

    def crop(self, number: int) -> dict[str, Any]:
        """Return item `number` as a dict of arrays."""


class _Items(Dataset[dict[str, Tensor]]):
    """The items of a run from a given step on."""

    def __init__(self, source: ItemSource, first: int, last: int) -> None:
        self.source, self.first, self.last = source, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = self.source.crop(self.first + index)
        return {k: torch.from_numpy(v) for k, v in item.items()}


def one_cycle(step: int, config: LoopConfig) -> float:
    """Learning rate at a step: linear rise, then half a cosine down to a hundredth.

    Examples
    --------
    >>> config = LoopConfig(steps=100, learning_rate=1.0, warmup=0.1)
    >>> round(one_cycle(10, config), 3), round(one_cycle(100, config), 3)
    (1.0, 0.01)
    """
    import math

    rise = max(1, int(config.warmup * config.steps))
    if step < rise:
        return config.learning_rate * (step + 1) / (rise + 1)
    t = min(1.0, (step - rise) / max(1, config.steps - rise))
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * t)))


def train(
    net: nn.Module,
    source: ItemSource,
    loss: Callable[[Tensor, dict[str, Tensor]], dict[str, Tensor]],
    config: LoopConfig,
    out_dir: Path,
    *,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    about: dict[str, Any] | None = None,
    start_from: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> nn.Module:
    """Train a network, or go on with a training that was stopped.

    Parameters
    ----------
    net : torch.nn.Module
        Freshly made; weights of a checkpoint in `out_dir` replace its own.
    source : ItemSource
        ``source.crop(i)`` gives a dict of arrays with ``image`` and the targets.
    loss : callable
        ``loss(output, batch)`` gives a dict of scalars with ``total``.
    config : LoopConfig
        The loop's settings.
    out_dir : Path
        Gets ``checkpoint.pt``, ``log.csv``, ``validation.csv`` and ``run.json``.
    validate : callable, optional
        Takes the averaged network in evaluation mode, returns numbers by name.
    about : dict, optional
        Written into ``run.json``, for whoever wants to repeat the run.
    start_from : Path, optional
        Checkpoint whose averaged weights the training starts with (fine-tuning).
    progress : callable, optional
        Called with (step, steps).
    cancelled : callable, optional
        Asked before each step; when true, a checkpoint is written and `Cancelled` raised.

    Returns
    -------
    torch.nn.Module
        The averaged network in evaluation mode.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return _train(
            net, source, loss, config, out_dir, validate, about, start_from, progress, cancelled
        )
    finally:
        torch.set_num_threads(before)


def _train(
    net: nn.Module,
    source: ItemSource,
    loss: Callable[[Tensor, dict[str, Tensor]], dict[str, Tensor]],
    config: LoopConfig,
    out_dir: Path,
    validate: Callable[[nn.Module], dict[str, float]] | None,
    about: dict[str, Any] | None,
    start_from: Path | None,
    progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> nn.Module:
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=_ema_update(config), use_buffers=True
    )
    # norms and biases are not decayed: decay would pull them from where data put them
    decayed: list[nn.Parameter] = [p for p in net.parameters() if p.ndim > 1]
    plain: list[nn.Parameter] = [p for p in net.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate)
    path = out_dir / "checkpoint.pt"
    step = 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        net.load_state_dict(state["net"])
        ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        step = int(state["step"])
        log.info("going on from step %d of %s", step, path)
    elif start_from is not None:
        weights = averaged_weights(start_from)
        net.load_state_dict(weights)
        ema.module.load_state_dict(weights)
        log.info("starting from the weights of %s", start_from)
    (out_dir / "run.json").write_text(json.dumps(about or {}, indent=1, default=str))
    loader = DataLoader(
        _Items(source, step * config.batch_size, config.steps * config.batch_size),
        batch_size=config.batch_size,
        num_workers=config.workers,
        prefetch_factor=6 if config.workers else None,
        worker_init_fn=_one_thread,
    )
    sums: dict[str, float] = {}
    begun, counted = time.monotonic(), 0
    for batch in loader:
        if cancelled is not None and cancelled():
            _save(path, net, ema, optimiser, step)
            raise Cancelled(f"training stopped at step {step}; the same call goes on from there")
        for group in optimiser.param_groups:
            group["lr"] = one_cycle(step, config)
        net.train()
        image = batch.pop("image").contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            output = net(image)
        parts = loss(output.float(), batch)
        optimiser.zero_grad(set_to_none=True)
        parts["total"].backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        ema.update_parameters(net)
        step += 1
        for key, value in parts.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        counted += 1
        if step % 50 == 0 or step == config.steps:
            means = {k: round(v / counted, 5) for k, v in sums.items()}
            seconds = round((time.monotonic() - begun) / counted, 3)
            _append(out_dir / "log.csv", {"step": step, **means, "seconds_per_step": seconds})
            log.info(
                "step %d/%d loss %.4f %.2f s/step", step, config.steps, means["total"], seconds
            )
            begun, sums, counted = time.monotonic(), {}, 0
        if step % config.checkpoint_every == 0 or step == config.steps:
            _save(path, net, ema, optimiser, step)
        if validate is not None and (step % config.validate_every == 0 or step == config.steps):
            ema.module.eval()
            with torch.no_grad():
                numbers = validate(ema.module)
            _append(out_dir / "validation.csv", {"step": step, **numbers})
            log.info("step %d validation %s", step, numbers)
            begun = time.monotonic()
        if progress is not None:
            progress(step, config.steps)
    result: nn.Module = ema.module.eval()
    return result


def _ema_update(config: LoopConfig) -> Callable[[Any, Any, Any], None]:
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], n: Any) -> None:
        # at the start the average must forget the random weights it began with
        decay = min(config.ema_decay, (1 + float(n)) / (10 + float(n)))
        for a, c in zip(averaged, current, strict=True):
            if a.dtype.is_floating_point:
                a.lerp_(c.to(a.dtype), 1 - decay)
            else:
                a.copy_(c)

    return update


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _save(path: Path, net: nn.Module, ema: nn.Module, optimiser: Any, step: int) -> None:
    part = path.with_suffix(".part")
    torch.save(
        {
            "net": net.state_dict(),
            "ema": ema.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
        },
        part,
    )
    part.replace(path)


def averaged_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Read the averaged weights of a checkpoint (tensors only, no pickled code)."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")["ema"]
    return {k.removeprefix("module."): v for k, v in state.items() if k.startswith("module.")}


def _append(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
