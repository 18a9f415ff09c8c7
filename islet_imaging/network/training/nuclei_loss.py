"""Losses of the nuclei network.

The idea: each field gets the plainest loss that fits it, on fixed weights: cross-entropy and soft
Dice for the foreground, smooth L1 for offset and distance inside nuclei, focal-like cross-entropy
for the centre bump.  Every pixel inside a nucleus counts alike, so that large nuclei are not
cut in pieces; the border between touching nuclei counts twice (``targets.make_targets``).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention


def nuclei_loss(fields: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute the parts of the loss and their weighted sum.

    Parameters
    ----------
    fields : (N, 8, Y/2, X/2) float
        The network's output (order in ``targets``).
    target : dict of Tensor
        What ``targets.make_targets`` draws, stacked over the batch.

    Returns
    -------
    dict
        ``total`` and its parts, each a scalar.
    """
    logits = F.pixel_shuffle(fields[:, :4], 2)[:, 0]
    truth, weight = target["foreground"], target["weight"]
    cross = F.binary_cross_entropy_with_logits(logits, truth, weight=weight)
    p = torch.sigmoid(logits) * (weight > 0)
    t = truth * (weight > 0)
    dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    inside = target["inside"]
    n = inside.sum() + 1
    offset = F.smooth_l1_loss(fields[:, 4:6], target["offset"], reduction="none", beta=0.1).sum(1)
    offset = (offset * inside).sum() / n
    near = inside + 0.2 * (1 - inside)
    distance = F.smooth_l1_loss(fields[:, 7], target["distance"], reduction="none", beta=0.1)
    distance = (distance * near).sum() / near.sum()
    half_weight = F.max_pool2d(weight[:, None], 2)[:, 0]
    bump = F.binary_cross_entropy_with_logits(fields[:, 6], target["centre"], weight=half_weight)
    total = cross + 0.5 * dice + 1.0 * offset + 0.5 * distance + 1.0 * bump
    return {
        "total": total,
        "foreground": cross,
        "dice": dice,
        "offset": offset,
        "distance": distance,
        "centre": bump,
    }
