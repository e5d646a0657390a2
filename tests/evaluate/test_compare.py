"""Comparisons of two runs against a bootstrap, and of recipes against SciPy, on runs whose truth is made up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from fittingroom import recipe, runs
from fittingroom.errors import RunError, UsageError
from fittingroom.evaluate.compare import Comparison, compare_predictions, compare_runs, compare_two
from fittingroom.runs import Predictions, Run


def predictions(count: int, seed: int, accuracies: tuple[float, float] = (0.80, 0.84)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, count)
    hardness = generator.random(count)  # shared: what one model gets wrong, the other tends to get wrong too
    guesses = [np.where(0.7 * hardness + 0.3 * generator.random(count) < a, labels, (labels + 1) % 10) for a in accuracies]
    return guesses[0], guesses[1], labels


def test_figures_by_counting() -> None:
    first, second, labels = np.array([0, 1, 2, 0, 0]), np.array([0, 2, 2, 3, 4]), np.array([0, 1, 2, 3, 4])
    found = compare_predictions(("a", "b"), first, second, labels)
    assert (found.images, found.only_first, found.only_second) == (5, 1, 2)
    assert found.accuracies == pytest.approx((3 / 5, 4 / 5))
    assert found.difference == pytest.approx(1 / 5)
    assert found.p_value == 1.0


@pytest.mark.parametrize("accuracies", [(0.80, 0.84), (0.2, 0.9)])
def test_the_interval_is_that_of_a_bootstrap_over_images(accuracies: tuple[float, float]) -> None:
    first, second, labels = predictions(3000, 0, accuracies)
    found = compare_predictions(("a", "b"), first, second, labels)
    gains = (second == labels).astype(float) - (first == labels)
    generator = np.random.default_rng(1)
    means = [gains[generator.integers(0, len(gains), len(gains))].mean() for _ in range(3000)]
    low, high = np.percentile(means, [2.5, 97.5])
    width = high - low
    assert found.interval == pytest.approx((low, high), abs=0.06 * width)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Two models whose accuracies are known, 600 times."""
    truth = np.mean([np.subtract(*[(p == labels).mean() for p in (b, a)]) for a, b, labels in (predictions(20_000, s) for s in range(20))])
    covered = [
        low <= truth <= high for s in range(600) for low, high in [compare_predictions(("a", "b"), *predictions(500, s + 100)).interval]
    ]
    assert 0.93 < np.mean(covered) < 0.97


def test_swapping_the_models_swaps_the_figures() -> None:
    first, second, labels = predictions(500, seed=3)
    one, other = compare_predictions(("a", "b"), first, second, labels), compare_predictions(("b", "a"), second, first, labels)
    assert other.difference == -one.difference
    assert other.interval == (-one.interval[1], -one.interval[0])
    assert (other.p_value, other.only_first) == (one.p_value, one.only_second)


def test_a_model_against_itself() -> None:
    first, _, labels = predictions(100, seed=0)
    found = compare_predictions(("a", "a"), first, first, labels)
    assert (found.difference, found.interval, found.p_value) == (0, (0, 0), 1)
    assert "no difference beyond chance" in str(found)


def test_what_it_says() -> None:
    found = Comparison(("plain", "<deep>"), 1000, (0.9, 0.92), 10, 30, 0.02, (0.008, 0.032), 0.0022)
    for part in (
        "plain 90.00%",
        "<deep> 92.00%",
        "+2.00 points",
        "+0.80 to +3.20",
        "p = 0.0022",
        "1,000 images",
        "<deep> is better",
        "seed's luck",
    ):
        assert part in str(found)
    assert "&lt;deep&gt; is better" in found._repr_html_()
    assert "<deep>" not in found._repr_html_()
    worse = Comparison(("plain", "deep"), 1000, (0.92, 0.9), 30, 10, -0.02, (-0.032, -0.008), 0.0022)
    assert "plain is better" in str(worse)


