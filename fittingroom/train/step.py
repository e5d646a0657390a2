"""A step of training: forward, loss, backward, clipping and update; on a GPU recorded once as a CUDA graph, and then replayed."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from fittingroom.models.layers import Dropout
from fittingroom.models.network import Network
from fittingroom.recipe import Optim
from fittingroom.train.losses import LossFunction, penalised_kernels
from fittingroom.train.optim import clip
from fittingroom.train.precision import Precision

__all__ = ["Graphed", "Step", "StepFunction", "penalty", "stepping", "uses_graph"]

StepFunction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From images ``[N, C, H, W]`` and labels ``[N]`` to their mean loss and their logits ``[N, classes]``, both before the update."""


class Step:
    """One update of a network's parameters.

    Args:
        model: changed in place.
        compute_loss: of float32 logits and labels.
        optimizer: over the parameters that are trained.
        settings: the penalty and the clipping.
        precision: of the forward pass.
        device: of everything.
    """

    def __init__(
        self,
        model: nn.Module,
        compute_loss: LossFunction,
        optimizer: torch.optim.Optimizer,
        settings: Optim,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.model = model
        self.compute_loss = compute_loss
        self.optimizer = optimizer
        self.settings = settings
        self.precision = precision
        self.device = device
        self.parameters: list[nn.Parameter] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.kernels = penalised_kernels(model, settings.l2_layers) if settings.l2 else []

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Carry out the step."""
        with self.precision.autocast(self.device):
            logits = self.model(images)
        loss = self.compute_loss(logits.float(), labels)
        if self.kernels:
            loss = loss + self.settings.l2 * penalty(self.kernels)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip_norm or self.settings.clip_value:
            clip(self.parameters, self.settings)
        self.optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        return loss.detach(), logits.detach()


class Graphed:
    """A step on a GPU whose hundreds of kernels are started by one call.

    The first steps of full batches are carried out as they are, while PyTorch's libraries choose and allocate; then one is recorded, and
    that one and all later ones are replayed. Batches of another size, the last ones of epochs, are carried out as they are. Learning rates
    are tensors, and dropout's generators are known to the graph, so both change from replay to replay.

    Args:
        step: what is recorded.
        size: images of a full batch.
    """

    WARM_UP = 3

    def __init__(self, step: Step, size: int) -> None:
        self.step = step
        self.size = size
        self.stream = side_stream(step.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.seen = 0

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Carry out the step; what is returned is overwritten by the next one."""
        if len(images) != self.size:
            return self._plainly(images, labels)
        if self.seen == 0:
            self.images, self.labels = torch.empty_like(images), torch.empty_like(labels)
        self.seen += 1
        # Also before the recording: which kernels are chosen depends on where in memory a batch begins.
        self.images.copy_(images)
        self.labels.copy_(labels)
        if self.seen <= self.WARM_UP:
            return self._plainly(self.images, self.labels)
        if self.graph is None:
            self.graph = self._recorded()
        self.graph.replay()
        return self.loss, self.logits

    def _plainly(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # On the stream that will record: autograd and cuBLAS keep things for each stream.
        here = torch.cuda.current_stream(self.step.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            result = self.step(images, labels)
        here.wait_stream(self.stream)
        return result

    def _recorded(self) -> torch.cuda.CUDAGraph:
        with torch.cuda.device(self.step.device):
            graph = torch.cuda.CUDAGraph()
            for layer in self.step.model.modules():
                if isinstance(layer, Dropout) and layer.generator is not None:
                    graph.register_generator_state(layer.generator)
            with torch.cuda.graph(graph, stream=self.stream):
                self.loss, self.logits = self.step(self.images, self.labels)
        return graph


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream on which steps are recorded, one for the process: cuBLAS keeps memory for each stream it has seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def stepping(step: Step, size: int) -> StepFunction:
    """Return ``step`` in the way in which it is fastest on its device, for full batches of ``size``."""
    return Graphed(step, size) if uses_graph(step.device) and isinstance(step.model, Network) else step


def uses_graph(device: torch.device) -> bool:
    """Whether steps on ``device`` are recorded; ``FITTINGROOM_GRAPH=0`` has none of them recorded."""
    return device.type == "cuda" and os.environ.get("FITTINGROOM_GRAPH") != "0"


def penalty(kernels: list[nn.Parameter]) -> Tensor:
    """Σw² over all kernels."""
    return torch.stack([kernel.square().sum() for kernel in kernels]).sum()
