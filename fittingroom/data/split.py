"""Seeded, stratified choices among labelled images: each class keeps its share, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fittingroom.errors import UsageError

__all__ = ["stratified_split", "stratified_subset"]

Indices = NDArray[np.int64]


def stratified_split(labels: Indices, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Split images into training and validation so that both have each class's share.

    The number held back is the count times ``fraction``, rounded; it is shared among the classes by largest
    remainders, ties going to the lower label. Which images of a class are taken, PCG64 seeded with ``seed`` decides.

    Args:
        labels: int64 ``[count]``.
        fraction: the share held back for validation, at least 0 and below 1.
        seed: of the choice; the same seed gives the same split on every machine.

    Returns:
        ``(train, validation)``: int64 indices, each in ascending order; together each index once.

    Raises:
        UsageError: the fraction is outside its range, or leaves one of the two parts empty.
    """
    if not 0 <= fraction < 1:
        raise UsageError(f"the validation fraction must be at least 0 and below 1, not {fraction}")
    held_back = int(len(labels) * fraction + 0.5)
    if (fraction > 0 and held_back == 0) or held_back >= len(labels):
        raise UsageError(f"a validation fraction of {fraction} of {len(labels):,} images leaves an empty part; choose another fraction")
    validation = stratified_subset(labels, held_back, seed)
    train = np.setdiff1d(np.arange(len(labels), dtype=np.int64), validation, assume_unique=True)
    return train, validation


def stratified_subset(labels: Indices, count: int, seed: int) -> Indices:
    """Choose ``count`` images so that each class keeps its share; all of them where there are no more than ``count``.

    Shares and chance are those of `stratified_split`.

    Returns:
        int64 indices in ascending order.

    Raises:
        UsageError: ``count`` is negative.
    """
    if count < 0:
        raise UsageError(f"the number of images must not be negative, not {count}")
    if count >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    generator = np.random.Generator(np.random.PCG64(seed))
    classes, sizes = np.unique(labels, return_counts=True)
    chosen = [
        generator.permutation(np.flatnonzero(labels == label))[:share]
        for label, share in zip(classes, _shares(sizes.tolist(), count), strict=True)
    ]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen])).astype(np.int64)


def _shares(sizes: list[int], total: int) -> list[int]:
    """Share ``total`` among classes in proportion to their sizes, in whole numbers, by largest remainders."""
    everything = sum(sizes)
    shares = [size * total // everything for size in sizes]
    remainders = [size * total % everything for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (-remainders[i], i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares
