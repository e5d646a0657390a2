"""Recipes against each other: is the difference more than chance, does it matter, and what does it cost?

Runs are grouped into recipes (runs that differ by their seed alone) and compared on the same images: means with intervals over seeds,
differences paired by seed, corrected for how many there are, the exact McNemar test for each pair of runs, a bootstrap over seeds and
images, equivalence within a margin, and how many more seeds a decision would need. Recipes that were run on several data sets are ranked
over them. All of it comes from stored predictions; nothing is measured anew. ``docs/statistics.md`` explains the words.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fittingroom.data.named import CATALOG
from fittingroom.errors import DataError, RunError, UsageError, nearest
from fittingroom.evaluate import evaluate_predictions, statistics
from fittingroom.evaluate.statistics import CONFIDENCE, EQUIVALENCE_MARGIN, Difference, Interval, mcnemar_exact
from fittingroom.recipe import Recipe
from fittingroom.runs import Run
from fittingroom.seeds import derive

__all__ = [
    "COSTS",
    "METRICS",
    "Comparison",
    "McNemar",
    "Metric",
    "Pair",
    "Ranking",
    "RecipeComparison",
    "Standing",
    "check_data",
    "check_question",
    "check_several",
    "compare_predictions",
    "compare_runs",
    "compare_two",
    "recipe_names",
    "write_difference",
    "write_mean",
    "write_p",
    "write_value",
]


class Metric(NamedTuple):
    """What recipes are compared by.

    Attributes:
        unit: `share` (of 1) or `nats`.
        higher_is_better: False for a loss.
        margin: a difference below this makes no practical difference, where nobody says otherwise.
    """

    unit: str
    higher_is_better: bool
    margin: float


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("share", True, EQUIVALENCE_MARGIN),
    "f1": Metric("share", True, EQUIVALENCE_MARGIN),
    "loss": Metric("nats", False, 0.01),
}
"""By name; `f1` is the plain mean over classes, `loss` the mean cross-entropy."""
COSTS = ("seconds", "parameters", "multiply_adds")
"""What a recipe costs: training time, mean over its runs; size of the model; multiplications with addition for one image."""


@dataclass(frozen=True)
class Comparison:
    """Accuracies of two models on the same images.

    Attributes:
        names: the two models.
        images: how many images.
        accuracies: of each, 0 to 1.
        only_first, only_second: images that one of them alone gets right.
        difference: second minus first.
        interval: 95 % interval of the difference over images (paired, normal approximation).
        p_value: of the exact McNemar test: both are equally often right.
    """

    names: tuple[str, str]
    images: int
    accuracies: tuple[float, float]
    only_first: int
    only_second: int
    difference: float
    interval: tuple[float, float]
    p_value: float

    def __str__(self) -> str:
        better = self.names[1] if self.difference > 0 else self.names[0]
        verdict = f"{better} is better on these images" if self.p_value < 0.05 else "no difference beyond chance on these images"
        return (
            f"{self.names[0]} {self.accuracies[0]:.2%}, {self.names[1]} {self.accuracies[1]:.2%}: "
            f"difference {100 * self.difference:+.2f} points "
            f"(95 % interval {100 * self.interval[0]:+.2f} to {100 * self.interval[1]:+.2f}), "
            f"p = {self.p_value:.2g} by McNemar's exact test on {self.images:,} images: {verdict}. "
            "One run each: how much of it is the seed's luck, this cannot say."
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


def compare_predictions(
    names: tuple[str, str], first: NDArray[np.int64], second: NDArray[np.int64], labels: NDArray[np.int64]
) -> Comparison:
    """Compare two models' predicted classes ``[N]`` of the same images with labels ``[N]``.

    Raises:
        UsageError: the arrays are not of one length, or empty.
    """
    if not len(first) == len(second) == len(labels) or not len(labels):
        raise UsageError(f"predictions of {len(first)} and {len(second)} images with {len(labels)} labels cannot be compared")
    right = first == labels, second == labels
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    count = len(labels)
    difference = (only_second - only_first) / count
    spread = math.sqrt(max(0.0, (only_first + only_second) / count - difference**2) / count)
    margin = 1.959964 * spread
    accuracies = float(right[0].mean()), float(right[1].mean())
    interval = difference - margin, difference + margin
    return Comparison(names, count, accuracies, only_first, only_second, difference, interval, mcnemar_exact(only_first, only_second))


MOST_NAMED = 3
ROUNDING = 1e-12


class McNemar(NamedTuple):
    """Two runs of one seed on the same images: how many one of them alone gets right, and the exact p-value."""

    seed: int
    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class Standing:
    """A recipe and how it did on one data set.

    Attributes:
        recipe: its name here: the model, with what tells it from others of the same model.
        data: the data set.
        runs: names of its runs, by seed.
        seeds: of the runs.
        values: the metric of each run.
        mean: over the runs.
        interval: t interval of the mean; None for a single run.
        costs: by the names of `COSTS`; None where it is not known.
        best_buy: the costs at which no other recipe is at least as good and cheaper, or better and no dearer.
    """

    recipe: str
    data: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    interval: Interval | None
    costs: dict[str, float | None]
    best_buy: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Two recipes on one data set. Differences are second less first.

    Attributes:
        first, second: names of the recipes.
        data: the data set.
        seeds: that both were run with.
        estimate: mean difference over those seeds; None without any.
        paired: what the seeds say of it; None for fewer than two.
        p_adjusted: of the paired t test, after Holm's correction for all pairs; None for fewer than two seeds.
        equivalence_p: of two one-sided tests that the difference lies within the margin, corrected likewise.
        over_images: bootstrap interval over seeds and images; None where the metric is no accuracy.
        mcnemar: for each seed, image by image.
        verdict: `real`, `no practical difference`, `undecided`, or `cannot say` (fewer than two seeds in common).
        more_seeds: about how many more would decide; None where that is not the question, or more than a thousand.
        sentence: all this in words.
    """

    first: str
    second: str
    data: str
    seeds: tuple[int, ...]
    estimate: float | None
    paired: Difference | None
    p_adjusted: float | None
    equivalence_p: float | None
    over_images: Interval | None
    mcnemar: tuple[McNemar, ...]
    verdict: str
    more_seeds: int | None
    sentence: str


