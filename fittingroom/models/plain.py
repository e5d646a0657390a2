"""Plain stacks of convolutions, as three of the reports built them with Keras: no padding, ReLU, 2×2 max-pooling."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Annotated

from pydantic import Field
from torch import nn

from fittingroom.models.arguments import Rate, Width
from fittingroom.models.layers import Conv2d, Dropout, Linear, Tail
from fittingroom.models.network import Network, features_shape

__all__ = ["basic", "cnn_vs_svm", "custom_cnn", "custom_cnn_deep", "standard"]

Shape = tuple[int, int, int]
Kernel = Annotated[int, Field(strict=True, ge=1, le=15)]
Layers = Annotated[int, Field(strict=True, ge=1, le=3)]


def basic(input_shape: Shape, classes: int) -> Network:
    """Return one convolution and the output layer (report `shallow-vs-deep`)."""
    features = nn.Sequential(
        *_convolution(input_shape[0], 32),  # 32 × 13 × 13
    )
    head = nn.Sequential(nn.Flatten(), Linear(_size(features, input_shape), classes))
    return Network(features, head)


def standard(input_shape: Shape, classes: int) -> Network:
    """Return two convolutions and a dense layer of 64 (report `shallow-vs-deep`)."""
    features = nn.Sequential(
        *_convolution(input_shape[0], 32),  # 32 × 13 × 13
        *_convolution(32, 64),  # 64 × 5 × 5
    )
    return Network(features, _dense_head(_size(features, input_shape), 64, classes))


def cnn_vs_svm(
    input_shape: Shape, classes: int, *, layers: Layers = 2, filters: Width = 32, kernel: Kernel = 3, dropout: Rate = 0.2
) -> Network:
    """Return the LeNet variant of report `cnn-vs-svm`, with fewer or more convolutions.

    Args:
        layers: convolutions, each of twice the filters of the one before and followed by max-pooling.
        filters: filters of the first convolution.
        kernel: side of the convolutions' windows.
        dropout: rate after the dense layer.
    """
    widths = [input_shape[0], filters, 2 * filters, 4 * filters][: layers + 1]
    features = nn.Sequential()  # 32 × 13 × 13, 64 × 5 × 5, 128 × 1 × 1
    for inputs, outputs in pairwise(widths):
        features.extend(_convolution(inputs, outputs, kernel))
    return Network(features, _dense_head(_size(features, input_shape), 128, classes, dropout))


def custom_cnn(
    input_shape: Shape, classes: int, *, filters1: Width = 32, filters2: Width = 64, kernel: Kernel = 3, dense: Width = 128
) -> Network:
    """Return the baseline of report `custom-cnn`: two convolutions, two max-pools, one dense layer.

    Args:
        filters1: filters of the first convolution.
        filters2: filters of the second convolution.
        kernel: side of both convolutions' windows.
        dense: units of the dense layer.
    """
    features = nn.Sequential(
        *_convolution(input_shape[0], filters1, kernel),  # filters1 × 13 × 13
        *_convolution(filters1, filters2, kernel),  # filters2 × 5 × 5
    )
    return Network(features, _dense_head(_size(features, input_shape), dense, classes))


def custom_cnn_deep(
    input_shape: Shape,
    classes: int,
    *,
    filters1: Width = 32,
    filters2: Width = 64,
    filters3: Width = 128,
    kernel: Kernel = 3,
    dense: Width = 128,
    dropout: Rate = 0.25,
    dense_dropout: Rate = 0.5,
) -> Network:
    """Return the final model of report `custom-cnn`: its baseline with one convolution and three dropout layers more.

    Args:
        filters1: filters of the first convolution.
        filters2: filters of the second convolution.
        filters3: filters of the third convolution.
        kernel: side of the convolutions' windows.
        dense: units of the dense layer.
        dropout: rate after each of the two max-pools.
        dense_dropout: rate after the dense layer.
    """
    features = nn.Sequential(
        *_convolution(input_shape[0], filters1, kernel, dropout=dropout),  # filters1 × 13 × 13
        *_convolution(filters1, filters2, kernel, dropout=dropout),  # filters2 × 5 × 5
        Conv2d(filters2, filters3, kernel),
        Tail(filters3),  # filters3 × 3 × 3
    )
    return Network(features, _dense_head(_size(features, input_shape), dense, classes, dense_dropout))


def _convolution(inputs: int, outputs: int, kernel: int = 3, dropout: float = 0.0) -> list[nn.Module]:
    return [Conv2d(inputs, outputs, kernel), Tail(outputs, pool="max", dropout=dropout)]


def _dense_head(size: int, width: int, classes: int, dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), Linear(size, width), nn.ReLU(), Dropout(dropout), Linear(width, classes))


def _size(features: nn.Module, input_shape: Shape) -> int:
    return prod(features_shape(features, input_shape))
