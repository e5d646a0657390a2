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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from fittingroom.audit import Finding, audit_table, read_tables
from fittingroom.audit.identity import KNOWN
from fittingroom.audit.published import accuracy_finding
from fittingroom.audit.table import parse_figure
from fittingroom.errors import UsageError
from fittingroom.evaluate import statistics
from fittingroom.evaluate.statistics import CONFIDENCE, EQUIVALENCE_MARGIN, Interval, Spread
from fittingroom.seeds import derive
from fittingroom.study.grid import cell_key
from fittingroom.study.groups import NEVER, Groups, Typical, alike
from fittingroom.study.metrics import COUNTED, metric_of, parse_claimed
from fittingroom.study.results import Failure, Result
from fittingroom.study.schema import AnyClaim, Claim, Consistency, Count, Number, Order, Selection, Shape, Study, Unmeasured, selections_of
from fittingroom.study.wording import (
    apart_words,
    difference_words,
    listed,
    mean_words,
    order_sentence,
    seeds_words,
    selection_words,
    writer,
)

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
CELLS_ENOUGH = 5
"""From so many shared cells on, cells are the pairs and their seeds are averaged: the claim is about all of them alike."""
SEEDS_ENOUGH = 3
"""From so many seeds on, whole numbers that all lie as stated support the claim: their interval is wider than the steps they come in."""
MOST_LISTED = 8
"""Up to so many pairs are compared image by image."""
RESAMPLES = 2000
SIGNED = ("gap", "gain_after")
"""Metrics that can be less than nothing."""
SHARES = ("train.accuracy", "validation.accuracy", "test.accuracy", "f1", "precision", "recall")
"""Metrics that cannot be more than all of something."""


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
        return selection_words(below, above)


def judge(study: Study, results: Sequence[Result], failures: Sequence[Failure] = ()) -> list[Verdict]:
    """Return a verdict for each claim of the study, in the order written. The order of results and failures does not matter."""
    records = Groups(study, results, failures)
    return [_judge(study, claim, records) for claim in study.claims]


def _judge(study: Study, claim: AnyClaim, records: Groups) -> Verdict:
    match claim:
        case Unmeasured():
            return Verdict(claim, "not testable", "", f"Not testable here: {claim.because.rstrip('.')}.", (), {"because": claim.because})
        case Consistency():
            return _consistency(claim)
    chosen = records.without_reduced(selections_of(claim))
    if empty := [selection_words(selection) for selection in selections_of(claim) if chosen.waits(selection)]:
        sentence = f"Nothing has been run to its end yet of {listed(empty)}."
        return Verdict(claim, "not yet run", "", sentence, (), {"missing": empty, **_assumed(study, claim)})
    metric = claim.metric
    first, *others = selections_of(claim)
    silent = [one for one in (first, *others) if not chosen.told(one, metric) and not chosen.never(one, metric)]
    if first in silent or (others and all(one in silent for one in others)):
        sentence = " ".join(f"{said[:1].upper()}{said[1:]}." for said in (chosen.why_silent(one, metric) for one in silent))
        evidence = {"silent": [selection_words(one) for one in silent], **_assumed(study, claim)}
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


