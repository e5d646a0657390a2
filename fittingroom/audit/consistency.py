"""Is there a confusion matrix whose rounded figures are those of a report? Decided, with a witness or with figures that clash.

The unknowns are, for each class, the images found (``correct``) and the times it was predicted (``predicted``): `matrix_exists` says
when a whole matrix goes with them. What is printed turns into intervals of exact fractions: a figure printed as ``v`` with ``d`` digits
stands for any value in ``v ± 0.5 / 10^d``. Both ends belong to it, because programs round a tie by the double that stands for it, and the
interval is wider by 1e-12, the error of a sum of doubles. Then:

1. per class, precision, recall and F1 leave finitely many pairs, found with integers;
2. a linear bound over all pairs refutes: non-negative multipliers under which every choice of pairs breaks the weighted sum of the
   constraints. The multipliers come from a linear program, the proof does not: it is recomputed here, with a margin a thousand times the
   rounding error of that computation;
3. an integer program proposes a witness, whose matrix is built and recomputed with exact fractions before anyone is told of it;
4. where all classes have the same support, macro and weighted averages are one quantity: printed differently they are a clash, but for a
   value exactly on a tie (a large table is not searched for that);
5. what none of this settles is split into cases, down to single pairs, until it is settled or the effort is used up. Then the answer is
   "unknown".

Effort is counted in the numbers that go through a solver, never in seconds: an answer is the same on a slow machine and on a busy one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, islice, permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fittingroom.audit.matrix import Matrix, build_matrix, figures_of, matrix_exists
from fittingroom.audit.table import FLOAT_ERROR

__all__ = ["Constraint", "Decision", "decide", "satisfies", "smallest_clash"]

Key = tuple[str, str]
Array = NDArray[np.float64]
Cells = NDArray[np.int64]

PROOF_MARGIN = 1e-10  # of bounds whose terms are of order 1; their rounding error stays below 1e-13
PAIRS_AT_ONCE = 4_000_000
# Units of `_Work`: about a microsecond each on a core of 2025.
DECIDING = 1_800_000.0
SHRINKING = 1_000_000.0
NEED = 80_000.0  # of it, to show that one figure is needed
QUESTION = 2_000.0  # what any question costs, however small
ROOT = 10.0  # an integer program's first node, against a linear program of the same size
NODE = 5_000.0  # what any further node costs, however small the program
COARSE = 400  # boxes of a class to begin with; more than the pairs of a class of 1,000 images in a table of two digits

COLUMNS = ("precision", "recall", "f1")
Limit = tuple[Fraction, Fraction]
Own = tuple[Limit, ...]
NOTHING = Fraction(0)
ANYTHING: Limit = (Fraction(-1), Fraction(2))


@dataclass(frozen=True)
class Constraint:
    """A figure and the interval that its rounding leaves, both ends included.

    Attributes:
        key: as in `figures_of`: a class's index, or an average, and the column.
        low: the smallest value.
        high: the largest value.
    """

    key: Key
    low: Fraction
    high: Fraction


@dataclass(frozen=True)
class Decision:
    """Whether there is a matrix.

    Attributes:
        answer: ``consistent``, ``clash`` or ``unknown`` (the effort was used up).
        witness: a confusion matrix with all the figures, where there is one.
        but_for_a_tie: the clash is of one quantity printed twice, differently; only a value exactly between the two could have
            been rounded both ways, and whether there is a matrix with that very value was not searched.
    """

    answer: str
    witness: Matrix | None = None
    but_for_a_tie: bool = False


def satisfies(matrix: Matrix, supports: Sequence[int], constraints: Iterable[Constraint]) -> bool:
    """Whether a matrix has these row sums, and every figure within its interval: recomputed from the matrix alone, exactly."""
    if [sum(row) for row in matrix] != list(supports) or any(count < 0 for row in matrix for count in row):
        return False
    figures = figures_of(matrix)
    return all(constraint.low <= figures[constraint.key] <= constraint.high for constraint in constraints)


def decide(supports: Sequence[int], constraints: Sequence[Constraint], effort: float = 5.0) -> Decision:
    """Decide whether there is a confusion matrix with these row sums and figures.

    Args:
        supports: images of each class, two classes or more, one image or more.
        constraints: the figures, each key at most once or several times.
        effort: after which the answer may be ``unknown``; 1 is up to about two seconds for a table of ten classes.
    """
    return _Problem(supports, constraints).decide(_Work(effort * DECIDING))


def smallest_clash(supports: Sequence[int], constraints: Sequence[Constraint], effort: float = 1.0) -> tuple[list[Constraint], str]:
    """Shrink figures that clash to a few that still do.

    One figure that cannot occur is looked for first, then the figures of one class, then one quantity that is printed twice,
    differently, then an average that its own column cannot have. Else figures are left out, whole columns first and then one by one, as
    long as the rest is proven to clash.

    Returns:
        The figures, and what is known of their number: ``minimum`` (no fewer figures of this table clash), ``minimal`` (leaving
        out any one ends the clash) or ``small`` (they clash; whether all are needed was not shown with the effort).
    """
    work = _Work(effort * SHRINKING)
    shrinking = _Work(0.7 * work.left, work)  # the rest is for showing that all are needed
    for constraint in constraints:
        if not _possible_alone(supports, constraint):
            return [constraint], "minimum"
    of_class = _clash_of_a_class(supports, constraints)
    if len(of_class) == 1:
        return of_class, "minimum"
    if len(of_class) == 3:
        return of_class, "minimal"
    best = of_class or _printed_twice(supports, constraints) or _beyond_its_column(supports, constraints) or list(constraints)
    if len(best) > 2:
        for first in _starts(supports, constraints, shrinking):
            for columns in (("f1",), ("f1", "recall", "precision")):
                if len(best) > 2 and shrinking.left > 0:
                    best = min(best, _shrink(supports, first, columns, shrinking), key=len)
    if len(best) == 1 or (len(best) == 2 and all(_occurs(supports, constraint, work) for constraint in constraints)):
        return best, "minimum"
    needed = all(_is_needed(supports, best, constraint, work) for constraint in best)
    return best, "minimal" if needed else "small"


def _printed_twice(supports: Sequence[int], constraints: Sequence[Constraint]) -> list[Constraint]:
    """Two figures of one quantity whose intervals have nothing in common, or none."""
    quantities = [(_quantity(supports, constraint.key), constraint) for constraint in constraints]
    pairs = ((one, other) for (first, one), (second, other) in combinations(quantities, 2) if first == second)
    return next(([one, other] for one, other in pairs if one.high < other.low or other.high < one.low), [])


def _beyond_its_column(supports: Sequence[int], constraints: Sequence[Constraint]) -> list[Constraint]:
    """The fewest figures of a column, with an average that lies beyond what they leave it; or none."""
    known = {constraint.key: constraint for constraint in constraints}
    found: list[list[Constraint]] = []
    for average in constraints:
        row, column = average.key
        if row not in ("macro avg", "weighted avg"):
            continue
        weights = [Fraction(1, len(supports)) if row == "macro avg" else Fraction(support, sum(supports)) for support in supports]
        printed = [known.get((str(index), column)) for index in range(len(supports))]
        for above in (True, False):
            # How far the average lies beyond its column, and by how much of that each figure would let it come if it were left out.
            ends = [max(NOTHING, 1 - one.high if above else one.low) if one else NOTHING for one in printed]
            reach = sum((weight * end for weight, end in zip(weights, ends, strict=True)), NOTHING)
            beyond = reach - (1 - average.low if above else average.high)
            left: list[Constraint] = []
            for room, one in sorted(((weights[i] * ends[i], one) for i, one in enumerate(printed) if one), key=lambda pair: pair[0]):
                if room < beyond:
                    beyond -= room
                else:
                    left.append(one)
            if beyond > 0 and left:
                found.append([average, *sorted(left, key=lambda one: int(one.key[0]))])
    return min(found, key=len, default=[])


def _quantity(supports: Sequence[int], key: Key) -> Key:
    """What a figure is, whatever it is called: all recall is accuracy, and one average is the other where all classes weigh the same."""
    row, column = key
    if row in ("macro avg", "weighted avg") and len(set(supports)) == 1:
        row = "weighted avg"
    return ("accuracy", "accuracy") if row in ("accuracy", "micro avg") or (row, column) == ("weighted avg", "recall") else (row, column)


def _starts(supports: Sequence[int], constraints: Sequence[Constraint], work: _Work) -> Iterable[list[Constraint]]:
    """Subsets that clash, from which to shrink: the averages, the classes with one average each; then everything."""
    of_classes = [constraint for constraint in constraints if constraint.key[0].isdecimal()]
    others = [constraint for constraint in constraints if not constraint.key[0].isdecimal()]
    if len(others) > 1 and _Problem(supports, others).is_refuted(work):
        yield others
        return
    found = False
    for other in sorted(others, key=lambda constraint: constraint.key[1] in ("precision", "f1")):  # the quick ones first
        if _Problem(supports, [*of_classes, other]).is_refuted(work):
            found = True
            yield [other, *of_classes]
    if not found:
        yield list(constraints)


def _clash_of_a_class(supports: Sequence[int], constraints: Sequence[Constraint]) -> list[Constraint]:
    """The fewest figures of one class that leave it no pair, or none; any pair that is left has a matrix while other classes are free."""
    for count in (1, 2, 3):
        for index, support in enumerate(supports):
            of_class = [constraint for constraint in constraints if constraint.key[0] == str(index)]
            for some in combinations(of_class, count):
                if not _strips(support, sum(supports), _own(some)):
                    return list(some)
    return []


def _own(constraints: Iterable[Constraint]) -> Own:
    """The limits of one class's precision, recall and F1."""
    limits = dict.fromkeys(COLUMNS, ANYTHING)
    for constraint in constraints:
        low, high = limits[constraint.key[1]]
        limits[constraint.key[1]] = max(low, constraint.low), min(high, constraint.high)
    return tuple(limits.values())