@pytest.mark.parametrize("lengths", [(3, 3, 4), (3, 4, 4), (0, 0, 0)])
def test_arrays_that_do_not_belong_together(lengths: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        compare_predictions(("a", "b"), *(np.zeros(length, np.int64) for length in lengths))


# Recipes over seeds.

Maker = Callable[..., Run]
IMAGES = 2000


@pytest.fixture
def made(tmp_path: Path) -> Maker:
    """A maker of finished run folders with a given accuracy; images that are hard for one model are hard for all."""

    def make(
        model: str,
        seed: int,
        accuracy: float,
        changes: dict[str, Any] | None = None,
        *,
        data: str = "digits",
        content: str = "",
        shift: int = 0,
        source: str = "train",
        split: str = "validation",
        seconds: float = 10.0,
        parameters: int | None = 1000,
    ) -> Run:
        loaded = recipe.load(model, {"data.name": data, "seed": seed, **(changes or {})})
        run = runs.create(tmp_path / "runs" / f"{len(list((tmp_path / 'runs').glob('*'))):03d}-{model}-{seed}", loaded)
        labels = (np.arange(IMAGES, dtype=np.int64) + shift) % 10
        hardness = np.random.default_rng(0).random(IMAGES)
        jitter = np.random.default_rng([seed, *model.encode(), round(accuracy * 1e6)]).normal(0, 0.03, IMAGES)
        wrong = np.argsort(hardness + jitter)[round(accuracy * IMAGES) :]
        predicted = labels.copy()
        predicted[wrong] = (labels[wrong] + 1) % 10
        probabilities = np.full((IMAGES, 10), 0.01, np.float32)
        probabilities[np.arange(IMAGES), predicted] = 0.91
        run.write_predictions(split, Predictions(probabilities, labels, np.arange(IMAGES, dtype=np.int64) + shift))
        values = {"classes": list("0123456789"), "input_shape": [8, 8, 1], "scale": [1.0], "offset": [0.0]}
        values |= {"train_sha256": f"{content}sum of {data}", "validation_source": source}
        run.write_json("environment.json", {"data": values, "model": {"parameters": parameters, "multiply_adds": 5000}, "threads": 1})
        run.append_epoch({"epoch": 1, "train": {"loss": 0.1, "accuracy": 0.9, "seconds": seconds}})
        run.set_state("finished")
        return run

    return make


def family(made: Maker, model: str, accuracies: Sequence[float], **more: Any) -> list[Run]:
    return [made(model, seed, accuracy, **more) for seed, accuracy in enumerate(accuracies)]


BASE = [0.900, 0.905, 0.910, 0.895, 0.900]


def test_a_real_difference(made: Maker) -> None:
    better = [value + gain for value, gain in zip(BASE, [0.010, 0.011, 0.009, 0.010, 0.012], strict=True)]
    found = compare_runs(family(made, "mlp", BASE) + family(made, "lenet5", better))
    assert [one.recipe for one in found.standings] == ["mlp", "lenet5"]
    assert found.standings[0].values == pytest.approx(BASE)
    expected = scipy.stats.ttest_rel(better, BASE)
    pair = found.pairs[0]
    assert pair.paired is not None
    assert pair.paired.p_value == pytest.approx(expected.pvalue)
    assert pair.p_adjusted == pair.paired.p_value, "there is one comparison"
    assert (pair.paired.interval.low, pair.paired.interval.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert pair.equivalence_p == pytest.approx(ttost_paired(np.array(better), np.array(BASE), -0.003, 0.003)[0])
    assert (pair.verdict, pair.more_seeds, pair.seeds) == ("real", None, (0, 1, 2, 3, 4))
    assert "lenet5 is better than mlp by 1.04 points" in pair.sentence
    assert "paired over 5 seeds" in pair.sentence
    assert pair.over_images is not None
    assert pair.over_images.low < 0.0104 < pair.over_images.high
    assert len(pair.mcnemar) == 5
    mean = scipy.stats.t.interval(0.95, 4, np.mean(BASE), scipy.stats.sem(BASE))
    interval = found.standings[0].interval
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(mean)


def test_the_better_one_is_named_whichever_comes_first(made: Maker) -> None:
    better = [value + 0.01 + 0.001 * number for number, value in enumerate(BASE)]
    one, other = family(made, "mlp", BASE), family(made, "lenet5", better)
    there, back = compare_runs(one + other).pairs[0], compare_runs(other + one).pairs[0]
    assert there.sentence == back.sentence
    assert there.estimate == pytest.approx(-(back.estimate or 0))


def test_of_losses_one_seed_says_nothing_whatever_the_images_say_of_accuracy(made: Maker) -> None:
    runs = [made("mlp", 0, 0.90), made("lenet5", 0, 0.80)]
    assert "McNemar" in compare_runs(runs).pairs[0].sentence
    for metric in ("loss", "f1"):
        pair = compare_runs(runs, metric=metric).pairs[0]
        assert pair.verdict == "cannot say"
        assert "this cannot say" in pair.sentence
        assert "McNemar" not in pair.sentence
    fixed = [made(model, seed, level) for model, level in (("svc-rbf", 0.9), ("knn", 0.8)) for seed in range(3)]
    alike = compare_runs(fixed, metric="loss")
    assert alike.pairs[0].verdict == "undecided", "no seed changes it, and what images say is not known of losses"


def test_two_sets_of_one_name_are_told_apart(made: Maker) -> None:
    """A file that was changed between the runs."""
    runs = [made(model, 0, 0.9, content=content) for model in ("mlp", "lenet5") for content in ("", "mended")]
    found = compare_runs(runs)
    assert len(found.images) == 2
    assert len({one.data for one in found.standings}) == 2


def test_no_practical_difference(made: Maker) -> None:
    alike = [value + gain for value, gain in zip(BASE, [0.0005, -0.0005, 0.001, -0.001, 0.0], strict=True)]
    pair = compare_runs(family(made, "mlp", BASE) + family(made, "lenet5", alike)).pairs[0]
    assert pair.verdict == "no practical difference"
    assert "± 0.3 points" in pair.sentence
    tiny = compare_runs(family(made, "mlp", [0.9, 0.9, 0.91, 0.92]) + family(made, "basic", [0.901, 0.901, 0.9115, 0.921]), margin=0.003)
    assert tiny.pairs[0].verdict == "real"
    assert "though below 0.3 points" in tiny.pairs[0].sentence


def test_no_interval_of_a_mean_goes_beyond_what_it_can_be(made: Maker) -> None:
    wide = compare_runs(family(made, "mlp", [0.5, 0.99]) + family(made, "lenet5", [0.7, 0.71])).standings[0]
    assert wide.interval is not None
    assert (wide.interval.low, wide.interval.high) == (0.0, 1.0)


def test_undecided_foretells_the_seeds_it_would_take(made: Maker) -> None:
    noisy = [value + gain for value, gain in zip(BASE, [0.02, -0.01, 0.015, -0.005, 0.01], strict=True)]
    pair = compare_runs(family(made, "mlp", BASE) + family(made, "lenet5", noisy)).pairs[0]
    assert pair.verdict == "undecided"
    assert pair.more_seeds is not None
    assert f"about {pair.more_seeds} more seeds would decide" in pair.sentence
    from statsmodels.stats.power import TTestPower

    gains = np.array([0.02, -0.01, 0.015, -0.005, 0.01])
    needed = TTestPower().solve_power(gains.mean() / gains.std(ddof=1), alpha=0.05, power=0.8)
    assert pair.more_seeds == int(np.ceil(needed)) - 5


def test_one_seed_says_what_it_cannot_say(made: Maker) -> None:
    found = compare_runs([made("mlp", 0, 0.9), made("lenet5", 0, 0.93)])
    pair = found.pairs[0]
    assert (pair.verdict, pair.paired, pair.p_adjusted) == ("cannot say", None, None)
    assert "whether another seed would agree, this cannot say" in pair.sentence
    assert len(found.notices) == 2
    assert "one seed only" in found.notices[0]
    assert found.standings[0].interval is None
    apart = compare_runs([made("mlp", 1, 0.9), made("lenet5", 2, 0.93)])
    assert "no seed in common" in apart.pairs[0].sentence


def test_seeds_without_any_effect_leave_the_images_to_decide(made: Maker) -> None:
    close = compare_runs(family(made, "knn", [0.9] * 3) + family(made, "svc-rbf", [0.9005] * 3)).pairs[0]
    assert close.verdict in ("undecided", "no practical difference")
    far = compare_runs(family(made, "knn", [0.88] * 3) + family(made, "svc-rbf", [0.93] * 3)).pairs[0]
    assert far.verdict == "real"


def test_equal_differences_are_equal_but_for_rounding(made: Maker) -> None:
    """Two seeds, and five images more each time: that they agree to the image is chance, and no proof."""
    first, second = [0.8, 0.8005], [0.8025, 0.803]
    assert np.ptp(np.subtract(second, first)) > 0
    pair = compare_runs(family(made, "mlp", first) + family(made, "lenet5", second)).pairs[0]
    assert pair.p_adjusted == pair.mcnemar[0].p_value > 0.05
    assert pair.verdict == "undecided"


def test_several_pairs_are_corrected_by_holm(made: Maker) -> None:
    shifts = {"mlp": [0.0] * 5, "lenet5": [0.004, 0.006, 0.003, 0.008, 0.005], "basic": [0.001, -0.004, 0.006, 0.002, 0.003]}
    everything = [run for model, gains in shifts.items() for run in family(made, model, [b + g for b, g in zip(BASE, gains, strict=True)])]
    pairs = compare_runs(everything).pairs
    assert [(pair.first, pair.second) for pair in pairs] == [("mlp", "lenet5"), ("mlp", "basic"), ("lenet5", "basic")]
    raw = [pair.paired.p_value for pair in pairs if pair.paired is not None]
    assert [pair.p_adjusted for pair in pairs] == pytest.approx(multipletests(raw, method="holm")[1])
    assert "corrected for 3 comparisons" in pairs[0].sentence


def test_recipes_of_one_model_are_told_apart_by_what_differs(made: Maker) -> None:
    found = compare_runs(family(made, "lenet5", [0.9, 0.91]) + family(made, "lenet5", [0.8, 0.81], changes={"model.activation": "relu"}))
    assert [one.recipe for one in found.standings] == ["lenet5 (model.activation=tanh)", "lenet5 (model.activation=relu)"]
    many = {"optim.lr": 0.1, "train.epochs": 3, "train.batch_size": 8, "optim.name": "sgd"}
    other = compare_runs(family(made, "lenet5", [0.9]) + family(made, "lenet5", [0.8], changes=many))
    assert [one.recipe for one in other.standings] == ["lenet5 (004-lenet5-0)", "lenet5 (005-lenet5-0)"]


def test_runs_of_one_name_in_two_folders_are_told_apart(made: Maker, tmp_path: Path) -> None:
    changes = {"optim.lr": 0.01, "train.epochs": 3, "train.batch_size": 16, "optim.name": "sgd"}
    found = []
    for place, run in enumerate([made("mlp", 0, 0.9), made("mlp", 0, 0.92, changes)]):
        folder = tmp_path / str(place) / "run"
        folder.parent.mkdir()
        found.append(Run(run.path.rename(folder)))
    first, second = compare_runs(found).standings
    assert (first.mean, second.mean) == pytest.approx((0.9, 0.92))
    assert first.recipe != second.recipe


def test_a_loss_is_better_when_it_is_lower(made: Maker) -> None:
    worse, better = [0.80, 0.81, 0.79], [0.90, 0.92, 0.895]
    found = compare_runs(family(made, "mlp", worse) + family(made, "lenet5", better), metric="loss")
    assert found.margin == 0.01
    losses = [-(a * np.log(0.91 / 1.0) + (1 - a) * np.log(0.01)) for a in worse]
    assert found.standings[0].values == pytest.approx(losses, rel=1e-3)
    pair = found.pairs[0]
    assert pair.sentence.startswith("lenet5 is better than mlp by 0.")
    assert pair.over_images is None
    assert compare_runs(family(made, "mlp", worse) + family(made, "lenet5", better), metric="f1").pairs[0].verdict == "real"


def test_best_buys(made: Maker) -> None:
    found = compare_runs(
        family(made, "mlp", [0.90, 0.91], seconds=5.0, parameters=900)
        + family(made, "lenet5", [0.92, 0.93], seconds=10.0, parameters=100)
        + family(made, "basic", [0.91, 0.92], seconds=20.0, parameters=None)
    )
    assert [one.best_buy for one in found.standings] == [("seconds",), ("seconds", "parameters", "multiply_adds"), ()]
    assert found.standings[2].costs["parameters"] is None


def test_several_data_sets_are_ranked(made: Maker) -> None:
    accuracies = {"mlp": [0.90, 0.80, 0.70, 0.85], "lenet5": [0.92, 0.83, 0.75, 0.86], "basic": [0.93, 0.82, 0.71, 0.87]}
    everything = [
        run
        for model, values in accuracies.items()
        for place, value in enumerate(values)
        for run in family(made, model, [value, value + 0.01], data=("digits", "mnist", "kmnist", "fashion-mnist")[place])
    ]
    found = compare_runs(everything)
    assert found.ranking is not None
    assert found.ranking.ranks == pytest.approx([3, 1.5, 1.5])
    assert found.ranking.critical_difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 4)), abs=1e-3)
    assert len(found.standings) == len(found.pairs) == 12
    assert set(found.images) == {"digits", "mnist", "kmnist", "fashion-mnist"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"data": "mnist"}, "different data: lenet5 is run on mnist, mlp on digits"),
        ({"content": " changed"}, "digits of other content"),
        ({"shift": 3}, r"different validation images; give both the same data\.split_seed"),
        ({"source": "test"}, "different validation images"),
    ],
)
def test_what_was_not_measured_on_the_same_images_is_refused(made: Maker, more: dict[str, Any], words: str) -> None:
    with pytest.raises(RunError, match=words):
        compare_runs([made("mlp", 0, 0.9), made("lenet5", 0, 0.9, **more)])


