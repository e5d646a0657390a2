"""Claims against results: a verdict for each, with its evidence.

The statistics are those of `fittingroom.evaluate.statistics`; this module says which of them decides which kind of claim.

* **Number**: the claimed figure, with what it lost by rounding, against the interval in which *one more run* would lie, by the spread over
  seeds and by the sampling of the images (`new_run_interval`).
* **Order** and **Shape**: differences paired over seeds and over the factors that both groups have, their t interval and, where it is a
  matter of accuracy, two one-sided tests of no practical difference. Where several groups must lie below, each must for the claim to be
  supported (an intersection–union test, which needs no correction); one refutes it, at a level divided by their number.
* **Shape** of stated values: the interval of the mean within them. Of whole numbers also every seed within them, from three seeds on.
* **Count**: the digits. **Consistency**: the audit of the report's own table, and what it states in several places.

A run that failed tells no figure: a claim on it stays undecided, with the reason, unless another group that it speaks of refutes it.

One seed never decides unnoticed: the spread over seeds is then taken from the other runs of the study, and the verdict carries a caution.
Other kinds of run may scatter more or less than this one. So theirs is taken of networks or of classical models, whichever this is, and of
those that vary at all, with no more degrees of freedom than there are recipes; and it can only speak against a figure: one that is
too wide for this kind would reproduce anything.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from fittingroom import models
from fittingroom.audit import Finding, audit_table, read_tables
from fittingroom.audit.identity import KNOWN
from fittingroom.audit.published import accuracy_finding
from fittingroom.audit.table import parse_figure
from fittingroom.errors import UsageError
from fittingroom.evaluate import statistics
from fittingroom.evaluate.statistics import CONFIDENCE, EQUIVALENCE_MARGIN, Interval, Spread
from fittingroom.seeds import derive
from fittingroom.study.file import (
    AnyClaim,
    Claim,
    Consistency,
    Count,
    Number,
    Order,
    Selection,
    Shape,
    Study,
    Unmeasured,
    metric_of,
    metric_words,
    parse_claimed,
    seeds_of,
    selected,
    selections_of,
    variation_key,
)
from fittingroom.study.results import Failure, Result, measure

__all__ = ["VERDICTS", "Verdict", "judge"]

VERDICTS = (
    "reproduced",
    "higher than claimed",
    "lower than claimed",
    "supported",
    "not supported",
    "undecided",
    "contradicted by the report itself",
    "not testable",
    "not yet run",
)
FLOORS = {"nats": 0.01, "share": 0.002, "epoch": 0.5, "epochs": 0.5}
"""Standard deviations, by unit, that stand in for the sampling of images where there is no model of it: of losses and curve measures."""
COUNTED = ("parameters", "multiply_adds")
CELLS_ENOUGH = 5
"""From so many shared cells on, cells are the pairs and their seeds are averaged: the claim is about all of them alike."""
SEEDS_ENOUGH = 3
"""From so many seeds on, whole numbers that all lie as stated support the claim: their interval is wider than the steps they come in."""
MOST_LISTED = 8
"""Up to so many pairs are compared image by image."""
RESAMPLES = 2000
NEVER = ("gap_opens", "epochs_to_95")
"""Metrics that a sound run may lack, because what they date never happened."""


@dataclass(frozen=True)
class Verdict:
    """What was found of one claim.

    Attributes:
        claim: the claim.
        verdict: one of `VERDICTS`.
        measured: the measured figure in few words: mean ± standard deviation over seeds, `0.9021 ± 0.0012`, or the mean difference with
            its interval; empty where nothing was.
        sentence: what was found, in plain words, one or two sentences.
        cautions: what weakens it: a single seed, a reduced budget, assumptions it hangs on.
        evidence: runs, seeds, estimates, interval or paired differences, test, findings: plain JSON values. Of several comparisons the one
            that decides comes first.
        marks: of the cautions, in few words, those that say that little was run: `one seed`, `2 of 6 runs missing`, `3 of 6 runs failed`,
            `6 of 50 epochs`.
    """

    claim: AnyClaim
    verdict: str
    measured: str
    sentence: str
    cautions: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    marks: tuple[str, ...] = ()

    @property
    def rival(self) -> str:
        """Of several groups that a claim compares with, the one that decides and that `measured` is about; empty where there is but one."""
        compared = self.evidence.get("comparisons", [])
        if len(compared) < 2:
            return ""
        above, below = (Selection.model_validate(compared[0][side]) for side in ("above", "below"))
        return _words(below, above)


def judge(study: Study, results: Sequence[Result], failures: Sequence[Failure] = ()) -> list[Verdict]:
    """Return a verdict for each claim of the study, in the order written. The order of results and failures does not matter."""
    records = _Records(study, results, failures)
    return [_judge(study, claim, records) for claim in study.claims]


def _judge(study: Study, claim: AnyClaim, records: _Records) -> Verdict:
    match claim:
        case Unmeasured():
            return Verdict(claim, "not testable", "", f"Not testable here: {claim.because.rstrip('.')}.", (), {"because": claim.because})
        case Consistency():
            return _consistency(claim)
    chosen = records.without_reduced(selections_of(claim))
    if empty := [_words(selection) for selection in selections_of(claim) if chosen.waits(selection)]:
        sentence = f"Nothing has been run to its end yet of {_listed(empty)}."
        return Verdict(claim, "not yet run", "", sentence, (), {"missing": empty, **_assumed(study, claim)})
    metric = claim.metric
    first, *others = selections_of(claim)
    silent = [one for one in (first, *others) if not chosen.told(one, metric) and not chosen.never(one, metric)]
    if first in silent or (others and all(one in silent for one in others)):
        sentence = " ".join(f"{said[:1].upper()}{said[1:]}." for said in (chosen.why_silent(one, metric) for one in silent))
        evidence = {"silent": [_words(one) for one in silent], **_assumed(study, claim)}
        return Verdict(claim, "undecided", "", sentence, chosen.cautions(claim), evidence, chosen.marks(claim))
    match claim:
        case Number():
            found = _number(claim, chosen)
        case Count():
            found = _count(claim, chosen)
        case Order():
            found = _order(claim, claim.above, claim.below, chosen, claim.relation, _margin(claim))
        case Shape():
            sign = -1 if claim.relation == "less" else 1
            found = _order(claim, claim.of, claim.than, chosen, "above", 0.0, sign, claim.times) if claim.than else _stated(claim, chosen)
    evidence = {"metric": metric, **found.evidence, "runs": chosen.listed(claim), **_assumed(study, claim)}
    cautions = (*found.cautions, *chosen.cautions(claim))
    return Verdict(claim, found.verdict, found.measured, found.sentence, cautions, evidence, chosen.marks(claim))


# What was run.


@dataclass(frozen=True)
class _Typical:
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


class _Records:
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
            return f"in none of the runs of {_words(selection)} it happens: {metric_words(metric)}"
        if self.of(selection):
            return f"the runs of {_words(selection)} ended too early or were not measured for it: none of them tells {metric_words(metric)}"
        return _failed_words(_words(selection), self.failed(selection), len(self.planned(selection)))

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

    def without_reduced(self, selections: Sequence[Selection]) -> _Records:
        """The same without reduced runs, where each of the selections has whole ones."""
        if not any(result.reduced for selection in selections for result in self.of(selection)):
            return self
        unreduced = (one for seeds in self._by_cell.values() for one in seeds.values() if not one.reduced)
        whole = _Records(self.study, unreduced, self._failures)
        return whole if all(whole.of(selection) for selection in selections) else self

    def typical(self, metric: str, *selections: Selection) -> _Typical | None:
        """The spread over seeds that is taken for that of what was run with one: that of what it is compared with.

        Where that has one seed too, what the cells of its run have in common; where none of those has two, what the study's other runs of
        such models have in common, of those that vary at all; None where there are none. Recipes differ in their spread, and by how much
        is known only as well as there are recipes: hence its degrees.
        """
        runs, every = frozenset(selection.run for selection in selections), frozenset(self.study.runs)
        results = [result for selection in selections for result in self.of(selection)]
        compared = frozenset(map(_family, results))
        if (spread := statistics.pooled_spread(self._families(metric, runs, map(_model, results), compared))) is not None:
            return _Typical(spread, "the runs compared", same_kind=True)
        if (spread := statistics.pooled_spread(self._families(metric, runs, map(_model, results)))) is not None:
            return _Typical(spread, "other runs of the same kind", same_kind=True)
        kinds = {_kind(name) for name in map(_model, results)}
        alike = {name for name in models.names() if _kind(name) in kinds}
        groups = [group for group in self._families(metric, every, alike) if not _alike(group)]
        if (spread := statistics.pooled_spread(groups)) is not None:
            fewer = replace(spread, degrees=min(spread.degrees, len(groups)))
            return _Typical(fewer, "the study's other runs", same_kind=False)
        return None

    def shared(self, metric: str, selection: Selection) -> Spread | None:
        """The spread over seeds that the cells of a selection's run have in common; None where there is but one such cell."""
        groups = self._families(metric, frozenset([selection.run]), map(_model, self.of(selection)))
        return statistics.pooled_spread(groups) if len(groups) > 1 else None

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
        found = [_failed_words(_words(group), failed, len(self.planned(group))) for group, failed in failures if failed]
        # What is to be said of several groups is said once.
        said: dict[str, list[str]] = {}
        for group in groups:
            for text in self._weaknesses(group, claim):
                said.setdefault(text, []).append(_words(group))
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


