"""Claims, selections and figures in the words of a sentence or of a table's cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from fittingroom.evaluate.statistics import Interval
from fittingroom.study.metrics import metric_of, metric_words
from fittingroom.study.results import Failure
from fittingroom.study.schema import Claim, Consistency, Count, Number, Order, Selection, Shape

__all__ = [
    "apart_words",
    "claimed_words",
    "difference_words",
    "failed_words",
    "listed",
    "mean_words",
    "order_sentence",
    "seeds_words",
    "selection_words",
    "writer",
]


def claimed_words(claim: Claim, first: str, others: str) -> str:
    """Return what a report claims, in the few words that a line or a cell has room for; empty where it claims no figure and no order.

    Args:
        claim: the claim.
        first: how the first of its selections is called.
        others: how those are called that it is compared with; empty where there are none.
    """
    if isinstance(claim, Number | Count):
        return claim.claimed
    if isinstance(claim, Order):
        if not claim.margin:
            return f"{first} {claim.relation} {others}"
        margin = f"{100 * claim.margin:g} points" if metric_of(claim.metric).unit == "share" else f"{claim.margin:g}"
        return f"{first} above {others} by over {margin}" if claim.relation == "above" else f"{first} not over {margin} behind {others}"
    if isinstance(claim, Shape):
        words = {"less": "less than", "greater": "more than", "between": "between"}[claim.relation]
        words += f" {claim.times:g} ×" if claim.times != 1 else ""
        return f"{words} {others or ' and '.join(f'{item:g}' for item in claim.claimed)}"
    if isinstance(claim, Consistency):
        return "; ".join([*claim.accuracy, *claim.states]) or "its own table"
    return ""


def writer(metric: str, percent: bool = False) -> Callable[[float], str]:
    """Return what writes values of a metric: shares as percentages where the report does, or as decimals."""
    unit = metric_of(metric).unit

    def write(value: float) -> str:
        if unit == "share":
            return f"{100 * value:.2f} %".replace("-", "−") if percent else f"{value:.4f}".replace("-", "−")
        if unit == "nats":
            return f"{value:.4f}".replace("-", "−")
        short = f"{value:,.1f}".removesuffix(".0").replace("-", "−")
        return f"{short} s" if unit == "s" else short

    return write


def apart_words(value: float, metric: str) -> str:
    """A distance between two values of a metric, with its unit: ``1.25 points``."""
    return f"{100 * value:.2f} points" if metric_of(metric).unit == "share" else f"{writer(metric)(value)}"


def difference_words(interval: Interval, metric: str) -> str:
    """A difference with its interval, shares in points: ``+0.42 points (−0.10 to +0.94)``."""
    of_metric = metric_of(metric).unit
    scale, unit = (100, " points") if of_metric == "share" else (1, f" {of_metric}".rstrip())
    ends = [scale * value for value in (interval.estimate, interval.low, interval.high)]
    digits = 2 if of_metric == "share" else _digits(ends)
    estimate, low, high = (f"{value:+,.{digits}f}".replace("-", "−") for value in ends)
    return f"{estimate}{unit}" if interval.low == interval.high else f"{estimate}{unit} ({low} to {high})"


def _digits(values: Sequence[float]) -> int:
    """How many decimals figures that stand together are written with: three digits of the largest, or none where they are whole."""
    largest = max(map(abs, values))
    return 0 if all(value.is_integer() for value in values) else max(0, 2 - math.floor(math.log10(largest)))


def order_sentence(names: tuple[str, str], interval: Interval | None, metric: str, how: str, why: str) -> str:
    """What came of comparing two groups: by how much they differ, how that was found, and why it decides."""
    if interval is None:
        return f"{names[0]} and {names[1]} cannot be compared in {metric_words(metric)}: {how}."
    return f"{names[0]} against {names[1]}: {difference_words(interval, metric)} in {metric_words(metric)}, {how}; {why}."


def failed_words(name: str, failed: Sequence[Failure], planned: int) -> str:
    """How many runs failed, and why the first of them did, without the advice that a person is given."""
    reason = failed[0].reason.partition(";")[0]
    return f"{len(failed)} of {planned} runs of {name} failed: {reason}{f' (seed {failed[0].seed})' if planned > 1 else ''}"


def mean_words(values: Sequence[float], write: Callable[[float], str]) -> str:
    """Mean ± standard deviation of the values of several seeds; the value of one."""
    if len(values) == 1:
        return f"{write(values[0])} (one seed)"
    return f"{write(float(np.mean(values)))} ± {write(float(np.std(values, ddof=1)))}"


def seeds_words(count: int) -> str:
    """The beginning of a sentence on what some seeds give."""
    return "One seed gives" if count == 1 else f"{count} seeds give"


def selection_words(selection: Selection, other: Selection | None = None) -> str:
    """A selection as a reader names it; beside another one, by what they differ in where that is enough."""
    where = dict(selection.where)
    if other is not None and other.run == selection.run:
        differing = {name: value for name, value in where.items() if other.where.get(name) != value}
        if differing:
            return ", ".join(f"{name} = {value}" for name, value in differing.items())
    inside = ", ".join(f"{name} = {value}" for name, value in where.items())
    return f"{selection.run} ({inside})" if inside else selection.run


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