def _shrink(supports: Sequence[int], clash: list[Constraint], columns: tuple[str, ...], work: _Work) -> list[Constraint]:
    def without(left_out: list[Constraint]) -> bool:
        nonlocal clash
        rest = [constraint for constraint in clash if constraint not in left_out]
        if not left_out or not rest or work.left <= 0 or not _Problem(supports, rest).is_refuted(work):
            return False
        clash = rest
        return True

    for column in columns:
        without([constraint for constraint in clash if constraint.key[1] == column and constraint.key[0].isdecimal()])
    for row in sorted({constraint.key[0] for constraint in clash}):
        without([constraint for constraint in clash if constraint.key[0] == row])
    for constraint in list(clash):
        if constraint in clash:
            without([constraint])
    return clash


def _is_needed(supports: Sequence[int], clash: list[Constraint], constraint: Constraint, work: _Work) -> bool:
    """Whether the clash ends, with a witness to show for it, where this figure is left out."""
    rest = [other for other in clash if other is not constraint]
    if len(rest) == 1 and _occurs(supports, rest[0], work):
        return True
    return work.left > 0 and _Problem(supports, rest).decide(_Work(NEED, work), COARSE).answer == "consistent"


def _occurs(supports: Sequence[int], constraint: Constraint, work: _Work) -> bool:
    """Whether a figure that `_possible_alone` and `_clash_of_a_class` let pass is shown to occur in some matrix."""
    row, column = constraint.key
    if row.isdecimal() or (column in ("recall", "accuracy") and row != "macro avg"):
        return True  # of these, a pair that is left is proof enough
    problem = _Problem(supports, [constraint])
    if any(problem.check(pairs) for pairs in islice(_near(supports, constraint), 20)):
        return True
    return work.left > 0 and problem.decide(work, COARSE).answer == "consistent"


