"""The statistics against SciPy, statsmodels, published tables and simulation."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from fittingroom.errors import UsageError
from fittingroom.evaluate import statistics
from fittingroom.evaluate.statistics import Spread

samples = st.lists(st.floats(-1, 1), min_size=2, max_size=12).filter(lambda values: np.ptp(values) > 1e-3)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(samples, st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_of_a_mean_is_students(values: list[float], confidence: float) -> None:
    found = statistics.mean_interval(values, confidence)
    low, high = DescrStatsW(values).tconfint_mean(1 - confidence)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)
    assert found.estimate == pytest.approx(np.mean(values))


def test_one_value_says_nothing_of_its_spread() -> None:
    for ask in (statistics.mean_interval, statistics.paired, statistics.equivalence):
        with pytest.raises(UsageError, match="at least two values"):
            ask([0.5])


@given(samples)
def test_paired_differences(values: list[float]) -> None:
    found = statistics.paired(values)
    expected = scipy.stats.ttest_1samp(values, 0)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-8, abs=1e-14)
    nonzero = [value for value in values if value != 0]
    positive = sum(value > 0 for value in nonzero)
    assert found.sign_p == pytest.approx(scipy.stats.binomtest(positive, len(nonzero)).pvalue if nonzero else 1.0)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_flipping_signs_is_scipys_permutation_test(count: int) -> None:
    values = generator(count).normal(0.3, 1, count)
    expected = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert statistics.sign_flip_test(values) == pytest.approx(expected.pvalue)
    assert statistics.sign_flip_test(np.abs(values)) == pytest.approx(2 / 2**count)


def test_signs_that_cancel_out() -> None:
    """Their sum is 0, and in binary a hair beside it: nothing is less far from 0."""
    assert statistics.sign_flip_test([0.0002, -0.0002, 0.0001, 0.0003, -0.0002, -0.0002]) == 1.0


def test_flipping_the_signs_of_many_draws_some() -> None:
    values = generator(1).normal(0.25, 1, 60)
    drawn = statistics.sign_flip_test(values)
    assert drawn == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, abs=0.02)
    assert drawn == statistics.sign_flip_test(values), "without a generator always the same"


def test_differences_without_spread() -> None:
    assert statistics.paired([0.1, 0.1, 0.1]).p_value == 0
    nothing = statistics.paired([0.0, 0.0])
    assert (nothing.p_value, nothing.sign_p, nothing.sign_flip_p) == (1, 1, 1)
    assert statistics.equivalence([0.001, 0.001], 0.003) == 0
    assert statistics.equivalence([0.004, 0.004], 0.003) == 1


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemars_exact_test(only_first: int, only_second: int) -> None:
    trials = only_first + only_second
    expected = scipy.stats.binomtest(only_first, trials, 0.5).pvalue if trials else 1.0
    assert statistics.mcnemar_exact(only_first, only_second) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("discordant", [(3, 9), (40, 61), (7, 7)])
def test_mcnemars_exact_test_is_that_of_statsmodels(discordant: tuple[int, int]) -> None:
    first, second = discordant
    assert statistics.mcnemar_exact(first, second) == pytest.approx(mcnemar([[50, first], [second, 20]], exact=True).pvalue)


def test_mcnemars_test_of_many_images_neither_overflows_nor_vanishes() -> None:
    assert statistics.mcnemar_exact(100_000, 100_000) == 1.0
    assert statistics.mcnemar_exact(30_000, 30_800) == pytest.approx(scipy.stats.binomtest(30_000, 60_800, 0.5).pvalue, rel=1e-6)
    assert 0 <= statistics.mcnemar_exact(0, 60_000) < 1e-300


@pytest.mark.parametrize("seed", range(6))
def test_holm(seed: int) -> None:
    p_values = np.round(generator(seed).random(1 + seed) ** 3, 2).tolist()  # with ties
    assert statistics.holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@given(samples, st.sampled_from([0.05, 0.3, 1.0]))
def test_equivalence_is_two_one_sided_tests(values: list[float], margin: float) -> None:
    expected = ttost_paired(np.array(values), np.zeros(len(values)), -margin, margin)[0]
    assert statistics.equivalence(values, margin) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_a_margin_is_positive() -> None:
    with pytest.raises(UsageError, match="margin must be positive"):
        statistics.equivalence([0.1, 0.2], 0)


@pytest.mark.parametrize(("mean", "deviation"), [(0.01, 0.01), (0.002, 0.004), (-0.003, 0.01), (0.001, 0.005)])
def test_seeds_for_a_difference(mean: float, deviation: float) -> None:
    found = statistics.seeds_for_difference(mean, deviation)
    assert found is not None
    power = TTestPower()
    reached = [power.power(abs(mean) / deviation, count, 0.05) for count in (found - 1, found)]
    assert reached[0] < 0.8 <= reached[1]


def test_seeds_for_equivalence_suffice_in_simulation() -> None:
    mean, deviation, margin = 0.001, 0.0025, 0.003
    found = statistics.seeds_for_equivalence(mean, deviation, margin)
    assert found is not None
    for count, enough in ((found, True), (found - 3, False)):
        draws = generator().normal(mean, deviation, (2000, count))
        shown = np.mean([statistics.equivalence(row, margin) < 0.05 for row in draws])
        assert (shown > 0.77) == enough, (count, shown)


def test_what_no_number_of_seeds_decides() -> None:
    assert statistics.seeds_for_difference(0.0, 0.01) is None
    assert statistics.seeds_for_difference(1e-9, 0.01) is None
    assert statistics.seeds_for_equivalence(0.004, 0.01, 0.003) is None
    assert statistics.seeds_for_difference(0.01, 0.0) == 2


def test_the_spread_that_recipes_share() -> None:
    groups = [generator(1).normal(0, 2, 4), generator(2).normal(9, 2, 3), [5.0], generator(3).normal(3, 2, 6)]
    found = statistics.pooled_spread(groups)
    assert found is not None
    several = [group for group in groups if len(group) > 1]
    # The residual mean square of a one-way analysis of variance.
    between = scipy.stats.f_oneway(*several)
    grand = np.concatenate(several)
    square = sum(len(group) * (np.mean(group) - grand.mean()) ** 2 for group in several) / (len(several) - 1)
    assert found.variance == pytest.approx(square / between.statistic)
    assert found.degrees == 10
    assert statistics.pooled_spread([[1.0], []]) is None


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("typical", [False, True])
def test_a_new_run_lies_within_its_interval_as_often_as_promised(seeds: int, typical: bool) -> None:
    """Runs of known accuracy and seed spread, each measured on 10,000 images of its own, 4,000 times."""
    draw, images = generator(seeds + 10 * typical), 10_000
    covered = 0
    for _ in range(4000):
        truth = draw.normal(0.9, 0.004, seeds + 1)
        known = Spread(float(0.004**2 * draw.chisquare(12) / 12), 12) if typical else None
        found = statistics.new_run_interval(truth[: 1 if typical else seeds], images=images, typical=known)
        covered += found.holds(draw.binomial(images, truth[-1]) / images)
    assert 0.945 < covered / 4000 < 0.985


def test_an_interval_of_a_new_run_by_hand() -> None:
    values = [0.90, 0.91, 0.92]
    alone = statistics.new_run_interval(values)
    half = scipy.stats.t.ppf(0.975, 2) * 0.01 * np.sqrt(1 + 1 / 3)
    assert (alone.low, alone.high) == pytest.approx((0.91 - half, 0.91 + half))
    known = statistics.new_run_interval([0.9], typical=Spread(1e-4, 0), floor=0.02)
    half = 1.959964 * np.sqrt(2e-4 + 4e-4)
    assert (known.low, known.high) == pytest.approx((0.9 - half, 0.9 + half))
    assert known.holds(known.high + 0.004, slack=0.005)
    assert not known.holds(known.high + 0.006, slack=0.005)
    with pytest.raises(UsageError, match="one value needs a spread"):
        statistics.new_run_interval([0.9])
    constant = statistics.new_run_interval([0.9, 0.9, 0.9], images=100)
    assert constant.high - constant.low == pytest.approx(2 * 1.959964 * np.sqrt(statistics.image_variance(0.9, 100)))
    assert statistics.image_variance(1.0, 100) > 0


def drawn_anew(gains: NDArray[np.float64], draw: np.random.Generator, resamples: int) -> Iterator[float]:
    """Means of resamples over seeds and images, in which what the seeds add is stretched as few values need it."""
    seeds, images = gains.shape
    stretch = np.sqrt(seeds / (seeds - 1)) * scipy.stats.t.ppf(0.975, seeds - 1) / scipy.stats.norm.ppf(0.975)
    for _ in range(resamples):
        of_images = gains[:, draw.integers(0, images, images)]
        yield of_images.mean() + stretch * (of_images[draw.integers(0, seeds, seeds)].mean() - of_images.mean())


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_bootstrap_covers_the_truth_with_few_seeds_too(seeds: int) -> None:
    """The luck of the seed moves accuracy by 4 points, that of 400 images by 2: without care, 60 to 80 intervals of 100 would cover it."""
    draw, covered = generator(8), 0
    for _ in range(200):
        level = 0.7 + draw.normal(0, 0.04, (seeds, 1))
        second, first = draw.random((seeds, 400)) < level, draw.random((seeds, 400)) < 0.7
        found = statistics.crossed_bootstrap_interval(first, second, generator(9), resamples=400)
        covered += found.low <= 0 <= found.high
    assert 0.9 <= covered / 200 <= 1


def test_the_bootstrap_over_seeds_and_images_is_that_of_a_loop() -> None:
    draw = generator(4)
    hardness = draw.random(400)
    first, second = (draw.random((4, 400)) * 0.4 + hardness * 0.6 < level for level in (0.7, 0.72))
    found = statistics.crossed_bootstrap_interval(first, second, generator(5), resamples=8000)
    gains = second.astype(float) - first
    means = list(drawn_anew(gains, draw, 8000))
    low, high = np.percentile(means, [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.06 * (high - low))
    assert found.estimate == pytest.approx(gains.mean())
    again = statistics.crossed_bootstrap_interval(first, second, generator(5), resamples=8000)
    assert again == found, "the same generator, the same interval"


def test_many_seeds_are_drawn_as_few_are() -> None:
    draw = generator(6)
    first, second = draw.random((45, 60)) < 0.7, draw.random((45, 60)) < 0.8
    found = statistics.crossed_bootstrap_interval(first, second, generator(7), resamples=4000)
    gains = second.astype(float) - first
    means = list(drawn_anew(gains, draw, 4000))
    low, high = np.percentile(means, [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_outcomes_that_do_not_pair() -> None:
    with pytest.raises(UsageError, match="cannot be paired"):
        statistics.crossed_bootstrap_interval(np.ones((2, 3)), np.ones((2, 4)), generator())


def test_friedman_and_the_f_distribution() -> None:
    scores = np.round(generator(0).random((9, 4)) + np.arange(4) / 10, 1)  # with ties
    found = statistics.friedman(scores)
    expected = scipy.stats.friedmanchisquare(*scores.T)
    assert found.chi_squared == pytest.approx(expected.statistic)
    assert found.ranks == pytest.approx(np.mean([scipy.stats.rankdata(-row) for row in scores], axis=0))
    f_value = 8 * expected.statistic / (9 * 3 - expected.statistic)
    assert found.p_value == pytest.approx(scipy.stats.f.sf(f_value, 3, 24))
    assert statistics.friedman([[1, 2], [3, 4], [5, 6]]).p_value == pytest.approx(1 / 4), "three coins fall alike"
    assert statistics.friedman([[1, 2], [3, 4]]).p_value == pytest.approx(1 / 2)
    assert statistics.friedman([[1, 1], [2, 2]]).p_value == 1
    with pytest.raises(UsageError, match="two data sets"):
        statistics.friedman([[1, 2]])


def test_the_critical_difference_of_demsars_example() -> None:
    """Demšar (2006), table 5a: q for 2 … 10 classifiers at 0.05; and scipy's own studentised range."""
    printed = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for recipes, q in enumerate(printed, 2):
        found = statistics.nemenyi_critical_difference(recipes, 14)
        assert found / np.sqrt(recipes * (recipes + 1) / (6 * 14)) == pytest.approx(q, abs=1e-3)
    exact = scipy.stats.studentized_range.ppf(0.95, 4, np.inf) / np.sqrt(2)
    assert statistics.nemenyi_critical_difference(4, 14) == pytest.approx(exact * np.sqrt(4 * 5 / (6 * 14)), rel=1e-5)