def _number(claim: Number, records: Groups) -> _Found:
    metric, claimed = claim.metric, parse_claimed(claim.claimed)
    told, values = records.told(claim.of, claim.metric), records.by_seed(claim.of, claim.metric)
    mean, images = float(np.mean(values)), _images(told[0][0], metric)
    unit = metric_of(metric).unit
    # A number of images is counted, and counts vary by their root.
    floor = 0.0 if images is not None else math.sqrt(max(mean, 1.0)) if unit == "images" else FLOORS.get(unit, 0.0)
    typical = records.typical(metric, claim.of) if len(values) == 1 else None
    cautions = []
    if len({cell_key(result.cell) for result, _ in told}) > 1:
        cautions.append(f"the mean over {len({cell_key(result.cell) for result, _ in told})} variations")
    alone = len(values) == 1 and typical is None
    blind = alone and images is None and not floor
    if alone:
        left = "nothing is" if blind else "the images alone are" if images is not None else f"a floor of {floor:g} alone is"
        cautions.append(f"no run of the study has a second seed: nothing is known of their spread, and {left} reckoned with")
    elif typical is not None:
        cautions.append(f"the spread over seeds is that of {typical.whose}")

    def one_more(spread: Spread, pooled: bool = False) -> Interval:
        interval = statistics.new_run_interval(values, images=images, floor=floor, typical=spread, pooled=pooled)
        return _possible(interval, metric, [result for result, _ in told])

    none = Spread(0.0, 0)
    interval = one_more(none if typical is None else typical.spread)
    write = writer(metric, percent="%" in claim.claimed)
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
    side = f"{apart_words(abs(mean - claimed.value), metric)} {'below' if mean > claimed.value else 'above'} our {ours}"
    sentence = (
        f"{seeds_words(len(values))} {write(mean)}{' on average' if len(values) > 1 else ''}; one more run would lie between "
        f"{write(interval.low)} and {write(interval.high)}. The claimed {claim.claimed} lies {'within' if fits else 'outside'}, "
        f"{f'but {side}: only {more} can tell' if open_ else side}."
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
    return _Found(verdict, mean_words(values, write), sentence, evidence, tuple(cautions))


def _count(claim: Count, records: Groups) -> _Found:
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
    records: Groups,
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
    evidence = {"relation": claim.relation, "margin": margin, "comparisons": compared, "method": "paired differences"}
    return _Found(verdict, measured, sentence, evidence, cautions)


def _rank(verdict: str) -> int:
    """Rank verdicts on parts of a claim by how much they say of the whole."""
    return ("not supported", "undecided", "supported").index(verdict)


def _compare(
    above: Selection, below: Selection, records: Groups, metric: str, relation: str, margin: float, sign: int, times: float, others: int
) -> dict[str, Any]:
    pairs = _paired(above, below, records, metric, times)
    runs = [(first, times * second) for first, second in pairs.values]
    differences = [first - second for first, second in runs]
    images = _images_evidence(pairs.runs, above, below, records, metric) if not pairs.by_cell and times == 1 else {}
    apart = _apart(pairs, differences, images, above, below, records, metric, times, others)
    verdict, why = _decide(differences, apart.interval, apart.wide, relation, margin, metric, sign, others)
    never = sum(records.never(group, metric) for group in (above, below))
    if apart.lucky:
        verdict, why = "undecided", "nothing is known of what another seed would give"
    if never and apart.interval is not None:
        verdict, why = "undecided", f"but in {never} of the runs it never happens, which no difference tells of"
    names = selection_words(above, below), f"{times:g} × {selection_words(below, above)}" if times != 1 else selection_words(below, above)
    single = len(pairs.values) == 1
    return {
        "above": {"run": above.run, "where": dict(above.where)},
        "below": {"run": below.run, "where": dict(below.where)},
        "times": times,
        "verdict": verdict,
        "why": why,
        "sentence": order_sentence(names, apart.interval, metric, apart.how, why),
        "measured": "" if apart.interval is None else difference_words(apart.interval, metric),
        "pairs": [
            {"seed": seed, "cell": json.loads(cell or "{}"), "above": first, "below": second, "difference": first - second}
            for (seed, cell), (first, second) in zip(pairs.keys, runs, strict=True)
        ],
        "sides": dict(zip(("above", "below"), pairs.sides, strict=True)) if single else None,
        "interval": None if apart.interval is None else apart.interval.to_json(),
        "over_seeds": statistics.mean_interval(pairs.over_seeds).to_json() if len(pairs.over_seeds) > 1 else None,
        "corrected": None if apart.wide is None or others == 1 else apart.wide.to_json(),
        "test": statistics.paired(differences).to_json() if len(differences) > 1 and metric not in COUNTED else None,
        "images": images or None,
        "how": apart.how,
        "cautions": [apart.how] if single and metric not in COUNTED else [],
    }


@dataclass(frozen=True)
class _Apart:
    """How far two groups lie apart.

    Attributes:
        interval: of the mean difference; None where nothing is known of it.
        wide: the same at a level divided by the number of comparisons.
        how: what it rests on, in words.
        lucky: whether it rests on one seed of which nothing is known.
    """

    interval: Interval | None
    wide: Interval | None
    how: str
    lucky: bool = False


def _apart(
    pairs: _Pairs,
    differences: Sequence[float],
    images: Mapping[str, Any],
    above: Selection,
    below: Selection,
    records: Groups,
    metric: str,
    times: float,
    others: int,
) -> _Apart:
    if not differences:
        silent = [group for group in (above, below) if not records.told(group, metric)]
        return _Apart(None, None, "; ".join(records.why_silent(group, metric) for group in silent) or "no seed and cell in common")
    if metric in COUNTED and alike(differences):
        counted = Interval(differences[0], differences[0], differences[0], "counted", CONFIDENCE)
        return _Apart(counted, counted, "counted: no seed changes it")
    if len(differences) > 1 and (not alike(differences) or _least_spread(metric)):
        # How cells differ says nothing of the luck that one seed has in all of them.
        lone = pairs.by_cell and len({seed for seed, _ in pairs.runs}) == 1
        typical = records.typical(metric, above, below) if lone else None
        interval, wide = (
            _widened(statistics.mean_interval(differences, level, _least_spread(metric)), typical, 1 + times**2)
            for level in (CONFIDENCE, 1 - (1 - CONFIDENCE) / others)
        )
        if not lone:
            return _Apart(interval, wide, f"paired over {len(differences)} {pairs.units}")
        beside = f"and judged by the spread over seeds of {typical.whose} too" if typical else "whose luck is not known"
        return _Apart(interval, wide, f"paired over {len(differences)} cells of one seed, {beside}", lucky=typical is None)
    # Several seeds that all give the same difference are not one: their spread is known to be nothing, and the images are left.
    single = len(differences) == 1
    nothing = alike([*differences, 0.0])  # the same run by run, whatever it is measured on
    floor = None if single else 0.0 if nothing else FLOORS.get(metric_of(metric).unit, 0.0)
    first, second = map(len, pairs.sides)
    weight = 1 / first + times**2 / second
    typical = records.typical(metric, above, below) if single else None
    found = _single(differences[0], images, floor, typical, weight, others)
    return replace(found, how=f"{pairs.units}: {found.how}") if single else found


Key = tuple[int | None, str]


@dataclass(frozen=True)
class _Pairs:
    """Two groups' values side by side, a pair for each seed; for each cell where they share many.

    Attributes:
        keys: of each pair its seed, or None where seeds are averaged, and its cell as JSON, or `""` where cells are.
        values: of each pair.
        runs: seed and cell of all that was averaged.
        by_cell: whether cells are the pairs.
        sides: of a single pair, the values that each of its two is the mean of.
        over_seeds: where cells are the pairs, the differences of the seeds that all of them have, cells averaged.
    """

    keys: list[Key]
    values: list[tuple[float, float]]
    runs: list[Key]
    by_cell: bool
    sides: tuple[list[float], list[float]]
    over_seeds: list[float]

    @property
    def units(self) -> str:
        """What the pairs are."""
        if len(self.values) == 1:
            counts = [len(side) for side in self.sides]
            several = ["one run" if count == 1 else f"the mean of {count} seeds" for count in counts]
            return "one pair of runs" if counts == [1, 1] else " against ".join(several)
        cells = len({cell for _, cell in self.runs})
        return "cells, seeds averaged" if self.by_cell else "seeds" if cells == 1 else f"seeds, {cells} cells averaged"


def _paired(above: Selection, below: Selection, records: Groups, metric: str, times: float) -> _Pairs:
    """Pair the values of two groups by seed, or by the factors that neither of them fixes; of one pair take all seeds there are."""
    told = records.told(above, metric), records.told(below, metric)
    fixed = {*above.where, *below.where}
    shared = {name for results in told for result, _ in results for name in result.cell} - fixed
    shared = {name for name in shared if all(name in result.cell for results in told for result, _ in results)}

    def grouped(results: list[tuple[Result, float]]) -> dict[Key, float]:
        groups: dict[Key, list[float]] = {}
        for result, value in results:
            cell = {name: result.cell[name] for name in sorted(shared)}
            groups.setdefault((result.seed, cell_key(cell) if cell else ""), []).append(value)
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
    sides = ([one for one, _ in values[:1]], [other for _, other in values[:1]])
    if len(values) == 1 and all(len(records.seed_counts(group)) == 1 for group in (above, below)):
        # One run beside several of one recipe: the mean of all that there are says more than the one of the same seed.
        sides = records.by_seed(above, metric), records.by_seed(below, metric)
        values = [(float(np.mean(sides[0])), float(np.mean(sides[1])))]
    counts = Counter(seed for seed, _ in both)
    whole = [seed for seed, count in counts.items() if count == len(cells)]
    of_seeds = [float(np.mean([first[seed, cell] - times * second[seed, cell] for cell in cells])) for seed in whole if by_cell]
    return _Pairs(list(pairs), values, both, by_cell, sides, of_seeds)


def _images_evidence(keys: Sequence[Key], above: Selection, below: Selection, records: Groups, metric: str) -> dict[str, Any]:
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
    difference: float, images: Mapping[str, Any], floor: float | None, typical: Typical | None, weight: float, others: int
) -> _Apart:
    """Intervals of a difference that has no spread of its own, by its images or a floor, and by the spread over seeds of others."""
    if not images and floor is None and typical is None:
        return _Apart(None, None, "neither its images nor a spread over seeds are known")
    error = float(images["image_deviation"]) if images else floor or 0.0
    intervals = []
    for level in (CONFIDENCE, 1 - (1 - CONFIDENCE) / others):
        half = _reach_of(typical, weight, level, error)
        intervals.append(Interval(difference, difference - half, difference + half, "images and typical seed spread", level))
    parts = ["its images"] if images else [f"a floor of {floor:g}"] if floor else []
    parts += [f"the spread over seeds of {typical.whose}"] if typical is not None else []
    return _Apart(intervals[0], intervals[1], f"judged by {' and '.join(parts)}" if parts else "the same with every seed")


