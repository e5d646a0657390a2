"""Properties that the measures of learning curves promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fittingroom.evaluate import curves
from fittingroom.evaluate.curves import CurveMeasures

finite = st.floats(-10, 10, allow_nan=False)
some_curve = st.lists(finite, min_size=3, max_size=30)
measures_of_one_curve = [
    curves.erraticness,
    curves.exponential_fit,
    lambda values: curves.epochs_to_cover(values, higher_is_better=True),
    lambda values: curves.gap_opening(values, values, higher_is_better=True),
]


@given(some_curve, finite, finite)
def test_a_steady_trend_is_not_erratic(values: list[float], start: float, slope: float) -> None:
    line = [start + slope * epoch for epoch in range(len(values))]
    tilted = [value + trend for value, trend in zip(values, line, strict=True)]
    assert curves.erraticness(line) == pytest.approx(0, abs=1e-9)
    assert curves.erraticness(tilted) == pytest.approx(curves.erraticness(values), abs=1e-9)


@given(some_curve, st.floats(0.1, 10))
def test_erraticness_is_in_the_units_of_the_metric(values: list[float], factor: float) -> None:
    plain = curves.erraticness(values)
    assert plain is not None
    assert curves.erraticness([value * factor for value in values]) == pytest.approx(factor * plain, abs=1e-9)


def test_erraticness_reads_as_the_noise_of_the_curve() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 20_000)
    assert curves.erraticness((0.5 + 1e-5 * np.arange(20_000) + noise).tolist()) == pytest.approx(0.98 * 0.02, rel=0.03)


def test_erraticness_bounds_the_share_of_a_smooth_start() -> None:
    smooth = [0.9 - 0.4 * math.exp(-epoch / 2) for epoch in range(20)]
    assert curves.erraticness(smooth) <= (smooth[1] - smooth[0]) / 2 / 18
    assert curves.erraticness(smooth, skip=8) < curves.erraticness(smooth) / 10


def test_convergence_is_interpolated() -> None:
    assert curves.epochs_to_cover([0.0, 0.5, 1.0], higher_is_better=True) == pytest.approx(2.9)
    assert curves.epochs_to_cover([1.0, 0.5, 0.0], higher_is_better=False) == pytest.approx(2.9)
    assert curves.epochs_to_cover([0.0, 0.5, 1.0], higher_is_better=True, fraction=0.5) == pytest.approx(2)


def test_convergence_heeds_the_best_value_rather_than_the_last() -> None:
    rise = [0.1, 0.8, 0.9, 1.0]
    assert curves.epochs_to_cover([*rise, 0.2], higher_is_better=True) == curves.epochs_to_cover(rise, higher_is_better=True)


def test_convergence_from_chance_counts_the_first_epoch() -> None:
    assert curves.epochs_to_cover([0.9, 0.9], higher_is_better=True, start=0.1) == pytest.approx(0.95)


def test_a_curve_that_never_gets_better_has_no_rate() -> None:
    assert curves.epochs_to_cover([0.9, 0.8, 0.8], higher_is_better=True) is None
    assert curves.epochs_to_cover([0.5, 0.5], higher_is_better=False) is None


@given(st.floats(0.5, 8), st.floats(-2, 2), st.floats(0.1, 2))
def test_an_exponential_is_found_again(constant: float, asymptote: float, amplitude: float) -> None:
    values = [asymptote - amplitude * math.exp(-epoch / constant) for epoch in range(20)]
    fit = curves.exponential_fit(values)
    assert fit is not None
    assert fit.time_constant == pytest.approx(constant, rel=1e-2)
    assert fit.asymptote == pytest.approx(asymptote, abs=0.02 * amplitude)
    assert fit.r_squared == pytest.approx(1, abs=1e-4)


def test_noise_has_no_time_constant() -> None:
    assert curves.exponential_fit(np.random.default_rng(1).normal(size=30).tolist()) is None
    assert curves.exponential_fit([0.1 * epoch for epoch in range(10)]) is None


def test_gap_opens_where_training_pulls_away_for_good() -> None:
    train = [0.80, 0.86, 0.90, 0.93, 0.96]
    validation = [0.82, 0.87, 0.90, 0.90, 0.90]
    assert curves.gap_opening(train, validation, higher_is_better=True) == 4
    assert curves.generalisation_gap(train, validation, higher_is_better=True) == pytest.approx([-0.02, -0.01, 0, 0.03, 0.06])


def test_a_gap_that_closes_or_lasts_one_epoch_does_not_count() -> None:
    assert curves.gap_opening([0.9, 0.9], [0.8, 0.9], higher_is_better=True) is None
    assert curves.gap_opening([0.9, 0.95], [0.9, 0.9], higher_is_better=True) is None
    assert curves.gap_opening([0.9, 0.95], [0.9, 0.9], higher_is_better=True, sustained=1) == 2


def test_gap_of_losses_has_the_other_sign() -> None:
    assert curves.generalisation_gap([0.2], [0.5], higher_is_better=False) == pytest.approx([0.3])


@pytest.mark.parametrize("measure", measures_of_one_curve)
@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.6, math.nan], [0.5, None, 0.7], [math.inf, 1, 2, 3], [0.5] * 10])
def test_edge_cases_give_none_or_zero_and_never_crash(measure: object, values: list[float | None]) -> None:
    assert measure(values) in (None, 0)  # type: ignore[operator]


def test_history_as_recorded() -> None:
    history = [
        {"epoch": e + 1, "train": {"loss": 1 - t, "accuracy": t, "seconds": 1.0}, "validation": {"loss": 1 - v, "accuracy": v}}
        for e, (t, v) in enumerate([(0.5, 0.5), (0.8, 0.8), (0.95, 0.9), (0.97, 0.88)])
    ]
    measures = curves.measure_history(history)
    assert (measures.epochs, measures.best_epoch, measures.gap_opens) == (4, 3, 3)
    assert measures.gap == pytest.approx(0.09)
    assert measures.erraticness_accuracy == pytest.approx((0.1 + 0.06) / 2)
    assert measures.epochs_to_95 == pytest.approx(2.8)


@pytest.mark.parametrize("line", [{}, *({"validation": part} for part in (None, {"accuracy": None}, {"accuracy": "high"}, 3))])
def test_history_without_validation_is_measured_as_nothing(line: dict[str, object]) -> None:
    assert curves.measure_history([line, line, line]) == CurveMeasures(epochs=3)


def test_no_history() -> None:
    assert curves.measure_history([]) == CurveMeasures(epochs=0)