def _near(supports: Sequence[int], constraint: Constraint) -> Iterable[list[tuple[int, int]]]:
    """Pairs (correct, predicted) of each class whose average seems to be within its limits, some of them.

    Every other class is found better than the average and the rest worse, each predicted as often as it occurs; images are added until the
    average is close. That some of one class are taken for another then moves it a little, by how much the two differ.
    """
    row, column = constraint.key
    low, high = max(float(constraint.low), 0.0), min(float(constraint.high), 1.0)
    images = np.array(supports, np.float64)
    weights = images / images.sum() if row == "weighted avg" else np.full(len(supports), 1 / len(supports))

    def average(correct: Array, predicted: Array) -> float:
        of = {"precision": predicted, "recall": images, "f1": (images + predicted) / 2}[column]
        return float(weights @ np.divide(correct, of, out=np.zeros_like(of), where=of > 0))

    share = (low + high) / 2
    correct = np.floor(images * (share + min(share, 1 - share) / 2 * (-1.0) ** np.arange(len(supports))))
    for index, support in enumerate(images):
        lacking = (share - average(correct, images)) * support / weights[index] if weights[index] else 0.0
        correct[index] = np.clip(np.floor(correct[index] + lacking), 0, support)
    few = range(min(12, len(supports)))
    for moved, (one, other) in product(range(25), permutations(few, 2)):
        predicted = images.copy()
        predicted[[one, other]] += moved, -moved
        if predicted[other] >= 0 and low <= average(correct, predicted) <= high:
            yield list(zip(correct.astype(int).tolist(), predicted.astype(int).tolist(), strict=True))


