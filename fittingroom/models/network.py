"""What every network is: features, then a head."""

from __future__ import annotations

from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn

from fittingroom import native
from fittingroom.errors import UsageError
from fittingroom.models.layers import initialise
from fittingroom.native import program

__all__ = ["KaimingNetwork", "Network", "features_shape", "pooled_head", "probe"]

# The largest side that the search for the smallest usable image tries.
LARGEST_SIDE = 512
# Networks of more parameters are not given memory only to find out shapes.
PROBED_PARAMETERS = 20_000_000


class Network(nn.Module):
    """An image classifier.

    Args:
        features: maps images ``[N, channels, height, width]`` to a description of each.
        head: maps that description to one unnormalised score (logit) per class, ``[N, classes]``.
    """

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[N, channels, height, width]`` to logits ``[N, classes]``."""
        if not torch.compiler.is_compiling() and native.active() and (fast := program.run(self, images)) is not None:
            return fast
        logits: Tensor = self.head(self.features(images))
        return logits

    def initialise(self, generator: torch.Generator, defaults: Literal["torch", "keras"]) -> None:
        """Set every parameter and buffer; architectures with an initialisation of their own extend this."""
        initialise(self, generator, defaults)


class KaimingNetwork(Network):
    """A network so deep that its signals would fade: where torch's defaults hold, convolutions start as He et al. (2015) have it."""

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, defaults: Literal["torch", "keras"]) -> None:
        """Draw convolutions from a normal distribution of variance 2 / fan_out (torch), or as Keras does."""
        super().initialise(generator, defaults)
        if defaults == "torch":
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)


def pooled_head(channels: int, classes: int) -> nn.Sequential:
    """Return a head that averages each feature map over all positions, so that any image size will do."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),  # C × 1 × 1
        nn.Flatten(),
        nn.Linear(channels, classes),
    )


def features_shape(features: nn.Module, input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return ``(channels, height, width)`` of what ``features`` makes of one image of ``input_shape``.

    Raises:
        UsageError: the image is too small; the message says what size would do.
    """
    shape = _output_shape(features, input_shape)
    if shape is None:
        channels, height, width = input_shape
        smallest = next(side for side in range(1, LARGEST_SIDE) if _output_shape(features, (channels, side, side)))
        raise UsageError(f"needs images of at least {smallest}×{smallest} pixels, and these are {height}×{width}; set data.size")
    return shape


@torch.no_grad()
def _output_shape(features: nn.Module, input_shape: tuple[int, int, int]) -> tuple[int, int, int] | None:
    network = probe(features)
    device = next(network.parameters()).device
    try:
        _, channels, height, width = network(torch.zeros(1, *input_shape, device=device)).shape
    except RuntimeError:  # a kernel or a window larger than what is left of the image
        return None
    return channels, height, width


def probe(network: nn.Module) -> nn.Module:
    """Return a copy of ``network`` in evaluation mode, to send an image through for the sake of the shapes.

    The copy of a network without numbers (on the meta device) gets arbitrary ones where it is small: running on the meta device makes
    torch import its compiler, which takes a second.
    """
    copy = deepcopy(network).eval()
    small = sum(parameter.numel() for parameter in network.parameters()) <= PROBED_PARAMETERS
    on_meta = any(parameter.is_meta for parameter in network.parameters())
    return copy.to_empty(device="cpu") if small and on_meta else copy
