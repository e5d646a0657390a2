from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fittingroom.audit.consistency import Constraint, Key, decide, satisfies, smallest_clash
from fittingroom.audit.matrix import figures_of
from fittingroom.audit.published import audit_table, constraints_of
from fittingroom.audit.table import ReportTable, read_tables
from tests.audit.tables import DIGITS, FASHION, printed

Matrix = list[list[int]]


def table_of(text: str) -> ReportTable:
    (table,) = read_tables(text)
    assert isinstance(table, ReportTable)
    return table


@st.composite
def matrices(draw: st.DrawFn, largest: int = 400) -> Matrix:
    count = draw(st.integers(2, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    quality = draw(st.floats(0, 1))
    chances = quality * np.eye(count) + (1 - quality) * generator.dirichlet(np.ones(count), count)
    supports = generator.integers(1, largest, count)
    matrix: Matrix = [generator.multinomial(support, row / row.sum()).tolist() for support, row in zip(supports, chances, strict=True)]
    return matrix


@settings(max_examples=40)
@given(matrices(), st.integers(2, 4))
def test_what_scikit_learn_prints_is_consistent(matrix: Matrix, digits: int) -> None:
    table = table_of(printed(matrix, digits))
    decision = decide(table.supports, constraints_of(table))
    assert decision.answer == "consistent"
    assert decision.witness is not None
    # Printed anew by scikit-learn, the witness gives the same table, but for ties.
    theirs = table_of(printed(decision.witness, digits))
    for one, other in zip(constraints_of(table), constraints_of(theirs), strict=True):
        assert one.key == other.key
        assert abs(one.low - other.low) <= Fraction(1, 10**digits)
    exact = figures_of(decision.witness)
    assert all(
        abs(exact[one.key] - (one.low + one.high) / 2) <= Fraction(1, 2 * 10**digits) + Fraction(2, 10**12) for one in constraints_of(table)
    )


def rows_of(support: int, classes: int) -> Iterator[tuple[int, ...]]:
    """All ways to predict the images of one class."""
    if classes == 1:
        yield (support,)
        return
    for first in range(support + 1):
        yield from ((first, *rest) for rest in rows_of(support - first, classes - 1))


@cache
def everything(supports: tuple[int, ...]) -> list[dict[tuple[str, str], Fraction]]:
    """The figures of every confusion matrix with these supports."""
    return [figures_of(rows) for rows in product(*(tuple(rows_of(support, len(supports))) for support in supports))]


def brute(supports: tuple[int, ...], constraints: Sequence[Constraint]) -> bool:
    return any(all(one.low <= figures[one.key] <= one.high for one in constraints) for figures in everything(supports))


SMALL = ((0, 3, 4), (8, 5), (3, 7), (1, 1), (4, 3, 5), (2, 4, 3), (5, 1, 2))


@settings(max_examples=60)
@given(st.sampled_from(SMALL), st.integers(0, 2**32), st.integers(1, 3), st.integers(-30, 30))
def test_one_changed_figure_is_refuted_exactly_where_enumeration_refutes(
    supports: tuple[int, ...], seed: int, digits: int, change: int
) -> None:
    generator = np.random.default_rng(seed)
    choices = [list(rows_of(support, len(supports))) for support in supports]
    matrix = [list(rows[generator.integers(len(rows))]) for rows in choices]
    constraints = constraints_of(table_of(printed(matrix, digits)))
    index = int(generator.integers(len(constraints)))
    changed, step = constraints[index], Fraction(change, 10**digits)
    constraints[index] = Constraint(changed.key, changed.low + step, changed.high + step)
    decision = decide(supports, constraints)
    assert (decision.answer == "consistent") == brute(supports, constraints)
    assert decision.answer != "unknown"
    if decision.answer == "clash":
        clash, known = smallest_clash(supports, constraints)
        assert all(one in constraints for one in clash)
        assert not brute(supports, clash), "what is said to clash does"
        if known in ("minimum", "minimal"):
            assert all(brute(supports, [one for one in clash if one is not left_out]) for left_out in clash)
        if known == "minimum" and len(clash) == 2:
            assert all(brute(supports, [one]) for one in constraints)
    else:
        assert decision.witness is not None
        assert satisfies(decision.witness, supports, constraints)


def test_a_witness_with_a_wrong_figure_is_not_believed() -> None:
    exact = Constraint(("accuracy", "accuracy"), Fraction(1, 2), Fraction(1, 2))
    assert satisfies([[1, 1], [1, 1]], [2, 2], [exact])
    assert not satisfies([[2, 0], [1, 1]], [2, 2], [exact])
    assert not satisfies([[1, 1], [1, 1]], [2, 3], [exact])
    assert not satisfies([[1, 1], [3, -1]], [2, 2], [])


@pytest.mark.parametrize("text", [*FASHION.values(), DIGITS], ids=[*FASHION, "digits"])
def test_the_tables_of_the_reports_have_a_witness_with_the_usual_effort(text: str) -> None:
    table = table_of(text)
    decision = decide(table.supports, constraints_of(table), effort=1.0)
    assert decision.witness is not None
    assert len(constraints_of(table)) == 37
    np.testing.assert_array_equal(np.sum(decision.witness, axis=1), table.supports)


def test_what_no_effort_settles_is_unknown_and_never_wrong() -> None:
    table = table_of(FASHION["custom"])
    answers = [decide(table.supports, constraints_of(table), effort).answer for effort in (1e-6, 0.01, 0.1, 1.0)]
    assert answers[0] == "unknown"
    assert answers[-1] == "consistent"
    assert set(answers) == {"unknown", "consistent"}


def test_one_quantity_printed_twice_is_found_without_a_search() -> None:
    table = table_of(DIGITS)
    quoted = Constraint(("accuracy", "accuracy"), Fraction(99425, 100_000), Fraction(99435, 100_000))
    clash, known = smallest_clash(table.supports, [*constraints_of(table), quoted], effort=0.0)
    assert [one.key for one in clash] == 2 * [("accuracy", "accuracy")]
    assert known in ("minimum", "small")
    assert smallest_clash(table.supports, [*constraints_of(table), quoted])[1] == "minimum"


@pytest.mark.parametrize(("row", "change"), [("macro avg", 0.02), ("macro avg", -0.3), ("weighted avg", 0.02)])
def test_an_average_beyond_its_column_clashes_with_the_figures_that_leave_it_no_room(row: str, change: float) -> None:
    """Found without a search; of the column only those figures that are needed, by trying all."""
    generator = np.random.default_rng(4)
    matrix = np.diag([380, 90, 210, 55]) + generator.integers(0, 20, (4, 4))
    figures = figures_of(matrix.tolist())
    supports = [int(count) for count in matrix.sum(1)]
    around = Fraction(1, 200)
    printed = [((str(i), "precision"), figures[str(i), "precision"]) for i in range(4)]
    column = [Constraint(key, value - around, value + around) for key, value in printed]
    wrong = figures[row, "precision"] + Fraction(change)
    average = Constraint((row, "precision"), wrong - around, wrong + around)
    others = [Constraint((str(i), "f1"), Fraction(0), Fraction(1)) for i in range(4)]
    clash, _ = smallest_clash(supports, [*column, *others, average], effort=0.0)
    assert clash[0] is average
    weights = [Fraction(1, 4) if row == "macro avg" else Fraction(support, sum(supports)) for support in supports]

    def clashes(some: Sequence[Constraint]) -> bool:
        ends = {one.key: (one.low, one.high) for one in some}
        low, high = (
            sum(w * max(0, min(1, ends.get((str(i), "precision"), (0, 1))[end])) for i, w in enumerate(weights)) for end in (0, 1)
        )
        return bool(average.low > high or average.high < low)

    assert clashes(clash[1:])
    fewest = min(count for count in range(5) for some in combinations(column, count) if clashes(some))
    assert len(clash) == 1 + fewest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("macro avg\t0.90\t0.90", "macro avg\t0.93\t0.90"),
        ("weighted avg\t0.90\t0.90\t0.90", "weighted avg\t0.90\t0.90\t0.88"),
        ("accuracy\t\t\t0.90", "accuracy\t\t\t0.92"),
        ("6\t0.72\t0.74\t0.73", "6\t0.72\t0.74\t0.76"),
        ("6\t0.72\t0.74\t0.73", "6\t0.22\t0.74\t0.34"),
    ],
)
def test_a_tampered_table_is_refuted(old: str, new: str) -> None:
    text = FASHION["custom"]
    assert old in text
    table = table_of(text.replace(old, new))
    audit = audit_table(table, "fashion-mnist")
    figures = next(finding for finding in audit.findings if finding.check == "figures")
    assert figures.verdict == "fails"
    assert 0 < len(figures.evidence["clash"]) <= 7
    assert figures.evidence["smallest"] in ("minimum", "minimal")