def test_groups_of_recipes_that_ranks_do_not_tell_apart() -> None:
    assert statistics.groups_within([1.0, 3.9, 1.8, 2.6], 1.0) == [(0, 2), (2, 3)]
    assert statistics.groups_within([1.0, 3.0], 1.0) == []
    assert statistics.groups_within([2.0, 1.5, 1.0], 1.0) == [(2, 1, 0)]


LEVELS = {"act": ["tanh", "sigmoid", "relu"], "pool": ["avg", "max"], "opt": ["sgd", "adam", "rms"], "drop": [0, 1], "aug": [0, 1]}


def test_the_usual_spread_is_of_the_many() -> None:
    draw = generator(11)
    groups = [list(draw.normal(0, 0.01, 3)) for _ in range(400)]
    usual = statistics.usual_spread(groups)
    assert usual is not None
    assert usual.variance == pytest.approx(0.01**2, rel=0.15)
    assert usual.degrees == 800
    wild = statistics.usual_spread([*groups, *([0.1, 0.5, 0.9],) * 40])
    pooled = statistics.pooled_spread([*groups, *([0.1, 0.5, 0.9],) * 40])
    assert wild is not None
    assert pooled is not None
    assert np.sqrt(wild.variance) < 0.012 < 0.1 < np.sqrt(pooled.variance)
    assert statistics.usual_spread([[0.9], [0.8]]) is None


