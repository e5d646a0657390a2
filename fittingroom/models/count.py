"""How large a network is, and how much it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fittingroom.models.network import probe

__all__ = ["Count", "count"]


@dataclass(frozen=True)
class Count:
    """The size of a network.

    Attributes:
        parameters: trainable numbers; batch norm's running statistics are none.
        multiply_adds: multiplications, each with its addition, for one image forward, in convolutions and dense layers. Biases,
            batch norm, activations, pooling and sums are not counted: together they are a few per cent.
    """

    parameters: int
    multiply_adds: int


def count(network: nn.Module, input_shape: tuple[int, int, int]) -> Count:
    """Count by sending one image of ``(channels, height, width)`` through ``network``, which may live on the meta device."""
    total = 0

    def add(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module.weight, Tensor)
        # Each output is the scalar product of one row of the weights, and a dense layer sees a row of its own per image.
        total += output.numel() * module.weight[0].numel()

    copy = probe(network)
    for module in copy.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add)
    with torch.no_grad():
        copy(torch.zeros(1, *input_shape, device=next(copy.parameters()).device))
    return Count(sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad), total)
