"""The small U-Net that both networks share.

The idea: fold 2x2 pixels into channels first (pixel-unshuffle), so that the whole trunk runs at
half resolution, which is a quarter of the work; four levels of two 3x3 convolutions; the decoder
adds the skip instead of concatenating it, which halves its cost; one 1x1 convolution writes all
output fields at half resolution.  A field that is wanted at full resolution asks for four
channels, one for each of the 2x2 pixels.  Batch norms are folded into the convolutions before
export, so that the shipped network is convolutions, ReLU, max-pool and nearest upsampling only:
every inference engine is fast at these.

It fails where a nucleus needs more context than the receptive field (about 190 px) and where
structures under 2 px matter.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a network.

    Attributes
    ----------
    in_channels : int
        Channels of the image that goes in, at full resolution.
    out_channels : int
        Fields that come out, at half resolution.
    widths : tuple of int
        Channels of each level, from the finest to the coarsest.
    """

    in_channels: int = 1
    out_channels: int = 8
    widths: tuple[int, ...] = (32, 64, 96, 128)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> UNetConfig:
        """Make a configuration from what `to_dict` wrote."""
        return cls(int(values["in_channels"]), int(values["out_channels"]), tuple(values["widths"]))

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this."""
        return int(2 ** len(self.widths))


class _ConvBlock(nn.Sequential):
    """A 3x3 convolution, batch norm, ReLU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()
        )


class UNet(nn.Module):
    """U-Net on a pixel-unshuffled image (module docstring).

    Parameters
    ----------
    config : UNetConfig
        Its shape.

    Examples
    --------
    >>> import torch
    >>> net = UNet(UNetConfig(in_channels=1, out_channels=8))
    >>> tuple(net(torch.zeros(1, 1, 64, 96)).shape)
    (1, 8, 32, 48)
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        inputs = (4 * config.in_channels, *widths[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(_ConvBlock(a, b), _ConvBlock(b, b))
            for a, b in zip(inputs, widths, strict=True)
        )
        self.lift = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(
            nn.Sequential(_ConvBlock(a, a), _ConvBlock(a, a)) for a in widths[:-1]
        )
        self.head = nn.Conv2d(widths[0], config.out_channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to fields ``(N, out_channels, H / 2, W / 2)``."""
        x = nn.functional.pixel_unshuffle(image, 2)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            if level:
                x = nn.functional.max_pool2d(x, 2)
            x = block(x)
            skips.append(x)
        x = skips.pop()
        for lift, block in zip(reversed(self.lift), reversed(self.up), strict=True):
            x = nn.functional.interpolate(lift(x), scale_factor=2.0, mode="nearest")
            x = block(x + skips.pop())
        fields: Tensor = self.head(x)
        return fields


def fold_batch_norm(net: UNet) -> UNet:
    """Return a copy in evaluation mode with each batch norm folded into its convolution.

    Parameters
    ----------
    net : UNet
        A trained network; it is not changed.

    Returns
    -------
    UNet
        Gives the same output as ``net.eval()`` up to rounding.
    """
    import copy

    folded = copy.deepcopy(net).eval()
    for module in folded.modules():
        if isinstance(module, _ConvBlock):
            conv, norm = module[0], module[1]
            if isinstance(norm, nn.Identity):
                continue  # folded before, as the shipped weights are
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            module[0] = nn.utils.fuse_conv_bn_eval(conv, norm)
            module[1] = nn.Identity()
    return folded


def count_parameters(net: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