def _key(cell: Mapping[str, Any]) -> str:
    return json.dumps(dict(cell), sort_keys=True)


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


def _assumed(study: Study, claim: Claim) -> dict[str, Any]:
    names = {*claim.assumes, *(name for one in selections_of(claim) for name in study.runs[one.run].assumes)}
    return {"assumptions": {name: study.assumptions.get(name, "") for name in sorted(names)}} if names else {}


# Each kind of claim.


@dataclass(frozen=True)
class _Found:
    verdict: str
    measured: str
    sentence: str
    evidence: dict[str, Any]
    cautions: tuple[str, ...] = ()


def _number(claim: Number, records: _Records) -> _Found:
    metric, claimed = claim.metric, parse_claimed(claim.claimed)
    told, values = records.told(claim.of, claim.metric), records.by_seed(claim.of, claim.metric)
    mean, images = float(np.mean(values)), _images(told[0][0], metric)
    unit = metric_of(metric).unit
    # A number of images is counted, and counts vary by their root.
    floor = 0.0 if images is not None else math.sqrt(max(mean, 1.0)) if unit == "images" else FLOORS.get(unit, 0.0)
    typical = records.typical(metric, claim.of) if len(values) == 1 else None
    cautions = []
    if len({_key(result.cell) for result, _ in told}) > 1:
        cautions.append(f"the mean over {len({_key(result.cell) for result, _ in told})} variations")
    alone = len(values) == 1 and typical is None
    blind = alone and images is None and not floor
    if alone:
        left = "nothing is" if blind else "the images alone are" if images is not None else f"a floor of {floor:g} alone is"
        cautions.append(f"no run of the study has a second seed: nothing is known of their spread, and {left} reckoned with")
    elif typical is not None:
        cautions.append(f"the spread over seeds is that of {typical.whose}")

    def one_more(spread: Spread, pooled: bool = False) -> Interval:
        interval = statistics.new_run_interval(values, images=images, floor=floor, typical=spread, pooled=pooled)
        ends = (0.0, 1.0) if images is not None else (0.0, math.inf) if unit == "images" else (-math.inf, math.inf)
        return replace(interval, low=max(interval.low, ends[0]), high=min(interval.high, ends[1]))

    none = Spread(0.0, 0)
    interval = one_more(none if typical is None else typical.spread)
    write = _writer(metric, percent="%" in claim.claimed)
    fits = interval.holds(claimed.value, slack=claimed.resolution)
    # A borrowed spread that is too wide for this kind of run holds any figure: it is believed against a figure, never for it.
    borrowed = typical is not None and not typical.same_kind
    doubtful = borrowed and not one_more(none).holds(claimed.value, slack=claimed.resolution)
    # Nor does a figure fit that is far from every seed, and within for one reason: that so few of them say little of their own spread.
    shared = records.shared(metric, claim.of) if len(values) > 1 else None
    strange = shared is not None and not one_more(shared, pooled=True).holds(claimed.value, slack=claimed.resolution)
    open_ = blind or (fits and (doubtful or strange))
    verdict = "undecided" if open_ else "reproduced" if fits else "higher than claimed" if mean > claimed.value else "lower than claimed"
    ours, more = ("mean", "more seeds") if len(values) > 1 else ("run", "a second seed of this run")
    side = f"{_apart(abs(mean - claimed.value), metric)} {'below' if mean > claimed.value else 'above'} our {ours}"
    sentence = (
        f"{_seeds(len(values))} {write(mean)}{' on average' if len(values) > 1 else ''}; one more run would lie between "
        f"{write(interval.low)} and {write(interval.high)}. The claimed {claim.claimed} lies {'within' if fits else f'outside, {side}'}"
        f"{f', but {side}: only {more} can tell' if open_ else ''}."
    )
    evidence: dict[str, Any] = {
        "claimed": {"printed": claim.claimed, "value": claimed.value, "resolution": claimed.resolution},
        "seeds": sorted({result.seed for result, _ in told}),
        "values": values,
        "mean": mean,
        "standard_deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "one_run_interval": interval.to_json(),
        "images": images,
        "floor": floor,
        "typical_spread": None if typical is None else typical.to_json(),
        "method": "the claimed figure, within its rounding, against the interval of one more run",
    }
    if len(values) > 1:
        evidence["mean_interval"] = statistics.mean_interval(values).to_json()
        # Where the report's images and ours are the same, their sampling is shared, and the seeds alone are left.
        evidence["same_images_interval"] = statistics.new_run_interval(values).to_json()
    return _Found(verdict, _mean_words(values, write), sentence, evidence, tuple(cautions))


