"""The simulation against a naive one, against bounds that hold for every schedule, and against the best schedule of all."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fittingroom import models
from fittingroom.errors import FittingRoomError, UsageError
from fittingroom.recipe import load as load_recipe
from fittingroom.study.file import load
from fittingroom.study.plan import Planned, plan
from fittingroom.study.results import Record
from fittingroom.study.scale import (
    Estimate,
    Overheads,
    Task,
    enough,
    estimates,
    forecast,
    machines_up_to,
    read_overheads,
    simulate,
)
from fittingroom.study.schema import Study
from tests.study.small import write_study

SLOW = Overheads(boot=3.0, start=0.5, beyond=0.1, slowdown=1.5, cores=2)

tasks = st.lists(st.builds(Task, st.floats(0.1, 1000), st.integers(1, 3)), min_size=1, max_size=12)
farms = st.tuples(st.integers(1, 5), st.integers(1, 4))
costs = st.builds(Overheads, st.floats(0, 5), st.floats(0, 2), st.floats(0, 0.5), st.one_of(st.none(), st.floats(1, 3)))


def naive(todo: Sequence[Task], machines: int, cores: int, cost: Overheads) -> list[float]:
    """The same rule, told from minute to minute: at every moment look at everything, and go on to the next end of a run."""
    now, queue = cost.boot, list(enumerate(todo))
    running: dict[int, list[float]] = {}  # run: machine, places, work that is left
    ends = [0.0] * len(todo)
    while queue or running:
        while queue:
            free = [cores - sum(places for machine, places, _ in running.values() if machine == one) for one in range(machines)]
            number, task = queue[0]
            places = min(task.threads, cores)
            if max(free) < places:
                break
            running[number] = [free.index(max(free)), places, cost.start + task.seconds * (1 + cost.beyond)]
            queue.pop(0)
        speed = {}
        for number, (machine, _, _) in running.items():
            beside = sum(theirs for other, (where, theirs, _) in running.items() if where == machine and other != number)
            share = beside / (cores - 1) if beside else 0.0
            speed[number] = 1 / (1 + ((cost.slowdown or 1.0) - 1) * share)
        step = min(left / speed[number] for number, (_, _, left) in running.items())
        now += step
        for number in list(running):
            running[number][2] -= step * speed[number]
            if running[number][2] <= 1e-9 * max(now, 1.0):
                ends[number] = now
                del running[number]
    return ends


@given(tasks, farms, costs)
def test_as_a_naive_simulation_has_it(todo: list[Task], farm: tuple[int, int], cost: Overheads) -> None:
    done = simulate(todo, *farm, cost)
    assert done.ends == pytest.approx(naive(todo, *farm, cost), rel=1e-6)
    assert done.wall == max(done.ends)


@given(tasks)
def test_one_core_takes_the_sum_and_many_machines_the_longest(todo: list[Task]) -> None:
    assert simulate(todo, 1, 1).wall == pytest.approx(sum(task.seconds for task in todo))
    assert simulate(todo, len(todo), 4).wall == pytest.approx(max(task.seconds for task in todo))
    assert simulate(todo, 10**6, 4).wall == pytest.approx(max(task.seconds for task in todo))
    alone = simulate(todo, len(todo), 4, SLOW)
    assert alone.wall == pytest.approx(SLOW.boot + max(SLOW.work(task.seconds) for task in todo)), "nobody shares a machine"


@given(tasks, farms, costs)
def test_no_schedule_is_quicker_than_its_bounds(todo: list[Task], farm: tuple[int, int], cost: Overheads) -> None:
    machines, cores = farm
    done = simulate(todo, machines, cores, cost)
    work = [(cost.work(task.seconds), min(task.threads, cores)) for task in todo]
    total = sum(seconds * places for seconds, places in work)
    rounded = 1 - 1e-9
    assert done.wall >= rounded * (cost.boot + max(seconds for seconds, _ in work))
    assert done.wall >= rounded * (cost.boot + total / (machines * cores))
    assert rounded * total <= done.busy <= total * (cost.slowdown or 1.0) / rounded
    assert done.busy <= machines * cores * done.wall / rounded


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=7), st.integers(1, 3))
def test_longest_first_is_nearly_the_best_of_all(seconds: list[float], machines: int) -> None:
    """Graham (1969): no worse than 4/3 − 1/3m times the best, which is found here by trying every assignment."""
    best = min(
        max(sum(one for one, where in zip(seconds, places, strict=True) if where == machine) for machine in range(machines))
        for places in itertools.product(range(machines), repeat=len(seconds))
    )
    found = simulate([Task(one) for one in sorted(seconds, reverse=True)], machines, 1).wall
    assert best * (1 - 1e-9) <= found <= best * (4 / 3 - 1 / (3 * machines)) * (1 + 1e-9)


def test_nobody_overtakes_the_first_that_waits() -> None:
    """As in the crew: of three runs on two cores, the last would fit beside the first, and waits for the one between them."""
    done = simulate([Task(10, 1), Task(5, 2), Task(1, 1)], 1, 2)
    assert done.ends == (10, 15, 16)
    assert simulate([Task(10, 1), Task(5, 8)], 1, 2).ends == (10, 15), "more threads than cores take them all"
    assert simulate([], 3, 2).wall == 0


def test_who_shares_a_machine_is_slower_as_long_as_it_is_shared() -> None:
    shared = simulate([Task(10), Task(4)], 1, 2, Overheads(slowdown=1.5))
    assert shared.ends == (pytest.approx(12), pytest.approx(6))
    assert simulate([Task(10), Task(4)], 2, 2, Overheads(slowdown=1.5)).ends == (10, 4)
    assert simulate([Task(10, 2), Task(4)], 1, 2, Overheads(slowdown=1.5)).ends == (10, 14), "one run on all cores shares with nobody"


def run(name: str, seconds: Sequence[float], threads: int = 1) -> Estimate:
    return Estimate(name, name, name, tuple(seconds), threads)


def test_a_forecast_without_spread_is_plain_arithmetic() -> None:
    runs = [run("long", [3600]), *(run(f"short {number}", [600]) for number in range(6))]
    rows = forecast(runs, [1, 2, 4, 8], 1, price=0.5)
    assert [(row.machines, row.wall, row.low, row.high) for row in rows] == [
        (1, 7200, 7200, 7200),
        (2, 3600, 3600, 3600),
        (4, 3600, 3600, 3600),
        (8, 3600, 3600, 3600),
    ]
    assert [row.core_hours for row in rows] == [2, 2, 4, 8]
    assert [row.cost for row in rows] == [1, 1, 2, 4]
    assert [row.busy for row in rows] == pytest.approx([1, 1, 0.5, 0.25])
    assert [row.bound for row in rows] == ["work", "longest run", "longest run", "longest run"]
    assert enough(rows) is rows[1]
    assert enough(rows[:2]) is None
    assert forecast(runs, [2], 4)[0].core_hours == 8
    assert forecast(runs, [1], 1)[0].cost is None


def test_the_range_comes_from_the_recorded_times() -> None:
    """One core: the sum of independent draws, whose spread is known; and a single recorded time is spread as the others are."""
    runs = [replace(run(f"{number}", [90, 100, 110]), source="one recipe") for number in range(100)]
    (row,) = forecast(runs, [1], 1)
    # Of the mean of three resampled times, √(200 / 3 / 3) = 4.7 for each run alike; the draws themselves add little.
    assert row.wall == pytest.approx(10_000, rel=0.01)
    assert row.high - row.low == pytest.approx(2 * 1.96 * 100 * math.sqrt(200 / 9), rel=0.2)
    assert row.low < row.wall < row.high
    assert forecast(runs, [1], 1) == [row], "seeded"
    (alone,) = forecast([*runs, run("single", [100_000])], [1], 1)
    assert alone.high - alone.low > 15_000


def test_how_many_machines_are_looked_at() -> None:
    runs = [run(str(number), [1], 1 + number % 2) for number in range(10)]  # 15 places
    assert machines_up_to(runs, 4) == [1, 2, 4]
    assert machines_up_to(runs, 1) == [1, 2, 4, 8, 16]
    assert machines_up_to(runs, 1, 6) == [1, 2, 4, 6]
    assert machines_up_to(runs, 64) == [1]


# What records tell.


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load(write_study(tmp_path_factory.mktemp("study"), "fashion-mnist", epochs=10))


def record(one: Planned, seconds: float, changes: dict[str, Any] | None = None, **environment: Any) -> Record:
    """The record of a run, as far as times are concerned."""
    recipe = one.loaded.recipe.updated(changes or {})
    epochs = recipe.train.epochs
    history = [{"epoch": epoch + 1, "train": {"seconds": seconds / epochs}} for epoch in range(epochs)]
    where = {"device": "cpu", "threads": 1, "cores": 2, **environment}
    return Record(Path("made-up.json"), recipe, recipe, {"history": history, "environment": where})


def test_the_same_recipe_tells_best(study: Study) -> None:
    planned = plan(study)
    plain, bayes = planned[0], planned[-1]
    known = [record(plain, 50, {"seed": seed}) for seed in range(3)] + [record(plain, 20, {"train.epochs": 2})]
    found, unknown = estimates(planned, known)
    by_key = {one.key: one for one in found}
    assert [one.key for one in unknown] == [bayes.key]
    assert by_key["plain-seed0"].seconds == pytest.approx((50, 50, 50))
    assert not by_key["plain-seed0"].scaled
    pooled = by_key["poolings-max-seed0"]
    assert pooled.scaled, "another pooling is another recipe"
    assert pooled.seconds == pytest.approx((50, 50, 50, 100))
    assert by_key["plain-seed0"].source == by_key["plain-seed1"].source != pooled.source


@pytest.mark.parametrize(
    ("changes", "times"),
    [
        ({"train.epochs": 5}, 2.0),
        ({"data.validation": 0.6}, 2.0),
        ({"data.validation": "test"}, 0.8),
        ({"train.batch_size": 64, "train.epochs": 20}, 0.5),
        ({"model.activation": "gelu"}, 1.0),
        ({"data.limit": 1000}, None),
        ({"data.name": "kmnist"}, None),
        ({"model": "mlp"}, None),
    ],
)
def test_others_are_scaled(study: Study, changes: dict[str, Any], times: float | None) -> None:
    one = plan(study)[0]
    found, unknown = estimates([one], [record(one, 10, changes)])
    assert (found[0].seconds if found else None) == (None if times is None else pytest.approx((10 * times,)))
    assert bool(unknown) == (times is None)


def test_a_wider_model_takes_as_much_longer_as_it_multiplies(study: Study) -> None:
    one = plan(study)[0]
    wide = replace(one, loaded=load_recipe({**one.loaded.recipe.values, "model": {"name": "custom-cnn", "filters1": 64, "filters2": 64}}))
    narrow = record(wide, 10, {"model": {"name": "custom-cnn", "filters1": 32, "filters2": 32}})
    sizes = [models.describe("custom-cnn", arguments={"filters1": width, "filters2": width}).multiply_adds for width in (64, 32)]
    (found,), _ = estimates([wide], [narrow])
    assert found.seconds == pytest.approx((10 * (sizes[0] or 0) / (sizes[1] or 1),))


def test_what_was_recorded_in_company_or_on_more_threads(study: Study) -> None:
    one = plan(study)[0]
    (found,), _ = estimates([one], [record(one, 15, cores=1), record(one, 10), record(one, 6, threads=2)], slowdown=1.5)
    assert (found.seconds, found.threads) == (pytest.approx((10, 10)), 1)
    (found,), _ = estimates([one], [record(one, 15, cores=1)])
    assert found.seconds == pytest.approx((15,)), "what sharing costs was not measured"
    (found,), _ = estimates([one], [record(one, 6, threads=2)])
    assert found.threads == 2
    assert estimates([one], [record(one, 1, device="cuda")])[1] == [one]


def way(workers: int, trained: float) -> dict[str, Any]:
    """Four runs: the first of each worker begins after 4 s, the others after 1; a tenth is added to what is trained."""
    starts = {str(number): 4.0 if number < workers else 1.0 for number in range(4)}
    return {"workers": workers, "first_epoch_begins_after": starts, "trained": trained, "not_training": sum(starts.values()) + trained / 10}


def test_overheads_are_read_from_records(tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    rounds = [{"load": 0.1, "1": way(1, 40), "2": way(2, 50), "study": {"seconds": 3}}, {"2": way(2, 54), "1": way(1, 40)}]
    path.write_text(json.dumps({"environment": {"cores": 2}, "rounds": rounds}))
    assert read_overheads(path) == Overheads(pytest.approx(3), pytest.approx(1), pytest.approx(0.1), pytest.approx(1.3), 2)  # type: ignore[arg-type]
    path.write_text(json.dumps({"environment": {"cores": 2}, "rounds": [{"workers": way(2, 40), "one after another": {"seconds": 1}}]}))
    assert read_overheads(path).slowdown is None
    assert read_overheads(path).start == 1


def test_the_record_of_the_sweep_tells_what_a_start_costs() -> None:
    found = read_overheads(Path(__file__).parent.parent.parent / "records" / "sweep.json")
    assert 0.3 < found.start < 1
    assert 1 < found.boot < 5
    assert 0 < found.beyond < 0.3


@pytest.mark.parametrize(
    ("text", "words"), [("{", "Expecting"), ("[]", "indices"), ('{"rounds": []}', "lacks 'environment'"), ("{}", "lacks 'rounds'")]
)
def test_files_that_are_no_such_record(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(FittingRoomError, match=rf"x\.json is no record of benchmarks/scale.py \(.*{re.escape(words)}.*\); make it again"):
        read_overheads(tmp_path / "x.json")
    with pytest.raises(UsageError, match=r"no file .*none\.json"):
        read_overheads(tmp_path / "none.json")
