"""Loss of the positivity network, counted per cell and not per pixel.

The idea: what a user gets is one answer per cell, the mean of the fields over its nucleus; so that
mean is what is judged.  Expression by cross-entropy, own light by the pinball loss of each
quantile, which makes the three guesses honest about their own spread.

It fails for a batch without a single cell: then it is zero.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from islet_imaging.network.stain import QUANTILES


def cell_means(fields: Tensor, cell: Tensor, n_cells: int) -> Tensor:
    """Mean of each field over each nucleus.

    Parameters
    ----------
    fields : (N, C, Y, X) float
    cell : (N, Y, X) int64
        0 outside of nuclei, else a number from 1 to `n_cells`.
    n_cells : int

    Returns
    -------
    (N, n_cells, C)
        Zero for a number that does not occur.
    """
    n, channels = fields.shape[:2]
    flat = cell.flatten(1) + torch.arange(n, device=cell.device)[:, None] * (n_cells + 1)
    values = fields.flatten(2).permute(0, 2, 1).reshape(-1, channels)
    total = torch.zeros(n * (n_cells + 1), channels, dtype=fields.dtype, device=fields.device)
    total = total.index_add(0, flat.reshape(-1), values)
    count = torch.bincount(flat.reshape(-1), minlength=n * (n_cells + 1)).clamp(min=1)
    means = (total / count[:, None]).view(n, n_cells + 1, channels)
    return means[:, 1:]


def positivity_loss(fields: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute the parts of the loss and their weighted sum.

    Parameters
    ----------
    fields : (N, 4, Y/2, X/2) float
        The network's output (order in ``stain``).
    target : dict of Tensor
        What ``positivity_data.StainCropSource`` makes, stacked over the batch.

    Returns
    -------
    dict
        ``total`` and its parts, each a scalar.
    """
    weight = target["weight"]
    guess = cell_means(fields, target["cell"], weight.shape[1])
    n = weight.sum().clamp(min=1)
    cross = F.binary_cross_entropy_with_logits(
        guess[..., 3], target["expressed"], weight=weight, reduction="sum"
    )
    q = torch.tensor(QUANTILES, device=fields.device)
    over = target["own"][..., None] - guess[..., :3]
    pinball = torch.maximum(q * over, (q - 1) * over).sum(-1)
    known = weight * target["own_known"]
    light = (pinball * known).sum() / known.sum().clamp(min=1)
    return {"total": cross / n + 4.0 * light, "expressed": cross / n, "own_light": light}