def made_factorial(replicates: int, noise: float, seed: int = 0) -> list[tuple[dict[str, Any], float]]:
    """A known truth: relu + 0.04, adam + 0.02, dropout with augmentation − 0.03, and noise."""
    draw, runs = generator(seed), []
    for values in product(*LEVELS.values()):
        cell = dict(zip(LEVELS, values, strict=True))
        truth = 0.85 + 0.04 * (cell["act"] == "relu") + 0.02 * (cell["opt"] == "adam") - 0.03 * (cell["drop"] and cell["aug"])
        runs += [(cell, float(truth + draw.normal(0, noise))) for _ in range(replicates)]
    return runs


def anova(runs: list[tuple[dict[str, Any], float]], interactions: int) -> Any:
    import pandas
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    table = pandas.DataFrame([{**{name: str(level) for name, level in cell.items()}, "y": value} for cell, value in runs])
    model = " + ".join(f"C({name}, Sum)" for name in runs[0][0])
    return anova_lm(ols(f"y ~ ({model}) ** {interactions}", table).fit(), typ=2)


def alike(runs: list[tuple[dict[str, Any], float]], replicates: int, spread: float) -> list[tuple[dict[str, Any], float]]:
    """The same with cells that all scatter by as much around their means."""
    cells = [runs[first : first + replicates] for first in range(0, len(runs), replicates)]
    around = [spread * (index - (replicates - 1) / 2) for index in range(replicates)]
    return [
        (where, float(np.mean([value for _, value in cell])) + off) for cell in cells for (where, _), off in zip(cell, around, strict=True)
    ]


