"""The statistics behind every verdict: intervals, paired tests, equivalence, ranks, factorial effects.

Everything is a plain function of numbers, written out so that it can be read, and checked in the tests against SciPy and statsmodels.
What is random takes a generator. SciPy's distribution functions are imported when they are first needed. ``docs/statistics.md`` says
in a student's words what the figures mean and what they cannot say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fittingroom.errors import UsageError

__all__ = [
    "CONFIDENCE",
    "EQUIVALENCE_MARGIN",
    "Component",
    "Contrast",
    "Difference",
    "Factorial",
    "Friedman",
    "Interval",
    "Spread",
    "crossed_bootstrap_interval",
    "equivalence",
    "factorial",
    "friedman",
    "groups_within",
    "holm",
    "image_variance",
    "mcnemar_exact",
    "mean_interval",
    "nemenyi_critical_difference",
    "new_run_interval",
    "paired",
    "pooled_spread",
    "seeds_for_difference",
    "seeds_for_equivalence",
    "sign_flip_test",
    "sign_test",
    "usual_spread",
]

CONFIDENCE = 0.95
"""Of every interval that does not say otherwise; tests decide at 1 minus this."""
EQUIVALENCE_MARGIN = 0.003
"""A difference of accuracy below this, 0.3 points, makes no practical difference."""
POWER = 0.8
"""With which a decision should be reached, where the number of seeds for it is foretold."""
MOST_SEEDS = 1000
"""No more seeds than this are foretold."""
ALL_FLIPS = 16
"""Up to this many differences every pattern of signs is tried; above, `FLIPS` are drawn."""
FLIPS = 100_000
RESAMPLES = 5000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and between which bounds the true value lies, with a stated confidence.

    Attributes:
        estimate: the best single guess.
        low, high: the bounds.
        method: how they were found, in a few words.
        confidence: how often such bounds hold what they promise.
    """

    estimate: float
    low: float
    high: float
    method: str
    confidence: float = CONFIDENCE

    def holds(self, value: float, slack: float = 0.0) -> bool:
        """Whether a value, known to ± ``slack``, can lie within."""
        return self.low - slack <= value <= self.high + slack

    def to_json(self) -> dict[str, Any]:
        """The interval as a JSON object."""
        return {
            "estimate": self.estimate,
            "low": self.low,
            "high": self.high,
            "method": self.method,
            "confidence": self.confidence,
        }


@dataclass(frozen=True)
class Spread:
    """How much runs that differ by their seed alone differ in a figure.

    Attributes:
        variance: of one run's figure.
        degrees: of freedom that the estimate rests on (runs less recipes); 0 where the variance is known.
    """

    variance: float
    degrees: float


@dataclass(frozen=True)
class Difference:
    """What paired figures say: second less first, or above less below.

    Attributes:
        differences: of each pair.
        interval: Student's t interval of their mean.
        p_value: of the paired t test: the mean is 0. 1.0 where every difference is 0.
        sign_flip_p: of the exact test that flips the signs of the differences; assumes no normal distribution.
        sign_p: of the exact sign test.
        deviation: standard deviation of the differences.
    """

    differences: tuple[float, ...]
    interval: Interval
    p_value: float
    sign_flip_p: float
    sign_p: float
    deviation: float

    @property
    def mean(self) -> float:
        """Mean difference."""
        return self.interval.estimate

    def to_json(self) -> dict[str, Any]:
        """The difference as a JSON object."""
        return {
            "pairs": len(self.differences),
            "differences": list(self.differences),
            "interval": self.interval.to_json(),
            "p_value": self.p_value,
            "sign_flip_p": self.sign_flip_p,
            "sign_p": self.sign_p,
        }


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE, floor: float = 0.0) -> Interval:
    """Return Student's t interval of the mean over seeds: where the mean over ever more seeds would lie.

    Args:
        values: one a seed.
        confidence: of the interval.
        floor: the least standard deviation that is reckoned with.

    Raises:
        UsageError: fewer than two values: one says nothing about its own spread.
    """
    mean, deviation, count = _moments(values)
    half = _t_quantile(0.5 + confidence / 2, count - 1) * max(deviation, floor) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, f"t interval over {count} values", confidence)