def _count(claim: Count, records: _Records) -> _Found:
    claimed = parse_claimed(claim.claimed)
    counts = sorted({round(value) for _, value in records.told(claim.of, claim.metric)})
    measured, unit = counts[0], 2 * claimed.resolution
    name = claim.metric.replace("_", "-")
    if len(counts) > 1:
        sentence = f"The runs have different {name}: {', '.join(f'{count:,}' for count in counts)}."
        return _Found("undecided", "", sentence, {"counts": counts})
    if abs(measured - claimed.value) <= claimed.resolution:
        how = "exactly" if unit <= 1 else "rounded"
    elif claimed.value <= measured < claimed.value + unit:
        how = "cut off after its last digit, not rounded"
    else:
        how = ""
    verdict = "reproduced" if how else "higher than claimed" if measured > claimed.value else "lower than claimed"
    sentence = f"The model has {measured:,} {name}; the claimed {claim.claimed} is {f'that, {how}' if how else 'another number'}."
    printed = {"printed": claim.claimed, "value": claimed.value, "resolution": claimed.resolution}
    return _Found(verdict, f"{measured:,}", sentence, {"claimed": printed, "counts": counts, "how": how})


def _margin(claim: Order) -> float:
    """By how much a group may lie behind, or must lie ahead; a draw of accuracies is one that makes no practical difference."""
    if claim.margin is not None:
        return claim.margin
    return EQUIVALENCE_MARGIN if claim.relation == "at least" and _is_accuracy(claim.metric) else 0.0