@pytest.mark.parametrize(
    ("table", "old", "new", "clash"),
    [
        ("custom", "accuracy\t\t\t0.90", "accuracy\t\t\t0.93", {("accuracy", "accuracy"), ("macro avg", "recall")}),
        ("custom", "weighted avg\t0.90\t0.90", "weighted avg\t0.90\t0.93", {("accuracy", "accuracy"), ("weighted avg", "recall")}),
        ("custom", "macro avg\t0.90\t0.90\t0.90", "macro avg\t0.90\t0.90\t0.93", {("macro avg", "f1"), ("weighted avg", "f1")}),
        ("digits", "accuracy\t\t\t1.00", "accuracy\t\t\t0.97", {("accuracy", "accuracy"), ("weighted avg", "recall")}),
    ],
)
def test_two_names_of_one_quantity_are_the_smallest_clash(table: str, old: str, new: str, clash: set[Key]) -> None:
    """All recall is accuracy; with equal supports macro and weighted averages are one. The digits' supports are not equal."""
    text = {**FASHION, "digits": DIGITS}[table]
    assert old in text
    found, known = smallest_clash((made := table_of(text.replace(old, new))).supports, constraints_of(made))
    assert ({one.key for one in found}, known) == (clash, "minimum")


def test_a_smallest_clash_names_the_figures_of_one_class() -> None:
    table = table_of(FASHION["custom"].replace("6\t0.72\t0.74\t0.73", "6\t0.72\t0.74\t0.76"))
    clash, known = smallest_clash(table.supports, constraints_of(table))
    assert {one.key for one in clash} == {("6", "precision"), ("6", "recall"), ("6", "f1")}
    assert known == "minimal"