@dataclass(frozen=True)
class Ranking:
    """Recipes ranked over several data sets (Demšar, 2006).

    Attributes:
        recipes: their names; the other lists are in this order.
        data_sets: over which.
        ranks: average rank of each; 1 is best.
        p_value: all are alike (Friedman's test, by the F distribution).
        critical_difference: average ranks less far apart are not told apart (Nemenyi, 5 %).
        groups: recipes that are not told apart.
    """

    recipes: tuple[str, ...]
    data_sets: tuple[str, ...]
    ranks: tuple[float, ...]
    p_value: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class RecipeComparison:
    """What came out of comparing recipes.

    Attributes:
        split: `validation` or `test`.
        metric: a name of `METRICS`.
        margin: differences below it make no practical difference, in the metric's units.
        images: how many, by data set.
        standings: each recipe on each data set, in the order given.
        pairs: each two recipes on each data set.
        ranking: over the data sets; None for a single one.
        notices: what a reader must know to judge the figures, one line each.
    """

    split: str
    metric: str
    margin: float
    images: dict[str, int]
    standings: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    ranking: Ranking | None
    notices: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        value: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for pair, written in zip(self.pairs, value["pairs"], strict=True):
            written["paired"] = None if pair.paired is None else pair.paired.to_json()
            written["mcnemar"] = [test._asdict() for test in pair.mcnemar]
        return value

    def __str__(self) -> str:
        lines = [f"{one.recipe} on {one.data}: {write_mean(one, self.metric)}" for one in self.standings]
        return "\n".join([*lines, *(pair.sentence for pair in self.pairs), *self.notices])

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape(line)}</p>" for line in str(self).splitlines())


@dataclass(frozen=True, eq=False)
class _Measured:
    """One run, as far as it is compared."""

    name: str
    recipe: Recipe
    data: str
    checksum: str
    source: str
    value: float
    right: NDArray[np.bool_]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    costs: dict[str, float | None]
    openings: int
    test_checksum: str
    place: str


