"""What every reader returns: images and labels as plain arrays, and the set that they make up."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fittingroom.errors import DataError

__all__ = ["DataSet", "ImageArray", "Images", "LabelArray"]

ImageArray = NDArray[np.uint8]
LabelArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Images:
    """Images with their labels.

    Attributes:
        pixels: uint8, ``[count, height, width, channels]``, 0 to 255; channels is 1 (gray) or 3 (RGB).
        labels: int64, ``[count]``, each in ``0 … classes - 1``.
    """

    pixels: ImageArray
    labels: LabelArray

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4:
            raise DataError(f"images must be uint8 [count, height, width, channels], not {self.pixels.dtype} {self.pixels.shape}")
        if self.labels.dtype != np.int64 or self.labels.ndim != 1:
            raise DataError(f"labels must be int64 [count], not {self.labels.dtype} {self.labels.shape}")
        if len(self.pixels) != len(self.labels):
            raise DataError(f"{len(self.pixels):,} images but {len(self.labels):,} labels: the two files do not belong together")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Images:
        """Return the images at ``indices``, in that order."""
        return Images(self.pixels[indices], self.labels[indices])

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over shape, pixels and labels: the same content gives the same value whatever file format it came in."""
        digest = hashlib.sha256(repr(self.pixels.shape).encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        digest.update(np.ascontiguousarray(self.labels).astype("<i8").data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class DataSet:
    """A named set of images, split as its source splits it.

    Attributes:
        name: what the user asked for.
        classes: the class names, by label.
        train: the training images.
        validation: the source's own validation images, where it has some.
        test: the test images, or None while the test set is sealed (not loaded) or where there is none.
        source: where the bytes came from, for the record; never a promise that they are there still.
        identity: the known set whose content this is, whatever it was called, or None where it is no known set.
        notices: what the user ought to know of this set, a line each: it is not what its name says, links were passed over.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    validation: Images | None = None
    test: Images | None = None
    source: str = ""
    identity: str | None = None
    notices: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of every image."""
        _, height, width, channels = self.train.pixels.shape
        return channels, height, width