def pooled_spread(groups: Sequence[Sequence[float]]) -> Spread | None:
    """Return the spread over seeds that several recipes have in common, or None where no recipe has two runs.

    The variances within the groups are averaged with their degrees of freedom for weights, as the analysis of variance does.
    """
    several = [np.asarray(group, dtype=np.float64) for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in several)
    if not degrees:
        return None
    return Spread(sum(float(np.square(group - group.mean()).sum()) for group in several) / degrees, degrees)


def usual_spread(groups: Sequence[Sequence[float]]) -> Spread | None:
    """Return the spread over seeds of the recipe in the middle, or None where no recipe has two runs.

    The median of the variances within groups, each over the median that a variance of so few values has (that of chi square by its
    degrees of freedom): unlike `pooled_spread`, it is not of those few recipes that scatter most.
    """
    from scipy.special import chdtri

    several = [group for group in groups if len(group) > 1]
    if not several:
        return None
    scaled = [float(np.var(group, ddof=1)) * (len(group) - 1) / float(chdtri(len(group) - 1, 0.5)) for group in several]
    return Spread(float(np.median(scaled)), sum(len(group) - 1 for group in several))


def image_variance(share: float, images: int) -> float:
    """Return the sampling variance of a share of right answers on ``images`` images: p (1 − p) / N.

    At the ends, where that is 0, a half image more on either side is counted (Agresti and Coull's remedy), for nobody is perfect for sure.
    """
    moderate = (share * images + 0.5) / (images + 1)
    return moderate * (1 - moderate) / images