def _reach_of(typical: Typical | None, weight: float, level: float, error: float = 0.0) -> float:
    """How far a difference may be off by its seeds, ``weight`` times the variance of one run, and by an error of a known size."""
    spread = Spread(0.0, 0) if typical is None else typical.spread
    # `new_run_interval` of one value reckons with twice the variance of one run.
    spread = replace(spread, variance=spread.variance * weight / 2)
    return statistics.new_run_interval([0.0], typical=spread, floor=error, confidence=level).high


def _widened(interval: Interval, typical: Typical | None, weight: float) -> Interval:
    """An interval over cells that have one seed, with what that seed may add to all of them; ``weight`` as for `_reach_of`."""
    if typical is None:
        return interval
    half = math.hypot(interval.high - interval.estimate, _reach_of(typical, weight, interval.confidence))
    method = f"{interval.method}, and typical seed spread"
    return replace(interval, low=interval.estimate - half, high=interval.estimate + half, method=method)


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
        if not alike(differences):
            same = statistics.equivalence(differences) < (1 - CONFIDENCE) / others
        else:  # one pair, or several that do not differ: the images decide
            same = wide.low > -EQUIVALENCE_MARGIN and wide.high < EQUIVALENCE_MARGIN
        if same:
            return "not supported", f"there is no practical difference (± {100 * EQUIVALENCE_MARGIN:g} points)"
    alone = interval.high if sign > 0 else -interval.low
    if others > 1 and alone < limit:
        return "undecided", f"alone it would refute the claim, but of {others} comparisons one may come out like that by chance"
    return "undecided", "the interval leaves it open"


