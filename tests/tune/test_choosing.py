"""Samplers and pruners: seeded, without memory of their own, and doing what their names say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from fittingroom.recipe import Loaded
from fittingroom.tune import space as spaces
from fittingroom.tune.choosing import BestSoFar, pruner
from fittingroom.tune.search import Report, work
from fittingroom.tune.space import Space
from tests.tune.searching import in_memory

BEST = {"optim.lr": 0.01, "train.batch_size": 48, "optim.name": "sgd", "optim.momentum": 0.5}


def bowl(loaded: Loaded, folder: Path, report: Report) -> float:
    """A smooth loss with its minimum at `BEST`."""
    recipe = loaded.recipe
    apart = [math.log10(recipe.optim.lr / 0.01), (recipe.train.batch_size - 48) / 100, recipe.optim.momentum - 0.5]
    return sum(value**2 for value in apart) + (recipe.optim.name != "sgd")


def mixed(sampler: str, trials: int, seed: int = 0) -> Space:
    values: dict[str, Any] = {
        "base": "lenet5",
        "sampler": sampler,
        "seed": seed,
        "objective": "validation.loss",
        "budget": {"trials": trials},
        "space": {
            "optim.lr": {"low": 1e-4, "high": 1.0, "log": True},
            "train.batch_size": {"low": 16, "high": 120, "step": 8},
            "optim.name": ["sgd", "adam"],
            "optim.momentum": {"low": 0.0, "high": 0.9, "when": {"optim.name": "sgd"}},
        },
    }
    return spaces.load(values)


def searched(folder: Path, space: Space, storage: InMemoryStorage | None = None) -> list[tuple[dict[str, Any], float | None]]:
    search = in_memory(folder, space, storage or InMemoryStorage())
    work(search, bowl)
    return [(trial.params, trial.value) for trial in search.trials]


@pytest.mark.parametrize("sampler", ["random", "tpe", "cma-es"])
def test_one_seed_is_one_search_in_one_go_or_in_several(sampler: str, tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole", mixed(sampler, 14))
    storage = InMemoryStorage()
    for trials in (1, 6, 13, 14):
        parts = searched(tmp_path / "whole", mixed(sampler, trials), storage)
    assert parts == whole
    assert searched(tmp_path / "other", mixed(sampler, 14, seed=1)) != whole
    for params, _ in whole:
        assert 1e-4 <= params["optim.lr"] <= 1.0
        assert params["train.batch_size"] in range(16, 121, 8)
        assert ("optim.momentum" in params) == (params["optim.name"] == "sgd")


def test_cma_es_comes_closer_than_chance(tmp_path: Path) -> None:
    def smooth(loaded: Loaded, folder: Path, report: Report) -> float:
        recipe = loaded.recipe
        return math.log10(recipe.optim.lr / 0.01) ** 2 + (recipe.optim.momentum - 0.5) ** 2

    values: dict[str, Any] = {
        "base": "lenet5",
        "objective": "validation.loss",
        "budget": {"trials": 36},
        "space": {"optim.lr": {"low": 1e-4, "high": 1.0, "log": True}, "optim.momentum": {"low": 0.0, "high": 0.9}},
    }
    late = {}
    for sampler in ("random", "cma-es"):
        search = in_memory(tmp_path / sampler, spaces.load({**values, "sampler": sampler}), InMemoryStorage())
        work(search, smooth)
        late[sampler] = float(np.median([float(trial.values[0]) for trial in search.trials[-12:]]))
    assert late["cma-es"] < late["random"] / 5


def test_best_so_far_against_a_naive_reading() -> None:
    """Behind is: the best up to this epoch is worse than that of the best finished trial up to the same epoch."""
    generator = np.random.default_rng(3)
    for direction, better in (("maximize", max), ("minimize", min)):
        study = optuna.create_study(direction=direction)
        curves = generator.random((6, 5)).round(2)
        for curve in curves:
            study.add_trial(create_trial(value=better(curve), intermediate_values=dict(enumerate(curve, 1))))
        values = [better(curve) for curve in curves]
        best = curves[values.index(better(values))]
        for epoch in range(1, 6):
            for curve in generator.random((10, 5)).round(2):
                trial = create_trial(state=TrialState.RUNNING, intermediate_values=dict(enumerate(curve[:epoch], 1)))
                ours, theirs = better(curve[:epoch]), better(best[:epoch])
                assert BestSoFar().prune(study, trial) == (ours != theirs and better(ours, theirs) == theirs)
                assert not BestSoFar(warmup=5).prune(study, trial)
    assert not BestSoFar().prune(optuna.create_study(), trial), "nothing has finished yet"


@pytest.mark.parametrize(("name", "warmup"), [("none", 0), ("best-so-far", 0), ("best-so-far", 2), ("median", 0), ("median", 2)])
def test_no_trial_is_dropped_during_warmup(name: str, warmup: int) -> None:
    """Each epoch is asked of a hopeless trial; six good ones came before it."""
    study = optuna.create_study(direction="maximize")
    for _ in range(6):
        study.add_trial(create_trial(value=0.9, intermediate_values=dict.fromkeys(range(1, 10), 0.9)))
    dropped = pruner(with_pruner(name, warmup), 9)
    curves = [dict.fromkeys(range(1, epoch + 1), 0.1) for epoch in range(1, 10)]
    hopeless = [create_trial(state=TrialState.RUNNING, intermediate_values=curve) for curve in curves]
    found = [epoch for epoch, trial in enumerate(hopeless, 1) if dropped.prune(study, trial)]
    assert found == ([] if name == "none" else list(range(warmup + 1, 10)))


@pytest.mark.parametrize("name", ["successive-halving", "hyperband"])
def test_halving_looks_after_1_3_and_9_epochs(name: str) -> None:
    """A trial that is the best until it breaks down is dropped at the next of these."""
    study = optuna.create_study(study_name="brackets", direction="maximize", pruner=pruner(with_pruner(name), 9))
    found = set()
    for breaks in [10] * 6 + [1, 2, 3, 4, 5, 9] * 4:
        trial = study.ask()
        for epoch in range(1, 10):
            trial.report(0.1 if epoch >= breaks else 0.5 + trial.number / 100, epoch)
            if trial.should_prune():
                found.add((breaks, epoch))
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, 0.5)
    assert {epoch for _, epoch in found} == {1, 3, 9}
    assert all(epoch >= breaks for breaks, epoch in found)
    if name == "successive-halving":
        assert found == {(1, 1), (2, 3), (3, 3), (4, 9), (5, 9), (9, 9)}


def with_pruner(name: str, warmup: int = 0) -> Space:
    return mixed("tpe", 10).model_copy(update={"pruner": spaces.Pruner.model_validate({"name": name, "warmup": warmup})})


def test_median_waits_for_five_and_compares_the_best_so_far() -> None:
    study = optuna.create_study(direction="maximize", pruner=pruner(with_pruner("median"), 9))
    for finished in range(7):
        recovering = create_trial(state=TrialState.RUNNING, intermediate_values={1: 0.1, 2: 0.6, 3: 0.1})
        hopeless = create_trial(state=TrialState.RUNNING, intermediate_values={1: 0.1, 2: 0.1, 3: 0.4})
        assert not study.pruner.prune(study, recovering), "its second epoch was above the median"
        assert study.pruner.prune(study, hopeless) == (finished >= 5)
        study.add_trial(create_trial(value=0.5, intermediate_values={1: 0.5, 2: 0.5, 3: 0.5}))
