"""Measures of learning curves: how erratic they are, how fast they converge, when training and validation part.

A curve is a list with one value an epoch, the first for epoch 1. Values that are missing (None) or not finite make a
measure None: no figure is better than a wrong one. Nothing here knows what the metric is but its direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CurveMeasures",
    "ExponentialFit",
    "curve",
    "epochs_to_cover",
    "erraticness",
    "exponential_fit",
    "gap_opening",
    "generalisation_gap",
    "measure_history",
]

Curve = Sequence[float | None]

COVERED = 0.95
"""Part of the way to the best value after which a curve counts as converged."""
LEAST_FIT = 0.9
"""Part of the variance that an exponential must explain before its time constant is reported."""


@dataclass(frozen=True)
class ExponentialFit:
    """``asymptote + amplitude · exp(−(epoch − 1) / time_constant)``, fitted to a curve.

    Attributes:
        time_constant: epochs in which the remaining distance shrinks to 1/e (37 %).
        asymptote: the value that the curve tends to, in its own units.
        r_squared: part of the variance explained, in [0, 1].
    """

    time_constant: float
    asymptote: float
    r_squared: float


@dataclass(frozen=True)
class CurveMeasures:
    """The measures of one run's history; each is None where the history does not permit it.

    Attributes:
        epochs: number of epochs recorded.
        best_epoch: epoch of the highest validation accuracy (the first of them).
        erraticness_accuracy: `erraticness` of the validation accuracy, in fractions of 1.
        erraticness_loss: `erraticness` of the validation loss, in nats.
        epochs_to_95: `epochs_to_cover` of the validation accuracy.
        time_constant: of an exponential fitted to the validation accuracy, in epochs.
        gap: training minus validation accuracy at the last epoch.
        gap_opens: `gap_opening` of the accuracies.
    """

    epochs: int
    best_epoch: int | None = None
    erraticness_accuracy: float | None = None
    erraticness_loss: float | None = None
    epochs_to_95: float | None = None
    time_constant: float | None = None
    gap: float | None = None
    gap_opens: int | None = None


def erraticness(values: Curve, skip: int = 0) -> float | None:
    """Return how far, on average, an epoch lies from the straight line between its two neighbours, in the metric's units.

    ``mean over t of |y_t − (y_{t−1} + y_{t+1}) / 2|``: half the mean absolute second difference. Why this one:

    * A straight line has 0, and adding one to any curve changes nothing: steady learning is not erratic.
    * It is in the units of the metric, so 0.01 of accuracy means that epochs stray by about one point. For independent
      noise of standard deviation σ on a straight trend it is √1.5 · √(2/π) · σ = 0.98 σ: it reads as the noise itself.
    * The residuals are the pseudo-residuals with which Gasser, Sroka and Jennen-Steinmetz (1986) estimate the noise
      about a smooth curve of unknown shape; absolute values are taken where they take squares, so that one bad epoch
      does not drown the rest.
    * It needs no window, no degree and no fitted trend, hence nothing to tune in favour of a conclusion.

    Curvature counts too: the steep first epochs of a smooth curve add at most half of its first step, divided by the
    number of epochs. Where runs of very different speed are compared, leave them out by ``skip``.

    Args:
        values: one value an epoch.
        skip: epochs to leave out at the beginning.

    Returns:
        0 or more; None for fewer than three epochs.
    """
    points = _finite(values[skip:])
    if points is None or len(points) < 3:
        return None
    return float(np.abs(points[1:-1] - (points[:-2] + points[2:]) / 2).mean())


def epochs_to_cover(values: Curve, *, higher_is_better: bool, fraction: float = COVERED, start: float | None = None) -> float | None:
    """Return after how many epochs the curve first covers ``fraction`` of the way from its first to its best value.

    This is the settling time of control engineering, with the best value for the final one: early stopping keeps the
    best, and an end that overfits must not make a run look fast. Between epochs the value is interpolated linearly.

    Args:
        values: one value an epoch, the first for epoch 1.
        higher_is_better: True for accuracy, False for loss.
        fraction: part of the way, in (0, 1].
        start: the value before training, at epoch 0 (chance: 1 / classes for accuracy, ln(classes) for cross-entropy).
            Without it the way begins at epoch 1, and what the first epoch learnt does not count.

    Returns:
        Epochs, at least 0; None for a curve that never betters its first value.
    """
    first = 1 if start is None else 0
    points = _finite(values if start is None else [start, *values])
    if points is None or len(points) < 2:
        return None
    progress = (points - points[0]) * (1 if higher_is_better else -1)
    target = fraction * float(progress.max())
    if target <= 0:
        return None
    after = int(np.argmax(progress >= target))
    before = after - 1
    part = (target - progress[before]) / (progress[after] - progress[before])
    return float(first + before + part)


def exponential_fit(values: Curve) -> ExponentialFit | None:
    """Fit an exponential approach to an asymptote by least squares.

    For each time constant the best asymptote and amplitude are linear (variable projection: Golub and Pereyra, 1973),
    so a search over one number is exact enough and cannot fail to converge.

    Returns:
        The fit; None for fewer than four epochs, a constant curve, or one of which the exponential explains less than
        nine tenths of the variance, or whose time constant lies beyond what the epochs can tell (0.2 … their number).
    """
    points = _finite(values)
    if points is None or len(points) < 4 or float(np.ptp(points)) <= 1e-12 * float(np.abs(points).max(initial=1.0)):
        return None
    shortest, longest = 0.2, float(len(points))
    coarse = np.geomspace(shortest, longest, 200)
    best = int(np.argmin(_exponential(points, coarse)[0]))
    if best in (0, len(coarse) - 1):
        return None
    fine = np.linspace(coarse[best - 1], coarse[best + 1], 200)
    errors, asymptotes = _exponential(points, fine)
    least = int(np.argmin(errors))
    r_squared = 1 - float(errors[least]) / float(np.square(points - points.mean()).sum())
    return ExponentialFit(float(fine[least]), float(asymptotes[least]), r_squared) if r_squared >= LEAST_FIT else None


def _exponential(points: NDArray[np.float64], constants: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the squared errors and the asymptotes of the best fits with these time constants."""
    decay = np.exp(-np.arange(len(points)) / constants[:, None])
    centred = decay - decay.mean(1, keepdims=True)
    amplitudes = centred @ points / np.square(centred).sum(1)
    asymptotes = points.mean() - amplitudes * decay.mean(1)
    return np.square(points - asymptotes[:, None] - amplitudes[:, None] * decay).sum(1), asymptotes


