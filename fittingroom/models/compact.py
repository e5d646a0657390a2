"""Our own network: the best accuracy that two CPU cores reach in two minutes.

A residual network in the manner of ResNet-9 (Page, 2018), made narrow: most of the work is done at half and quarter size,
with few channels, where a CPU is at its best; the description is the largest and the mean value of each feature map.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from fittingroom.models.arguments import Flag, Rate, Width
from fittingroom.models.layers import Conv2d, Dropout, Linear, SqueezeExcite, Tail
from fittingroom.models.network import KaimingNetwork, Network, features_shape

__all__ = ["compact"]

Stages = Annotated[tuple[Width, ...], Field(min_length=1, max_length=6)]


def compact(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    stem: Width = 32,
    stages: Stages = (32, 64),
    residual: Flag = True,
    squeeze_excite: Flag = False,
    dropout: Rate = 0.0,
) -> Network:
    """Return the network; the stem and each stage after the first halve height and width.

    Args:
        stem: channels of the first convolution.
        stages: channels of each stage.
        residual: whether a residual block of two convolutions follows each stage after the first.
        squeeze_excite: rescale the channels of each residual block by squeeze-and-excitation.
        dropout: rate before the output layer.
    """
    features = nn.Sequential(*_convolution(input_shape[0], stem, pool=True))  # 32 × 14 × 14
    for stage, (inputs, outputs) in enumerate(pairwise((stem, *stages))):  # 32 × 14 × 14, 64 × 7 × 7
        features.extend(_convolution(inputs, outputs, pool=stage > 0))
        if residual and stage > 0:
            features.append(_Residual(outputs, squeeze_excite))
    channels, _, _ = features_shape(features, input_shape)
    head = nn.Sequential(_MaxAndMean(), Dropout(dropout), Linear(2 * channels, classes))  # 128, 10
    return KaimingNetwork(features, head)


def _convolution(inputs: int, outputs: int, pool: bool) -> list[nn.Module]:
    return [Conv2d(inputs, outputs, 3, padding=1, bias=False), Tail(outputs, norm="before", pool="max" if pool else None)]


class _MaxAndMean(nn.Module):
    """Describe each feature map by its largest and its mean value: ``[N, C, H, W]`` to ``[N, 2 C]``."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.amax((2, 3)), x.mean((2, 3))], dim=1)


class _Residual(nn.Module):
    """The input plus what two convolutions, each with batch norm and ReLU, make of it."""

    def __init__(self, channels: int, squeeze_excite: bool) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            Conv2d(channels, channels, 3, padding=1, bias=False),
            Tail(channels, norm="before"),
            Conv2d(channels, channels, 3, padding=1, bias=False),
            Tail(channels, norm="before"),
        )
        self.rescale = SqueezeExcite(channels) if squeeze_excite else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.rescale(self.convolutions(x))
        return result
