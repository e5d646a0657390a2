"""The runs that claims speak of: found by what selects them, with the spread over their seeds and what weakens them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fittingroom import models
from fittingroom.evaluate import statistics
from fittingroom.evaluate.statistics import Spread
from fittingroom.study.grid import seeds_of, selected, variation_key
from fittingroom.study.metrics import COUNTED, metric_words
from fittingroom.study.results import Failure, Result, measure
from fittingroom.study.schema import Claim, Count, Number, Selection, Study, selections_of
from fittingroom.study.wording import failed_words, selection_words

__all__ = ["NEVER", "Groups", "Typical", "alike"]

NEVER = ("gap_opens", "epochs_to_95")
"""Metrics that a sound run may lack, because what they date never happened."""


@dataclass(frozen=True)
class Typical:
    """A spread over seeds that is taken for that of a run with one seed.

    Attributes:
        spread: of one run.
        whose: in words.
        same_kind: whether it was found on runs of the same kind.
    """

    spread: Spread
    whose: str
    same_kind: bool

    def to_json(self) -> dict[str, Any]:
        """As evidence."""
        return {"standard_deviation": math.sqrt(self.spread.variance), "degrees": self.spread.degrees, "of": self.whose}


class Groups:
    """The results of a study, found by the run and cell that a selection means, in an order of their own; and what failed instead."""

    def __init__(self, study: Study, results: Iterable[Result], failures: Iterable[Failure] = ()) -> None:
        self.study = study
        self._failures = tuple(failures)
        self._failed: dict[tuple[str, str], dict[int, Failure]] = {}
        self._by_cell: dict[tuple[str, str], dict[int, Result]] = {}
        self._values: dict[tuple[int, str], float | None] = {}
        self._spreads: dict[tuple[str, frozenset[str], frozenset[str], frozenset[str]], list[list[float]]] = {}
        for result in results:
            seeds = self._by_cell.setdefault(variation_key(result.run, result.cell), {})
            there = seeds.get(result.seed)
            # Of two results of one run, the less reduced is kept, then one by its content: never the one that happened to come first.
            seeds[result.seed] = result if there is None else min(there, result, key=_precedence)
        for one in self._failures:
            cell = variation_key(one.run, one.cell)
            if one.seed not in self._by_cell.get(cell, {}):
                self._failed.setdefault(cell, {})[one.seed] = one

    def value(self, result: Result, metric: str) -> float | None:
        """A metric of a run, or None where the run cannot tell it."""
        key = (id(result), metric)
        if key not in self._values:
            value = measure(result, metric)
            self._values[key] = value if value is not None and math.isfinite(value) else None
        return self._values[key]

    def of(self, selection: Selection) -> list[Result]:
        """The results of a selection, cell by cell in the order of the grid, then by seed."""
        cells = (self._by_cell.get(variation_key(name, cell), {}) for name, cell in selected(self.study, selection))
        return [seeds[seed] for seeds in cells for seed in sorted(seeds)]

    def failed(self, selection: Selection) -> list[Failure]:
        """The runs of a selection that failed and have no result, in the order of those that have."""
        cells = (self._failed.get(variation_key(name, cell), {}) for name, cell in selected(self.study, selection))
        return [seeds[seed] for seeds in cells for seed in sorted(seeds)]

    def waits(self, selection: Selection) -> bool:
        """Whether nothing of a selection has ended well, and something can still do so."""
        return not self.of(selection) and len(self.failed(selection)) < max(1, len(self.planned(selection)))

    def why_silent(self, selection: Selection, metric: str) -> str:
        """Why a selection tells nothing of a metric."""
        if self.never(selection, metric):
            return f"in none of the runs of {selection_words(selection)} it happens: {metric_words(metric)}"
        if self.of(selection):
            name = selection_words(selection)
            return f"the runs of {name} ended too early or were not measured for it: none of them tells {metric_words(metric)}"
        return failed_words(selection_words(selection), self.failed(selection), len(self.planned(selection)))

    def planned(self, *selections: Selection) -> set[tuple[str, str, int]]:
        """Run, cell and seed of all that the study asks for of some selections."""
        cells = ((run, cell) for selection in selections for run, cell in selected(self.study, selection))
        return {(*variation_key(run, cell), seed) for run, cell in cells for seed in seeds_of(self.study, run, cell)}

    def seed_counts(self, selection: Selection) -> list[int]:
        """With how many seeds each variation of a selection was run, of those that were."""
        return list(Counter(variation_key(result.run, result.cell) for result in self.of(selection)).values())

    def never(self, selection: Selection, metric: str) -> int:
        """In how many of a selection's runs, which are sound, that which a metric dates never happened."""
        return sum(metric in NEVER and bool(one.history) and self.value(one, metric) is None for one in self.of(selection))

    def told(self, selection: Selection, metric: str) -> list[tuple[Result, float]]:
        """The results that can tell a metric, with its value."""
        values = ((result, self.value(result, metric)) for result in self.of(selection))
        return [(result, value) for result, value in values if value is not None]

    def by_seed(self, selection: Selection, metric: str) -> list[float]:
        """The metric for each seed, averaged over the cells of the selection; of seeds that all cells have, where there are such."""
        cells: dict[tuple[str, str], dict[int, float]] = {}
        for result, value in self.told(selection, metric):
            cells.setdefault(variation_key(result.run, result.cell), {})[result.seed] = value
        shared = set.intersection(*(set(seeds) for seeds in cells.values())) if cells else set()
        seeds = shared or {seed for values in cells.values() for seed in values}
        return [float(np.mean([values[seed] for values in cells.values() if seed in values])) for seed in sorted(seeds)]

    def without_reduced(self, selections: Sequence[Selection]) -> Groups:
        """The same without reduced runs, where each of the selections has whole ones."""
        if not any(result.reduced for selection in selections for result in self.of(selection)):
            return self
        unreduced = (one for seeds in self._by_cell.values() for one in seeds.values() if not one.reduced)
        whole = Groups(self.study, unreduced, self._failures)
        return whole if all(whole.of(selection) for selection in selections) else self

    def typical(self, metric: str, *selections: Selection) -> Typical | None:
        """The spread over seeds that is taken for that of what was run with one: that of what it is compared with.

        Where that has one seed too, what the cells of its run have in common; where none of those has two, what the study's other runs of
        such models have in common, of those that vary at all; None where there are none. Recipes differ in their spread, and by how much
        is known only as well as there are recipes: hence its degrees.
        """
        runs, every = frozenset(selection.run for selection in selections), frozenset(self.study.runs)
        results = [result for selection in selections for result in self.of(selection)]
        compared = frozenset(map(_family, results))
        if (spread := statistics.pooled_spread(self._families(metric, runs, map(_model, results), compared))) is not None:
            return Typical(spread, "the runs compared", same_kind=True)
        if (spread := statistics.pooled_spread(self._families(metric, runs, map(_model, results)))) is not None:
            return Typical(spread, "other runs of the same kind", same_kind=True)
        kinds = {_kind(name) for name in map(_model, results)}
        every_such = {name for name in models.names() if _kind(name) in kinds}
        groups = [group for group in self._families(metric, every, every_such) if not alike(group)]
        if (spread := statistics.pooled_spread(groups)) is not None:
            fewer = replace(spread, degrees=min(spread.degrees, len(groups)))
            return Typical(fewer, "the study's other runs", same_kind=False)
        return None

    def shared(self, metric: str, selection: Selection) -> Spread | None:
        """The usual spread over seeds of the cells of a selection's run: a few that diverge do not speak for all. None of one cell."""
        groups = self._families(metric, frozenset([selection.run]), map(_model, self.of(selection)))
        return statistics.usual_spread(groups) if len(groups) > 1 else None

    def _families(
        self, metric: str, runs: frozenset[str], names: Iterable[str], recipes: frozenset[str] = frozenset()
    ) -> list[list[float]]:
        """The values of each recipe of some runs, and of some models, that has several seeds; of some recipes, or of all."""
        among = (metric, runs, frozenset(names), recipes)
        if among not in self._spreads:
            # Two names of a study can stand for the same recipe: its runs count once.
            groups: dict[str, dict[int, float]] = {}
            for (run, _), seeds in sorted(self._by_cell.items(), key=lambda item: item[0]):
                for seed, result in sorted(seeds.items()) if run in runs else ():
                    chosen = _model(result) in among[2] and (not recipes or _family(result) in recipes)
                    if chosen and (value := self.value(result, metric)) is not None:
                        groups.setdefault(_family(result), {}).setdefault(seed, value)
            self._spreads[among] = [list(group.values()) for group in groups.values() if len(group) > 1]
        return self._spreads[among]

    def apart(self, selection: Selection, other: Selection) -> list[Selection]:
        """The groups that are compared with another: a selection itself, or each of its cells but those of the other."""
        own = selected(self.study, other)
        cells = [Selection(run=name, where=cell) for name, cell in selected(self.study, selection) if (name, cell) not in own]
        return cells if selection.each and cells else [selection]

    def listed(self, claim: Claim) -> list[dict[str, Any]]:
        """Every run that a claim rests on, with its value."""
        metric = getattr(claim, "metric", "")
        results = {id(result): result for selection in selections_of(claim) for result in self.of(selection)}
        return [
            {"run": result.run, "cell": dict(result.cell), "seed": result.seed, "value": self.value(result, metric)}
            for result in results.values()
        ]

    def marks(self, claim: Claim) -> tuple[str, ...]:
        """In few words, in what less was run for a claim than it takes."""
        first, *others = selections_of(claim)
        groups = [first, *(group for other in others for group in self.apart(other, first))]
        results = [result for group in groups for result in self.of(group)]
        short = [reason for result in results for reason in (*result.reduced, self.study.runs[result.run].short) if reason]
        if isinstance(claim, Count):
            return ()
        planned, failed = self.planned(*groups), {one.place for group in groups for one in self.failed(group)}
        missing = len(planned - failed - {result.place for result in results})
        single = [count == 1 for group in groups for count in self.seed_counts(group)]
        seeds = "one seed" if single and all(single) else "one seed in part" if any(single) else ""
        counts = [f"{count} of {len(planned)} runs {what}" for count, what in ((missing, "missing"), (len(failed), "failed")) if count]
        return tuple(filter(None, (seeds, *counts, *sorted(set(short)))))

    def _weaknesses(self, selection: Selection, claim: Claim) -> list[str]:
        """What weakens the runs of a group, in words that do not name it."""
        found: list[str] = []
        if not (results := self.of(selection)):
            return found
        metric = getattr(claim, "metric", "")
        seeds, planned = {result.seed for result in results}, self.planned(selection)
        if not isinstance(claim, Count):
            if missing := len(planned - {result.place for result in results} - {failure.place for failure in self.failed(selection)}):
                found.append(f"{missing} of {len(planned)} planned runs are missing")
            counts = self.seed_counts(selection)
            if len(seeds) == 1:
                found.append(f"one seed only ({min(seeds)}); what another seed would give was not measured")
            elif 1 in counts:
                found.append(f"one seed only in {counts.count(1)} of {len(counts)} variations")
        lost = sum(self.value(result, metric) is None for result in results)
        if lost and (metric not in NEVER or isinstance(claim, Number)):
            found.append(f"{lost} of {len(results)} runs ended too early or do not tell {metric_words(metric)}")
        if reduced := sorted({reason for result in results for reason in result.reduced}):
            found.append(f"reduced runs, not the report's protocol ({', '.join(reduced)})")
        if short := self.study.runs[selection.run].short:
            found.append(f"made shorter than the report's protocol by this study's choice ({short})")
        if _looks_at_images(metric) and any(_on_test(result) for result in results):
            found.append("the validation images are the test images, looked at after every epoch")
        return found

    def cautions(self, claim: Claim) -> tuple[str, ...]:
        """What is to be known of the runs themselves before they are believed."""
        groups = selections_of(claim)
        failures = [(group, self.failed(group)) for group in groups]
        found = [failed_words(selection_words(group), failed, len(self.planned(group))) for group, failed in failures if failed]
        # What is to be said of several groups is said once.
        said: dict[str, list[str]] = {}
        for group in groups:
            for text in self._weaknesses(group, claim):
                said.setdefault(text, []).append(selection_words(group))
        for text, names in said.items():
            found.append(f"{'all groups' if len(names) == len(groups) > 1 else ', '.join(names)}: {text}")
        everything = [result for selection in groups for result in self.of(selection)]
        if getattr(claim, "metric", "") == "seconds" and len({result.machine for result in everything}) > 1:
            found.append("times of different machines or numbers of threads")
        if not isinstance(claim, Count) and len(formats := {name for result in everything if (name := _precision(result))}) > 1:
            found.append(f"on different machines, multiplied in {' and in '.join(sorted(formats))}")
        names = sorted({*claim.assumes, *(name for one in groups for name in self.study.runs[one.run].assumes)})
        if names:
            found.append(f"hangs on {'an assumption' if len(names) == 1 else 'assumptions'}: {', '.join(names)}")
        return tuple(dict.fromkeys(found))