def generalisation_gap(train: Curve, validation: Curve, *, higher_is_better: bool) -> list[float] | None:
    """Return by how much training is ahead of validation at each epoch, in the metric's units.

    Training values are usually averaged while the weights still change, with dropout and augmentation on: they lag half
    an epoch behind, and the gap of the first epochs is often negative.

    Returns:
        One value an epoch, above 0 where training is ahead; None for curves of different or no length.
    """
    first, second = _finite(train), _finite(validation)
    if first is None or second is None or len(first) != len(second):
        return None
    gaps: list[float] = ((first - second) * (1 if higher_is_better else -1)).tolist()
    return gaps


def gap_opening(train: Curve, validation: Curve, *, higher_is_better: bool, margin: float = 0.01, sustained: int = 2) -> int | None:
    """Return the epoch from which on training stays ahead of validation by more than ``margin``, to the end.

    "A gap opens after epoch 3" is true of a curve whose opening is epoch 4. That it must last to the end keeps one
    lucky epoch from counting.

    Args:
        train: training values, one an epoch.
        validation: validation values, one an epoch.
        higher_is_better: True for accuracy, False for loss.
        margin: the least gap, in the metric's units; 0.01 is one point of accuracy, more than the sampling error of
            10,000 images near 90 % (± 0.6 points at 95 %).
        sustained: epochs, the last included, that the gap must have been open.

    Returns:
        An epoch, counted from 1; None where no gap is open at the end.
    """
    gaps = generalisation_gap(train, validation, higher_is_better=higher_is_better)
    if gaps is None:
        return None
    closed = [epoch for epoch, gap in enumerate(gaps, 1) if gap <= margin]
    opening = max(closed, default=0) + 1
    return opening if len(gaps) - opening + 1 >= sustained else None


def curve(history: Sequence[Mapping[str, Any]], part: str, quantity: str) -> list[float | None]:
    """Take one curve, such as ``("validation", "loss")``, out of a history as `metrics.jsonl` records it; None where absent."""
    values = (line.get(part) or {} for line in history)
    return [_number(value.get(quantity)) if isinstance(value, Mapping) else None for value in values]


def measure_history(history: Sequence[Mapping[str, Any]]) -> CurveMeasures:
    """Measure the curves of a run from its history, one mapping an epoch as `metrics.jsonl` records it."""
    train, validation = curve(history, "train", "accuracy"), curve(history, "validation", "accuracy")
    fit = exponential_fit(validation)
    gaps = generalisation_gap(train, validation, higher_is_better=True)
    points = _finite(validation)
    return CurveMeasures(
        epochs=len(history),
        best_epoch=None if points is None else int(np.argmax(points)) + 1,
        erraticness_accuracy=erraticness(validation),
        erraticness_loss=erraticness(curve(history, "validation", "loss")),
        epochs_to_95=epochs_to_cover(validation, higher_is_better=True),
        time_constant=None if fit is None else fit.time_constant,
        gap=gaps[-1] if gaps else None,
        gap_opens=gap_opening(train, validation, higher_is_better=True),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _finite(values: Curve) -> NDArray[np.float64] | None:
    """Return the values as an array, or None where there is none or one is missing or not finite."""
    points = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return points if len(points) and bool(np.isfinite(points).all()) else None
