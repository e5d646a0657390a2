"""A study's results, put together for reading: all seeds of one variation, or of one cell of a grid, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fittingroom.evaluate.curves import curve
from fittingroom.report.text import value
from fittingroom.study.grid import cells, seeds_of, variation_key
from fittingroom.study.grid import selected as planned_by
from fittingroom.study.results import Failure, Result
from fittingroom.study.schema import Claim, Selection, Study, selections_of

__all__ = ["Variation", "cell_words", "gather", "named_by", "selected", "selection_labels"]


@dataclass(frozen=True, eq=False)
class Variation:
    """All that was measured of one variation of a study.

    Attributes:
        number: its place in the study's file, from 0: a name for ids.
        run: name of the variation or grid.
        about: what it is, in the report's terms.
        cell: the factors' values, by their short names; empty for what is no grid.
        cell_label: the same in words.
        of_grid: whether it is one of the cells of a grid; the readings of one and the same variation are no grid.
        planned: number of seeds that the study asks for.
        results: one a seed, ordered by seed; may be fewer than planned, or none.
        failed: runs that failed and have no result, ordered by seed.
    """

    number: int
    run: str
    about: str
    cell: Mapping[str, Any]
    cell_label: str
    of_grid: bool
    planned: int
    results: tuple[Result, ...]
    failed: tuple[Failure, ...] = ()

    @property
    def label(self) -> str:
        """Its name on the page."""
        return f"{self.run}: {self.cell_label}" if self.cell else self.run

    @property
    def waits(self) -> bool:
        """Whether nothing of it has been run to its end, be that a good or a bad one."""
        return not self.results and not self.failed

    @property
    def anchor(self) -> str:
        """The id of its row in the table of runs."""
        return f"run-{self.number}"

    @property
    def data(self) -> str:
        """The data set of its results; empty where there are none."""
        return str(self.results[0].recipe["data"]["name"]) if self.results else ""

    def accuracies(self, split: str) -> list[float]:
        """Return the accuracy of each seed that was measured on the split, in [0, 1]."""
        return [float(part["accuracy"]) for result in self.results if (part := result.evaluation.get(split))]

    @property
    def on_test(self) -> bool:
        """Whether it validated on the test images."""
        return any(result.environment.get("data", {}).get("validation_source") == "test" for result in self.results)

    @property
    def judged(self) -> list[float]:
        """The accuracies that it is ranked by: test where it was opened, validation otherwise."""
        return self.accuracies("test") or self.accuracies("validation")

    @property
    def seconds(self) -> float | None:
        """Mean duration of training over seeds, or None where none was recorded."""
        times = [total for result in self.results if (total := sum(filter(None, curve(result.history, "train", "seconds"))))]
        return statistics.fmean(times) if times else None

    def size(self, what: str) -> int | None:
        """Return `parameters` or `multiply_adds`, where the model has such a number."""
        sizes = [result.environment.get("model", {}).get(what) for result in self.results]
        return next((int(size) for size in sizes if size is not None), None)

    def curves(self, part: str, quantity: str) -> list[list[float | None]]:
        """Return a curve for each seed that recorded the quantity, one value an epoch."""
        found = [curve(result.history, part, quantity) for result in self.results]
        return [line for line in found if any(item is not None for item in line)]

    @property
    def epochs(self) -> int:
        """The most epochs of a seed."""
        return max((len(result.history) for result in self.results), default=0)


def gather(study: Study, results: Iterable[Result], failures: Iterable[Failure] = ()) -> list[Variation]:
    """Return every variation that the study plans, in the order of its file, each with its results; those of no plan are left out."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault(variation_key(result.run, result.cell), []).append(result)
    failed: dict[tuple[str, str], list[Failure]] = {}
    for one in failures:
        if one.seed not in {result.seed for result in found.get(variation_key(one.run, one.cell), [])}:
            failed.setdefault(variation_key(one.run, one.cell), []).append(one)
    variations: list[Variation] = []
    for name, runs in study.runs.items():
        for cell in cells(study, name):
            there = tuple(sorted(found.get(variation_key(name, cell), []), key=_seed))
            lost = tuple(sorted(failed.get(variation_key(name, cell), []), key=_seed))
            words = cell_words(study, cell)
            of_grid = any(factor not in study.readings for factor in runs.grid)
            planned = len(seeds_of(study, name, cell))
            number = len(variations)
            variations.append(Variation(number, name, runs.about, cell, words, of_grid, planned, there, lost))
    return variations


def selected(study: Study, variations: Iterable[Variation], selection: Selection) -> list[Variation]:
    """Return the variations that a selection names."""
    wanted = {variation_key(run, cell) for run, cell in planned_by(study, selection)}
    return [v for v in variations if variation_key(v.run, v.cell) in wanted]


def named_by(study: Study, variations: Sequence[Variation], claim: Claim) -> list[Variation]:
    """Return the variations that a claim speaks of, each once, in the study's order."""
    numbers = {v.number for selection in selections_of(claim) for v in selected(study, variations, selection)}
    return [v for v in variations if v.number in numbers]


def selection_labels(study: Study, selections: Sequence[Selection]) -> list[str]:
    """Return selections as the page names them side by side: by the run and the values of its factors, without what all have in common."""
    same_run = len({selection.run for selection in selections}) == 1 < len(selections)
    labels = []
    for selection in selections:
        others = [other.where for other in selections if other is not selection]
        shared = {key for key, item in selection.where.items() if same_run and all(where.get(key, None) == item for where in others)}
        words = cell_words(study, {key: item for key, item in selection.where.items() if key not in shared})
        label = words if same_run and words else f"{selection.run}: {words}" if words else selection.run
        labels.append(f"each of {label}" if selection.each else label)
    return labels


def cell_words(study: Study, cell: Mapping[str, Any]) -> str:
    """Return the values of the factors; those that do not speak for themselves, such as numbers and `with`, with the factor's name."""
    speaks = [name for name, item in cell.items() if isinstance(item, str) and not isinstance(study.factors.get(name), dict)]
    return ", ".join(value(item) if name in speaks else f"{name} {value(item)}" for name, item in cell.items())


def _seed(one: Result | Failure) -> int:
    return one.seed


