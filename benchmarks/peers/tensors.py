"""Plain PyTorch with the whole set as tensors: float32, its own memory order, no loader."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.peers.case import AUGMENTED
from benchmarks.peers.protocol import serve
from benchmarks.peers.torch_networks import TorchPeer, affine, as_tensors


class Tensors(TorchPeer):
    """Batches are gathered from tensors; augmentation takes a batch at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.images, self.labels = as_tensors(self.training)

    def batches(self, images: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch."""
        for chosen in torch.split(torch.randperm(images), self.batch):
            batch = self.images[chosen]
            if self.name in AUGMENTED:
                grid = functional.affine_grid(affine(len(batch)), list(batch.shape), align_corners=False)
                batch = functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)
            yield batch, self.labels[chosen]


if __name__ == "__main__":
    serve(Tensors())