@pytest.mark.parametrize(("replicates", "order"), [(1, 2), (3, 5)])
def test_a_factorial_is_the_analysis_of_variance_of_statsmodels(replicates: int, order: int) -> None:
    """Where all cells scatter alike; what is made of cells that do not is tested below."""
    runs = made_factorial(replicates, 0.005) if replicates == 1 else alike(made_factorial(replicates, 0.005), replicates, 0.005)
    found = statistics.factorial(runs)
    expected = anova(runs, order)
    assert len(found.components) == len(expected) - 1
    assert found.error_degrees == pytest.approx(expected.df["Residual"])
    assert found.error == pytest.approx(np.sqrt(expected.sum_sq["Residual"] / expected.df["Residual"]))
    for name, row in expected.iloc[:-1].iterrows():
        part = found.component(*[term.split("(")[1].split(",")[0] for term in str(name).split(":")])
        assert part.degrees == row.df
        assert part.p_value == pytest.approx(row["PR(>F)"], rel=1e-6, abs=1e-14)
    assert ("seeds within cells" in found.error_from) == (replicates > 1)
    assert ("taken for noise" in found.error_from) == (replicates == 1)


def test_effects_are_differences_of_means_with_intervals() -> None:
    runs = alike(made_factorial(2, 0.005, seed=3), 2, 0.007)
    found = statistics.factorial(runs)
    main = found.component("act")
    contrast = next(part for part in main.contrasts if part.levels == ("tanh", "relu"))
    values = {level: [value for cell, value in runs if cell["act"] == level] for level in LEVELS["act"]}
    estimate = np.mean(values["relu"]) - np.mean(values["tanh"])
    half = scipy.stats.t.ppf(0.975, 48) * found.error * np.sqrt(2 / 48)  # each of the 48 cells in it has one degree of freedom
    assert contrast.interval.estimate == pytest.approx(estimate)
    assert contrast.interval.high - estimate == pytest.approx(half)
    assert dict(main.means)["relu"] == pytest.approx(np.mean(values["relu"]))
    assert main.p_value is not None
    assert main.p_value < 1e-6
    assert found.component("pool").share < 0.05
    both = next(part for part in found.component("aug", "drop").contrasts if part.levels == (1, 1))
    assert both.interval.holds(-0.0075), "−0.03 in one of four combinations departs by a quarter from the sum of the single effects"
    assert both.p_value < 1e-3
    assert sum(part.share for part in found.components) == pytest.approx(1)


