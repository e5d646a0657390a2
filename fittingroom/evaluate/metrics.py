"""Classification metrics from class probabilities and labels: sums over counts, every example once.

Everything but the loss and the worst mistakes follows from the confusion matrix, so that accuracy, the scores per
class and their averages can never disagree with one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fittingroom.errors import DataError, UsageError

__all__ = [
    "Averages",
    "ClassScores",
    "ConfusedPair",
    "Mistake",
    "accuracy",
    "check_predictions",
    "class_scores",
    "classification_report",
    "confused_pairs",
    "confusion_matrix",
    "cross_entropy",
    "macro_average",
    "top_mistakes",
    "weighted_average",
    "wilson_interval",
]

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]
Confusion = NDArray[np.int64]

SUM_TOLERANCE = 0.01
"""How far a row of probabilities may be from a sum of 1: wide enough for a softmax in half precision, no wider."""
LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""Probabilities count as at least this much in a logarithm: an impossible event costs 87.3 nats, not infinity."""


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of one class, each in [0, 1], and its number of examples; 0 where undefined."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 averaged over classes, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ConfusedPair:
    """How often one class is taken for another.

    Attributes:
        true: label of the class that the examples belong to.
        predicted: label of the class that they are taken for.
        count: number of such examples.
        share: the same as a fraction of all examples of the true class.
    """

    true: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class Mistake:
    """One misclassified example: its position in the split, both labels, and the probability given to the wrong one."""

    index: int
    true: int
    predicted: int
    probability: float


def check_predictions(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Probabilities, Labels]:
    """Return both as float64 ``[count, classes]`` and int64 ``[count]``, once they have been found to be what they should.

    Raises:
        DataError: wrong shapes or types, no examples, fewer than two classes, values outside [0, 1] or not finite,
            rows that do not sum to 1, or labels outside the classes.
    """
    values, targets = np.asarray(probabilities), np.asarray(labels)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        raise DataError(f"class probabilities must be floats [count, classes], not {values.dtype} {list(values.shape)}")
    if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
        raise DataError(f"labels must be integers [count], not {targets.dtype} {list(targets.shape)}")
    if len(values) != len(targets):
        raise DataError(f"{len(values):,} rows of probabilities but {len(targets):,} labels: they do not belong together")
    if len(values) == 0 or values.shape[1] < 2:
        raise DataError(f"nothing to evaluate: {len(values)} examples of {values.shape[1]} classes; at least 1 of 2 are needed")
    values = values.astype(np.float64)
    _check_rows(values)
    wrong = np.flatnonzero((targets < 0) | (targets >= values.shape[1]))
    if len(wrong):
        raise DataError(f"label {targets[wrong[0]]} of example {wrong[0]} is outside the {values.shape[1]} classes")
    return values, targets.astype(np.int64)


def _check_rows(values: Probabilities) -> None:
    inside = np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        inside &= np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE
    wrong = np.flatnonzero(~inside)
    if len(wrong):
        raise DataError(f"row {wrong[0]} is not a probability distribution: its values must lie in [0, 1] and sum to 1 (softmax first?)")


def check_confusion(confusion: ArrayLike) -> Confusion:
    """Return a confusion matrix as int64 ``[classes, classes]``.

    Raises:
        DataError: not square, not whole numbers, negative, or without a single example.
    """
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or len(counts) < 2 or not np.issubdtype(counts.dtype, np.integer):
        raise DataError(f"a confusion matrix must hold whole numbers [classes, classes], not {counts.dtype} {list(counts.shape)}")
    if (counts < 0).any() or counts.sum() == 0:
        raise DataError("a confusion matrix must count at least one example and no negative ones")
    return counts.astype(np.int64)


def confusion_matrix(probabilities: ArrayLike, labels: ArrayLike) -> Confusion:
    """Count examples by true class (rows) and predicted class (columns).

    The predicted class is the most probable one; the first of them where several are equally probable.

    Args:
        probabilities: ``[count, classes]``, rows sum to 1.
        labels: ``[count]``, each in ``0 … classes - 1``.

    Returns:
        int64 ``[classes, classes]``, summing to the number of examples.
    """
    values, targets = check_predictions(probabilities, labels)
    classes = values.shape[1]
    cells = targets * classes + values.argmax(axis=1)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def accuracy(confusion: ArrayLike) -> float:
    """Return the fraction of examples on the diagonal, in [0, 1]."""
    counts = check_confusion(confusion)
    return int(np.trace(counts)) / int(counts.sum())


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval for a proportion (Wilson, 1927).

    It covers close to what it promises even near 0 and 1, where the textbook ± 1.96 √(p(1−p)/n) fails (Brown, Cai and
    DasGupta, 2001). It speaks of the sampling of the examples alone, not of the spread between training seeds.

    Args:
        correct: number of successes, 0 … total.
        total: number of examples, at least 1.
        confidence: coverage, in (0, 1).

    Returns:
        Lower and upper end, each in [0, 1].
    """
    _check_proportion(correct, total, confidence)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5 / (1 + z * z / total)
    # Rounding would leave 1e-17 where the formula gives exactly 0 or 1.
    return (0.0 if correct == 0 else centre - half), (1.0 if correct == total else centre + half)


def _check_proportion(correct: int, total: int, confidence: float) -> None:
    if total < 1 or not 0 <= correct <= total:
        raise UsageError(f"a proportion needs 0 ≤ correct ≤ total and total ≥ 1, not {correct} of {total}")
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence must lie between 0 and 1, not {confidence}")


def cross_entropy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean negative logarithm of the probability given to the true class, in nats (0 is perfect).

    Equals the loss that training minimises, without its penalties; probabilities below 1.2e-38 count as that much.
    """
    values, targets = check_predictions(probabilities, labels)
    given = values[np.arange(len(targets)), targets].clip(LEAST_PROBABILITY, 1.0)
    return float(-np.log(given).mean()) + 0.0  # + 0.0 turns a perfect −0.0 into 0.0


