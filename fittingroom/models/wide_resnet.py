"""Wide residual networks (Zagoruyko and Komodakis, 2016): few layers, many channels, dropout between the convolutions of a block."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from fittingroom.errors import UsageError
from fittingroom.models.arguments import Count, Rate
from fittingroom.models.layers import Conv2d, Tail
from fittingroom.models.network import KaimingNetwork, Network, pooled_head

__all__ = ["PreActivationBlock", "wide_resnet"]

Factor = Annotated[int, Field(strict=True, ge=1, le=20)]


def wide_resnet(input_shape: tuple[int, int, int], classes: int, *, depth: Count = 16, width: Factor = 4, dropout: Rate = 0.0) -> Network:
    """Return WRN-depth-width.

    Args:
        depth: layers with weights, 6 n + 4 for n blocks a stage: 10, 16, 22, 28, 40, …
        width: factor by which the three stages are wider than 16, 32 and 64 channels.
        dropout: rate between the two convolutions of each block.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or not 1 <= blocks <= 20:
        raise UsageError(f"depth must be 6 n + 4 with n from 1 to 20 (10, 16, 22, 28, …), not {depth}")
    features = nn.Sequential(Conv2d(input_shape[0], 16, 3, padding=1, bias=False))  # 16 × height × width
    channels = 16
    for outputs, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):  # the last two halve height and width
        for block in range(blocks):
            features.append(PreActivationBlock(channels, outputs, stride if block == 0 else 1, dropout))
            channels = outputs
    features.append(Tail(channels, norm="before"))
    return KaimingNetwork(features, pooled_head(channels, classes))


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each of two 3×3 convolutions, whose result is added to the input (He et al., 2016b).

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the first convolution.
        dropout: rate before the second convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.before = Tail(inputs, norm="before")
        self.first = Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.between = Tail(outputs, norm="before", dropout=dropout)
        self.second = Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.project = None if inputs == outputs and stride == 1 else Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, inputs, H, W]`` to ``[N, outputs, ⌈H / stride⌉, ⌈W / stride⌉]``."""
        activated = self.before(x)
        shortcut = x if self.project is None else self.project(activated)
        result: Tensor = shortcut + self.second(self.between(self.first(activated)))
        return result
