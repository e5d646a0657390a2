"""From 0–255 pixels to the network's input: one factor and one offset per channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fittingroom.data.arrays import Images
from fittingroom.errors import DataError, UsageError
from fittingroom.recipe import Normalise

__all__ = ["mean_and_std", "scale_and_offset"]

PerChannel = NDArray[np.float32]

AS_WRITTEN_MEAN, AS_WRITTEN_STD = 0.2860, 0.3530
"""Fashion-MNIST's statistics on the 0–1 scale, which report `custom-cnn` applies to pixels that were never divided by 255."""
CHUNK = 4096


def scale_and_offset(normalise: Normalise, train: Images) -> tuple[PerChannel, PerChannel]:
    """Return ``scale`` and ``offset``, float32 ``[channels]``, such that the input is ``pixels * scale + offset``.

    Args:
        normalise: which normalisation, as the recipe has it.
        train: the training images: their channels count, and for `mean-std` their statistics. Hand in what the network is
            trained on, without validation images, so that nothing of those leaks into the input.

    Raises:
        UsageError: the stated means and stds are not one per channel.
        DataError: `mean-std` of images that are all of one value, whose standard deviation is zero.
    """
    channels = train.pixels.shape[3]
    if normalise.kind == "raw-mean-std":
        mean, std, unit = np.full(channels, AS_WRITTEN_MEAN), np.full(channels, AS_WRITTEN_STD), 1.0
    else:
        mean, std = _unit_statistics(normalise, train)
        unit = 255.0
    return (1 / (unit * std)).astype(np.float32), (-mean / std).astype(np.float32)


def _unit_statistics(normalise: Normalise, train: Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    channels = train.pixels.shape[3]
    if normalise.kind == "unit":
        return np.zeros(channels), np.ones(channels)
    if normalise.kind == "given":
        if len(normalise.mean) != channels:
            raise UsageError(f"data.normalise gives {len(normalise.mean)} mean(s) and std(s), but the images have {channels} channel(s)")
        return np.array(normalise.mean), np.array(normalise.std)
    mean, std = mean_and_std(train)
    if not std.all():
        raise DataError(f"channel {int(np.argmin(std))} of the training images is the same everywhere, so it has no standard deviation; "
                        "use normalise = \"unit\"")
    return mean, std


def mean_and_std(images: Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (of the population) per channel, float64 ``[channels]``, of pixels scaled to 0–1.

    Exact up to the last rounding: pixels are counted by value, and the counts summed as whole numbers.
    """
    channels = images.pixels.shape[3]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), CHUNK):
        chunk = images.pixels[start : start + CHUNK]
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    values = np.arange(256)
    number = counts.sum(1)
    total, squares = counts @ values, counts @ values**2
    # number² · variance = number · Σx² − (Σx)², in Python's unbounded integers, so that nothing cancels.
    scaled = [int(n) * int(s) - int(t) ** 2 for n, s, t in zip(number, squares, total, strict=True)]
    variance = np.array([value / int(n) ** 2 for value, n in zip(scaled, number, strict=True)])
    return total / number / 255, np.sqrt(variance) / 255
