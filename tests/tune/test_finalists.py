"""The winner, the luck in the best score, and the page that tells of them; the interval against scipy."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import create_trial
from scipy import stats

from fittingroom.report.tune_page import render
from fittingroom.tune import finalists
from fittingroom.tune import space as spaces
from fittingroom.tune.finalists import Finalist, Outcome, TrialRow
from fittingroom.tune.search import Search
from fittingroom.tune.space import Choice, stored
from tests.tune.searching import SETTING, grid, in_memory

SPACE: dict[str, Any] = {
    "base": "lenet5",
    "budget": {"trials": 4},
    "space": {
        "optim.lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "train.batch_size": {"low": 16, "high": 64},
        "optim.name": ["adam", "sgd"],
        "optim.momentum": {"choices": [0.0, 0.9], "when": {"optim.name": "sgd"}},
    },
}
ROWS = [
    TrialRow(0, {"optim.lr": 0.001, "train.batch_size": 32, "optim.name": "adam"}, 0.90, "complete", "runs/0", 10.0),
    TrialRow(1, {"optim.lr": 0.01, "train.batch_size": 16, "optim.name": "sgd", "optim.momentum": 0.9}, 0.93, "complete", "runs/1", 10.0),
    TrialRow(2, {"optim.lr": 0.1, "train.batch_size": 64, "optim.name": "adam"}, 0.5, "pruned", "runs/2", 1.0, "pruned: median"),
    TrialRow(3, {"optim.lr": 0.0002, "train.batch_size": 48, "optim.name": "adam"}, None, "fail", "runs/3", 1.0, "<b>too small</b>"),
]


def finalist(trial: TrialRow, *scores: float) -> Finalist:
    low, high = stats.t.interval(0.95, len(scores) - 1, loc=np.mean(scores), scale=stats.sem(scores))
    return Finalist(trial, dict(enumerate(scores, 1)), statistics.fmean(scores), (low, high))


def outcome(**changes: Any) -> Outcome:
    finalists = [finalist(ROWS[1], 0.88, 0.90, 0.89), finalist(ROWS[0], 0.91, 0.90, 0.92)]
    return Outcome("demo", spaces.load({**SPACE, **changes}), ROWS, finalists)


def test_hopeless_trials_do_not_press_the_others_into_a_line() -> None:
    """Twenty between 90 and 92 %, one at 10: that one stands at the edge, and the axis does not reach down to it."""
    rows = [TrialRow(number, {"optim.lr": 0.01}, 0.90 + number / 1000, "complete", f"runs/{number}", 1.0) for number in range(20)]
    hopeless = TrialRow(20, {"optim.lr": 0.1}, 0.1, "pruned", "runs/20", 1.0)
    page = render(Outcome("demo", spaces.load(SPACE), [*rows, hopeless], []))
    assert page.count("mark train beyond") == page.count("trial 20: 10.00") > 0
    assert not re.search(r'class="tick"[^>]*>(0|20|50)\u202f?%', page)
    assert " beyond\"" not in render(Outcome("demo", spaces.load(SPACE), rows, []))
    losses = [replace(row, value=1 - (row.value or 0.0)) for row in (*rows, hopeless)]
    assert "mark train beyond" in render(Outcome("demo", spaces.load({**SPACE, "objective": "validation.loss"}), losses, []))


def test_the_winner_is_the_best_on_fresh_seeds() -> None:
    """The luck is that of the trial with the best score, whoever wins."""
    found = outcome()
    assert found.best is ROWS[1], "the search's favourite"
    assert found.winner is found.finalists[1], "who was merely less lucky"
    assert found.optimism == pytest.approx(0.93 - 0.89)
    low, high = found.optimism_interval or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(found.optimism)
    assert high - low == pytest.approx(np.diff(stats.t.interval(0.95, 2, scale=stats.sem([0.88, 0.90, 0.89])))[0])
    assert found.lead == pytest.approx(0.91 - 0.89)
    loss = outcome(objective="validation.loss")
    assert loss.best is ROWS[0]
    assert loss.winner is loss.finalists[0], "less is better"
    assert loss.optimism == pytest.approx(0.91 - 0.90)
    assert loss.lead == pytest.approx(0.91 - 0.89)
    alone = Outcome("demo", found.space, ROWS, found.finalists[:1])
    assert (alone.optimism, alone.lead) == (pytest.approx(0.04), 0.0)


def test_the_luck_of_a_trial_that_diverged_is_not_known() -> None:
    found = outcome()
    diverged = Outcome("demo", found.space, ROWS, [replace(found.finalists[0], diverged=(3,)), found.finalists[1]])
    assert diverged.winner is diverged.finalists[1]
    assert (diverged.optimism, diverged.lead) == (None, None)
    assert "diverged on a fresh seed: how much of it was luck is not known" in render(diverged)
    assert diverged.to_json()["optimism"] is None


def recorded(search: Search, trials: list[tuple[dict[str, Any], float]]) -> None:
    """Put finished trials into a search's storage, as if they had been carried out here."""
    for number, (params, value) in enumerate(trials):
        kinds: dict[str, BaseDistribution] = {
            key: CategoricalDistribution([stored(choice) for choice in item.choices])
            for key, item in search.space.space.items()
            if isinstance(item, Choice)
        }
        told = {"place": search.place, "run": f"trials/{number:04d}"}
        kept = {key: stored(given) for key, given in params.items()}
        search.study().add_trial(create_trial(params=kept, distributions=kinds, value=value, user_attrs=told))


