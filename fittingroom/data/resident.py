"""A split held as tensors on the training device, handed out in batches: no loader processes, no per-image work."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fittingroom.data.arrays import Images
from fittingroom.data.augment import augment
from fittingroom.recipe import Augment

__all__ = ["Resident"]

# Images are normalised and augmented this many at a time: enough to spread the cost of a call, few enough for the cache.
CHUNK = 1024


class Resident:
    """Images kept as they came on a device, and normalised as they are handed out.

    Args:
        pixels: ``[N, C, H, W]``, bytes as a rule.
        labels: int64 ``[N]``.
        scale: float32 ``[C]``; offset: float32 ``[C]``; a network sees ``pixels * scale + offset``.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, scale: NDArray[np.float32], offset: NDArray[np.float32]) -> None:
        self.device = pixels.device
        self.pixels = pixels
        self.labels = labels
        self.scale = torch.tensor(scale, device=self.device).view(1, -1, 1, 1)
        self.offset = torch.tensor(offset, device=self.device).view(1, -1, 1, 1)

    @classmethod
    def of(cls, images: Images, scale: NDArray[np.float32], offset: NDArray[np.float32], device: torch.device) -> Resident:
        """Put a split on a device; on the CPU, its memory is used where it lies, so that processes may share it."""
        pixels, labels = (_tensor(array).to(device) for array in (images.pixels, images.labels))
        return cls(pixels.permute(0, 3, 1, 2), labels, scale, offset)

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return float32 ``[N, C, H, W]`` in channels-last memory for pixels of the same shape, which stay as they are."""
        return pixels.to(torch.float32, copy=True).mul_(self.scale).add_(self.offset).contiguous(memory_format=torch.channels_last)

    def sizes(self, batch_size: int) -> list[int]:
        """Sizes of the batches of one training pass; the last may be smaller.

        A last image that would be alone joins the batch before it: one image has no variance for batch norm to divide by.
        """
        full, rest = divmod(len(self), batch_size)
        sizes = [batch_size] * full
        if rest == 1 and full and batch_size > 1:
            sizes[-1] += 1
        elif rest:
            sizes.append(rest)
        return sizes

    def shuffled(self, batch_size: int, settings: Augment, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch of training batches: every image once, in random order, augmented; of `sizes`."""
        order = torch.randperm(len(self), generator=generator, device=self.device)
        sizes = self.sizes(batch_size)
        together = max(1, CHUNK // batch_size)
        chunks = [sizes[start : start + together] for start in range(0, len(sizes), together)]
        for chunk, indices in zip(chunks, torch.split(order, [sum(chunk) for chunk in chunks]), strict=True):
            # By rows of pixels, channels last: that is how they came, as a rule, and so each image is copied in one piece.
            images = self.normalised(self.pixels.permute(0, 2, 3, 1).index_select(0, indices).permute(0, 3, 1, 2))
            labels = self.labels.index_select(0, indices)
            if settings.active:
                images = augment(images, settings, generator).contiguous(memory_format=torch.channels_last)
            yield from zip(torch.split(images, chunk), torch.split(labels, chunk), strict=True)

    def in_order(self, batch_size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images once, in their order, unchanged."""
        for pixels, labels in zip(torch.split(self.pixels, batch_size), torch.split(self.labels, batch_size), strict=True):
            yield self.normalised(pixels), labels


def _tensor(array: NDArray[np.uint8] | NDArray[np.int64]) -> Tensor:
    """The array as a tensor: the same memory, but for what PyTorch does not know, arrays that are read-only or have gaps."""
    return torch.from_numpy(array) if array.flags.writeable and array.flags.c_contiguous else torch.tensor(array)
