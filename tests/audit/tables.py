"""The tables of the reports, figures only, and tables made from matrices by scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

__all__ = ["DIGITS", "FASHION", "labels_of", "printed", "report"]

MNIST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
EVEN = (1000,) * 10


def report(rows: str, supports: Sequence[int], accuracy: str, macro: str, weighted: str, caption: str) -> str:
    """A table as the reports hold it: tab-separated, the accuracy row with empty cells."""
    figures = [row.split() for row in rows.strip().splitlines()]
    lines = [caption, "", "\tprecision\trecall\tf1-score\tsupport"]
    lines += ["\t".join([str(index), *row, str(support)]) for index, (row, support) in enumerate(zip(figures, supports, strict=True))]
    lines.append(f"accuracy\t\t\t{accuracy}\t{sum(supports)}")
    lines += ["\t".join([name, *row.split(), str(sum(supports))]) for name, row in (("macro avg", macro), ("weighted avg", weighted))]
    return "\n".join(lines) + "\n"


CUSTOM = """
0.87 0.84 0.85
0.99 0.98 0.99
0.84 0.82 0.83
0.91 0.91 0.91
0.82 0.84 0.83
0.98 0.99 0.98
0.72 0.74 0.73
0.95 0.98 0.97
0.98 0.98 0.98
0.99 0.95 0.97
"""
ALEXNET = """
0.82 0.85 0.84
0.99 0.97 0.98
0.80 0.88 0.84
0.87 0.92 0.89
0.84 0.83 0.83
0.98 0.97 0.98
0.75 0.61 0.67
0.95 0.96 0.96
0.98 0.98 0.98
0.96 0.96 0.96
"""
LENET = """
0.75 0.82 0.79
0.98 0.96 0.97
0.77 0.78 0.77
0.88 0.86 0.87
0.74 0.79 0.76
0.96 0.95 0.96
0.67 0.55 0.60
0.93 0.95 0.94
0.92 0.96 0.94
0.95 0.95 0.95
"""
RESNET = """
0.77 0.93 0.84
1.00 0.94 0.97
0.71 0.94 0.81
0.89 0.89 0.89
0.99 0.47 0.64
0.99 0.95 0.97
0.69 0.75 0.72
0.91 0.99 0.95
0.99 0.96 0.98
0.99 0.94 0.96
"""
THREE_BLOCK = """
1.00 1.00 1.00
1.00 1.00 1.00
0.99 1.00 1.00
0.99 1.00 1.00
0.99 1.00 1.00
0.99 0.99 0.99
1.00 0.99 0.99
0.99 1.00 0.99
1.00 0.99 1.00
1.00 0.99 0.99
"""
FASHION = {
    "custom": report(CUSTOM, EVEN, "0.90", "0.90 0.90 0.90", "0.90 0.90 0.90", "Custom CNN:"),
    "alexnet": report(ALEXNET, EVEN, "0.89", "0.89 0.89 0.89", "0.89 0.89 0.89", "AlexNet:"),
    "lenet": report(LENET, EVEN, "0.86", "0.85 0.86 0.85", "0.85 0.86 0.85", "LeNet-5:"),
    "resnet": report(RESNET, EVEN, "0.88", "0.89 0.88 0.87", "0.89 0.88 0.87", "ResNet:"),
}
DIGITS = report(THREE_BLOCK, MNIST, "1.00", "1.00 1.00 1.00", "1.00 1.00 1.00", "Three blocks:")


def labels_of(matrix: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """True and predicted labels with this confusion matrix."""
    pairs = [(row, column) for row, counts in enumerate(matrix) for column, count in enumerate(counts) for _ in range(count)]
    return [true for true, _ in pairs], [predicted for _, predicted in pairs]


def printed(matrix: Sequence[Sequence[int]], digits: int, names: Sequence[str] | None = None) -> str:
    """What scikit-learn prints for a confusion matrix."""
    from sklearn.metrics import classification_report

    true, predicted = labels_of(matrix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes never predicted
        text = classification_report(
            true, predicted, labels=np.arange(len(matrix)), target_names=list(names) if names else None, digits=digits, zero_division=0
        )
    return str(text)
