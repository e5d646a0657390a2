"""Comparisons against SciPy's binomial test and against a bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fittingroom.errors import UsageError
from fittingroom.evaluate.compare import Comparison, compare_predictions, mcnemar_exact


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemars_exact_test_is_a_sign_test(only_first: int, only_second: int) -> None:
    trials = only_first + only_second
    expected = binomtest(only_first, trials, 0.5).pvalue if trials else 1.0
    assert mcnemar_exact(only_first, only_second) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_mcnemars_test_of_many_images_neither_overflows_nor_vanishes() -> None:
    assert mcnemar_exact(100_000, 100_000) == 1.0
    assert mcnemar_exact(30_000, 30_800) == pytest.approx(binomtest(30_000, 60_800, 0.5).pvalue, rel=1e-6)
    assert 0 <= mcnemar_exact(0, 60_000) < 1e-300


def predictions(count: int, seed: int, accuracies: tuple[float, float] = (0.80, 0.84)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, count)
    hardness = generator.random(count)  # shared: what one model gets wrong, the other tends to get wrong too
    guesses = [np.where(0.7 * hardness + 0.3 * generator.random(count) < a, labels, (labels + 1) % 10) for a in accuracies]
    return guesses[0], guesses[1], labels


def test_figures_by_counting() -> None:
    first, second, labels = np.array([0, 1, 2, 0, 0]), np.array([0, 2, 2, 3, 4]), np.array([0, 1, 2, 3, 4])
    found = compare_predictions(("a", "b"), first, second, labels)
    assert (found.images, found.only_first, found.only_second) == (5, 1, 2)
    assert found.accuracies == pytest.approx((3 / 5, 4 / 5))
    assert found.difference == pytest.approx(1 / 5)
    assert found.p_value == 1.0


@pytest.mark.parametrize("accuracies", [(0.80, 0.84), (0.2, 0.9)])
def test_the_interval_is_that_of_a_bootstrap_over_images(accuracies: tuple[float, float]) -> None:
    first, second, labels = predictions(3000, 0, accuracies)
    found = compare_predictions(("a", "b"), first, second, labels)
    gains = (second == labels).astype(float) - (first == labels)
    generator = np.random.default_rng(1)
    means = [gains[generator.integers(0, len(gains), len(gains))].mean() for _ in range(3000)]
    low, high = np.percentile(means, [2.5, 97.5])
    width = high - low
    assert found.interval == pytest.approx((low, high), abs=0.06 * width)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Two models whose accuracies are known, 600 times."""
    truth = np.mean([np.subtract(*[(p == labels).mean() for p in (b, a)]) for a, b, labels in (predictions(20_000, s) for s in range(20))])
    covered = [
        low <= truth <= high for s in range(600) for low, high in [compare_predictions(("a", "b"), *predictions(500, s + 100)).interval]
    ]
    assert 0.93 < np.mean(covered) < 0.97


def test_swapping_the_models_swaps_the_figures() -> None:
    first, second, labels = predictions(500, seed=3)
    one, other = compare_predictions(("a", "b"), first, second, labels), compare_predictions(("b", "a"), second, first, labels)
    assert other.difference == -one.difference
    assert other.interval == (-one.interval[1], -one.interval[0])
    assert (other.p_value, other.only_first) == (one.p_value, one.only_second)


def test_a_model_against_itself() -> None:
    first, _, labels = predictions(100, seed=0)
    found = compare_predictions(("a", "a"), first, first, labels)
    assert (found.difference, found.interval, found.p_value) == (0, (0, 0), 1)
    assert "no difference beyond chance" in str(found)


def test_what_it_says() -> None:
    found = Comparison(("plain", "<deep>"), 1000, (0.9, 0.92), 10, 30, 0.02, (0.008, 0.032), 0.0022)
    for part in (
        "plain 90.00%",
        "<deep> 92.00%",
        "+2.00 points",
        "+0.80 to +3.20",
        "p = 0.0022",
        "1,000 images",
        "<deep> is better",
        "seed's luck",
    ):
        assert part in str(found)
    assert "&lt;deep&gt; is better" in found._repr_html_()
    assert "<deep>" not in found._repr_html_()
    worse = Comparison(("plain", "deep"), 1000, (0.92, 0.9), 30, 10, -0.02, (-0.032, -0.008), 0.0022)
    assert "plain is better" in str(worse)


@pytest.mark.parametrize("lengths", [(3, 3, 4), (3, 4, 4), (0, 0, 0)])
def test_arrays_that_do_not_belong_together(lengths: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        compare_predictions(("a", "b"), *(np.zeros(length, np.int64) for length in lengths))