def _possible_alone(supports: Sequence[int], constraint: Constraint) -> bool:
    """Whether one figure can occur at all; precision, F1 and averages of those are taken to be possible within 0 and 1."""
    row, column = constraint.key
    if constraint.low > 1 or constraint.high < 0:
        return False
    whole = sum(supports) if row in ("accuracy", "micro avg") or (row, column) == ("weighted avg", "recall") else None
    if row.isdecimal() and column == "recall":
        whole = supports[int(row)]
        if whole == 0:
            return constraint.low <= 0
    return whole is None or _ceil(constraint.low * whole) <= _floor(constraint.high * whole)


# --- the search


class _Work:
    """What a search may still do.

    Args:
        units: how much, in numbers that a linear program has to look at.
        of: a larger allowance that this one is a part of.
    """

    def __init__(self, units: float, of: _Work | None = None) -> None:
        self.left: float = units if of is None else min(units, of.left)
        self._of = of

    def spend(self, units: float) -> None:
        """Take note of what was done."""
        self.left -= units
        if self._of is not None:
            self._of.spend(units)


@dataclass(frozen=True)
class _Cells:
    """Pairs (correct, predicted) of one class, grouped into boxes; a box of one pair is exact.

    Attributes:
        boxes: int64 ``[boxes, 4]``: least and most correct, least and most predicted; a box may hold pairs that are not allowed.
        points: int64 ``[points, 2]``: pairs that are allowed, among them one of each box.
        complete: the boxes are single pairs, and all that there are.
    """

    boxes: Cells
    points: Cells
    complete: bool

    def take(self, chosen: NDArray[Any]) -> _Cells:
        return _Cells(self.boxes[chosen], self.points[chosen], self.complete)

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class _Rows:
    """Sums over classes that must stay within bounds.

    Attributes:
        least: per class, ``[rows, boxes]``, the least that a box adds to each sum; `most` the same.
        low: ``[rows]``; minus infinity where there is no bound.
        high: ``[rows]``.
    """

    least: list[Array]
    most: list[Array]
    low: Array
    high: Array

    @property
    def work(self) -> float:
        """What a linear program over these sums costs."""
        return QUESTION + sum(part.size for part in self.least)