def compare_two(first: Run, second: Run, split: str = "validation") -> Comparison:
    """Compare two runs on the images of a split, from their stored predictions.

    Raises:
        RunError: they have none, or were not measured on the same images.
    """
    runs = _same_images([_read(run, split, "accuracy") for run in (first, second)], split)
    predicted = [np.where(run.right, run.labels, -1) for run in runs]
    return compare_predictions((runs[0].name, runs[1].name), predicted[0], predicted[1], runs[0].labels)


def compare_runs(runs: Sequence[Run], split: str = "validation", metric: str = "accuracy", margin: float | None = None) -> RecipeComparison:
    """Compare the recipes of several runs from their stored predictions.

    Args:
        runs: any number; those that differ by their seed alone are one recipe. Of one recipe and seed the last one counts.
        split: `validation` or `test`; the test set is not opened here.
        metric: a name of `METRICS`.
        margin: in the metric's units (0.003 is 0.3 points); None takes the metric's own.

    Raises:
        UsageError: an unknown metric or split, a margin that is not positive, or fewer than two recipes.
        RunError: a run has no predictions, or they were not measured on the same data, split or test images.
    """
    margin = check_question(split, metric, margin)
    measured = [_read(run, split, metric) for run in runs]
    contenders = _contenders(measured)
    check_several(contenders)
    data_sets = _data_sets(contenders)
    for checksum in data_sets:
        _same_images([run for seeds in contenders.values() for run in seeds.values() if run.checksum == checksum], split)
    on_data = {
        checksum: {name: {seed: run for (sha, seed), run in seeds.items() if sha == checksum} for name, seeds in contenders.items()}
        for checksum in data_sets
    }
    standings = tuple(one for checksum, data in data_sets.items() for one in _standings(on_data[checksum], data, metric))
    drafts = [
        _draft(on_data[sha], data, first, second, metric)
        for sha, data in data_sets.items()
        for first, second in combinations(contenders, 2)
    ]
    images = {data: len(next(iter(next(iter(on_data[sha].values())).values())).labels) for sha, data in data_sets.items()}
    notices = _notices(measured, standings, split)
    return RecipeComparison(
        split, metric, margin, images, standings, _judged(drafts, metric, margin), _ranking(standings, data_sets, metric), notices
    )


def check_question(split: str, metric: str, margin: float | None) -> float:
    """Return the margin, the metric's own where there is none.

    Raises:
        UsageError: an unknown metric or split, or a margin that is not positive.
    """
    if metric not in METRICS:
        raise UsageError(f"unknown metric '{metric}'{nearest(metric, METRICS) or '; known: ' + ', '.join(METRICS)}")
    if split not in ("validation", "test"):
        raise UsageError(f"unknown split '{split}'; it is validation or test")
    margin = METRICS[metric].margin if margin is None else margin
    if not 0 < margin < math.inf:
        raise UsageError("the margin must be positive and finite")
    return margin


def check_several(names: Collection[str]) -> None:
    """Find out whether there is more than one recipe, by their names.

    Raises:
        UsageError: there is not.
    """
    if len(names) < 2:
        what = f"these are runs of one recipe, {next(iter(names))}" if names else "no runs were given"
        raise UsageError(f"a comparison needs two recipes: {what}; runs that differ by their seed alone are one")


def check_data(recipes: Iterable[Recipe]) -> None:
    """Find out, before anything is trained, whether each recipe is to be run on each data set.

    Only named sets are told apart by their names: a path may hold one of them.

    Raises:
        UsageError: one is not.
    """
    listed = list(recipes)
    names, owners, sets = recipe_names(listed), dict[str, str](), dict[str, set[str]]()
    for one in listed:
        name, data = names[one.family], one.data.name
        owners.setdefault(data, name)
        sets.setdefault(name, set()).add(data)
    for name, own in sets.items():
        if missing := [data for data in owners if data not in own and CATALOG.keys() >= own | {data}]:
            raise UsageError(_different_data(owners[missing[0]], missing[0], name, min(own)))


def _different_data(owner: str, there: str, name: str, here: str) -> str:
    return f"different data: {owner} is run on {there}, {name} on {here}; compare runs on the same data, or run every recipe on each"