def _order(
    claim: Order | Shape,
    above: Selection,
    below: Sequence[Selection],
    records: _Records,
    relation: str,
    margin: float,
    sign: int = 1,
    times: float = 1.0,
) -> _Found:
    """Judge whether a group lies above each of others, taken ``times``; with ``sign`` −1, below each of them."""
    others = [group for selection in below for group in records.apart(selection, above)]
    compared = [_compare(above, other, records, claim.metric, relation, margin, sign, times, len(others)) for other in others]
    # The comparison that decides is the one to tell: the weakest, or the one that refutes.
    compared.sort(key=lambda part: (_rank(part["verdict"]), sign * part["interval"]["estimate"] if part["interval"] else -math.inf))
    told = compared[0]
    verdict, sentence = told["verdict"], told["sentence"]
    if len(others) > 1:
        held = sum(part["verdict"] == "supported" for part in compared)
        sentence = f"It holds against {held} of {len(others)}. {'The closest: ' if held == len(others) else ''}{sentence}"
    cautions = tuple(dict.fromkeys(caution for part in compared for caution in part.pop("cautions")))
    measured = told["measured"]
    for part in compared:
        part.pop("measured")
    evidence = {"relation": claim.relation, "margin": margin, "comparisons": compared, "method": "differences paired over seeds"}
    return _Found(verdict, measured, sentence, evidence, cautions)


def _rank(verdict: str) -> int:
    """Rank verdicts on parts of a claim by how much they say of the whole."""
    return ("not supported", "undecided", "supported").index(verdict)


def _compare(
    above: Selection, below: Selection, records: _Records, metric: str, relation: str, margin: float, sign: int, times: float, others: int
) -> dict[str, Any]:
    pairs = _paired(above, below, records, metric)
    runs = [(first, times * second) for first, second in pairs.values]
    differences = [first - second for first, second in runs]
    images = _images_evidence(pairs.runs, above, below, records, metric) if not pairs.by_cell and times == 1 else {}
    names = _words(above, below), f"{times:g} × {_words(below, above)}" if times != 1 else _words(below, above)
    never = sum(records.never(group, metric) for group in (above, below))
    cautions: list[str] = []
    interval: Interval | None = None
    wide: Interval | None = None
    typical: _Typical | None = None
    lone = False
    if not pairs.values:
        silent = [group for group in (above, below) if not records.told(group, metric)]
        how = "; ".join(records.why_silent(group, metric) for group in silent) or "no seed and cell in common"
    elif metric in COUNTED and _alike(differences):
        interval = wide = Interval(differences[0], differences[0], differences[0], "counted", CONFIDENCE)
        how = "counted: no seed changes it"
    elif len(differences) > 1 and (not _alike(differences) or _least_spread(metric)):
        # How cells differ says nothing of the luck that one seed has in all of them.
        lone = pairs.by_cell and len({seed for seed, _ in pairs.runs}) == 1
        typical = records.typical(metric, above, below) if lone else None
        interval, wide = (
            _widened(statistics.mean_interval(differences, level, _least_spread(metric)), typical, times)
            for level in (CONFIDENCE, 1 - (1 - CONFIDENCE) / others)
        )
        how = f"paired over {len(differences)} {pairs.units}"
        if lone:
            beside = f"and judged by the spread over seeds of {typical.whose} too" if typical else "whose luck is not known"
            how = f"paired over {len(differences)} cells of one seed, {beside}"
    else:
        # Several seeds that all give the same difference are not one: their spread is known to be nothing, and the images are left.
        typical = records.typical(metric, above, below) if len(differences) == 1 else None
        nothing = _alike([*differences, 0.0])  # the same run by run, whatever it is measured on
        floor = None if len(differences) == 1 else 0.0 if nothing else FLOORS.get(metric_of(metric).unit, 0.0)
        interval, wide, how = _single(differences[0], images, floor, typical, times, others)
        if len(differences) == 1:
            cautions.append(f"one pair of runs: {how}")
    verdict, why = _decide(differences, interval, wide, relation, margin, metric, sign, others)
    if lone and typical is None:
        verdict, why = "undecided", "nothing is known of what another seed would give"
    if never and interval is not None:
        verdict, why = "undecided", f"but in {never} of the runs it never happens, which no difference tells of"
    return {
        "above": {"run": above.run, "where": dict(above.where)},
        "below": {"run": below.run, "where": dict(below.where)},
        "times": times,
        "verdict": verdict,
        "sentence": _order_sentence(names, interval, metric, how, why),
        "measured": "" if interval is None else _difference_words(interval, metric),
        "pairs": [
            {"seed": seed, "cell": json.loads(cell or "{}"), "above": first, "below": second, "difference": first - second}
            for (seed, cell), (first, second) in zip(pairs.keys, runs, strict=True)
        ],
        "interval": None if interval is None else interval.to_json(),
        "test": statistics.paired(differences).to_json() if len(differences) > 1 else None,
        "images": images or None,
        "how": how,
        "cautions": cautions,
    }