def test_departures_are_fitted_by_least_squares() -> None:
    import pandas
    from statsmodels.formula.api import ols

    runs = alike(made_factorial(2, 0.005, seed=5), 2, 0.007)
    table = pandas.DataFrame([{**{name: str(level) for name, level in cell.items()}, "y": value} for cell, value in runs])
    fit = ols("y ~ " + "*".join(f"C({name}, Sum)" for name in LEVELS), table).fit()
    found = statistics.factorial(runs).component("act", "pool")
    first = next(part for part in found.contrasts if part.levels == ("sigmoid", "avg"))
    name = "C(act, Sum)[S.sigmoid]:C(pool, Sum)[S.avg]"
    assert first.interval.estimate == pytest.approx(fit.params[name])
    half = scipy.stats.t.ppf(0.975, 48) * fit.bse[name]  # of 72 cells, for a third of them count four times as much as the others
    assert first.interval.high - first.interval.estimate == pytest.approx(half)


def test_seeds_at_some_corners_only() -> None:
    """One run a cell and three at two corners: cells count alike, the error is that of the interactions."""
    runs = made_factorial(1, 0.005)
    extra = [(cell, value + change) for cell, value in (runs[0], runs[-1]) for change in (0.002, -0.002)]
    found, plain = statistics.factorial(runs + extra), statistics.factorial(runs)
    assert "taken for noise" in found.error_from
    assert dict(found.component("act").means) == pytest.approx(dict(plain.component("act").means))
    assert found.mean == pytest.approx(plain.mean)
    assert found.error == pytest.approx(plain.error, rel=0.03)