def new_run_interval(
    values: Sequence[float],
    *,
    images: int | None = None,
    floor: float = 0.0,
    typical: Spread | None = None,
    pooled: bool = False,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return between which bounds the figure of *one more* run lies: what a report's single figure is judged by.

    A report gives the figure of one run, measured on N images. It differs from our mean of n runs, even where everything was done
    alike, for three reasons:

    * its seed: s², the variance over our seeds;
    * ours: the mean of n seeds is itself uncertain, by s² / n;
    * the images: p (1 − p) / N. A figure claims something about clothes, not about these N pictures of them. Where the report's images
      and ours are the very same, part of this is shared and the interval is wider than it need be: an honest figure is rarely called wrong,
      and one outside is outside by any reckoning.

    The first two together are a prediction interval for one future observation (Hahn and Meeker, Statistical Intervals, 1991, section
    4.7), by Student's t at n − 1 degrees of freedom; the third is known, by the normal distribution. The squares of the half-widths are
    added (Howe, 1974; Zou and Donner, 2008), which covers what it promises, or a little more, whichever part is the larger. (To add
    variances and match degrees of freedom, after Welch and Satterthwaite, falls to 0.87 for two seeds, as a simulation shows.) What the
    printed figure lost by rounding is for the caller to grant: ``interval.holds(claimed, slack=half of the last digit)``.

    Args:
        values: of the runs, one for each seed.
        images: N, where the figure is a share of right answers; None leaves the images out.
        floor: a standard deviation to add where there is no model of the images: of a loss, say.
        typical: spread over seeds found on other runs; needed, and used, where there is one value only.
        pooled: use it where there are several values too, as one that was found on these and others together.
        confidence: of the interval.

    Raises:
        UsageError: one value and no typical spread, or no value.
    """
    if not len(values):
        raise UsageError("an interval needs at least one value")
    count, mean = len(values), float(np.mean(values))
    spread = (typical if pooled else None) or pooled_spread([values]) or typical
    if spread is None:
        raise UsageError("an interval from one value needs a spread over seeds from elsewhere")
    rest = floor**2 + (0.0 if images is None else image_variance(mean, images))
    degrees, tail = spread.degrees or math.inf, 0.5 + confidence / 2
    seeds = _t_quantile(tail, degrees) * math.sqrt(spread.variance * (1 + 1 / count))
    half = math.hypot(seeds, _t_quantile(tail, math.inf) * math.sqrt(rest))
    parts = ["seed" if count > 1 else "typical seed spread"]
    parts += ["sampling of images"] if images is not None else []
    parts += [f"a floor of {floor:g}"] if floor else []
    return Interval(mean, mean - half, mean + half, f"one new run: {', '.join(parts)}", confidence)


def paired(differences: Sequence[float], confidence: float = CONFIDENCE) -> Difference:
    """Return what paired differences say of their mean, by the t interval and by two tests that assume less.

    Raises:
        UsageError: fewer than two differences.
    """
    interval = mean_interval(differences, confidence)
    mean, deviation, count = _moments(differences)
    error = deviation / math.sqrt(count)
    # Differences that are equal but for rounding have no spread; the mean is then known, or is 0.
    known = error <= 1e-12 * max(1.0, abs(mean))
    p_value = float(abs(mean) <= 1e-12) if known else 2 * _t_below(-abs(mean) / error, count - 1)
    values = tuple(map(float, differences))
    return Difference(values, interval, p_value, sign_flip_test(values), sign_test(values), deviation)


def sign_test(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of the exact sign test; differences of 0 are left out."""
    return mcnemar_exact(sum(value < 0 for value in differences), sum(value > 0 for value in differences))


def sign_flip_test(differences: Sequence[float], generator: np.random.Generator | None = None) -> float:
    """Return the two-sided p-value of Fisher's randomisation test: were both alike, each difference could as well have the other sign.

    Up to `ALL_FLIPS` differences all patterns of signs are tried, so that the value is exact; its least value is 2 / 2ⁿ, 0.25 for three
    seeds, 0.0625 for five. Above, patterns are drawn; without a generator, always the same ones.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    count = len(values)
    if not count:
        return 1.0
    exact = count <= ALL_FLIPS
    if exact:
        signs = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    else:
        signs = 1 - 2 * (generator or np.random.Generator(np.random.PCG64(0))).integers(0, 2, (FLIPS, count))
    sums = np.abs(signs @ values)
    # Sums that are equal but for rounding are equal, also those that are 0.
    reached = int((sums >= abs(values.sum()) - 1e-9 * np.abs(values).sum()).sum())
    return reached / len(sums) if exact else (reached + 1) / (len(sums) + 1)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (a sign test on the images that one model alone gets right)."""
    trials, fewer = only_first + only_second, min(only_first, only_second)
    if trials == 0:
        return 1.0
    logs = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - trials * math.log(2) for k in range(fewer + 1)]
    largest = max(logs)
    tail = math.exp(largest) * math.fsum(math.exp(value - largest) for value in logs)
    return min(1.0, 2 * tail)


def crossed_bootstrap_interval(
    first: ArrayLike, second: ArrayLike, generator: np.random.Generator, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Interval:
    """Return a percentile interval of the difference of accuracy, second less first, over seeds *and* images.

    Seeds and images are both drawn anew, independently of each other, and whole: what a seed has in common on all images, and an image
    under all seeds, stays together. This is the pigeonhole bootstrap (Owen, 2007). Drawn from few seeds it would be too narrow, as the
    standard deviation of a few values is; therefore what the drawn seeds add is stretched by √(n / (n − 1)) and by what Student's
    distribution has over the normal one. A single seed has no spread to draw from: then the interval is over images alone. Images on
    which all seeds agree alike are drawn as one group, which changes nothing but the time it takes.

    Args:
        first, second: bool ``[seeds, images]``, whether a run gets an image right; rows of the same seed, columns of the same image.
        generator: draws the resamples.
        resamples: how many.
        confidence: of the interval.

    Raises:
        UsageError: the arrays are not of one shape, or empty.
    """
    right = [np.asarray(part, dtype=np.int8) for part in (first, second)]
    if right[0].shape != right[1].shape or right[0].ndim != 2 or not right[0].size:
        raise UsageError(f"outcomes of shape {right[0].shape} and {right[1].shape} cannot be paired over seeds and images")
    gains = right[1] - right[0]
    seeds, images = gains.shape
    patterns, counts = _patterns(gains)
    image_weights = generator.multinomial(images, counts / images, resamples)
    seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), resamples).astype(np.float64)
    if seeds > 1:
        student, normal = (_t_quantile(0.5 + confidence / 2, degrees) for degrees in (seeds - 1, math.inf))
        seed_weights = 1 + math.sqrt(seeds / (seeds - 1)) * student / normal * (seed_weights - 1)
    drawn = ((seed_weights @ patterns) * image_weights).sum(1) / (seeds * images)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    plural = f"{seeds} seed{'' if seeds == 1 else 's'}"
    return Interval(float(gains.mean()), float(low), float(high), f"bootstrap over {plural} and {images:,} images", confidence)