Key = tuple[int | None, str]


@dataclass(frozen=True)
class _Pairs:
    """Two groups' values side by side, a pair for each seed; for each cell where they share many.

    Attributes:
        keys: of each pair its seed, or None where seeds are averaged, and its cell as JSON, or `""` where cells are.
        values: of each pair.
        runs: seed and cell of all that was averaged.
        by_cell: whether cells are the pairs.
    """

    keys: list[Key]
    values: list[tuple[float, float]]
    runs: list[Key]
    by_cell: bool

    @property
    def units(self) -> str:
        """What the pairs are."""
        cells = len({cell for _, cell in self.runs})
        return "cells, seeds averaged" if self.by_cell else "seeds" if cells == 1 else f"seeds, {cells} cells averaged"


def _paired(above: Selection, below: Selection, records: _Records, metric: str) -> _Pairs:
    """Pair the values of two groups by seed, or by the factors that neither of them fixes."""
    told = records.told(above, metric), records.told(below, metric)
    fixed = {*above.where, *below.where}
    shared = {name for results in told for result, _ in results for name in result.cell} - fixed
    shared = {name for name in shared if all(name in result.cell for results in told for result, _ in results)}

    def grouped(results: list[tuple[Result, float]]) -> dict[Key, float]:
        groups: dict[Key, list[float]] = {}
        for result, value in results:
            cell = {name: result.cell[name] for name in sorted(shared)}
            groups.setdefault((result.seed, _key(cell) if cell else ""), []).append(value)
        return {key: float(np.mean(values)) for key, values in groups.items()}

    first, second = map(grouped, told)
    both = sorted((key for key in first if key in second), key=lambda key: (key[1], key[0]))
    cells = {cell for _, cell in both}
    by_cell = len(cells) >= CELLS_ENOUGH
    # A seed has something in common in all cells, so that these are averaged: as many values as seeds, and no more.
    pairs: dict[Key, list[Key]] = {}
    for seed, cell in both:
        pairs.setdefault((None, cell) if by_cell else (seed, cell if len(cells) == 1 else ""), []).append((seed, cell))
    values = [(float(np.mean([first[key] for key in keys])), float(np.mean([second[key] for key in keys]))) for keys in pairs.values()]
    return _Pairs(list(pairs), values, both, by_cell)


def _images_evidence(keys: Sequence[Key], above: Selection, below: Selection, records: _Records, metric: str) -> dict[str, Any]:
    """Compare image by image, where each pair is of two runs whose outcomes are kept, on the same images all of them."""
    split = metric.removesuffix(".accuracy")
    if split not in ("test", "validation") or not 0 < len(keys) <= MOST_LISTED:
        return {}
    outcomes: list[list[Any]] = [[], []]
    measured_on = set()
    for seed, cell in keys:
        wanted = json.loads(cell or "{}")
        for side, selection in enumerate((above, below)):
            runs = [
                result
                for result in records.of(selection)
                if result.seed == seed and all(result.cell.get(name) == value for name, value in wanted.items())
            ]
            if len(runs) != 1 or runs[0].correct.get(split) is None:
                return {}
            outcomes[side].append(np.asarray(runs[0].correct[split], dtype=bool))
            measured_on.add(_images_of(runs[0], split))
    if len({len(one) for side in outcomes for one in side}) != 1 or not len(outcomes[0][0]) or len(measured_on) > 1:
        return {}
    first, second = (np.stack(side) for side in outcomes)
    only = [(int((a & ~b).sum()), int((~a & b).sum())) for a, b in zip(first, second, strict=True)]
    generator = np.random.Generator(np.random.PCG64(derive(0, "verdict images")))
    interval = statistics.crossed_bootstrap_interval(second, first, generator, RESAMPLES)
    gains = (first.astype(np.int8) - second).mean(0)
    return {
        "images": first.shape[1],
        "mcnemar": [{"only_above": a, "only_below": b, "p_value": statistics.mcnemar_exact(a, b)} for a, b in only],
        "interval": interval.to_json(),
        "image_deviation": float(gains.std() / math.sqrt(first.shape[1])),
    }


