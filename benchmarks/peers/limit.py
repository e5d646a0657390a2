"""The limit: the convolutions and matrix products of a training step alone, as PyTorch computes them, one after the other.

Shapes are read off the network as it runs; number format and memory order are those that Fitting Room chooses. For each layer there is
the product forward, the one for the gradient of its weights, and, but for the first layer, the one for the gradient of its input.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.peers.case import CLASSES, THREADS
from benchmarks.peers.ours import setting, settings
from benchmarks.peers.protocol import serve
from benchmarks.peers.torch_networks import parameters
from fittingroom import experiment, native

__all__ = ["Limit", "layers", "products"]

Product = Callable[[], object]


def layers(model: nn.Module, batch: int) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Each layer that multiplies, with the shape of its input, in the order in which they run."""
    seen: list[tuple[nn.Module, tuple[int, ...]]] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append((module, tuple(inputs[0].shape)))

    hooks = [module.register_forward_pre_hook(look) for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    model.eval()
    with torch.no_grad():
        model(torch.zeros(batch, 1, 28, 28))
    for hook in hooks:
        hook.remove()
    return seen


def products(layer: nn.Module, shape: tuple[int, ...], dtype: torch.dtype, with_input: bool) -> tuple[Product, Product]:
    """What a layer multiplies forward and backward, on numbers of no meaning."""
    x = torch.randn(shape).to(dtype)
    if isinstance(layer, nn.Linear):
        weight = torch.randn(layer.out_features, layer.in_features).to(dtype)
        gradient = torch.randn(shape[0], layer.out_features).to(dtype)
        return lambda: x @ weight.T, lambda: (gradient.T @ x, gradient @ weight if with_input else None)
    assert isinstance(layer, nn.Conv2d)
    last = torch.channels_last
    x, weight = x.to(memory_format=last), torch.randn_like(layer.weight).to(dtype).to(memory_format=last)
    stride, padding, dilation, groups = list(layer.stride), list(map(int, layer.padding)), list(layer.dilation), layer.groups

    def forward() -> Tensor:
        return torch.conv2d(x, weight, None, stride, padding, dilation, groups)

    gradient = torch.randn_like(forward()).contiguous(memory_format=last)

    def backward() -> object:
        return torch.ops.aten.convolution_backward(
            gradient, x, weight, None, stride, padding, dilation, False, [0, 0], groups, [with_input, True, False]
        )

    return forward, backward


class Limit:
    """Trains nothing, but takes its time as if."""

    def variants(self, network: str) -> list[str]:
        """Fitting Room's number format."""
        return ["default"]

    def build(self, network: str, batch: int, seed: int, variant: str) -> int:
        """As `Peer` has it."""
        torch.set_num_threads(int(os.environ[THREADS]))
        native.keep_freed_memory()
        recipe = settings(network, batch, seed).recipe
        machine = experiment.Machine.choose(recipe, setting())
        model = experiment.new_model(recipe, (1, 28, 28), CLASSES, machine.device)
        dtype = torch.bfloat16 if machine.precision.name == "bf16" else torch.float32
        pairs = [products(*layer, dtype, index > 0) for index, layer in enumerate(layers(model, batch))]
        self.step = [pair[0] for pair in pairs] + [pair[1] for pair in reversed(pairs)]
        self.batch = batch
        return parameters(model)

    @torch.inference_mode()
    def train(self, images: int, epochs: int) -> float:
        """As `Peer` has it."""
        began = time.perf_counter()
        for _ in range(images // self.batch * epochs):
            for product in self.step:
                product()
        return time.perf_counter() - began


if __name__ == "__main__":
    serve(Limit())
