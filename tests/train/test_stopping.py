"""Early stopping against the rule said in one line of plain Python."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fittingroom.errors import UsageError
from fittingroom.recipe import Stop
from fittingroom.train.stopping import Stopping, check_monitored


def naive(values: list[float], patience: int, min_delta: float, rising: bool) -> tuple[int, int]:
    """Return the last epoch and the best, counted from 1: written over the whole history at once."""
    better = [value if rising else -value for value in values]
    records = [0]
    for epoch in range(1, len(better)):
        if better[epoch] - better[records[-1]] > min_delta:
            records.append(epoch)
        elif epoch - records[-1] >= patience:
            return epoch + 1, records[-1] + 1
    return len(values), records[-1] + 1


# On a grid, so that ties and differences of exactly min_delta are met.
values_on_a_grid = st.lists(st.integers(0, 8).map(lambda value: value / 8), min_size=1, max_size=30)


@given(
    values_on_a_grid,
    st.integers(1, 6),
    st.sampled_from([0.0, 0.125, 0.25]),
    st.sampled_from(["validation.loss", "validation.accuracy", "train.loss", "train.accuracy"]),
)
def test_stops_where_a_naive_rule_does(values: list[float], patience: int, min_delta: float, monitor: str) -> None:
    settings = Stop(monitor=monitor, patience=patience, min_delta=min_delta)
    part, quantity = monitor.split(".")
    stopping = Stopping()
    last = 0
    for epoch, value in enumerate(values, 1):
        # Going on from a checkpoint at every epoch changes nothing.
        stopping = Stopping(**stopping.to_json())
        other = {"train": "validation", "validation": "train"}[part]
        improved = stopping.improved(settings, epoch, {part: {quantity: value}, other: {quantity: -value}})
        assert improved == (stopping.best_epoch == epoch)
        last = epoch
        if stopping.exhausted(settings):
            break
    assert (last, stopping.best_epoch) == naive(values, patience, min_delta, quantity == "accuracy")


def test_what_is_watched_must_be_there() -> None:
    check_monitored(None, validation=False)
    check_monitored(Stop(monitor="train.loss"), validation=False)
    check_monitored(Stop(), validation=True)
    with pytest.raises(UsageError, match=r"raise data\.validation, or leave out train\.stop"):
        check_monitored(Stop(), validation=False)