def _images_of(result: Result, split: str) -> tuple[Any, ...]:
    """What says which images a run was measured on: of the data set's test images, or of a part split off by a seed."""
    data = result.recipe["data"]
    return tuple(data.get(key) for key in ("name", "limit", *(("validation", "split_seed") if split == "validation" else ())))


def _single(
    difference: float, images: Mapping[str, Any], floor: float | None, typical: _Typical | None, times: float, others: int
) -> tuple[Interval | None, Interval | None, str]:
    """Intervals of a difference that has no spread of its own, by its images or a floor, and by the spread over seeds of others."""
    if not images and floor is None and typical is None:
        return None, None, "neither its images nor a spread over seeds are known"
    error = float(images["image_deviation"]) if images else floor or 0.0
    intervals = []
    for level in (CONFIDENCE, 1 - (1 - CONFIDENCE) / others):
        half = _reach_of(typical, times, level, error)
        intervals.append(Interval(difference, difference - half, difference + half, "images and typical seed spread", level))
    parts = ["its images"] if images else [f"a floor of {floor:g}"] if floor else []
    parts += [f"the spread over seeds of {typical.whose}"] if typical is not None else []
    return intervals[0], intervals[1], f"judged by {' and '.join(parts)}" if parts else "the same with every seed"


def _reach_of(typical: _Typical | None, times: float, level: float, error: float = 0.0) -> float:
    """How far a difference of one run and so many times another may be off by its seeds, and by an error of a known size."""
    spread = Spread(0.0, 0) if typical is None else typical.spread
    # `new_run_interval` of one value reckons with twice the variance of one run; a run less so many times another has this much.
    spread = replace(spread, variance=spread.variance * (1 + times**2) / 2)
    return statistics.new_run_interval([0.0], typical=spread, floor=error, confidence=level).high


def _widened(interval: Interval, typical: _Typical | None, times: float) -> Interval:
    """An interval over cells that have one seed, with what that seed may add to all of them."""
    if typical is None:
        return interval
    half = math.hypot(interval.high - interval.estimate, _reach_of(typical, times, interval.confidence))
    method = f"{interval.method}, and typical seed spread"
    return replace(interval, low=interval.estimate - half, high=interval.estimate + half, method=method)


def _alike(differences: Sequence[float]) -> bool:
    """Whether differences are the same but for rounding, so that they have no spread to judge by."""
    return bool(np.ptp(differences) <= 1e-12)


def _least_spread(metric: str) -> float:
    """The least spread over seeds that is reckoned with: measures in whole epochs often coincide, and are not exact by that."""
    unit = metric_of(metric).unit
    return FLOORS[unit] if unit in ("epoch", "epochs") else 0.0


def _decide(
    differences: Sequence[float],
    interval: Interval | None,
    wide: Interval | None,
    relation: str,
    margin: float,
    metric: str,
    sign: int,
    others: int,
) -> tuple[str, str]:
    """Return the verdict on one of ``others`` comparisons, and why; what refutes the claim does so at a level divided by their number."""
    if interval is None or wide is None:
        return "undecided", "nothing can be said"
    low = interval.low if sign > 0 else -interval.high
    high = wide.high if sign > 0 else -wide.low
    limit = -margin if relation == "at least" else margin
    if low > limit or (relation == "at least" and low >= limit):
        return "supported", "the difference is more than chance" if relation == "above" else "it is not behind by more than the margin"
    if interval.low == interval.high == limit == 0:
        return "not supported", "there is no difference at all"
    if high < limit:
        return "not supported", "the opposite is true" if limit <= 0 else "the difference is smaller than that"
    if relation == "above" and _is_accuracy(metric):
        if not _alike(differences):
            same = statistics.equivalence(differences) < (1 - CONFIDENCE) / others
        else:  # one pair, or several that do not differ: the images decide
            same = wide.low > -EQUIVALENCE_MARGIN and wide.high < EQUIVALENCE_MARGIN
        if same:
            return "not supported", f"there is no practical difference (± {100 * EQUIVALENCE_MARGIN:g} points)"
    alone = interval.high if sign > 0 else -interval.low
    if others > 1 and alone < limit:
        return "undecided", f"alone it would refute the claim, but of {others} comparisons one may come out like that by chance"
    return "undecided", "the interval leaves it open"


