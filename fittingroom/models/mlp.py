"""The multilayer perceptron: dense layers on the flattened pixels."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import nn

from fittingroom.models.arguments import ActivationName, Rate, Widths
from fittingroom.models.layers import Dropout, Linear, activation
from fittingroom.models.network import Network

__all__ = ["mlp"]


def mlp(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    hidden: Widths = (256, 128),
    activation: ActivationName = "relu",
    dropout: Rate = 0.0,
) -> Network:
    """Return a multilayer perceptron; with no hidden layer it is a linear classifier.

    Args:
        hidden: units of each hidden layer.
        activation: after each hidden layer.
        dropout: rate after each hidden layer.
    """
    widths = (prod(input_shape), *hidden)
    features = nn.Sequential(nn.Flatten())
    for inputs, outputs in pairwise(widths):
        features.extend(_hidden(inputs, outputs, activation, dropout))
    return Network(features, Linear(widths[-1], classes))


def _hidden(inputs: int, outputs: int, name: str, dropout: float) -> list[nn.Module]:
    return [Linear(inputs, outputs), activation(name), Dropout(dropout)]