def test_two_factors_take_what_seeds_there_are() -> None:
    """Three seeds in each of four cells are eight degrees of freedom, and there is no other error."""
    draw, cells = generator(5), [{"act": act, "pool": pool} for act in ("tanh", "relu") for pool in ("avg", "max")]
    runs = [(cell, 0.9 + 0.01 * (cell["act"] == "relu") + 0.003 * float(draw.normal())) for cell in cells for _ in range(3)]
    runs = alike(runs, 3, 0.004)
    expected = anova(runs, 2)
    found = statistics.factorial(runs)
    assert found.error_degrees == expected.df["Residual"] == 8
    assert "seeds within cells" in found.error_from
    assert [part.p_value for part in found.components] == pytest.approx(expected["PR(>F)"].iloc[:3].tolist())


def uneven(seed: int) -> list[tuple[dict[str, Any], float]]:
    """Nothing but noise, in one cell of eight many times more than in the others."""
    draw = generator(seed)
    cells = [dict(zip("abc", values, strict=True)) for values in product([0, 1], [0, 1], [0, 1])]
    return [(cell, float(draw.normal(0, 0.1 if sum(cell.values()) == 3 else 0.003))) for cell in cells for _ in range(3)]


def test_each_cell_has_its_own_spread() -> None:
    """The standard errors are statsmodels' for cells that scatter unequally; between two cells the test is Welch's."""
    import pandas
    from statsmodels.formula.api import ols

    runs = uneven(7)
    table = pandas.DataFrame([{**{name: str(level) for name, level in cell.items()}, "y": value} for cell, value in runs])
    fit = ols("y ~ " + "*".join(f"C({name}, Sum)" for name in "abc"), table).fit(cov_type="HC2")
    found = statistics.factorial(runs)
    assert "of each cell its own" in found.error_from
    (contrast,) = found.component("a").contrasts
    half = scipy.stats.t.ppf(0.975, 2.01) * 2 * fit.bse["C(a, Sum)[S.0]"]  # all of the error is one cell's, which has three runs
    assert contrast.interval.high - contrast.interval.estimate == pytest.approx(half, rel=0.01)
    assert found.component("a").p_value == pytest.approx(contrast.p_value), "of two levels F is the square of t"
    assert contrast.p_value == pytest.approx(2 * scipy.stats.t.sf(abs(fit.tvalues["C(a, Sum)[S.0]"]), 2.01), rel=0.01)
    two = [({"a": level}, value) for level, values in enumerate(([0.9, 0.91, 0.93], [0.5, 0.8, 0.95])) for value in values]
    expected = scipy.stats.ttest_ind([0.5, 0.8, 0.95], [0.9, 0.91, 0.93], equal_var=False)
    found = statistics.factorial(two)
    assert found.components[0].p_value == pytest.approx(expected.pvalue)
    interval = found.components[0].contrasts[0].interval
    assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_one_cell_that_scatters_makes_no_effects() -> None:
    """One error for all would call nearly every second of them one: the cell's accident is in all effects at once."""
    parts = [part for seed in range(60) for part in statistics.factorial(uneven(seed)).components]
    assert np.mean([part.p_value is not None and part.p_value < 0.05 for part in parts]) < 0.07
    assert np.mean([contrast.p_value < 0.05 for part in parts for contrast in part.contrasts]) < 0.07


def test_noise_alone_is_rarely_called_an_effect() -> None:
    cells = [cell for cell, _ in made_factorial(1, 0)]
    flat = [[(cell, float(generator(seed * 72 + place).normal())) for place, cell in enumerate(cells)] for seed in range(40)]
    p_values = [part.p_value for runs in flat for part in statistics.factorial(runs).components if part.p_value is not None]
    assert 0.03 < np.mean([value < 0.05 for value in p_values]) < 0.07


def test_what_is_no_complete_factorial() -> None:
    runs = made_factorial(1, 0.005)
    with pytest.raises(UsageError, match="no run with act = tanh, pool = avg, opt = sgd, drop = 0, aug = 0"):
        statistics.factorial(runs[1:])
    with pytest.raises(UsageError, match="same factors"):
        statistics.factorial([])
    with pytest.raises(UsageError, match="one level only"):
        statistics.factorial([run for run in runs if run[0]["act"] == "tanh"])
    with pytest.raises(UsageError, match="more seeds are needed"):
        statistics.factorial([({"a": level}, float(level)) for level in range(3)])
