"""The layers that the model files share, each a plain PyTorch module with its randomness handed in."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from fittingroom import native
from fittingroom.errors import UsageError, nearest
from fittingroom.native import ops

__all__ = ["ACTIVATIONS", "Conv2d", "Dropout", "Linear", "SqueezeExcite", "Tail", "activation", "initialise", "seed_dropout"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky-relu": nn.LeakyReLU,
}


def activation(name: str) -> nn.Module:
    """Return the activation called ``name``.

    Raises:
        UsageError: no activation has that name.
    """
    if name not in ACTIVATIONS:
        raise UsageError(f"unknown activation '{name}'{nearest(name, ACTIVATIONS)}; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


class Conv2d(nn.Conv2d):
    """PyTorch's convolution, with a fast path on the CPU for few channels, and for many in float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` as `nn.Conv2d` does."""
        if not torch.compiler.is_compiling() and native.active() and (fast := ops.convolution(self, input)) is not None:
            return fast
        return super().forward(input)


class Linear(nn.Linear):
    """PyTorch's dense layer, with a fast path on the CPU for small batches."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[..., inputs]`` as `nn.Linear` does."""
        if not torch.compiler.is_compiling() and native.active() and (fast := ops.dense(self, input)) is not None:
            return fast
        return super().forward(input)


class Dropout(nn.Module):
    """Dropout (Srivastava et al., 2014) whose mask comes from a generator of its own, never from the global one.

    The native path draws its mask from the layer's seed and the number of masks since then instead.

    Args:
        rate: probability of dropping an entry, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise UsageError(f"a dropout rate must be at least 0 and below 1, not {rate}")
        self.rate = rate
        self.generator: torch.Generator | None = None
        self.seed: int | None = None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` of any shape to the same shape; in evaluation to itself."""
        if not self.training or self.rate == 0:
            return x
        if self.generator is None:
            raise RuntimeError("dropout has no generator: call seed_dropout(model, seed) before training")
        if not torch.compiler.is_compiling() and native.active() and (fast := ops.dropout(self, x)) is not None:
            return fast
        keep = torch.empty_like(x).bernoulli_(1 - self.rate, generator=self.generator)
        return x * keep.mul_(1 / (1 - self.rate))

    def extra_repr(self) -> str:
        """What ``print`` shows in the brackets."""
        return f"rate={self.rate}"


def seed_dropout(model: nn.Module, seed: int) -> None:
    """Have the generator of every dropout layer of ``model`` begin anew; that of layer ``i`` with ``seed + i``."""
    for index, layer in enumerate(module for module in model.modules() if isinstance(module, Dropout)):
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        layer.seed, layer.calls = (seed + index) % 2**63, 0
        if layer.generator is None or layer.generator.device != device:  # otherwise it stays: a recorded step knows it
            layer.generator = torch.Generator(device)
        layer.generator.manual_seed(layer.seed)


class Tail(nn.Module):
    """What follows a convolution: activation, batch norm, 2×2 pooling, dropout — each optional, in one module.

    They stand together because together they are what takes the time on a CPU, so that a fast path can compute
    them in one pass over the memory.

    Args:
        channels: channels of the convolution's output.
        activation: a name of `ACTIVATIONS`, or None.
        norm: `before` the activation (Ioffe and Szegedy, 2015), `after` it, or None.
        pool: `max` or `average` over 2×2 windows with stride 2 (an odd last row or column is left out), or None.
        dropout: rate in [0, 1).
    """

    def __init__(
        self,
        channels: int,
        *,
        activation: str | None = "relu",
        norm: Literal["before", "after"] | None = None,
        pool: Literal["max", "average"] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if norm not in (None, "before", "after"):
            raise UsageError(f"norm must be 'before' or 'after', not '{norm}'")
        if pool not in (None, "max", "average"):
            raise UsageError(f"pooling must be 'max' or 'average', not '{pool}'")
        self.activation = _activation(activation)
        self.norm = nn.BatchNorm2d(channels) if norm else None
        self.norm_first = norm == "before"
        self.pool = {"max": nn.MaxPool2d(2), "average": nn.AvgPool2d(2), None: None}[pool]
        self.dropout = Dropout(dropout) if dropout else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C, H, W]``, or to ``[N, C, H // 2, W // 2]`` with pooling."""
        if not torch.compiler.is_compiling() and native.active() and (fast := ops.tail(self, x)) is not None:
            return fast
        if self.norm is not None and self.norm_first:
            x = self.norm(x)
        if self.activation is not None:
            x = self.activation(x)
        if self.norm is not None and not self.norm_first:
            x = self.norm(x)
        if self.pool is not None:
            x = self.pool(x)
        return x if self.dropout is None else self.dropout(x)


def _activation(name: str | None) -> nn.Module | None:
    return None if name is None else activation(name)


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (Hu et al., 2018): channels rescaled by a small network on their global means.

    Args:
        channels: channels of the input.
        ratio: how many times narrower the middle layer is.
    """

    def __init__(self, channels: int, ratio: int = 8) -> None:
        super().__init__()
        narrow = max(1, channels // ratio)
        self.squeeze = nn.Linear(channels, narrow)
        self.excite = nn.Linear(narrow, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        scale = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))
        return x * scale[:, :, None, None]


@torch.no_grad()
def initialise(model: nn.Module, generator: torch.Generator, defaults: Literal["torch", "keras"] = "torch") -> None:
    """Draw all weights from ``generator`` as the named framework's layers do, and set its batch-norm constants.

    torch: weights and biases uniform in ± 1/√fan_in; batch norm momentum 0.1, ε 1e-5.
    keras: weights Glorot-uniform, biases zero; batch norm momentum 0.01 (Keras says 0.99), ε 1e-3.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            fan_out = module.weight.shape[0] * (module.weight[0, 0].numel() if module.weight.ndim > 2 else 1)
            bound = fan_in**-0.5 if defaults == "torch" else (6 / (fan_in + fan_out)) ** 0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                if defaults == "torch":
                    module.bias.uniform_(-bound, bound, generator=generator)
                else:
                    module.bias.zero_()
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            if module.affine:
                module.weight.fill_(1)
                module.bias.zero_()
            module.momentum, module.eps = (0.1, 1e-5) if defaults == "torch" else (0.01, 1e-3)
