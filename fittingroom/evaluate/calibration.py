"""Calibration: whether a model that says 90 % is right nine times in ten."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fittingroom.errors import UsageError
from fittingroom.evaluate.metrics import check_predictions

__all__ = [
    "BINS",
    "CalibrationBin",
    "brier_score",
    "expected_calibration_error",
    "overconfidence",
    "reliability",
]

BINS = 15
"""Number of equal-width bins of the calibration error, as Guo et al. (2017) have it; the value depends on it."""


@dataclass(frozen=True)
class CalibrationBin:
    """The examples whose predicted class has a probability in ``(lower, upper]``.

    Attributes:
        lower: lower edge, in [0, 1).
        upper: upper edge, in (0, 1].
        count: number of examples.
        confidence: mean probability of the predicted class, 0 where there are no examples.
        accuracy: fraction of them that are right, 0 where there are no examples.
    """

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> tuple[CalibrationBin, ...]:
    """Return the data of a reliability diagram: equal-width bins over the probability of the predicted class.

    Args:
        probabilities: ``[count, classes]``, rows sum to 1.
        labels: ``[count]``.
        bins: number of bins over [0, 1], at least 1; they are open below and closed above (Guo et al., 2017).
    """
    if bins < 1:
        raise UsageError(f"a reliability diagram needs at least 1 bin, not {bins}")
    values, targets = check_predictions(probabilities, labels)
    confidence = values.max(axis=1).clip(0, 1)
    right = values.argmax(axis=1) == targets
    edges = np.arange(bins + 1) / bins
    # searchsorted on the same edges that are reported, so that a value on an edge lies where the edges say.
    place = (np.searchsorted(edges, confidence, side="left") - 1).clip(0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    confidences = np.bincount(place, weights=confidence, minlength=bins) / counts.clip(1)
    accuracies = np.bincount(place, weights=right, minlength=bins) / counts.clip(1)
    columns = (edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), confidences.tolist(), accuracies.tolist())
    return tuple(CalibrationBin(*row) for row in zip(*columns, strict=True))


def expected_calibration_error(bins: tuple[CalibrationBin, ...]) -> float:
    """Return the mean distance between confidence and accuracy over bins, weighted by their counts, in [0, 1] (Guo et al., 2017).

    It is biased upwards for few examples, and by the choice of bins; compare only values of equal bins and counts.
    """
    total = sum(part.count for part in bins)
    return sum(part.count * abs(part.confidence - part.accuracy) for part in bins) / total if total else 0.0


def overconfidence(bins: tuple[CalibrationBin, ...]) -> float:
    """Return mean confidence minus accuracy, in [−1, 1]: above 0 the model promises more than it keeps."""
    total = sum(part.count for part in bins)
    return sum(part.count * (part.confidence - part.accuracy) for part in bins) / total if total else 0.0


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean squared distance between the probabilities and the truth, summed over classes, in [0, 2] (Brier, 1950)."""
    values, targets = check_predictions(probabilities, labels)
    errors = values.copy()
    errors[np.arange(len(targets)), targets] -= 1
    return float(np.square(errors).sum(axis=1).mean())
