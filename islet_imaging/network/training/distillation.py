"""A smaller nuclei network that learns from a larger one.

The idea: the small network begins as a part of the large one.  Of each layer the filters with the
largest weights stay (Li et al., Pruning filters for efficient ConvNets, ICLR 2017); then, layer by
layer, least squares bring what it computes back to what the large one computes (He et al., Channel
pruning for accelerating very deep neural networks, ICCV 2017).  That alone is most of the way.  On
each crop of the training it learns the large network's fields beside what people drew (Hinton et
al., Distilling the knowledge in a neural network, 2015): they say at every pixel how sure one can
be, so a short training does.

It fails where the large network does: what that one does not see is hardly learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from islet_imaging.errors import ModelError
from islet_imaging.network.architecture import UNet, UNetConfig, fold_batch_norm
from islet_imaging.network.training.loop import ItemSource
from islet_imaging.network.training.nuclei_loss import nuclei_loss

TAUGHT = "taught"
"""Key of an item that holds the teacher's fields."""

REFIT_CROPS = 96
"""Crops that layers are fitted on before the training."""

_ROUNDS = 3
_AT_ONCE = 8
_RIDGE = 1e-3


def part_of(teacher: nn.Module, config: UNetConfig, images: Tensor) -> UNet:
    """Make a smaller network of the filters of a larger one.

    Parameters
    ----------
    teacher : UNet
        With batch norms folded, as ``load_model(...).torch_module()`` gives it.
    config : UNetConfig
        Shape of the smaller network: as many levels, none of them wider.
    images : (N, C, Y, X) float
        Training crops that layers are fitted on.

    Returns
    -------
    UNet
        Without batch norms; the teacher itself, up to rounding, where the shape is the same.

    Raises
    ------
    ModelError
        When `config` is no part of the teacher's shape.

    Examples
    --------
    >>> teacher = fold_batch_norm(UNet(UNetConfig(1, 8, (8, 8, 8))))
    >>> net = part_of(teacher, UNetConfig(1, 8, (4, 8, 8)), torch.rand(2, 1, 32, 32))
    >>> tuple(net(torch.zeros(1, 1, 16, 16)).shape)
    (1, 8, 8, 8)
    """
    if not isinstance(teacher, UNet):
        raise ModelError("a teacher is a network of this project")
    old = teacher.config
    smaller = (
        (config.in_channels, config.out_channels) == (old.in_channels, old.out_channels)
        and len(config.widths) == len(old.widths)
        and all(a <= b for a, b in zip(config.widths, old.widths, strict=True))
    )
    if not smaller:
        raise ModelError(f"a network of {config} is no part of its teacher of {old}")
    net = fold_batch_norm(UNet(config)).train()
    with torch.no_grad():
        _fit(net, teacher, images)
    return net


def _fit(net: UNet, teacher: UNet, images: Tensor) -> None:
    """Go through both networks at once; `kept` are the teacher's channels that ours stand for."""
    ours = theirs = F.pixel_unshuffle(images, 2)
    kept = torch.arange(ours.shape[1])
    skips: list[tuple[Tensor, Tensor, Tensor]] = []
    for level, (block, large) in enumerate(zip(net.down, teacher.down, strict=True)):
        if level:
            ours, theirs = F.max_pool2d(ours, 2), F.max_pool2d(theirs, 2)
        layers = zip(_convolutions(block), _convolutions(large), strict=True)
        for k, (conv, other) in enumerate(layers):
            # what is lifted is added to the skip: the same channels
            beside = _convolutions(teacher.lift)[level : level + 1] if k else []
            writes = _strongest(conv.out_channels, other, *beside)
            theirs = other(theirs)
            _copy(conv, other, kept, writes)
            _least_squares(conv, ours, theirs[:, writes], rectified=True)
            ours, theirs, kept = F.relu(conv(ours)), F.relu(theirs), writes
        skips.append((ours, theirs, kept))
    skips.pop()
    lifts = list(zip(_convolutions(net.lift), _convolutions(teacher.lift), strict=True))
    for level in reversed(range(len(lifts))):
        conv, other = lifts[level]
        our_skip, their_skip, writes = skips.pop()
        theirs = _doubled(other(theirs)) + their_skip
        _copy(conv, other, kept, writes)
        # what our skip lacks is lifted as well
        lacking = F.avg_pool2d(theirs[:, writes] - our_skip, 2)
        _least_squares(conv, ours, lacking, rectified=False)
        ours, kept = _doubled(conv(ours)) + our_skip, writes
        convs, others = _convolutions(net.up[level]), _convolutions(teacher.up[level])
        for conv, other in zip(convs, others, strict=True):
            writes = _strongest(conv.out_channels, other)
            theirs = other(theirs)
            _copy(conv, other, kept, writes)
            _least_squares(conv, ours, theirs[:, writes], rectified=True)
            ours, theirs, kept = F.relu(conv(ours)), F.relu(theirs), writes
    _copy(net.head, teacher.head, kept, torch.arange(net.head.out_channels))
    _least_squares(net.head, ours, teacher.head(theirs), rectified=False)