def _patterns(gains: NDArray[np.int8]) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """The different columns of −1, 0 and 1, and how often each occurs."""
    rows = len(gains)
    if rows > 39:  # 3⁴⁰ is beyond 64 bits
        return np.unique(gains, axis=1, return_counts=True)
    powers = 3 ** np.arange(rows, dtype=np.int64)
    codes, counts = np.unique(powers @ (gains.astype(np.int64) + 1), return_counts=True)
    return (codes // powers[:, None] % 3 - 1).astype(np.int8), counts


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted by Holm (1979): below 0.05 each, and yet a false alarm anywhere has at most that probability."""
    count, adjusted, least = len(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda item: p_values[item])):
        least = max(least, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = least
    return adjusted


def equivalence(differences: Sequence[float], margin: float = EQUIVALENCE_MARGIN) -> float:
    """Return the p-value of two one-sided t tests (Schuirmann, 1987): below 0.05, the mean difference lies within ± ``margin``.

    That the difference is not significant never shows that there is none; this does.

    Raises:
        UsageError: fewer than two differences, or a margin that is not positive.
    """
    if not margin > 0:
        raise UsageError(f"an equivalence margin must be positive, not {margin:g}")
    mean, deviation, count = _moments(differences)
    error, room = deviation / math.sqrt(count), margin - abs(mean)
    if error <= 1e-12:
        return 0.0 if room > 0 else 1.0
    return _t_below(-room / error, count - 1)


def seeds_for_difference(mean: float, deviation: float, alpha: float = 1 - CONFIDENCE, power: float = POWER) -> int | None:
    """Return how many paired seeds show a true difference ``mean`` at level ``alpha`` with the given power, by the noncentral t.

    Args:
        mean: the difference to be shown.
        deviation: standard deviation of the paired differences.
        alpha: level of the two-sided test.
        power: probability of showing it.

    Returns:
        At least 2; None for more than `MOST_SEEDS`, or no difference at all.
    """
    if mean == 0:
        return None
    return _least(lambda count: _t_power(abs(mean), deviation, count, alpha) >= power)


def seeds_for_equivalence(
    mean: float, deviation: float, margin: float = EQUIVALENCE_MARGIN, alpha: float = 1 - CONFIDENCE, power: float = POWER
) -> int | None:
    """Return how many paired seeds show that a true difference ``mean`` lies within ± ``margin``, as `equivalence` decides it.

    The power of two one-sided tests is bounded from below by that of each (Phillips, 1990).

    Returns:
        At least 2; None for more than `MOST_SEEDS`, or a difference beyond the margin.
    """
    if abs(mean) >= margin:
        return None
    return _least(lambda count: _equivalence_power(mean, deviation, margin, count, alpha) >= power)


def _t_power(mean: float, deviation: float, count: int, alpha: float) -> float:
    if deviation <= 0:
        return 1.0
    limit, shift = _t_quantile(1 - alpha / 2, count - 1), mean * math.sqrt(count) / deviation
    return 1 - _shifted_t_below(limit, count - 1, shift) + _shifted_t_below(-limit, count - 1, shift)


def _equivalence_power(mean: float, deviation: float, margin: float, count: int, alpha: float) -> float:
    if deviation <= 0:
        return 1.0
    limit, scale = _t_quantile(1 - alpha, count - 1), math.sqrt(count) / deviation
    missed = [_shifted_t_below(limit, count - 1, (margin - sign * mean) * scale) for sign in (1, -1)]
    return 1 - sum(missed)


def _least(enough: Callable[[int], bool]) -> int | None:
    """Return the least count from 2 to `MOST_SEEDS` that is enough; more is never less so."""
    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Friedman:
    """Recipes ranked on several data sets.

    Attributes:
        ranks: average rank of each recipe; 1 is best, ties share.
        chi_squared: Friedman's statistic, corrected for ties.
        p_value: all recipes are alike, by the F distribution (Iman and Davenport, 1980), as Demšar (2006) advises.
        critical_difference: average ranks further apart than this differ (Nemenyi).
    """

    ranks: tuple[float, ...]
    chi_squared: float
    p_value: float
    critical_difference: float


def friedman(scores: ArrayLike, alpha: float = 1 - CONFIDENCE) -> Friedman:
    """Rank recipes over data sets (Friedman, 1937; Demšar, Statistical comparisons of classifiers over multiple data sets, 2006).

    Args:
        scores: ``[data sets, recipes]``, higher is better.
        alpha: level of the critical difference.

    Raises:
        UsageError: fewer than two data sets or recipes.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2:
        raise UsageError("ranks need at least two data sets and two recipes")
    from scipy.special import fdtrc

    sets, recipes = values.shape
    ranks = np.stack([_ranks(row) for row in values])
    average = ranks.mean(0)
    # Ties take variance from the ranks; the statistic is measured against what is left.
    within = float(np.square(ranks - (recipes + 1) / 2).sum()) / (sets * (recipes - 1))
    chi = 0.0 if within == 0 else sets * float(np.square(average - (recipes + 1) / 2).sum()) / within
    most = sets * (recipes - 1)
    p_value = 0.0 if chi >= most * (1 - 1e-12) else float(fdtrc(recipes - 1, most - recipes + 1, (sets - 1) * chi / (most - chi)))
    # By chance alone all data sets agree on one of the orders with this probability: no p-value is smaller.
    p_value = max(p_value, math.exp((1 - sets) * math.lgamma(recipes + 1)))
    return Friedman(tuple(map(float, average)), chi, p_value, nemenyi_critical_difference(recipes, sets, alpha))


def nemenyi_critical_difference(recipes: int, data_sets: int, alpha: float = 1 - CONFIDENCE) -> float:
    """Return the critical difference of average ranks (Nemenyi, 1963): q √(k (k + 1) / 6 N), q from the studentised range over √2."""
    return _range_quantile(1 - alpha, recipes) / math.sqrt(2) * math.sqrt(recipes * (recipes + 1) / (6 * data_sets))


def groups_within(ranks: Sequence[float], difference: float) -> list[tuple[int, ...]]:
    """Return the largest groups of recipes whose average ranks lie no further apart than ``difference``: the bars of the chart."""
    order = sorted(range(len(ranks)), key=lambda index: ranks[index])
    groups: list[tuple[int, ...]] = []
    for start, first in enumerate(order):
        group = tuple(index for index in order[start:] if ranks[index] - ranks[first] <= difference)
        if len(group) > 1 and not any(set(group) <= set(other) for other in groups):
            groups.append(group)
    return groups


def _ranks(row: Floats) -> Floats:
    """Ranks from 1 for the highest; equal values share the mean of theirs."""
    above, equal = (row[None, :] > row[:, None]).sum(1), (row[None, :] == row[:, None]).sum(1)
    found: Floats = above + (equal + 1) / 2
    return found


def _range_quantile(probability: float, count: int) -> float:
    """Quantile of the range of ``count`` standard normal values: the studentised range with infinitely many degrees of freedom."""
    from scipy.special import ndtr

    points = np.linspace(-9, 9, 4001)
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)

    def below(width: float) -> float:
        return float(np.trapezoid(count * density * (ndtr(points + width) - ndtr(points)) ** (count - 1), points))

    low, high = 0.0, 18.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < probability else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Contrast:
    """A difference that a factor, or several together, make.

    Attributes:
        levels: what is compared. Of a main effect: the two levels, ``(from, to)``. Of an interaction: one level of each factor.
        interval: of a main effect, mean at the second level less mean at the first, over all other factors; of an interaction, by how much
            that combination departs from the sum of what its factors do on their own.
        p_value: it is 0 (t test, not adjusted).
    """

    levels: tuple[Any, ...]
    interval: Interval
    p_value: float