def _stated(claim: Shape, records: _Records) -> _Found:
    """Judge a curve measure against stated values."""
    metric, write = claim.metric, _writer(claim.metric)
    results, told = records.of(claim.of), records.told(claim.of, claim.metric)
    limits = sorted(claim.claimed)
    whole = _is_whole(metric)
    low, high, belong = *_reach(claim.relation, limits, metric), whole or claim.relation == "between"
    stated = f"{claim.relation} {' and '.join(map(write, limits))}".replace("less", "less than").replace("greater", "greater than")
    evidence: dict[str, Any] = {"relation": claim.relation, "claimed": list(claim.claimed)}
    if metric in NEVER and (never := sum(bool(result.history) for result in results) - len(told)):
        lasted = min(len(result.history) for result in results if result.history)
        later = claim.relation == "greater"  # what never happens does not happen earlier either
        if short := not told and lasted < limits[-1]:  # a reduced study: what is dated later cannot have been seen
            why = f", but they train only {lasted} epoch{'' if lasted == 1 else 's'}, too few to tell"
        else:
            why = "" if told or later else f", so that it cannot be {stated}"
        verdict = "undecided" if told or short or later else "not supported"
        sentence = f"In {never} of {len(results)} runs it never happens{why}."
        return _Found(verdict, f"never in {never} of {len(results)}", sentence, {**evidence, "never": never})
    values, each = records.by_seed(claim.of, metric), [value for _, value in told]
    mean, typical = float(np.mean(values)), records.typical(metric, claim.of)
    cautions: tuple[str, ...] = ()
    if len(values) > 1:
        interval: Interval | None = statistics.mean_interval(values, floor=_least_spread(metric))
    elif typical is not None:
        variance = max(typical.spread.variance, _least_spread(metric) ** 2) / 2
        half = statistics.new_run_interval([0.0], typical=replace(typical.spread, variance=variance)).high
        interval = Interval(mean, mean - half, mean + half, "typical seed spread")
        cautions = (f"the spread over seeds is that of {typical.whose}",)
    else:
        interval = None
    held = sum(_inside(value, low, high, belong) for value in each)
    half = 0.5 if whole else 0.0  # a mean between 2.5 and 4.5 is one of 3 or 4
    if interval is None:
        verdict = "undecided"
    elif all(_inside(end, low - half, high + half, belong) for end in (interval.low, interval.high)):
        verdict = "supported"
    elif whole and held == len(each) and len(values) >= SEEDS_ENOUGH:
        verdict = "supported"
        evidence["rule"] = "whole numbers: as stated in every seed"
    else:
        verdict = "not supported" if interval.high < low - half or interval.low > high + half else "undecided"
    where = "" if interval is None or interval.low == interval.high else f" (95 % interval {write(interval.low)} to {write(interval.high)})"
    sentence = (
        f"{_seeds(len(values))} {write(mean)}{' on average' if len(values) > 1 else ''}{where}; "
        f"the claim is {stated}, which holds in {held} of {len(each)}."
    )
    evidence |= {"values": values, "mean": mean, "interval": None if interval is None else interval.to_json()}
    return _Found(verdict, _mean_words(values, write), sentence, evidence, cautions)


def _reach(relation: str, limits: Sequence[float], metric: str) -> tuple[float, float]:
    """From where to where a claim reaches; of whole numbers, from the first that is as stated to the last."""
    low, high = (-math.inf, limits[0]) if relation == "less" else (limits[0], math.inf) if relation == "greater" else limits
    if not _is_whole(metric) or relation == "between":
        return low, high
    return (low, math.ceil(high) - 1) if relation == "less" else (math.floor(low) + 1, high)


def _inside(value: float, low: float, high: float, belong: bool) -> bool:
    """Whether a value is as stated; the bounds belong to `between` and to whole numbers, not to `less` and `greater`."""
    return low <= value <= high if belong else low < value < high


def _consistency(claim: Consistency) -> Verdict:
    findings = [*_audited(claim.table, claim.data, tuple(claim.accuracy)), *_states(claim.states)]
    failed = [finding for finding in findings if finding.verdict == "fails"]
    # Where no data set is claimed, that the supports are no known one's is nothing against the table.
    counted = [finding for finding in findings if claim.data is not None or finding.check != "supports"]
    open_ = [finding for finding in counted if finding.verdict == "cannot tell"]
    if not findings:
        return Verdict(claim, "undecided", "", "There is nothing here to hold against anything.")
    verdict = "contradicted by the report itself" if failed else "undecided" if open_ else "supported"
    told = failed or open_ or findings
    sentence = "; ".join(finding.sentence.rstrip(".") for finding in told[:2]) + "."
    measured = f"{len(failed)} of {len(findings)} checks fail" if failed else ""
    evidence = {"findings": [finding.to_json() for finding in findings]}
    return Verdict(claim, verdict, measured, sentence[:1].upper() + sentence[1:], (), evidence)


