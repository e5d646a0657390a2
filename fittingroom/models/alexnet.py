"""AlexNet (Krizhevsky et al., 2012), brought down to small images.

Kept: five convolutions with the kernel sizes 5, 5, 3, 3, 3 (the first was 11), pooling after the first, second and fifth, two
dense layers with dropout 0.5 before the output. Changed for 28×28: the first convolution has stride 1 instead of 4; the
filters are those of one of the paper's two towers (48, 128, 192, 192, 128); pooling is over 2×2 instead of 3×3 windows; the
dense layers have 1,024 units instead of 4,096; local response normalisation is left out.
"""

from __future__ import annotations

from math import prod

from torch import nn

from fittingroom.models.arguments import Rate, Width
from fittingroom.models.layers import Conv2d, Dropout, Linear, Tail
from fittingroom.models.network import KaimingNetwork, Network, features_shape

__all__ = ["alexnet"]


def alexnet(input_shape: tuple[int, int, int], classes: int, *, dense: Width = 1024, dropout: Rate = 0.5) -> Network:
    """Return AlexNet for small images.

    Args:
        dense: units of each of the two dense layers.
        dropout: rate before each of the two dense layers.
    """
    features = nn.Sequential(
        Conv2d(input_shape[0], 48, 5),
        Tail(48, pool="max"),  # 48 × 12 × 12
        Conv2d(48, 128, 5, padding=2),
        Tail(128, pool="max"),  # 128 × 6 × 6
        Conv2d(128, 192, 3, padding=1),
        Tail(192),  # 192 × 6 × 6
        Conv2d(192, 192, 3, padding=1),
        Tail(192),  # 192 × 6 × 6
        Conv2d(192, 128, 3, padding=1),
        Tail(128, pool="max"),  # 128 × 3 × 3
    )
    head = nn.Sequential(
        nn.Flatten(),
        Dropout(dropout),
        Linear(prod(features_shape(features, input_shape)), dense),
        nn.ReLU(),
        Dropout(dropout),
        Linear(dense, dense),
        nn.ReLU(),
        Linear(dense, classes),
    )
    return KaimingNetwork(features, head)
