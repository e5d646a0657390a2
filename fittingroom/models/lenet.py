"""LeNet-5 (LeCun et al., 1998) in the form that is common today and that report `lenet-ablation` takes apart.

Against the paper: the convolutions of the second layer see all six maps, pooling has no weights, the output is a plain
linear layer, and a border of two zeros stands for the paper's 32×32 canvas.
"""

from __future__ import annotations

from math import prod

from torch import nn

from fittingroom.models.arguments import ActivationName, Pooling, Rate
from fittingroom.models.layers import Conv2d, Dropout, Linear, Tail
from fittingroom.models.layers import activation as activation_layer
from fittingroom.models.network import Network, features_shape

__all__ = ["lenet5"]


def lenet5(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    activation: ActivationName = "tanh",
    pooling: Pooling = "average",
    dropout: Rate = 0.0,
) -> Network:
    """Return LeNet-5.

    Args:
        activation: after each convolution and each of the two dense layers.
        pooling: after each convolution.
        dropout: rate after each of the two dense layers.
    """
    features = nn.Sequential(
        Conv2d(input_shape[0], 6, 5, padding=2),
        Tail(6, activation=activation, pool=pooling),  # 6 × 14 × 14
        Conv2d(6, 16, 5),
        Tail(16, activation=activation, pool=pooling),  # 16 × 5 × 5
    )
    head = nn.Sequential(
        nn.Flatten(),
        Linear(prod(features_shape(features, input_shape)), 120),
        activation_layer(activation),
        Dropout(dropout),
        Linear(120, 84),
        activation_layer(activation),
        Dropout(dropout),
        Linear(84, classes),
    )
    return Network(features, head)