def _stated(claim: Shape, records: Groups) -> _Found:
    """Judge a curve measure against stated values."""
    metric, write = claim.metric, writer(claim.metric)
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
    if interval is not None:
        interval = _possible(interval, metric, [result for result, _ in told])
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
        f"{seeds_words(len(values))} {write(mean)}{' on average' if len(values) > 1 else ''}{where}; "
        f"the claim is {stated}, which holds in {held} of {len(each)}."
    )
    evidence |= {"values": values, "mean": mean, "interval": None if interval is None else interval.to_json()}
    return _Found(verdict, mean_words(values, write), sentence, evidence, cautions)


def _possible(interval: Interval, metric: str, results: Sequence[Result]) -> Interval:
    """As much of an interval as a metric of some runs can have: no share of over 1, and no epoch after the last."""
    name, unit = metric.partition("@")[0].partition(":")[0], metric_of(metric).unit
    dated = unit in ("epoch", "epochs")
    low = -math.inf if name in SIGNED else 1.0 if dated or name == "confusion-rank" else 0.0
    high = 1.0 if name in SHARES else max(math.ceil(result.recipe["train"]["epochs"]) for result in results) if dated else math.inf
    return replace(interval, low=min(max(interval.low, low), interval.estimate), high=max(min(interval.high, high), interval.estimate))


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
    said = listed([f"'{text.strip()}'" for text in dict.fromkeys(states)])
    if differ:
        return [Finding("states", "fails", f"of one and the same thing the report says {said}", evidence)]
    return [Finding("states", "holds", f"the report says the same everywhere: {said}", evidence)]


# What a metric is of.


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