def _convolutions(block: nn.Module) -> list[nn.Conv2d]:
    return [m for m in block.modules() if isinstance(m, nn.Conv2d)]


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _strongest(n: int, *convolutions: nn.Conv2d) -> Tensor:
    """The n channels whose filters have the largest weights, in their order."""
    strength = torch.stack([c.weight.abs().sum((1, 2, 3)) for c in convolutions]).sum(0)
    return strength.topk(n).indices.sort().values


def _copy(conv: nn.Conv2d, other: nn.Conv2d, reads: Tensor, writes: Tensor) -> None:
    assert conv.bias is not None
    assert other.bias is not None
    conv.weight.copy_(other.weight[writes][:, reads])
    conv.bias.copy_(other.bias[writes])


def _least_squares(conv: nn.Conv2d, seen: Tensor, wanted: Tensor, *, rectified: bool) -> None:
    """Fit a convolution to what it should give; rectified: how far below 0 does not matter."""
    side = conv.kernel_size[0]
    assert conv.bias is not None
    weights = torch.cat([conv.weight.flatten(1), conv.bias[:, None]], 1).double()
    n = weights.shape[1]
    square = torch.zeros(n, n, dtype=torch.float64)
    for attempt in range(_ROUNDS if rectified else 1):
        gradient = torch.zeros_like(weights)
        for i in range(0, len(seen), _AT_ONCE):
            x = F.unfold(seen[i : i + _AT_ONCE], side, padding=side // 2)
            x = x.transpose(1, 2).reshape(-1, n - 1)
            x = torch.cat([x, torch.ones(len(x), 1)], 1)
            goal = wanted[i : i + _AT_ONCE].permute(0, 2, 3, 1).reshape(len(x), -1)
            given = x @ weights.float().T
            if rectified:
                goal = torch.where(goal < 0, given.clamp(max=0), goal)
            if attempt == 0:
                square += (x.T @ x).double()
            gradient += ((goal - given).T @ x).double()
        # towards the weights that are there: few pixels of a coarse level fix few directions
        ridge = _RIDGE * square.diagonal().mean() * torch.eye(n, dtype=torch.float64)
        weights = weights + torch.linalg.solve(square + ridge, gradient.T).T
    conv.weight.copy_(weights[:, :-1].reshape(conv.weight.shape).float())
    conv.bias.copy_(weights[:, -1].float())


@dataclass
class TaughtCrops:
    """Crops with what the teacher says of them, under `TAUGHT`.

    Parameters
    ----------
    crops : ItemSource
        Where they come from.
    teacher : str
        Name or folder of a network; it runs as it does for a user without a graphics card.
    """

    crops: ItemSource
    teacher: str

    def crop(self, number: int) -> dict[str, Any]:
        """Make crop `number` and ask the teacher."""
        # made here, in the process that makes crops
        from islet_imaging.network.engine import shared_engine

        item = self.crops.crop(number)
        item[TAUGHT] = shared_engine(self.teacher, "cpu").run(item["image"][None])[0]
        return item


def distillation_loss(fields: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Loss against what people drew, and with the same weight against the teacher's fields.

    Parameters
    ----------
    fields : (N, 8, Y/2, X/2) float
        The network's output (order in ``targets``).
    target : dict of Tensor
        As for `nuclei_loss`, with the teacher's fields under `TAUGHT`.

    Returns
    -------
    dict
        ``total`` and its parts, each a scalar; ``taught`` is 0 for the teacher's own fields.
    """
    parts = nuclei_loss(fields, target)
    taught = target[TAUGHT]
    # logits of the foreground's 2x2 pixels and of the centre
    logits = [0, 1, 2, 3, 6]
    said = torch.sigmoid(taught[:, logits])
    cross = F.binary_cross_entropy_with_logits(fields[:, logits], said)
    least = F.binary_cross_entropy_with_logits(taught[:, logits], said)
    # where the teacher sees no nucleus its offsets mean nothing
    sure = torch.sigmoid(taught[:, :4].amax(1, keepdim=True))
    lengths = [4, 5, 7]
    off = F.smooth_l1_loss(fields[:, lengths], taught[:, lengths], reduction="none", beta=0.1)
    parts["taught"] = 5 * (cross - least) + (off * sure).sum() / (sure.sum() + 1)
    parts["total"] = parts["total"] + parts["taught"]
    return parts
