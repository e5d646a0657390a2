"""Calibration against naive loops and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from fittingroom.errors import UsageError
from fittingroom.evaluate import calibration
from tests.evaluate.test_metrics import made_up


def naive_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> list[list[tuple[float, bool]]]:
    found: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for row, label in zip(probabilities, labels, strict=True):
        confidence = row.max()
        place = next(i for i in range(bins) if confidence <= (i + 1) / bins or i == bins - 1)
        found[place].append((confidence, row.argmax() == label))
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(2, 6), st.sampled_from([1, 10, 15]), st.integers(0, 1000))
def test_bins_and_error_are_those_of_a_naive_loop(count: int, classes: int, bins: int, seed: int) -> None:
    probabilities, labels = made_up(count, classes, seed)
    expected = naive_bins(probabilities, labels, bins)
    ours = calibration.reliability(probabilities, labels, bins)
    assert [part.count for part in ours] == [len(examples) for examples in expected]
    error = 0.0
    for part, examples in zip(ours, expected, strict=True):
        if examples:
            assert part.confidence == pytest.approx(np.mean([e[0] for e in examples]))
            assert part.accuracy == pytest.approx(np.mean([e[1] for e in examples]))
            error += len(examples) / count * abs(part.confidence - part.accuracy)
    assert calibration.expected_calibration_error(ours) == pytest.approx(error)


def test_a_probability_on_an_edge_belongs_to_the_bin_below_it() -> None:
    bins = calibration.reliability(np.array([[0.6, 0.4], [0.8, 0.2], [1.0, 0.0]]), np.array([0, 0, 0]), 5)
    assert [part.count for part in bins] == [0, 0, 1, 1, 1]


def test_a_model_that_keeps_its_promises_has_no_error() -> None:
    probabilities = np.tile([0.75, 0.25], (400, 1))
    labels = np.arange(400) % 4 == 0
    bins = calibration.reliability(probabilities, labels.astype(int))
    assert calibration.expected_calibration_error(bins) == pytest.approx(0)
    assert calibration.overconfidence(bins) == pytest.approx(0)


def test_overconfidence_has_a_sign() -> None:
    probabilities = np.tile([0.9, 0.1], (10, 1))
    bins = calibration.reliability(probabilities, np.arange(10) % 2)
    assert calibration.overconfidence(bins) == pytest.approx(0.4)
    assert calibration.expected_calibration_error(bins) == pytest.approx(0.4)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_brier_score_agrees_with_scikit_learn(classes: int) -> None:
    probabilities, labels = made_up(500, classes, seed=classes)
    theirs = sklearn.metrics.brier_score_loss(labels, probabilities, labels=range(classes), scale_by_half=False)
    assert calibration.brier_score(probabilities, labels) == pytest.approx(theirs)


def test_brier_score_ends() -> None:
    assert calibration.brier_score(np.array([[1.0, 0.0]]), np.array([0])) == 0
    assert calibration.brier_score(np.array([[1.0, 0.0]]), np.array([1])) == 2
    assert math.isclose(calibration.brier_score(np.full((1, 4), 0.25), np.array([1])), 0.75)


def test_a_diagram_needs_a_bin() -> None:
    with pytest.raises(UsageError, match="at least 1 bin"):
        calibration.reliability(np.array([[0.5, 0.5]]), np.array([0]), 0)
