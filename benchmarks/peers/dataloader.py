"""Plain PyTorch as its tutorials have it: a `Dataset` that makes a picture of each image and transforms it, and a `DataLoader`.

torchvision, which the tutorials take the transforms from, cannot be imported beside every build of torch; what its `RandomAffine`
and `ToTensor` do with a gray picture is written out here, in the same calls of Pillow and torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmarks.peers.case import AUGMENTED, ROTATE, SHIFT, ZOOM, Split
from benchmarks.peers.protocol import serve
from benchmarks.peers.torch_networks import TorchPeer

__all__ = ["WORKERS", "Loaded", "Pictures", "Shuffled", "loader"]

WORKERS = {"no workers": 0, "2 workers": 2}


class Pictures(Dataset[tuple[Tensor, int]]):
    """The images of a split, one at a time."""

    def __init__(self, part: Split, augmented: bool) -> None:
        self.pixels, self.labels = part.pixels, part.labels.tolist()
        self.augmented = augmented

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.pixels[index], mode=None)
        return to_tensor(random_affine(picture) if self.augmented else picture), self.labels[index]


class Shuffled(Sampler[int]):
    """The first ``count`` images in random order; ``count`` may change from epoch to epoch, and a loader's workers stay."""

    count = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self.count).tolist())


def random_affine(picture: Image.Image) -> Image.Image:
    """Rotate, shift and zoom at random around the centre."""
    angle = math.radians(random.uniform(-ROTATE, ROTATE))
    scale = random.uniform(1 - ZOOM, 1 + ZOOM)
    width, height = picture.size
    right, down = round(random.uniform(-SHIFT, SHIFT) * width), round(random.uniform(-SHIFT, SHIFT) * height)
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    x, y = width / 2, height / 2
    matrix = (cosine, sine, x - cosine * (x + right) - sine * (y + down), -sine, cosine, y + sine * (x + right) - cosine * (y + down))
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def to_tensor(picture: Image.Image) -> Tensor:
    """Float32 ``[1, 28, 28]`` in 0 … 1."""
    pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
    return pixels.view(picture.size[1], picture.size[0], 1).permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def loader(part: Split, order: Shuffled, batch: int, augmented: bool, workers: int) -> DataLoader[tuple[Tensor, int]]:
    """A loader over ``part`` in ``order``; its workers start with the first epoch and stay."""
    return DataLoader(Pictures(part, augmented), batch, sampler=order, num_workers=workers, persistent_workers=workers > 0)


class Loaded(TorchPeer):
    """Batches come from a `DataLoader`."""

    def variants(self, network: str) -> list[str]:
        """Without workers, and with two."""
        return list(WORKERS)

    def build(self, network: str, batch: int, seed: int, variant: str) -> int:
        """As `Peer` has it."""
        random.seed(seed)
        self.order = Shuffled()
        self.loader = loader(self.training, self.order, batch, network in AUGMENTED, WORKERS[variant])
        return super().build(network, batch, seed, variant)

    def batches(self, images: int) -> DataLoader[tuple[Tensor, int]]:
        """One epoch."""
        self.order.count = images
        return self.loader


if __name__ == "__main__":
    serve(Loaded())