def _read(run: Run, split: str, metric: str) -> _Measured:
    part = run.read_predictions(split)
    recipe, environment, history = run.recipe, run.environment, run.history
    data = environment.get("data", {})
    right = np.asarray(part.probabilities.argmax(1) == part.labels)
    if metric == "accuracy":
        value = float(right.mean()) if len(right) else math.nan
    else:
        try:
            judged = evaluate_predictions(part.probabilities, part.labels, data.get("classes", []))
        except DataError as error:
            raise RunError(f"{run.path}: its {split} predictions are damaged ({error}); evaluate the run again") from None
        value = judged.loss if metric == "loss" else judged.macro.f1
    size = environment.get("model", {})
    seconds = [line["train"]["seconds"] for line in history if "seconds" in line.get("train", {})]
    costs = {"seconds": float(sum(seconds)) if seconds else None, **{name: size.get(name) for name in ("parameters", "multiply_adds")}}
    source = str(data.get("validation_source", "train"))
    checksum, openings = str(data.get("train_sha256", "")), run.evaluation.get("openings", [])
    tested = openings[-1].get("images", "") if openings else ""  # runs of earlier versions do not tell
    place = f"{environment.get('gpu') or environment.get('processor', 'unknown')}, threads: {environment.get('threads', 1)}"
    return _Measured(
        run.name, recipe, recipe.data.name, checksum, source, value, right, part.indices, part.labels, costs, len(openings), tested, place
    )


def _same_images(runs: Sequence[_Measured], split: str) -> Sequence[_Measured]:
    """The runs, all measured on the same images of the same data.

    Raises:
        RunError: two of them were not; the message says which and why.
    """
    first = runs[0]
    for run in runs[1:]:
        if not first.checksum or run.checksum != first.checksum:
            raise RunError(f"{first.name} and {run.name} were trained on different data and cannot be compared")
        same = np.array_equal(first.indices, run.indices) and np.array_equal(first.labels, run.labels)
        if split == "test" and first.test_checksum and run.test_checksum:
            same = same and first.test_checksum == run.test_checksum
        if not same or (split == "validation" and run.source != first.source):
            remedy = (
                "give both the same data.split_seed and data.validation" if split == "validation" else "the test set has changed between"
            )
            raise RunError(f"{first.name} and {run.name} were measured on different {split} images; {remedy}")
    return runs


Contenders = dict[str, dict[tuple[str, int], _Measured]]


def _contenders(runs: Sequence[_Measured]) -> Contenders:
    """The runs by recipe, data set and seed. A recipe on another data set is the same recipe."""
    groups: dict[str, list[_Measured]] = {}
    for run in runs:
        groups.setdefault(_group(run.recipe), []).append(run)
    firsts = [group[0] for group in groups.values()]
    names = _names([run.recipe for run in firsts], [run.name for run in firsts])
    return {name: {(run.checksum, run.recipe.seed): run for run in group} for name, group in zip(names, groups.values(), strict=True)}


def recipe_names(recipes: Iterable[Recipe]) -> dict[str, str]:
    """Return the names by which a comparison tells recipes apart, by `Recipe.family`; a recipe has one name on every data set."""
    listed = list(recipes)
    firsts = {_group(one): one for one in listed[::-1]}
    names = dict(zip(firsts, _names(list(firsts.values()), [one.hash[:8] for one in firsts.values()]), strict=True))
    return {one.family: names[_group(one)] for one in listed}


def _meaning(recipe: Recipe) -> dict[str, Any]:
    """The values that make a recipe another one: all but the seed and the data set."""
    values = recipe.values
    return {**values, "seed": None, "data": {**values["data"], "name": None}}


def _group(recipe: Recipe) -> str:
    return json.dumps(_meaning(recipe), sort_keys=True)


