"""The network of report `three-block-cnn`: three blocks of convolution, ReLU, batch norm, max-pool and dropout, then a dense layer."""

from __future__ import annotations

from math import prod

from torch import nn

from fittingroom.models.layers import Conv2d, Dropout, Linear, Tail
from fittingroom.models.network import Network, features_shape

__all__ = ["three_block"]


def three_block(input_shape: tuple[int, int, int], classes: int) -> Network:
    """Return the network; its dropout rates are 0.2, 0.3 and 0.4 after the blocks and 0.5 after the dense layer."""
    features = nn.Sequential(
        *_block(input_shape[0], 64, 0.2),  # 64 × 14 × 14
        *_block(64, 128, 0.3),  # 128 × 7 × 7
        *_block(128, 256, 0.4),  # 256 × 3 × 3
    )
    head = nn.Sequential(
        nn.Flatten(),
        Linear(prod(features_shape(features, input_shape)), 128),
        nn.ReLU(),
        nn.BatchNorm1d(128),
        Dropout(0.5),
        Linear(128, classes),
    )
    return Network(features, head)


def _block(inputs: int, outputs: int, dropout: float) -> list[nn.Module]:
    return [Conv2d(inputs, outputs, 3, padding=1), Tail(outputs, norm="after", pool="max", dropout=dropout)]