@lru_cache(maxsize=64)
def _audited(table: str | None, data: str | None, accuracy: tuple[str, ...]) -> tuple[Finding, ...]:
    """Audit a published table, or the accuracies quoted for a data set's test images. Remembered, for a search takes its time."""
    quoted = [parse_figure(figure) for figure in accuracy]
    if table is not None:
        return tuple(finding for one in read_tables(table, "the claim's table") for finding in audit_table(one, data, quoted).findings)
    images = next((sum(part.supports) for part in KNOWN if part.name == data and part.part == "test"), None)
    return tuple(accuracy_finding(figure, images, "quoted accuracy") for figure in quoted) if images else ()


def _states(states: Sequence[str]) -> list[Finding]:
    """Whether what a report says of one thing in several places can all be true; figures may be rounded differently."""
    if len(states) < 2:
        return []
    evidence = {"states": list(states)}
    try:
        figures = [parse_claimed(text.strip()) for text in states]
    except UsageError:
        differ = len({" ".join(text.lower().split()) for text in states}) > 1
    else:
        highest, lowest = max(one.value - one.resolution for one in figures), min(one.value + one.resolution for one in figures)
        # Neighbours that share but a tie are two figures.
        differ = highest > lowest or math.isclose(highest, lowest, rel_tol=1e-12, abs_tol=1e-12)
    said = _listed([f"'{text.strip()}'" for text in dict.fromkeys(states)])
    if differ:
        return [Finding("states", "fails", f"of one and the same thing the report says {said}", evidence)]
    return [Finding("states", "holds", f"the report says the same everywhere: {said}", evidence)]


# Images and words.


def _is_whole(metric: str) -> bool:
    """Whether the values of a metric are whole numbers by what they measure."""
    return metric_of(metric).unit in ("epoch", "images") or metric == "epochs" or metric.startswith("confusion-rank:")


def _is_accuracy(metric: str) -> bool:
    return metric.partition("@")[0] in ("train.accuracy", "validation.accuracy", "test.accuracy", "f1")


def _images(result: Result, metric: str) -> int | None:
    """The number of images that a share is measured on, or None where the metric is no share of images."""
    name, _, label = metric.partition("@")[0].partition(":")
    if name in ("precision", "recall", "f1"):
        part = result.evaluation.get("test", {})
        supports = {str(row["class"]): int(row["support"]) for row in part.get("per_class", [])}
        return supports.get(label) if label else part.get("count")
    if not name.endswith(".accuracy"):
        return None
    split = name.removesuffix(".accuracy")
    counted = result.evaluation.get(split, {}).get("count")
    key = {"train": "training_images", "validation": "validation_images"}.get(split, "")
    found = counted or result.environment.get("data", {}).get(key)
    return None if found is None or split not in ("train", "validation", "test") else int(found)


def _writer(metric: str, percent: bool = False) -> Callable[[float], str]:
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


def _apart(value: float, metric: str) -> str:
    return f"{100 * value:.2f} points" if metric_of(metric).unit == "share" else f"{_writer(metric)(value)}"


def _difference_words(interval: Interval, metric: str) -> str:
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


def _order_sentence(names: tuple[str, str], interval: Interval | None, metric: str, how: str, why: str) -> str:
    if interval is None:
        return f"{names[0]} and {names[1]} cannot be compared in {metric_words(metric)}: {how}."
    return f"{names[0]} against {names[1]}: {_difference_words(interval, metric)} in {metric_words(metric)}, {how}; {why}."


def _failed_words(name: str, failed: Sequence[Failure], planned: int) -> str:
    """How many runs failed, and why the first of them did, without the advice that a person is given."""
    reason = failed[0].reason.partition(";")[0]
    return f"{len(failed)} of {planned} runs of {name} failed: {reason}{f' (seed {failed[0].seed})' if planned > 1 else ''}"


def _mean_words(values: Sequence[float], write: Callable[[float], str]) -> str:
    if len(values) == 1:
        return f"{write(values[0])} (one seed)"
    return f"{write(float(np.mean(values)))} ± {write(float(np.std(values, ddof=1)))}"


def _seeds(count: int) -> str:
    return "One seed gives" if count == 1 else f"{count} seeds give"


def _words(selection: Selection, other: Selection | None = None) -> str:
    """A selection as a reader names it; beside another one, by what they differ in where that is enough."""
    where = dict(selection.where)
    if other is not None and other.run == selection.run:
        differing = {name: value for name, value in where.items() if other.where.get(name) != value}
        if differing:
            return ", ".join(f"{name} = {value}" for name, value in differing.items())
    inside = ", ".join(f"{name} = {value}" for name, value in where.items())
    return f"{selection.run} ({inside})" if inside else selection.run


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