def _names(recipes: Sequence[Recipe], otherwise: Sequence[str]) -> list[str]:
    """Short names that tell recipes apart: the model, and the values in which those of the same model differ.

    Where these are too many to name, what stands in `otherwise` does; with the recipe's digits where another has that name too.
    """
    flat = [_flat(_meaning(recipe)) for recipe in recipes]
    names = []
    for recipe, values, other_name in zip(recipes, flat, otherwise, strict=True):
        rivals = [other for other in flat if other["model.name"] == recipe.model.name]
        keys = sorted(key for key in {key for one in rivals for key in one} if len({json.dumps(one.get(key)) for one in rivals}) > 1)
        told = [f"{key}={_short(values[key])}" for key in keys if values.get(key) is not None]
        inside = ", ".join(told) if len(keys) <= MOST_NAMED else other_name
        names.append(f"{recipe.model.name} ({inside})" if inside else recipe.model.name)
    return [name if names.count(name) == 1 else f"{name} {recipe.hash[:8]}" for name, recipe in zip(names, recipes, strict=True)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _data_sets(contenders: Contenders) -> dict[str, str]:
    """The data sets by checksum, with their names; each recipe must have been run on each.

    Raises:
        RunError: one has not.
    """
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name, seeds in contenders.items():
        for (checksum, _), run in seeds.items():
            names.setdefault(checksum, run.data)
            owners.setdefault(checksum, name)
    for name, seeds in contenders.items():
        own = {checksum for checksum, _ in seeds}
        if missing := [checksum for checksum in names if checksum not in own]:
            here, there = names[next(iter(own))], names[missing[0]]
            what = f"{there} of other content" if here == there else there
            raise RunError(_different_data(owners[missing[0]], what, name, here))
    called = Counter(names.values())  # a file that was changed between the runs is two sets of one name
    return {checksum: name if called[name] == 1 else f"{name} {checksum[:8]}" for checksum, name in names.items()}


def _standings(recipes: Mapping[str, Mapping[int, _Measured]], data: str, metric: str) -> list[Standing]:
    values = {name: [runs[seed].value for seed in sorted(runs)] for name, runs in recipes.items()}
    costs = {name: {cost: _mean([run.costs[cost] for run in runs.values()]) for cost in COSTS} for name, runs in recipes.items()}
    sign = 1 if METRICS[metric].higher_is_better else -1
    worth = {name: sign * float(np.mean(values[name])) for name in recipes}
    return [
        Standing(
            name,
            data,
            tuple(runs[seed].name for seed in sorted(runs)),
            tuple(sorted(runs)),
            tuple(values[name]),
            float(np.mean(values[name])),
            _possible(statistics.mean_interval(values[name]), metric) if len(runs) > 1 else None,
            costs[name],
            tuple(cost for cost in COSTS if _on_front(name, {other: costs[other][cost] for other in recipes}, worth)),
        )
        for name, runs in recipes.items()
    ]


def _possible(interval: Interval, metric: str) -> Interval:
    """The same without what no mean of the metric can be: two seeds that differ give a t interval beyond 0 and 100 %."""
    highest = 1.0 if METRICS[metric].unit == "share" else math.inf
    return replace(interval, low=max(0.0, interval.low), high=min(highest, interval.high))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _on_front(name: str, cost: Mapping[str, float | None], worth: Mapping[str, float]) -> bool:
    """Whether no other recipe is as good and cheaper, or better and no dearer."""
    own = cost[name]
    others = [(worth[other], price) for other, price in cost.items() if other != name and price is not None]
    return own is not None and not any(
        (value >= worth[name] and price < own) or (value > worth[name] and price <= own) for value, price in others
    )


@dataclass(frozen=True, eq=False)
class _Draft:
    """A pair before the corrections that need all of them."""

    first: str
    second: str
    data: str
    seeds: tuple[int, ...]
    differences: list[float]
    over_images: Interval | None
    mcnemar: tuple[McNemar, ...]
    images: int


def _draft(recipes: Mapping[str, Mapping[int, _Measured]], data: str, first: str, second: str, metric: str) -> _Draft:
    seeds = sorted(set(recipes[first]) & set(recipes[second]))
    pairs = [(recipes[first][seed], recipes[second][seed]) for seed in seeds]
    tests = []
    for seed, (one, other) in zip(seeds, pairs, strict=True):
        only = int((one.right & ~other.right).sum()), int((~one.right & other.right).sum())
        tests.append(McNemar(seed, *only, mcnemar_exact(*only)))
    over_images = None
    if metric == "accuracy" and pairs:
        rights = [np.stack([pair[side].right for pair in pairs]) for side in (0, 1)]
        # A generator of its own for each pair: what else is compared changes nothing.
        generator = np.random.Generator(np.random.PCG64(derive(0, f"compare {data} {first} {second}")))
        over_images = statistics.crossed_bootstrap_interval(rights[0], rights[1], generator)
    images = len(pairs[0][0].labels) if pairs else 0
    differences = [other.value - one.value for one, other in pairs]
    return _Draft(first, second, data, tuple(seeds), differences, over_images, tuple(tests), images)


def _judged(drafts: Sequence[_Draft], metric: str, margin: float) -> tuple[Pair, ...]:
    """Correct for the number of pairs, and decide each."""
    several = [draft for draft in drafts if len(draft.differences) > 1]
    paired = {id(draft): statistics.paired(draft.differences) for draft in several}
    p_values = [_p_value(draft, paired[id(draft)], metric) for draft in several]
    adjusted = dict(zip(map(id, several), statistics.holm(p_values), strict=True))
    same = [_equivalence_p(draft, margin, metric) for draft in several]
    equivalent = dict(zip(map(id, several), statistics.holm(same), strict=True))
    pairs = []
    for draft in drafts:
        key = id(draft)
        verdict, more = _verdict(draft, adjusted.get(key), equivalent.get(key), margin, len(several))
        estimate = float(np.mean(draft.differences)) if draft.differences else None
        pair = Pair(
            draft.first, draft.second, draft.data, draft.seeds, estimate, paired.get(key), adjusted.get(key), equivalent.get(key),
            draft.over_images, draft.mcnemar, verdict, more, "",
        )  # fmt: skip
        sentence = _sentence(pair, draft, metric, margin, len(several), len({one.data for one in drafts}) > 1)
        pairs.append(replace(pair, sentence=sentence))
    return tuple(pairs)


def _all_alike(differences: Sequence[float]) -> bool:
    """Whether every seed gives the same difference, but for rounding: 0.91 − 0.90 and 0.92 − 0.91 are not the same number."""
    return bool(np.ptp(differences) <= ROUNDING)


def _p_value(draft: _Draft, paired: Difference, metric: str) -> float:
    """Of the paired t test; where every seed gives the same difference, as without any randomness, the images decide.

    What images say is known of accuracies alone; of other metrics such differences decide nothing.
    """
    if not _all_alike(draft.differences):
        return paired.p_value
    return draft.mcnemar[0].p_value if metric == "accuracy" else 1.0


def _equivalence_p(draft: _Draft, margin: float, metric: str) -> float:
    if not _all_alike(draft.differences):
        return statistics.equivalence(draft.differences, margin)
    interval = draft.over_images if metric == "accuracy" else None
    return 0.0 if interval is not None and max(abs(interval.low), abs(interval.high)) < margin else 1.0


def _verdict(draft: _Draft, p_value: float | None, same: float | None, margin: float, comparisons: int) -> tuple[str, int | None]:
    if p_value is None or same is None:
        return "cannot say", None
    if p_value < 1 - CONFIDENCE:
        return "real", None
    if same < 1 - CONFIDENCE:
        return "no practical difference", None
    if _all_alike(draft.differences):
        return "undecided", None
    mean, deviation, count = float(np.mean(draft.differences)), float(np.std(draft.differences, ddof=1)), len(draft.differences)
    level = (1 - CONFIDENCE) / comparisons
    needed = (statistics.seeds_for_difference(mean, deviation, level), statistics.seeds_for_equivalence(mean, deviation, margin, level))
    known = [number for number in needed if number is not None]
    return "undecided", max(1, min(known) - count) if known else None


def _ranking(standings: Sequence[Standing], data_sets: Mapping[str, str], metric: str) -> Ranking | None:
    if len(data_sets) < 2:
        return None
    recipes = tuple(dict.fromkeys(one.recipe for one in standings))
    sign = 1 if METRICS[metric].higher_is_better else -1
    scores = np.array([sign * one.mean for one in standings]).reshape(len(data_sets), len(recipes))
    found = statistics.friedman(scores)
    groups = statistics.groups_within(found.ranks, found.critical_difference)
    names = tuple(tuple(recipes[index] for index in group) for group in groups)
    return Ranking(recipes, tuple(data_sets.values()), found.ranks, found.p_value, found.critical_difference, names)


def _notices(runs: Iterable[_Measured], standings: Sequence[Standing], split: str) -> tuple[str, ...]:
    found = [
        f"{one.recipe} on {one.data} has one seed only: how much of its figure is the seed's luck, this cannot say"
        for one in standings
        if len(one.seeds) == 1
    ]
    runs = list(runs)
    if split == "validation" and any(run.source == "test" for run in runs):
        found.append('data.validation = "test": the validation images of these runs are the test images')
    looks = max((run.openings for run in runs), default=0)
    if split == "test" and looks > 1:
        found.append(
            f"the test set of a run has been opened {looks} times: what is chosen by these figures is not an honest choice any more"
        )
    places = sorted({run.place for run in runs})
    if len(places) > 1:
        found.append(f"their seconds are of different places ({'; '.join(places)}): only the other costs can be compared")
    return tuple(found)


# In words.


def write_value(value: float, metric: str, digits: int = 2) -> str:
    """Return a value of a metric: ``91.23 %``, or ``0.2543``."""
    return f"{100 * value:.{digits}f} %" if METRICS[metric].unit == "share" else f"{value:.4f}"


def write_mean(standing: Standing, metric: str) -> str:
    """Return a recipe's mean with its interval: ``91.23 % (91.01 to 91.45, 5 seeds)``."""
    if standing.interval is None:
        return f"{write_value(standing.mean, metric)} (one seed)"
    low, high = (write_value(value, metric).removesuffix(" %") for value in (standing.interval.low, standing.interval.high))
    return f"{write_value(standing.mean, metric)} ({low} to {high}, {len(standing.values)} seeds)"


def write_difference(value: float, metric: str, *, sign: bool = True) -> str:
    """Return a difference of a metric: ``+0.42 points``, or ``−0.0123``."""
    scale, unit, digits = (100, " points", 2) if METRICS[metric].unit == "share" else (1, "", 4)
    return f"{scale * value:{'+' if sign else ''}.{digits}f}{unit}".replace("-", "−")


def write_p(value: float) -> str:
    """Return a p-value: ``p = 0.031``, ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def _sentence(pair: Pair, draft: _Draft, metric: str, margin: float, comparisons: int, several: bool) -> str:
    on = f" on {pair.data}" if several else ""
    names = f"{pair.first} and {pair.second}"
    if pair.estimate is None:
        return f"{names} have no seed in common{on}, so that nothing can be paired."
    up = pair.estimate > 0
    better, worse = (pair.second, pair.first) if up == METRICS[metric].higher_is_better else (pair.first, pair.second)
    ahead = f"{better} is better than {worse} by {write_difference(abs(pair.estimate), metric, sign=False)}"
    ahead = f"{ahead if pair.estimate else f'{names} do equally well'}{on}"
    if pair.paired is None and metric != "accuracy":
        return f"{ahead} with one seed each: whether that is more than chance, or whether another seed would agree, this cannot say."
    if pair.paired is None:
        test = pair.mcnemar[0]
        says = "more than chance on these images" if test.p_value < 1 - CONFIDENCE else "no more than chance on these images"
        return f"{ahead} with one seed each: {says} ({write_p(test.p_value)}, McNemar); whether another seed would agree, this cannot say."
    low, high = sorted(value if up else -value for value in (pair.paired.interval.low, pair.paired.interval.high))
    bounds = " to ".join(write_difference(value, metric, sign=low < 0).removesuffix(" points") for value in (low, high))
    p_value = pair.p_adjusted if pair.p_adjusted is not None else 1.0
    corrected = f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    figures = f"{ahead} (95 % interval {bounds}, paired over {len(pair.seeds)} seeds, {write_p(p_value)}{corrected})"
    within = f"± {write_difference(margin, metric, sign=False)}" if METRICS[metric].unit == "nats" else f"± {100 * margin:g} points"
    if pair.verdict == "no practical difference":
        return f"{figures}: no practical difference, {within}."
    if pair.verdict == "undecided":
        about = f"about {pair.more_seeds:,} more seeds would decide" if pair.more_seeds else "more seeds would hardly decide"
        return f"{figures}: undecided; {about.replace('1 more seeds', '1 more seed') if pair.more_seeds == 1 else about}."
    small = f", though below {within.removeprefix('± ')}" if max(abs(low), abs(high)) < margin else ""
    images = pair.over_images
    doubt = f" On other images it might not hold: drawn over seeds and images, the interval takes in 0 ({draft.images:,} images)."
    return f"{figures}: real{small}.{doubt if images is not None and images.low <= 0 <= images.high else ''}"