def _family(result: Result) -> str:
    """What stands for a recipe without its seed."""
    return json.dumps({key: value for key, value in result.recipe.items() if key != "seed"}, sort_keys=True)


def _precedence(result: Result) -> tuple[int, str, str]:
    return len(result.reduced), result.code, json.dumps([result.history, result.reduced], sort_keys=True)


def _model(result: Result) -> str:
    return str(result.recipe["model"]["name"])


def _kind(model: str) -> str:
    """`network`, or what else a model is."""
    return models.entry(model).kind


def _precision(result: Result) -> str:
    """The format that its network multiplied in; `""` for a classical model, to which the record's does not apply."""
    name = str((result.environment.get("precision") or {}).get("name", ""))
    return name if name and _kind(_model(result)) == "network" else ""


def _looks_at_images(metric: str) -> bool:
    """Whether a metric is of validation or test images, or of a curve of them."""
    return metric not in (*COUNTED, "seconds", "epochs") and not metric.startswith("train.")


def _on_test(result: Result) -> bool:
    return bool(result.recipe.get("data", {}).get("validation") == "test")


def alike(differences: Sequence[float]) -> bool:
    """Whether differences are the same but for rounding, so that they have no spread to judge by."""
    return bool(np.ptp(differences) <= 1e-12)
