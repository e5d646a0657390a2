"""From predictions to metrics: one `Evaluation` per split, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fittingroom.errors import DataError
from fittingroom.evaluate import calibration, metrics
from fittingroom.evaluate.calibration import CalibrationBin
from fittingroom.evaluate.curves import CurveMeasures, measure_history
from fittingroom.evaluate.metrics import Averages, ClassScores, ConfusedPair, Mistake

__all__ = [
    "Averages",
    "CalibrationBin",
    "ClassScores",
    "ConfusedPair",
    "CurveMeasures",
    "Evaluation",
    "Mistake",
    "evaluate_predictions",
    "measure_history",
]

WORST = 24
"""How many of the surest mistakes an evaluation keeps."""


@dataclass(frozen=True)
class Evaluation:
    """What a model's predictions on one split are worth.

    It holds what cannot be derived; every other figure is computed from that, so that no two can disagree.

    Attributes:
        classes: class names, by label, each once.
        confusion: counts, ``confusion[true][predicted]``.
        loss: mean cross-entropy, in nats.
        brier: Brier score summed over classes, in [0, 2].
        bins: the reliability diagram, `calibration.BINS` equal-width bins.
        mistakes: the surest mistakes, surest first, at most `WORST`.
    """

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    loss: float
    brier: float
    bins: tuple[CalibrationBin, ...]
    mistakes: tuple[Mistake, ...]

    def __post_init__(self) -> None:
        counts = metrics.check_confusion(self.confusion)
        if len(counts) != len(self.classes) or len(set(self.classes)) != len(self.classes):
            raise DataError(f"an evaluation needs {len(counts)} different class names, not {list(self.classes)}")
        if not (math.isfinite(self.loss) and self.loss >= 0 and 0 <= self.brier <= 2.1):
            raise DataError(f"an evaluation cannot have a loss of {self.loss} and a Brier score of {self.brier}")
        if sum(part.count for part in self.bins) != self.count:
            raise DataError("the calibration bins and the confusion matrix count different numbers of examples")

    @property
    def count(self) -> int:
        """Number of examples."""
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        """Number of examples classified right."""
        return sum(row[label] for label, row in enumerate(self.confusion))

    @property
    def errors(self) -> int:
        """Number of examples classified wrong."""
        return self.count - self.correct

    @property
    def accuracy(self) -> float:
        """Fraction of examples classified right, in [0, 1]."""
        return self.correct / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return metrics.wilson_interval(self.correct, self.count)

    @property
    def scores(self) -> tuple[ClassScores, ...]:
        """Precision, recall, F1 and support per class, by label."""
        return metrics.class_scores(self.confusion)

    @property
    def macro(self) -> Averages:
        """Plain mean of the scores over classes."""
        return metrics.macro_average(self.scores)

    @property
    def weighted(self) -> Averages:
        """Mean of the scores over classes, weighted by support."""
        return metrics.weighted_average(self.scores)

    @property
    def confused_pairs(self) -> tuple[ConfusedPair, ...]:
        """The ten most frequent confusions, most frequent first."""
        return metrics.confused_pairs(self.confusion)

    @property
    def expected_calibration_error(self) -> float:
        """Expected calibration error over `bins`, in [0, 1]."""
        return calibration.expected_calibration_error(self.bins)

    @property
    def overconfidence(self) -> float:
        """Mean confidence minus accuracy, in [−1, 1]."""
        return calibration.overconfidence(self.bins)

    def classification_report(self, digits: int = 2) -> str:
        """Return scikit-learn's familiar text form."""
        return metrics.classification_report(self.confusion, self.classes, digits)

    def to_json(self) -> dict[str, Any]:
        """Return every figure, the derived ones too, as plain JSON values; classes go by their names."""
        low, high = self.interval
        return {
            "accuracy": self.accuracy,
            "interval": {"method": "wilson", "confidence": 0.95, "low": low, "high": high},
            "loss": self.loss,
            "count": self.count,
            "correct": self.correct,
            "errors": self.errors,
            "macro": asdict(self.macro),
            "weighted": asdict(self.weighted),
            "classes": list(self.classes),
            "per_class": [{"class": name, **asdict(scores)} for name, scores in zip(self.classes, self.scores, strict=True)],
            "confusion": [list(row) for row in self.confusion],
            "confused_pairs": [self._named(asdict(pair)) for pair in self.confused_pairs],
            "calibration": {
                "expected_calibration_error": self.expected_calibration_error,
                "overconfidence": self.overconfidence,
                "brier": self.brier,
                "bins": [asdict(part) for part in self.bins],
            },
            "mistakes": [self._named(asdict(mistake)) for mistake in self.mistakes],
        }

    def _named(self, value: dict[str, Any]) -> dict[str, Any]:
        return {**value, "true": self.classes[value["true"]], "predicted": self.classes[value["predicted"]]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Evaluation:
        """Read back what `to_json` wrote.

        Raises:
            DataError: a part is missing or of the wrong kind, or the stated accuracy is not that of the confusion matrix.
        """
        try:
            classes = tuple(str(name) for name in value["classes"])
            labels = {name: label for label, name in enumerate(classes)}
            evaluation = cls(
                classes=classes,
                confusion=_counts(value["confusion"]),
                loss=float(value["loss"]),
                brier=float(value["calibration"]["brier"]),
                bins=tuple(_bin(part) for part in value["calibration"]["bins"]),
                mistakes=tuple(
                    Mistake(int(item["index"]), labels[item["true"]], labels[item["predicted"]], float(item["probability"]))
                    for item in value["mistakes"]
                ),
            )
            agrees = abs(float(value["accuracy"]) - evaluation.accuracy) < 1e-9
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"{type(error).__name__}: {error}"
            raise DataError(f"not an evaluation as this program writes it ({what}); evaluate the run again") from None
        if not agrees:
            raise DataError("the evaluation's accuracy is not that of its own confusion matrix; evaluate the run again")
        return evaluation

    def _repr_html_(self) -> str:
        low, high = self.interval
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{scores.precision:.3f}</td><td>{scores.recall:.3f}</td>"
            f"<td>{scores.f1:.3f}</td><td>{scores.support:,}</td></tr>"
            for name, scores in zip(self.classes, self.scores, strict=True)
        )
        return (
            f"<p><strong>{self.accuracy:.2%}</strong> accuracy on {self.count:,} images "
            f"(95 % interval {low:.2%} to {high:.2%}); loss {self.loss:.4f}</p>"
            "<table><thead><tr><th>class</th><th>precision</th><th>recall</th><th>F1</th><th>support</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )


def evaluate_predictions(probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> Evaluation:
    """Evaluate class probabilities against the true labels.

    Args:
        probabilities: floats ``[count, classes]``, rows sum to 1.
        labels: integers ``[count]``, each in ``0 … classes - 1``.
        classes: class names, by label, each once.

    Raises:
        DataError: the arrays or the names are not that; the message says which and where.
    """
    values, targets = metrics.check_predictions(probabilities, labels)
    counts = metrics.confusion_matrix(values, targets)
    return Evaluation(
        classes=tuple(classes),
        confusion=tuple(tuple(map(int, row)) for row in counts),
        loss=metrics.cross_entropy(values, targets),
        brier=calibration.brier_score(values, targets),
        bins=calibration.reliability(values, targets),
        mistakes=metrics.top_mistakes(values, targets, WORST),
    )


def _counts(value: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, row)) for row in np.asarray(value, dtype=np.int64).tolist())


def _bin(value: Mapping[str, Any]) -> CalibrationBin:
    numbers = [float(value[key]) for key in ("lower", "upper", "confidence", "accuracy")]
    if not all(-1e-9 <= number <= 1 + 1e-9 for number in numbers) or int(value["count"]) < 0:
        raise ValueError("a calibration bin lies outside 0 to 1")
    lower, upper, confidence, accuracy = numbers
    return CalibrationBin(lower, upper, int(value["count"]), confidence, accuracy)