def test_a_test_set_that_was_never_opened_stays_so(made: Maker) -> None:
    pair = [made("mlp", 0, 0.9), made("lenet5", 0, 0.9)]
    with pytest.raises(RunError, match=r"has no test predictions; make them with fittingroom evaluate .* --test"):
        compare_runs(pair, split="test")
    opened = [made("mlp", 0, 0.9, split="test"), made("lenet5", 0, 0.9, split="test", shift=1)]
    with pytest.raises(RunError, match="different test images"):
        compare_runs(opened, split="test")


def test_test_images_of_the_same_labels_are_told_apart(made: Maker) -> None:
    """Pictures may change where places and labels do not: each opening keeps the checksum of what it saw."""
    pair = [made("mlp", 0, 0.9, split="test"), made("lenet5", 0, 0.9, split="test")]
    for run, checksum in zip(pair, ("one", "other"), strict=True):
        run.write_json("evaluation.json", {"openings": [{"time": "now", "reason": "asked", "images": checksum}]})
    with pytest.raises(RunError, match="different test images"):
        compare_runs(pair, split="test")
    pair[1].write_json("evaluation.json", {"openings": [{"time": "now", "reason": "asked"}]})  # of an earlier version
    assert compare_runs(pair, split="test").images == {"digits": IMAGES}