@dataclass(frozen=True)
class Component:
    """What one factor does (main effect), or several do together beyond what they do on their own (interaction).

    Attributes:
        factors: their names; one for a main effect.
        means: for a main effect, the mean at each level; empty otherwise.
        contrasts: of a main effect, each pair of levels; of an interaction, each combination.
        degrees: of freedom.
        share: part of the variance between cells, in [0, 1].
        p_value: it does nothing (F test that allows for unequal spreads, not adjusted); None for those that serve as error.
    """

    factors: tuple[str, ...]
    means: tuple[tuple[Any, float], ...]
    contrasts: tuple[Contrast, ...]
    degrees: int
    share: float
    p_value: float | None


@dataclass(frozen=True)
class Factorial:
    """The effects in a complete factorial experiment.

    Attributes:
        factors: names, and levels in the order they were met.
        mean: over all cells.
        components: main effects first, then interactions of two factors, and so on; those that serve as error are left out.
        error: standard deviation of one run that nothing here explains, pooled.
        error_degrees: of freedom it rests on.
        error_from: where it comes from, in words: seeds, or the interactions that were taken for noise.
    """

    factors: dict[str, tuple[Any, ...]]
    mean: float
    components: tuple[Component, ...]
    error: float
    error_degrees: int
    error_from: str

    def component(self, *factors: str) -> Component:
        """Return the main effect of a factor, or the interaction of several."""
        return next(part for part in self.components if set(part.factors) == set(factors))


