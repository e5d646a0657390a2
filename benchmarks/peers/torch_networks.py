"""The networks in plain PyTorch, as its tutorials write them, and what its peers share."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peers.case import CLASSES, DROPOUT, EPSILON, RATE, ROTATE, SHIFT, THREADS, ZOOM, Split, split

__all__ = ["TorchPeer", "affine", "as_tensors", "new_network", "parameters", "train_epoch"]

Batches = Iterable[tuple[Tensor, Tensor]]


def new_network(name: str) -> nn.Module:
    """Return an untrained network with Keras's initialisation, drawn from torch's global generator."""
    model = {"lenet5": lenet5, "standard": standard, "three-block": three_block, "resnet20": ResNet20}[name]()
    model.apply(initialise)
    return model


def lenet5() -> nn.Module:
    """LeNet-5 with tanh and average pooling, the default of Fitting Room's `lenet5`."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        nn.Flatten(),
        *(nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, CLASSES)),
    )


def standard() -> nn.Module:
    """Two convolutions and a dense layer of 64."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(nn.Linear(64 * 25, 64), nn.ReLU(), nn.Linear(64, CLASSES)),
    )


def three_block() -> nn.Module:
    """Three blocks of convolution, ReLU, batch norm, max-pool and dropout, then a dense layer."""
    layers: list[nn.Module] = []
    for inputs, outputs, rate in zip((1, 64, 128), (64, 128, 256), DROPOUT[:3], strict=True):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs), nn.MaxPool2d(2), nn.Dropout(rate)]
    layers += [nn.Flatten(), nn.Linear(256 * 9, 128), nn.ReLU(), nn.BatchNorm1d(128), nn.Dropout(DROPOUT[3]), nn.Linear(128, CLASSES)]
    return nn.Sequential(*layers)


class Block(nn.Module):
    """Two 3×3 convolutions with batch norm around a shortcut without weights."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, inputs, H, W]`` to ``[N, outputs, H / stride, W / stride]``."""
        result = functional.relu(self.first_norm(self.first(x)))
        result = self.second_norm(self.second(result))
        if self.more:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return functional.relu(result + x)


class ResNet20(nn.Sequential):
    """The ResNet of 20 layers for small images."""

    def __init__(self) -> None:
        blocks = [Block(16 if i < 1 else 16 * 2 ** ((i - 1) // 3), 16 * 2 ** (i // 3), 2 if i in (3, 6) else 1) for i in range(9)]
        stem = (nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        super().__init__(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))


def initialise(module: nn.Module) -> None:
    """Start one layer as Keras does."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.momentum, module.eps = 0.01, 1e-3


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def affine(count: int) -> Tensor:
    """Random rotation, shift and zoom of ``count`` images, as ``[count, 2, 3]`` maps from output to input coordinates in −1 … 1."""
    angle = (torch.rand(count) * 2 - 1) * math.radians(ROTATE)
    scale = 1 / (1 + (torch.rand(count) * 2 - 1) * ZOOM)
    shift = (torch.rand(2, count) * 2 - 1) * 2 * SHIFT
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    return torch.stack([cosine, -sine, shift[0], sine, cosine, shift[1]], 1).view(count, 2, 3)


def as_tensors(part: Split) -> tuple[Tensor, Tensor]:
    """Float32 ``[N, 1, 28, 28]`` in 0 … 1, and labels."""
    return torch.from_numpy(part.pixels)[:, None].float().div_(255), torch.from_numpy(part.labels)


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches) -> float:
    """The loop of the tutorials; return the sum of the losses."""
    loss_function = nn.CrossEntropyLoss()
    running = 0.0
    model.train()
    for images, labels in batches:
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        running += loss.item()
    return running


class TorchPeer:
    """What the peers in plain PyTorch share; they differ in where batches come from."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ[THREADS]))
        self.training = split("training")

    def variants(self, network: str) -> list[str]:
        """Only one."""
        return [""]

    def build(self, network: str, batch: int, seed: int, variant: str) -> int:
        """As `Peer` has it."""
        torch.manual_seed(seed)
        self.name, self.batch, self.variant = network, batch, variant
        self.model = new_network(network)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE, eps=EPSILON)
        return parameters(self.model)

    def batches(self, images: int) -> Batches:
        """One epoch."""
        raise NotImplementedError

    def train(self, images: int, epochs: int) -> float:
        """As `Peer` has it."""
        began = time.perf_counter()
        for _ in range(epochs):
            train_epoch(self.model, self.optimizer, self.batches(images))
        return time.perf_counter() - began

    @torch.inference_mode()
    def accuracy(self, by_batch: bool = False) -> float:
        """As `Peer` has it."""
        images, labels = as_tensors(split("validation"))
        self.model.eval()
        if by_batch:
            normalise_by_batch(self.model)
        found = torch.cat([self.model(batch).argmax(1) for batch in torch.split(images, 500)])
        return float((found == labels).float().mean())


def normalise_by_batch(model: nn.Module) -> None:
    """Have layers of batch norm use the statistics of the batch, and all others stay as they are."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.train()