def class_scores(confusion: ArrayLike) -> tuple[ClassScores, ...]:
    """Return the scores of each class, in the order of the labels.

    A class that is never predicted has precision 0, one without examples recall 0 (scikit-learn's ``zero_division=0``).
    """
    counts = check_confusion(confusion)
    hits, support, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return tuple(
        ClassScores(
            precision=_ratio(int(hit), int(given)),
            recall=_ratio(int(hit), int(real)),
            f1=_ratio(2 * int(hit), int(given) + int(real)),
            support=int(real),
        )
        for hit, real, given in zip(hits, support, predicted, strict=True)
    )


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else 0.0


def macro_average(scores: Sequence[ClassScores]) -> Averages:
    """Return the plain mean over classes: a rare class counts as much as a common one."""
    return _average(scores, None)


def weighted_average(scores: Sequence[ClassScores]) -> Averages:
    """Return the mean over classes weighted by support: every example counts the same."""
    return _average(scores, [score.support for score in scores])


def _average(scores: Sequence[ClassScores], weights: list[int] | None) -> Averages:
    table = np.array([(score.precision, score.recall, score.f1) for score in scores])
    precision, recall, f1 = (float(np.average(column, weights=weights)) for column in table.T.copy())
    return Averages(precision, recall, f1)


def classification_report(confusion: ArrayLike, names: Sequence[str], digits: int = 2) -> str:
    """Return the scores in the text form that scikit-learn's ``classification_report`` made familiar, to the last blank.

    Args:
        confusion: counts ``[classes, classes]``, rows true.
        names: class names, by label.
        digits: decimals of the scores.

    Raises:
        UsageError: not one name per class, or negative digits.
    """
    counts = check_confusion(confusion)
    if len(names) != len(counts):
        raise UsageError(f"{len(names)} class names for {len(counts)} classes: give one name per class")
    if digits < 0:
        raise UsageError(f"digits must be 0 or more, not {digits}")
    scores, total = class_scores(counts), int(counts.sum())
    width = max(*map(len, names), len("weighted avg"), digits)

    def row(name: str, *cells: Any) -> str:
        return f"{name:>{width}s} " + "".join(f" {cell:>9.{digits}f}" if isinstance(cell, float) else f" {cell:>9}" for cell in cells)

    macro, weighted = macro_average(scores), weighted_average(scores)
    lines = [row("", "precision", "recall", "f1-score", "support"), ""]
    lines += [row(name, score.precision, score.recall, score.f1, score.support) for name, score in zip(names, scores, strict=True)]
    lines += ["", row("accuracy", "", "", accuracy(counts), total)]
    lines += [row("macro avg", macro.precision, macro.recall, macro.f1, total)]
    lines += [row("weighted avg", weighted.precision, weighted.recall, weighted.f1, total)]
    return "\n".join(lines) + "\n"


def confused_pairs(confusion: ArrayLike, limit: int = 10) -> tuple[ConfusedPair, ...]:
    """Return the pairs (true class, other class) with the most examples, most frequent first, without empty ones.

    Pairs with equal counts stand in the order of their labels.
    """
    counts = check_confusion(confusion)
    support = counts.sum(axis=1)
    errors = counts - np.diag(counts.diagonal())
    order = np.argsort(-errors, axis=None, kind="stable")[: max(0, limit)]
    cells = [(int(cell) // len(counts), int(cell) % len(counts)) for cell in order]
    return tuple(
        ConfusedPair(true, predicted, int(errors[true, predicted]), int(errors[true, predicted]) / int(support[true]))
        for true, predicted in cells
        if errors[true, predicted]
    )


def top_mistakes(probabilities: ArrayLike, labels: ArrayLike, limit: int = 24) -> tuple[Mistake, ...]:
    """Return the misclassified examples whose wrong class got the highest probability, surest first.

    Ties stand in the order of the examples.
    """
    values, targets = check_predictions(probabilities, labels)
    predicted = values.argmax(axis=1)
    wrong = np.flatnonzero(predicted != targets)
    sureness = values[wrong, predicted[wrong]]
    order = wrong[np.argsort(-sureness, kind="stable")][: max(0, limit)]
    return tuple(
        Mistake(int(index), int(targets[index]), int(predicted[index]), min(1.0, float(values[index, predicted[index]]))) for index in order
    )