def test_seconds_of_different_places_are_no_costs_to_compare(made: Maker) -> None:
    pair = [made("mlp", 0, 0.9), made("lenet5", 0, 0.9)]
    assert not any("different places" in notice for notice in compare_runs(pair).notices)
    pair[1].write_json("environment.json", {**pair[1].environment, "threads": 2})
    assert any("different places (unknown, threads: 1; unknown, threads: 2)" in notice for notice in compare_runs(pair).notices)


def test_what_cannot_be_compared(made: Maker) -> None:
    pair = [made("mlp", 0, 0.9), made("lenet5", 0, 0.9)]
    with pytest.raises(UsageError, match="runs of one recipe, mlp"):
        compare_runs(family(made, "mlp", [0.9, 0.91]))
    with pytest.raises(UsageError, match="no runs were given"):
        compare_runs([])
    with pytest.raises(UsageError, match="unknown metric 'acuracy' — did you mean 'accuracy'"):
        compare_runs(pair, metric="acuracy")
    with pytest.raises(UsageError, match="unknown split"):
        compare_runs(pair, split="train")
    for margin in (0.0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="margin must be positive"):
            compare_runs(pair, margin=margin)


def test_two_runs(made: Maker) -> None:
    first, second = made("mlp", 0, 0.9), made("mlp", 1, 0.93)
    found = compare_two(first, second)
    assert found.accuracies == pytest.approx((0.9, 0.93))
    assert found.images == IMAGES


def test_it_is_all_plain_json_and_always_the_same(made: Maker) -> None:
    everything = family(made, "mlp", [0.9, 0.91, 0.92]) + family(made, "lenet5", [0.91, 0.915, 0.93])
    found = compare_runs(everything)
    value = found.to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert value["pairs"][0]["mcnemar"][0].keys() == {"seed", "only_first", "only_second", "p_value"}
    assert value["pairs"][0]["paired"]["interval"]["confidence"] == 0.95
    assert compare_runs(everything).to_json() == value
    assert "mlp on digits" in str(found)
    assert "<p>" in found._repr_html_()


def test_two_recipes_of_five_seeds_take_a_moment(made: Maker) -> None:
    everything = family(made, "mlp", BASE) + family(made, "lenet5", [value + 0.01 for value in BASE])
    began = time.process_time()
    compare_runs(everything)
    assert time.process_time() - began < 2