def test_a_recipe_is_a_finalist_once(made_set: Path, tmp_path: Path) -> None:
    """Random sampling of a few choices repeats itself: the best three trials here are of one recipe, with one seed or another."""
    space = grid(made_set, sampler="random", budget={"trials": 5}, finalists=2, space={"optim.lr": [0.01, 0.03, 0.1], "seed": [0, 7]})
    rates = [(0.03, 7, 0.7), (0.01, 0, 0.9), (0.01, 0, 0.9), (0.01, 7, 0.8), (0.1, 0, 0.5)]
    search = in_memory(tmp_path, space, InMemoryStorage())
    recorded(search, [({"optim.lr": rate, "seed": seed}, value) for rate, seed, value in rates])
    assert [one.number for one in finalists.trainings(search)] == 3 * [1] + 3 * [0]
    assert [one.trial.number for one in finalists.outcome(search).finalists] == [1, 0]


@pytest.mark.parametrize(("own", "tried", "expected"), [(0, [], [1, 2, 3]), (100, [], [101, 102, 103]), (5, [6, 8], [7, 9, 10])])
def test_fresh_seeds_come_after_the_recipes_own(own: int, tried: list[int], expected: list[int], made_set: Path, tmp_path: Path) -> None:
    """So that those from 0 on, which comparisons take, have not picked the winner."""
    space = grid(made_set, sampler="random", budget={"trials": 9}, set={"seed": own}, finalists=1)
    if tried:
        space = grid(made_set, sampler="random", budget={"trials": 9}, set={"seed": own}, finalists=1, space={"seed": tried})
    search = in_memory(tmp_path, space, InMemoryStorage())
    recorded(search, [({"seed": seed}, 0.5) for seed in tried] or [({"optim.lr": 0.01, "train.batch_size": 32}, 0.5)])
    assert [one.seed for one in finalists.trainings(search)] == expected
    assert [one.loaded.recipe.seed for one in finalists.trainings(search)] == expected


@pytest.mark.parametrize("rates", [(0.003, 1e9), (1e9, 3e9)])
def test_a_finalist_that_diverges_cannot_win(rates: tuple[float, float], made_set: Path, tmp_path: Path) -> None:
    """Found once, by luck, with a rate that no fresh seed survives: the others are trained all the same, and nothing is tried twice."""
    space = grid(made_set, finalists=2, fresh_seeds=2, space={"optim.lr": list(rates), "optim.name": ["sgd"]})
    with Search.at(tmp_path, space) as search:
        recorded(search, [({"optim.lr": rate, "optim.name": "sgd"}, 0.5 + rate / 1e10) for rate in rates])
        said: list[str] = []
        finalists.train_finalists(search, SETTING, notify=said.append)
        assert sum("the loss became" in line for line in said) == 2 * sum(rate > 1 for rate in rates)
        assert len(said) == 4
        finalists.train_finalists(search, SETTING, notify=said.append)
        assert len(said) == 4, "it would diverge again"
        found = finalists.outcome(search)
    assert [one.diverged for one in found.finalists] == [(1, 2) if one.trial.params["optim.lr"] > 1 else () for one in found.finalists]
    if found.left:
        assert "every finalist diverged" in found.left
        assert found.winner is None
    else:
        assert found.winner is not None
        assert found.winner.trial.params["optim.lr"] == 0.003
        values = list(found.winner.scores.values())
        half = stats.t.ppf(0.975, 1) * np.std(values, ddof=1) / np.sqrt(2)
        assert found.winner.interval == pytest.approx((np.mean(values) - half, np.mean(values) + half))
    assert ("Every finalist diverged" in render(found)) == bool(found.left)


def test_no_winner_before_all_are_trained() -> None:
    found = outcome()
    waiting = Outcome(found.name, found.space, found.trials, found.finalists, left="the finalists are not trained yet")
    assert waiting.winner is None
    assert waiting.optimism is None
    assert "The finalists are not trained yet." in render(waiting)


@pytest.mark.parametrize("objective", ["validation.accuracy", "validation.loss"])
def test_the_page_shows_what_was_found(objective: str) -> None:
    page = render(outcome(objective=objective))
    assert "&lt;b&gt;too small&lt;/b&gt;" in page
    assert "<b>too small" not in page
    for key in SPACE["space"]:
        assert f"<figcaption>{key}</figcaption>" in page
    assert page.count("<circle") - page.count('class="seed-dot"') >= 2 * 4 - 1, "both complete trials in every chart that has them"
    assert "style=" not in page
    assert 'src="http' not in page
    assert "the best score looks" in page
    assert "took no part in picking it, this trial reaches" in page
    assert "The fresh seeds picked the winner among the finalists" in page
    better = {"validation.accuracy": "2.00\u202fpoints better than that of trial 1", "validation.loss": "0.0200 better than that of trial"}
    assert better[objective] in page
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_the_page_of_a_search_without_an_end() -> None:
    page = render(Outcome("empty", spaces.load(SPACE), [], [], left="no trial came to its end, so there is no winner"))
    assert "No trial came to its end" in page