def factorial(
    runs: Sequence[tuple[Mapping[str, Any], float]], confidence: float = CONFIDENCE, noise_order: int = 3, least_degrees: int = 10
) -> Factorial:
    """Return main effects and interactions of a complete factorial, by contrasts of its cell means (Yates, 1937; any number of levels).

    Every combination of levels needs a run, and may have several (seeds). The cells count alike, however many runs they have, so that
    the effects are those of a balanced experiment; a cell's mean is as sure as its runs are many. The error is the spread of seeds within
    cells where that has ``least_degrees`` degrees of freedom, or where there are fewer than ``noise_order`` factors: of each cell its own
    where all have several, as one that nearly diverges scatters many times more than another (Welch, 1947; for the F tests Brunner, Dette
    and Munk, 1997: the classical ones where all scatter alike), else one for all. Where most cells have a single run of more factors,
    interactions of ``noise_order`` and more are taken for noise, as is customary (Box, Hunter and Hunter, Statistics for Experimenters,
    2005, section 5.6): if such an interaction is real, the error is overstated, and effects are called real too rarely rather than too
    often. ``error_from`` says which it was.

    Args:
        runs: for each run the levels of its factors, and its figure.
        confidence: of the intervals.
        noise_order: least number of factors whose interactions may serve as error.
        least_degrees: of freedom that seeds must give to serve as error.

    Raises:
        UsageError: a combination without a run, runs with different factors, fewer than two levels, or nothing left to serve as error.
    """
    names = tuple(runs[0][0]) if runs else ()
    if not names or any(set(cell) != set(names) for cell, _ in runs):
        raise UsageError("a factorial needs runs that all have the same factors")
    levels = {name: tuple(dict.fromkeys(cell[name] for cell, _ in runs)) for name in names}
    if single := [name for name in names if len(levels[name]) < 2]:
        raise UsageError(f"the factor {single[0]} has one level only; leave it out")
    cells: dict[tuple[int, ...], list[float]] = {place: [] for place in product(*(range(len(levels[name])) for name in names))}
    for cell, value in runs:
        cells[tuple(levels[name].index(cell[name]) for name in names)].append(value)
    for place, values in cells.items():
        if not values:
            missing = ", ".join(f"{name} = {levels[name][index]}" for name, index in zip(names, place, strict=True))
            raise UsageError(f"the factorial has no run with {missing}")
    shape = tuple(len(levels[name]) for name in names)
    means = np.array([np.mean(values) for values in cells.values()]).reshape(shape)
    counts = np.array([len(values) for values in cells.values()]).reshape(shape)
    parts = {subset: _component(means, subset) for size in range(1, len(names) + 1) for subset in combinations(range(len(names)), size)}
    degrees = {subset: math.prod(shape[axis] - 1 for axis in subset) for subset in parts}
    seeds = pooled_spread(list(cells.values()))
    noise = [subset for subset in parts if len(subset) >= noise_order]
    own = False
    if seeds is not None and (seeds.degrees >= least_degrees or not noise):
        noise, own = [], bool(counts.min() > 1)
        variance, error_degrees = seeds.variance, int(seeds.degrees)
        error_from = f"the spread over seeds within cells ({error_degrees} degrees of freedom{', of each cell its own' if own else ''})"
    else:
        error_degrees = sum(degrees[subset] for subset in noise)
        if not error_degrees:
            raise UsageError("each combination has one run, and there are too few factors for an error: more seeds are needed")
        # The cell means vary by the variance of a run over the runs of a cell: back to that of one run.
        per_cell = sum(float(np.square(parts[subset]).sum()) for subset in noise) / error_degrees
        variance = per_cell / float((1 / counts).mean())
        few = "one seed" if counts.max() == 1 else "few seeds"
        error_from = f"interactions of {noise_order} or more factors, taken for noise ({error_degrees} degrees of freedom): {few} a cell"
    # Of each cell's mean: its variance, and the degrees of freedom behind that where it is the cell's own.
    of_mean = np.array([np.var(values, ddof=1) for values in cells.values()]).reshape(shape) / counts if own else variance / counts
    maker = _Contrasts(names, levels, means, of_mean, counts - 1 if own else None, error_degrees, confidence)
    whole = sum(float(np.square(part).sum()) for part in parts.values())
    components = []
    for subset, part in parts.items():
        if subset in noise:
            continue
        square, p_value = float(np.square(part).sum()), maker.nothing(subset, part)
        names_of, share = tuple(names[axis] for axis in subset), square / whole if whole > 0 else 0.0
        main = subset[0] if len(subset) == 1 else None
        level_means = maker.level_means(main) if main is not None else ()
        contrasts = maker.differences(main) if main is not None else maker.departures(subset, part)
        components.append(Component(names_of, level_means, contrasts, degrees[subset], share, p_value))
    return Factorial(levels, float(means.mean()), tuple(components), math.sqrt(variance), error_degrees, error_from)


