"""Numbers as a reader wants them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fittingroom.report import text

NARROW, FIXED = "\u202f", "\u00a0"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (3.21, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min_0 s"),
        (102.4, "1 min_42 s"),
        (3599.6, "1 h_0 min"),
        (7500, "2 h_5 min"),
    ],
)
def test_duration(seconds: float, expected: str) -> None:
    assert text.duration(seconds) == expected.replace(" ", NARROW).replace("_", FIXED)


@given(st.integers(0, 10**13))
def test_a_compact_count_is_within_half_a_percent(count: int) -> None:
    number, _, unit = text.compact(count).partition(NARROW)
    size = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]
    assert float(number.replace(",", "")) * size == pytest.approx(count, rel=0.005001)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "—"), (True, "yes"), (10, "10"), (60_000, "60,000"), (1e-3, "0.001"), ([1, 2.5], "1, 2.5"), ([], "—"), ("", "—")],
)
def test_value(value: object, expected: str) -> None:
    assert text.value(value) == expected


def test_percentages_and_points() -> None:
    assert text.percent(0.92414) == f"92.4{NARROW}%"
    assert text.points(-0.021) == f"−2.1{NARROW}points"
    assert text.sureness(0.99996) == f"over 99.9{NARROW}%"
    assert text.sureness(1.0) == f"100.0{NARROW}%"
    assert text.sureness(0.5) == f"50.0{NARROW}%"


def test_moments_are_written_out_in_universal_time() -> None:
    assert text.moment("2026-11-20T16:32:15+02:00") == "20 November 2026, 14:32 UTC"
    assert text.moment("2026-11-20T16:32:15") == "20 November 2026, 16:32"
    assert text.moment("yesterday") == "yesterday"


def test_plural() -> None:
    assert (text.plural(1, "epoch"), text.plural(2, "epoch"), text.plural(3, "class", "classes")) == ("1 epoch", "2 epochs", "3 classes")


def test_flatten_keeps_order_and_empty_tables() -> None:
    assert text.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": {}}) == {"a.b": 1, "a.c.d": 2, "e": {}}