class _Problem:
    def __init__(self, supports: Sequence[int], constraints: Sequence[Constraint]) -> None:
        self.supports = [int(support) for support in supports]
        self.images = sum(self.supports)
        self.constraints = list(constraints)
        limits: dict[Key, tuple[Fraction, Fraction]] = {}
        for constraint in self.constraints:
            low, high = limits.get(constraint.key, (Fraction(-1), Fraction(2)))
            limits[constraint.key] = max(low, constraint.low), min(high, constraint.high)
        self.limits = limits
        self.own = [tuple(limits.get((str(index), column), ANYTHING) for column in COLUMNS) for index in range(len(self.supports))]
        # Averages of precision and of F1 are the only sums that are not linear in the pairs.
        self.curved = any(row in ("macro avg", "weighted avg") and column in ("precision", "f1") for row, column in limits)
        self.tie = len(set(self.supports)) == 1 and any(self._meet_in_a_tie(column) for column in ("precision", "f1"))
        self.possible = all(low <= high for low, high in limits.values()) and all(
            _strips(support, self.images, own) for support, own in zip(self.supports, self.own, strict=True)
        )

    def _meet_in_a_tie(self, column: str) -> bool:
        """Whether the macro and the weighted average, the same where all supports are, have but one end in common."""
        macro, weighted = (self.limits.get((row, column), ANYTHING) for row in ("macro avg", "weighted avg"))
        return min(macro[1], weighted[1]) - max(macro[0], weighted[0]) < 4 * FLOAT_ERROR

    def _cells(self, most_boxes: int) -> list[_Cells]:
        form = _boxes if self.curved else _corners
        return [form(support, self.images, own, most_boxes) for support, own in zip(self.supports, self.own, strict=True)]

    def is_refuted(self, work: _Work) -> bool:
        """Whether it is proven, quickly, that there is no matrix."""
        work.spend(QUESTION)
        if not self.possible:
            return True
        cells = self._cells(COARSE)
        rows = self._rows(cells)
        work.spend(rows.work)
        refuted = _out_of_reach(rows)
        if not refuted and all(part.complete for part in cells) and _combinations(cells) <= 1_000_000:
            return self._enumerate(cells, rows, work) is None
        return refuted or self.tie

    def decide(self, work: _Work, finest: int = 20_000) -> Decision:
        """Decide; see `decide`. Boxes are at most as fine as `finest`, and the first ones are tried however little work is left."""
        if not self.possible:
            return Decision("clash")
        for fineness in (COARSE, 4_000, 20_000):
            if fineness > finest:
                break
            cells = self._cells(fineness)
            rows = self._rows(cells)
            if fineness > COARSE and rows.work > work.left:
                break
            work.spend(rows.work)
            if _out_of_reach(rows):
                return Decision("clash")
            if all(part.complete for part in cells) and _combinations(cells) <= 2_000_000:
                witness = self._enumerate(cells, rows, work)
                return Decision("consistent", witness) if witness else Decision("clash")
            if self.tie:
                return Decision("clash", but_for_a_tie=True)
            witness = self._propose(cells, work) if self.curved else self._propose_linear(work)
            if witness:
                return Decision("consistent", witness)
            if all(part.complete for part in cells):
                return self._split(cells, work)
            if not self.curved:
                break
        return Decision("unknown")

    def _split(self, cells: list[_Cells], work: _Work) -> Decision:
        """Settle by cases: the class with the most pairs is split in two until each case is refuted or enumerated."""
        pending = [cells]
        while pending:
            if work.left <= 0:
                return Decision("unknown")
            case = pending.pop()
            rows = self._rows(case)
            work.spend(rows.work)
            if _out_of_reach(rows):
                continue
            if _combinations(case) <= 2_000_000:
                witness = self._enumerate(case, rows, work)
                if witness:
                    return Decision("consistent", witness)
                continue
            largest = max(range(len(case)), key=lambda index: len(case[index]))
            half = len(case[largest]) // 2  # boxes stand in the order of the images found
            for part in (np.arange(half), np.arange(half, len(case[largest]))):
                pending.append([*case[:largest], case[largest].take(part), *case[largest + 1 :]])
        return Decision("clash")

    def check(self, points: Sequence[tuple[int, int]]) -> Matrix | None:
        """The matrix of these pairs, where it exists and has every figure."""
        correct, predicted = [int(point[0]) for point in points], [int(point[1]) for point in points]
        if not matrix_exists(self.supports, correct, predicted):
            return None
        matrix = build_matrix(self.supports, correct, predicted)
        return matrix if satisfies(matrix, self.supports, self.constraints) else None

    def _rows(self, cells: list[_Cells]) -> _Rows:
        """All constraints that join classes, as sums of terms of order 1."""
        least: list[list[Array]] = [[] for _ in cells]
        most: list[list[Array]] = [[] for _ in cells]
        low: list[float] = []
        high: list[float] = []
        terms = [_terms(part, support, self.images) for part, support in zip(cells, self.supports, strict=True)]

        def add(name: str, weights: Sequence[float], bounds: tuple[float, float]) -> None:
            for index, weight in enumerate(weights):
                down, up = terms[index][name]
                least[index].append(down * weight)
                most[index].append(up * weight)
            low.append(bounds[0])
            high.append(bounds[1])

        classes = len(cells)
        ones, equal, weighted = [1.0] * classes, [1 / classes] * classes, [support / self.images for support in self.supports]
        add("predicted", ones, (1.0, 1.0))
        for (row, column), (lowest, highest) in self.limits.items():
            bounds = (float(lowest), float(highest))
            if row in ("accuracy", "micro avg") or (row, column) == ("weighted avg", "recall"):
                add("correct", ones, bounds)
            elif row == "macro avg":
                add(column, equal, bounds)
            elif row == "weighted avg":
                add(column, weighted, bounds)
        for own in range(classes):  # missed + wrong of a class must not exceed the mistakes of all
            for index in range(classes):
                down, up = terms[index]["own" if index == own else "correct"]
                least[index].append(down)
                most[index].append(up)
            low.append(-np.inf)
            high.append(1.0)
        return _Rows([np.stack(part) for part in least], [np.stack(part) for part in most], np.array(low), np.array(high))

    def _enumerate(self, cells: list[_Cells], rows: _Rows, work: _Work) -> Matrix | None:
        """Try every combination of exact pairs: two halves of the classes, every sum of one against every sum of the other."""
        work.spend(_combinations(cells) / 100)
        half = _halfway(cells)
        left, left_choice = _sums(rows.least[:half])
        right, right_choice = _sums(rows.least[half:])
        step = max(1, PAIRS_AT_ONCE // max(1, right.shape[1]))
        for start in range(0, left.shape[1], step):
            part = left[:, start : start + step]
            first, second = np.nonzero(np.abs(part[0][:, None] + right[0] - 1.0) < 1e-9)
            for row in range(1, len(rows.low)):
                total = part[row][first] + right[row][second]
                keep = (total >= rows.low[row] - 1e-9) & (total <= rows.high[row] + 1e-9)
                first, second = first[keep], second[keep]
            for a, b in zip(first.tolist(), second.tolist(), strict=True):
                choice = [*left_choice[:, start + a], *right_choice[:, b]]
                matrix = self.check([tuple(part.points[index]) for part, index in zip(cells, choice, strict=True)])
                if matrix:
                    return matrix
        return None

    def _propose(self, cells: list[_Cells], work: _Work) -> Matrix | None:
        """Ask an integer program for a choice of pairs, and believe nothing of it."""
        from scipy.sparse import csr_array

        exact = [_Cells(part.points[:, [0, 0, 1, 1]], part.points, part.complete) for part in cells]
        rows = self._rows(exact)
        sums = np.concatenate(rows.least, axis=1) * 1_000.0  # the solver's tolerance is absolute
        constraints = [(sums, rows.low * 1_000.0, rows.high * 1_000.0), (csr_array(_choose(exact)), 1.0, 1.0)]
        found = _integers(constraints, 0.0, 1.0, sums.size, work)
        if found is None:
            return None
        ends = np.cumsum([len(part) for part in exact])[:-1]
        chosen = [int(np.argmax(part)) for part in np.split(found, ends)]
        return self.check([tuple(part.points[index]) for part, index in zip(exact, chosen, strict=True)])

    def _propose_linear(self, work: _Work) -> Matrix | None:
        """The same with the pairs themselves as integer unknowns: a figure's limits are linear in them as long as it is no average."""
        classes = len(self.supports)
        rows, low, high = self._linear_rows()
        strips = [_strips(support, self.images, own) for support, own in zip(self.supports, self.own, strict=True)]
        least = np.array([*(part[0][0] for part in strips), *[0] * classes])
        most = np.array([*(part[-1][0] for part in strips), *[self.images] * classes])
        found = _integers([(rows, low, high)], least, most, rows.size, work)
        if found is None:
            return None
        chosen = np.rint(found).astype(np.int64).tolist()
        return self.check(list(zip(chosen[:classes], chosen[classes:], strict=True)))

    def _linear_rows(self) -> tuple[Array, Array, Array]:
        """Constraints on all correct and then all predicted: weights ``[rows, 2 * classes]``, lower and upper bounds."""
        classes, images = len(self.supports), self.images
        supports = np.array(self.supports, np.float64)
        none = np.zeros(classes)
        rows = [(none, np.ones(classes), float(images), float(images))]
        for unit, support, ((precision_low, precision_high), _, (f1_low, f1_high)) in zip(np.eye(classes), supports, self.own, strict=True):
            rows += [
                (-unit, unit, 0.0, images - support),
                (1 - 2 * unit, unit, -np.inf, images - support),  # `matrix_exists`
                (unit, -float(precision_low) * unit, 0.0, np.inf),
                (unit, -float(precision_high) * unit, -np.inf, 0.0),
                (2 * unit, -float(f1_low) * unit, float(f1_low) * support, np.inf),
                (2 * unit, -float(f1_high) * unit, -np.inf, float(f1_high) * support),
            ]
        for (row, _), (least, most) in self.limits.items():
            if not row.isdecimal():
                equal = np.divide(images / classes, supports, out=np.zeros(classes), where=supports > 0)
                weights = equal if row == "macro avg" else np.ones(classes)
                rows.append((weights, none, float(least) * images, float(most) * images))
        correct, predicted, low, high = zip(*rows, strict=True)
        return np.concatenate([np.array(correct), np.array(predicted)], axis=1), np.array(low), np.array(high)


@lru_cache(4_096)
def _strips(support: int, images: int, own: Own) -> tuple[tuple[int, int, int], ...]:
    """The pairs that a class's own figures allow, as (correct, least predicted, most predicted); all in integers."""
    precision, recall, f1 = own
    if support == 0:
        found = range(1) if recall[0] <= 0 <= recall[1] else range(0)
    else:
        found = range(max(0, _ceil(recall[0] * support)), min(support, _floor(recall[1] * support)) + 1)
    strips = []
    for correct in found:
        least, most = correct, correct + images - support
        if correct == 0:
            if precision[0] > 0 or f1[0] > 0 or precision[1] < 0 or f1[1] < 0:
                continue
        else:
            if precision[1] <= 0 or f1[1] <= 0:
                continue
            least = max(least, _ceil(correct / precision[1]), _ceil(2 * correct / f1[1] - support))
            if precision[0] > 0:
                most = min(most, _floor(correct / precision[0]))
            if f1[0] > 0:
                most = min(most, _floor(2 * correct / f1[0] - support))
        if least <= most:
            strips.append((correct, least, most))
    return tuple(strips)


@lru_cache(512)
def _boxes(support: int, images: int, own: Own, most_boxes: int) -> _Cells:
    """Single pairs of a class where those are at most `most_boxes`, or else about as many boxes; fewer where it has no figure."""
    strips = _strips(support, images, own)
    if sum(most - least + 1 for _, least, most in strips) <= most_boxes:
        return _pairs(strips)
    if all(limit == ANYTHING for limit in own):
        most_boxes = most_boxes // 4
    groups = min(len(strips), max(1, int(most_boxes**0.5)))
    boxes, points = [], []
    for part in np.array_split(np.arange(len(strips)), groups):
        members = [strips[index] for index in part]
        lowest, highest = min(strip[1] for strip in members), max(strip[2] for strip in members)
        edges = np.unique(np.rint(np.geomspace(lowest + 1, highest + 2, most_boxes // groups + 1)).astype(np.int64) - 1)
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            inside = [(c, max(a, start), min(b, end - 1)) for c, a, b in members if max(a, start) <= min(b, end - 1)]
            if inside:
                boxes.append((inside[0][0], inside[-1][0], min(strip[1] for strip in inside), max(strip[2] for strip in inside)))
                correct, low, high = inside[len(inside) // 2]
                points.append((correct, (low + high) // 2))
    # Predicted as often as there are images: what an honest table is like, and the times predicted add up by themselves.
    evenly = np.unique(np.linspace(0, len(strips) - 1, 60).astype(np.int64)).tolist()
    points += [(correct, min(max(support, least), most)) for correct, least, most in (strips[index] for index in evenly)]
    return _Cells(np.array(boxes, np.int64), np.array(points, np.int64), complete=False)


@lru_cache(512)
def _corners(support: int, images: int, own: Own, most_boxes: int) -> _Cells:
    """Single pairs of a class where those are at most `most_boxes`, or else the corners of their hull: linear sums need no more."""
    strips = _strips(support, images, own)
    if sum(most - least + 1 for _, least, most in strips) <= most_boxes:
        return _pairs(strips)
    lower = _chain([(correct, least) for correct, least, _ in strips], 1)
    upper = _chain([(correct, most) for correct, _, most in strips], -1)
    points = np.array(sorted({*lower, *upper}), np.int64)
    return _Cells(points[:, [0, 0, 1, 1]], points, complete=False)


def _chain(points: list[tuple[int, int]], side: int) -> list[tuple[int, int]]:
    """The lower (`side` 1) or upper (-1) hull of points in the order of their first coordinate."""
    chain: list[tuple[int, int]] = []
    for x, y in points:
        while (
            len(chain) > 1
            and side * ((chain[-1][0] - chain[-2][0]) * (y - chain[-2][1]) - (chain[-1][1] - chain[-2][1]) * (x - chain[-2][0])) <= 0
        ):
            chain.pop()
        chain.append((x, y))
    return chain


def _pairs(strips: Sequence[tuple[int, int, int]]) -> _Cells:
    points = np.array([(correct, predicted) for correct, least, most in strips for predicted in range(least, most + 1)], np.int64)
    return _Cells(points[:, [0, 0, 1, 1]], points, complete=True)


def _terms(cells: _Cells, support: int, images: int) -> dict[str, tuple[Array, Array]]:
    """Least and most that each box of a class adds to each kind of sum."""
    least, most, fewest, highest = cells.boxes.T.astype(np.float64)
    fewest = np.maximum(fewest, least)
    ratio = np.divide(least, highest, out=np.zeros_like(least), where=highest > 0)
    best = np.minimum(1.0, np.divide(most, fewest, out=np.where(most > 0, 1.0, 0.0), where=fewest > 0))
    f1_low = np.divide(2 * least, support + highest, out=np.zeros_like(least), where=support + highest > 0)
    f1_high = np.divide(2 * most, support + fewest, out=np.zeros_like(least), where=support + fewest > 0)
    return {
        "correct": (least / images, most / images),
        "predicted": (fewest / images, highest / images),
        "precision": (ratio, best),
        "recall": (least / max(support, 1), most / max(support, 1)),
        "f1": (f1_low, np.minimum(1.0, f1_high)),
        "own": ((support + fewest - most) / images, (support + highest - least) / images),
    }


def _out_of_reach(rows: _Rows) -> bool:
    """Whether it is proven that a weighted sum of the constraints is out of reach of every choice of boxes."""
    down = sum(part.min(axis=1) for part in rows.least)
    up = sum(part.max(axis=1) for part in rows.most)
    if np.any(down > rows.high + PROOF_MARGIN) or np.any(up < rows.low - PROOF_MARGIN):
        return True
    from scipy.optimize import linprog

    matters = (up > rows.high, down < rows.low)  # what holds for every choice proves nothing
    sides = [np.concatenate([least[matters[0]], -most[matters[1]]]) for least, most in zip(rows.least, rows.most, strict=True)]
    limits = np.concatenate([rows.high[matters[0]], -rows.low[matters[1]]])
    if not len(limits):
        return False
    # Share each class out among its boxes so that the worst excess over a limit is least; its dual values weigh the limits.
    everything = np.concatenate([*sides, np.full((len(limits), 1), -1.0)], axis=1)
    size = everything.shape[1]
    owner = np.repeat(np.arange(len(sides)), [part.shape[1] for part in sides])
    shares = np.zeros((len(sides), size))
    shares[owner, np.arange(size - 1)] = 1.0
    cost = np.zeros(size)
    cost[-1] = 1.0
    done = linprog(cost, A_ub=everything, b_ub=limits, A_eq=shares, b_eq=np.ones(len(sides)), method="highs")
    if done.x is None:
        return False
    multipliers = np.maximum(0.0, -done.ineqlin.marginals)
    reached = sum(float((multipliers @ part).min()) for part in sides) - float(multipliers @ limits)
    return reached > PROOF_MARGIN * max(1.0, float(multipliers.sum()))


def _integers(constraints: Sequence[tuple[Any, Any, Any]], least: Any, most: Any, size: int, work: _Work) -> Array | None:
    """Whole numbers that keep ``low <= matrix @ numbers <= high``, or None where none are found with the work left.

    Args:
        constraints: matrix, low and high of each.
        least, most: limits of the numbers.
        size: entries of the matrix, by which the work is counted.
        work: limits the nodes of the search.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    cost = QUESTION + ROOT * size
    if cost > work.left:
        return None
    unknowns = constraints[0][0].shape[1]
    node = max(size, NODE)
    nodes = 1 + min(1_000_000, int((work.left - cost) / node))
    done = milp(
        np.zeros(unknowns),
        constraints=[LinearConstraint(*one) for one in constraints],
        integrality=np.ones(unknowns),
        bounds=Bounds(least, most),
        options={"node_limit": nodes},
    )
    work.spend(cost + node * (done.mip_node_count or 0))
    found: Array | None = done.x
    return found


def _choose(cells: list[_Cells]) -> Array:
    """``[classes, boxes]``: 1 where a box belongs to the class."""
    owner = np.repeat(np.arange(len(cells)), [len(part) for part in cells])
    return np.equal(owner, np.arange(len(cells))[:, None]).astype(np.float64)


def _combinations(cells: list[_Cells]) -> float:
    """The work of `_enumerate`: pairs of sums, or more than can be where one half has too many."""
    half = _halfway(cells)
    left, right = (float(np.prod([len(part) for part in side], dtype=np.float64)) for side in (cells[:half], cells[half:]))
    return left * right if max(left, right) <= 200_000 else np.inf


def _halfway(cells: list[_Cells]) -> int:
    sizes = np.cumsum(np.log([len(part) for part in cells]))
    return 1 + int(np.argmin(np.abs(sizes[:-1] - sizes[-1] / 2)))


def _sums(parts: list[Array]) -> tuple[Array, Cells]:
    """All sums ``[rows, combinations]`` of one column of each part, and the columns ``[parts, combinations]``."""
    total = np.zeros((parts[0].shape[0], 1))
    choice = np.zeros((0, 1), np.int64)
    for part in parts:
        before, width = total.shape[1], part.shape[1]
        total = np.repeat(total, width, axis=1) + np.tile(part, before)
        choice = np.concatenate([np.repeat(choice, width, axis=1), np.tile(np.arange(width), before)[None]])
    return total, choice


def _ceil(value: Fraction) -> int:
    return -((-value.numerator) // value.denominator)


def _floor(value: Fraction) -> int:
    return value.numerator // value.denominator
