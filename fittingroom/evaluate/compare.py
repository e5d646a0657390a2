"""Two models on the same images: is the difference more than chance?

This compares predictions over images, for one run each. What varies from seed to seed is not in it, and `Comparison` says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from fittingroom.errors import UsageError

__all__ = ["Comparison", "compare_predictions", "mcnemar_exact"]


@dataclass(frozen=True)
class Comparison:
    """Accuracies of two models on the same images.

    Attributes:
        names: the two models.
        images: how many images.
        accuracies: of each, 0 to 1.
        only_first, only_second: images that one of them alone gets right.
        difference: second minus first.
        interval: 95 % interval of the difference over images (paired, normal approximation).
        p_value: of the exact McNemar test: both are equally often right.
    """

    names: tuple[str, str]
    images: int
    accuracies: tuple[float, float]
    only_first: int
    only_second: int
    difference: float
    interval: tuple[float, float]
    p_value: float

    def __str__(self) -> str:
        better = self.names[1] if self.difference > 0 else self.names[0]
        verdict = f"{better} is better on these images" if self.p_value < 0.05 else "no difference beyond chance on these images"
        return (
            f"{self.names[0]} {self.accuracies[0]:.2%}, {self.names[1]} {self.accuracies[1]:.2%}: "
            f"difference {100 * self.difference:+.2f} points "
            f"(95 % interval {100 * self.interval[0]:+.2f} to {100 * self.interval[1]:+.2f}), "
            f"p = {self.p_value:.2g} by McNemar's exact test on {self.images:,} images: {verdict}. "
            "One run each: how much of it is the seed's luck, this cannot say."
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


def compare_predictions(
    names: tuple[str, str], first: NDArray[np.int64], second: NDArray[np.int64], labels: NDArray[np.int64]
) -> Comparison:
    """Compare two models' predicted classes ``[N]`` of the same images with labels ``[N]``.

    Raises:
        UsageError: the arrays are not of one length, or empty.
    """
    if not len(first) == len(second) == len(labels) or not len(labels):
        raise UsageError(f"predictions of {len(first)} and {len(second)} images with {len(labels)} labels cannot be compared")
    right = first == labels, second == labels
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    count = len(labels)
    difference = (only_second - only_first) / count
    spread = math.sqrt(max(0.0, (only_first + only_second) / count - difference**2) / count)
    margin = 1.959964 * spread
    accuracies = float(right[0].mean()), float(right[1].mean())
    interval = difference - margin, difference + margin
    return Comparison(names, count, accuracies, only_first, only_second, difference, interval, mcnemar_exact(only_first, only_second))


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (a sign test on the images that one model alone gets right)."""
    trials, fewer = only_first + only_second, min(only_first, only_second)
    if trials == 0:
        return 1.0
    logs = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - trials * math.log(2) for k in range(fewer + 1)]
    largest = max(logs)
    tail = math.exp(largest) * math.fsum(math.exp(value - largest) for value in logs)
    return min(1.0, 2 * tail)
