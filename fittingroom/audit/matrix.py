"""Confusion matrices with given margins: when there is one, building one, and its figures recomputed from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

__all__ = ["Matrix", "build_matrix", "figures_of", "matrix_exists"]

Matrix = list[list[int]]


def matrix_exists(supports: Sequence[int], correct: Sequence[int], predicted: Sequence[int]) -> bool:
    """Whether there is a confusion matrix with these row sums, this diagonal and these column sums.

    Let ``missed[i] = supports[i] - correct[i]`` and ``wrong[j] = predicted[j] - correct[j]``, both at least 0, with one and the same
    total ``E``: the mistakes to be placed off the diagonal. There is a matrix exactly when ``missed[i] + wrong[i] <= E`` for every ``i``.

    Necessary: the mistakes of row ``i`` go to columns other than ``i``, so ``missed[i] <= E - wrong[i]``. Sufficient: `build_matrix`
    places mistake after mistake and keeps the condition. The sum of ``missed[i] + wrong[i]`` over all ``i`` is ``2 E``, so at most two
    classes meet their bound; a mistake between those two (or between the one and any other class) lowers ``E`` by one and their
    sums by one, so no bound is broken, and after ``E`` steps nothing is left.
    """
    missed = [support - right for support, right in zip(supports, correct, strict=True)]
    wrong = [count - right for count, right in zip(predicted, correct, strict=True)]
    if min(*correct, *missed, *wrong) < 0 or sum(missed) != sum(wrong):
        return False
    return all(row + column <= sum(missed) for row, column in zip(missed, wrong, strict=True))


def build_matrix(supports: Sequence[int], correct: Sequence[int], predicted: Sequence[int]) -> Matrix:
    """Return one such matrix, ``[true class][predicted class]``; call it only where `matrix_exists`."""
    classes = range(len(supports))
    missed = [support - right for support, right in zip(supports, correct, strict=True)]
    wrong = [count - right for count, right in zip(predicted, correct, strict=True)]
    matrix = [[correct[row] if row == column else 0 for column in classes] for row in classes]
    while (left := sum(missed)) > 0:

        def load(index: int) -> int:
            return missed[index] + wrong[index]

        tight = max(classes, key=load)
        if missed[tight] > 0:
            row, column = tight, max((index for index in classes if index != tight and wrong[index] > 0), key=load)
        else:
            row, column = max((index for index in classes if index != tight and missed[index] > 0), key=load), tight
        slack = min((left - load(index) for index in classes if index not in (row, column)), default=left)
        count = min(missed[row], wrong[column], slack)
        matrix[row][column] += count
        missed[row] -= count
        wrong[column] -= count
    return matrix


def figures_of(matrix: Sequence[Sequence[int]]) -> dict[tuple[str, str], Fraction]:
    """Recompute every figure of a report from a confusion matrix, exactly, as scikit-learn defines them (0 where a divisor is 0).

    Returns:
        By ``(row, column)``: the row is a class's index as text, or ``accuracy``, ``macro avg``, ``weighted avg``, ``micro avg``.
    """
    classes = range(len(matrix))
    images = sum(map(sum, matrix))
    figures: dict[tuple[str, str], Fraction] = {}
    for index in classes:
        support, predicted, right = sum(matrix[index]), sum(row[index] for row in matrix), matrix[index][index]
        figures[str(index), "precision"] = _share(right, predicted)
        figures[str(index), "recall"] = _share(right, support)
        figures[str(index), "f1"] = _share(2 * right, support + predicted)
    accuracy = _share(sum(matrix[index][index] for index in classes), images)
    figures["accuracy", "accuracy"] = accuracy
    for column in ("precision", "recall", "f1"):
        of_classes = [figures[str(index), column] for index in classes]
        figures["macro avg", column] = sum(of_classes, Fraction(0)) / len(matrix)
        weighted = (sum(row) * figure for row, figure in zip(matrix, of_classes, strict=True))
        figures["weighted avg", column] = sum(weighted, Fraction(0)) / images
        figures["micro avg", column] = accuracy
    return figures


def _share(part: int, whole: int) -> Fraction:
    return Fraction(part, whole) if whole else Fraction(0)
