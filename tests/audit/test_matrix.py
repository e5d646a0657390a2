from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow
from sklearn.metrics import precision_recall_fscore_support

from fittingroom.audit.matrix import build_matrix, figures_of, matrix_exists
from tests.audit.tables import labels_of


def flow_exists(missed: list[int], wrong: list[int]) -> bool:
    """The same question as a maximum flow: from each row to every other column."""
    count = len(missed)
    graph = np.zeros((2 * count + 2, 2 * count + 2), np.int32)
    graph[0, 1 : count + 1] = missed
    graph[count + 1 : 2 * count + 1, -1] = wrong
    graph[1 : count + 1, count + 1 : 2 * count + 1] = 1_000 * (1 - np.eye(count, dtype=np.int32))
    flow = int(maximum_flow(csr_array(graph), 0, 2 * count + 1).flow_value)
    return sum(missed) == sum(wrong) == flow


@given(st.integers(2, 7).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 9), min_size=n, max_size=n)] * 3)))
def test_exists_exactly_where_a_flow_does(drawn: tuple[list[int], list[int], list[int]]) -> None:
    correct, missed, wrong = drawn
    wrong = [*wrong[:-1], max(0, sum(missed) - sum(wrong[:-1]))]  # totals are equal in most cases
    supports, predicted = np.add(correct, missed).tolist(), np.add(correct, wrong).tolist()
    exists = matrix_exists(supports, correct, predicted)
    assert exists == flow_exists(missed, wrong)
    if exists:
        matrix = np.array(build_matrix(supports, correct, predicted))
        assert matrix.min() >= 0
        assert matrix.sum(axis=1).tolist() == supports
        assert matrix.sum(axis=0).tolist() == predicted
        assert matrix.diagonal().tolist() == correct


def test_exists_exactly_where_enumeration_finds_one() -> None:
    margins = set()
    for counts in product(range(3), repeat=9):
        matrix = np.array(counts).reshape(3, 3)
        margins.add((tuple(matrix.sum(axis=1)), tuple(matrix.diagonal()), tuple(matrix.sum(axis=0))))
    for supports in product(range(1, 3), repeat=3):
        for correct in product(*(range(support + 1) for support in supports)):
            for predicted in product(range(4), repeat=3):
                # With supports of 2 or less, no entry of a matrix can exceed 2, so the enumeration is complete.
                assert matrix_exists(supports, correct, predicted) == ((supports, correct, predicted) in margins)


@given(st.integers(2, 6).flatmap(lambda n: st.lists(st.lists(st.integers(0, 20), min_size=n, max_size=n), min_size=n, max_size=n)))
def test_figures_are_those_of_scikit_learn(matrix: list[list[int]]) -> None:
    matrix[0][0] += 1  # at least one image
    true, predicted = labels_of(matrix)
    figures = figures_of(matrix)
    classes = range(len(matrix))
    theirs = precision_recall_fscore_support(true, predicted, labels=list(classes), zero_division=0)
    for column, values in zip(("precision", "recall", "f1"), theirs, strict=False):
        np.testing.assert_allclose([float(figures[str(index), column]) for index in classes], values)
    for name, average in (("macro avg", "macro"), ("weighted avg", "weighted")):
        theirs = precision_recall_fscore_support(true, predicted, labels=list(classes), average=average, zero_division=0)
        np.testing.assert_allclose([float(figures[name, column]) for column in ("precision", "recall", "f1")], theirs[:3])
    assert figures["accuracy", "accuracy"] == Fraction(sum(matrix[index][index] for index in classes), len(true))