def _component(means: Floats, subset: tuple[int, ...]) -> Floats:
    """What the factors on the axes ``subset`` do together, in every cell: orthogonal to all other components."""
    part = means
    for axis in range(means.ndim):
        average = part.mean(axis, keepdims=True)
        part = part - average if axis in subset else np.broadcast_to(average, part.shape)
    return part


@dataclass(frozen=True, eq=False)
class _Contrasts:
    """Intervals of differences between averages of cells, and tests of whether several of them are nothing.

    Attributes:
        variances: of the cells' means.
        own_degrees: of freedom behind each of them; None where all rest on one error.
        degrees: of freedom of that one.
    """

    names: tuple[str, ...]
    levels: Mapping[str, tuple[Any, ...]]
    means: Floats
    variances: Floats
    own_degrees: NDArray[np.int64] | None
    degrees: int
    confidence: float

    def nothing(self, subset: tuple[int, ...], part: Floats) -> float:
        """How likely a component is at least as large as this one if its factors do nothing."""
        # The component is a projection of the cells' means. Its diagonal is the same for every cell; of its squares each axis has a factor.
        diagonal = math.prod(self.means.shape[axis] - 1 for axis in subset) / self.means.size
        expected, spread = diagonal * float(self.variances.sum()), self.variances
        for axis, size in enumerate(self.means.shape):
            average = np.broadcast_to(spread.sum(axis, keepdims=True) / size**2, spread.shape)
            spread = (1 - 2 / size) * spread + average if axis in subset else average
        if not expected:
            return float(not part.any())
        above = expected**2 / float((spread * self.variances).sum())
        return _f_above(float(np.square(part).sum()) / expected, above, self._degrees(diagonal * self.variances))

    def level_means(self, axis: int) -> tuple[tuple[Any, float], ...]:
        averages = self.means.mean(tuple(other for other in range(self.means.ndim) if other != axis))
        return tuple(zip(self.levels[self.names[axis]], map(float, averages), strict=True))

    def differences(self, axis: int) -> tuple[Contrast, ...]:
        found = []
        levels, count = self.levels[self.names[axis]], self.means.size // self.means.shape[axis]
        for first, second in combinations(range(len(levels)), 2):
            weights = np.zeros_like(self.means)
            np.moveaxis(weights, axis, 0)[first] = -1 / count
            np.moveaxis(weights, axis, 0)[second] = 1 / count
            found.append(self._contrast((levels[first], levels[second]), weights))
        return tuple(found)

    def departures(self, subset: tuple[int, ...], part: Floats) -> tuple[Contrast, ...]:
        found = []
        for place in product(*(range(part.shape[axis]) for axis in subset)):
            unit = np.ones_like(self.means)
            for axis, index in zip(subset, place, strict=True):
                keep = np.zeros(part.shape[axis])
                keep[index] = 1
                unit = unit * keep.reshape([-1 if other == axis else 1 for other in range(part.ndim)])
            # Projecting is symmetric: the weights of a departure are the component of its own cells' indicator.
            weights = _component(unit / unit.sum(), subset)
            found.append(self._contrast(tuple(self.levels[self.names[axis]][i] for axis, i in zip(subset, place, strict=True)), weights))
        return tuple(found)

    def _contrast(self, levels: tuple[Any, ...], weights: Floats) -> Contrast:
        shares = weights**2 * self.variances
        estimate, error, degrees = float((weights * self.means).sum()), math.sqrt(float(shares.sum())), self._degrees(shares)
        half = _t_quantile(0.5 + self.confidence / 2, degrees) * error
        p_value = 2 * _t_below(-abs(estimate) / error, degrees) if error > 0 else float(estimate == 0)
        return Contrast(levels, Interval(estimate, estimate - half, estimate + half, "contrast of cell means", self.confidence), p_value)

    def _degrees(self, shares: Floats) -> float:
        """Degrees of freedom of a sum of variances, of which each cell has a share (Satterthwaite, 1946)."""
        if self.own_degrees is None or not shares.any():
            return self.degrees
        return float(shares.sum() ** 2 / (shares**2 / self.own_degrees).sum())


def _moments(values: Sequence[float] | Floats) -> tuple[float, float, int]:
    """Mean, standard deviation (n − 1) and number of at least two values."""
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        raise UsageError(f"an interval needs at least two values, not {len(sample)}: one says nothing about its own spread")
    return float(sample.mean()), float(sample.std(ddof=1)), len(sample)


def _t_quantile(probability: float, degrees: float) -> float:
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) if math.isinf(degrees) or degrees > 1e8 else stdtrit(degrees, probability))


def _t_below(value: float, degrees: float) -> float:
    from scipy.special import stdtr

    return float(stdtr(degrees, value))


def _shifted_t_below(value: float, degrees: float, shift: float) -> float:
    """The noncentral t distribution; far out, where SciPy's series gives up, by Abramowitz and Stegun's formula 26.7.10."""
    from scipy.special import nctdtr, ndtr

    found = float(nctdtr(degrees, shift, value))
    if math.isnan(found):
        found = float(ndtr((value * (1 - 1 / (4 * degrees)) - shift) / math.sqrt(1 + value**2 / (2 * degrees))))
    return found


def _f_above(value: float, numerator: float, denominator: float) -> float:
    from scipy.special import fdtrc

    return float(fdtrc(numerator, denominator, value))
