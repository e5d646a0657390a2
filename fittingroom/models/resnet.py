"""Residual networks for small images (He et al., 2016): a 3×3 stem at full size, no max-pool before the first stage."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from fittingroom.errors import UsageError
from fittingroom.models.arguments import Count, Flag
from fittingroom.models.layers import Conv2d, SqueezeExcite, Tail
from fittingroom.models.network import KaimingNetwork, Network, pooled_head

__all__ = ["ResidualBlock", "resnet18", "resnet20"]

Shape = tuple[int, int, int]


def resnet20(input_shape: Shape, classes: int, *, depth: Count = 20, squeeze_excite: Flag = False) -> Network:
    """Return the ResNet that the paper trains on CIFAR-10, with its parameter-free shortcuts (option A).

    Args:
        depth: layers with weights, 6 n + 2 for n blocks a stage: 20, 32, 44, 56, …
        squeeze_excite: rescale the channels of each block by squeeze-and-excitation.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or not 1 <= blocks <= 40:
        raise UsageError(f"depth must be 6 n + 2 with n from 1 to 40 (8, 14, 20, 26, 32, …), not {depth}")
    return _residual(input_shape, classes, (16, 32, 64), blocks, "pad", squeeze_excite)


def resnet18(input_shape: Shape, classes: int, *, squeeze_excite: Flag = False) -> Network:
    """Return the paper's ResNet-18 with a stem for small images and projection shortcuts (option B).

    Args:
        squeeze_excite: rescale the channels of each block by squeeze-and-excitation.
    """
    return _residual(input_shape, classes, (64, 128, 256, 512), 2, "project", squeeze_excite)


def _residual(
    input_shape: Shape, classes: int, widths: tuple[int, ...], blocks: int, shortcut: Literal["pad", "project"], squeeze_excite: bool
) -> Network:
    features = nn.Sequential(
        Conv2d(input_shape[0], widths[0], 3, padding=1, bias=False),
        Tail(widths[0], norm="before"),  # widths[0] × height × width
    )
    for inputs, outputs in pairwise((widths[0], *widths)):  # each stage after the first halves height and width
        features.append(ResidualBlock(inputs, outputs, 1 if inputs == outputs else 2, shortcut, squeeze_excite))
        features.extend(ResidualBlock(outputs, outputs, 1, shortcut, squeeze_excite) for _ in range(blocks - 1))
    return KaimingNetwork(features, pooled_head(widths[-1], classes))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, each with batch norm, whose result is added to the input before the last ReLU.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the first convolution.
        shortcut: how the input is fitted to the output where they differ: `pad` takes every second pixel and adds channels of
            zeros (option A of the paper), `project` is a 1×1 convolution with batch norm (option B).
        squeeze_excite: whether the sum's second term is rescaled by squeeze-and-excitation.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Literal["pad", "project"], squeeze_excite: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), Tail(outputs, norm="before"))
        self.second = nn.Sequential(
            Conv2d(outputs, outputs, 3, padding=1, bias=False),
            Tail(outputs, activation=None, norm="before"),
        )
        self.rescale = SqueezeExcite(outputs) if squeeze_excite else nn.Identity()
        self.shortcut = _shortcut(inputs, outputs, stride, shortcut)
        self.last = Tail(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, inputs, H, W]`` to ``[N, outputs, ⌈H / stride⌉, ⌈W / stride⌉]``."""
        result: Tensor = self.last(self.rescale(self.second(self.first(x))) + self.shortcut(x))
        return result


def _shortcut(inputs: int, outputs: int, stride: int, kind: Literal["pad", "project"]) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    if kind == "pad":
        return _PaddedShortcut(outputs - inputs, stride)
    return nn.Sequential(Conv2d(inputs, outputs, 1, stride, bias=False), Tail(outputs, activation=None, norm="before"))


class _PaddedShortcut(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.channels))
