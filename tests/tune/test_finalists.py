"""The winner, the luck in the best score, and the page that tells of them; the interval against scipy."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fittingroom.report.tune_page import render
from fittingroom.tune import space as spaces
from fittingroom.tune.finalists import Finalist, Outcome, TrialRow, mean_interval

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
    return Finalist(trial, dict(enumerate(scores, 1)), statistics.fmean(scores), mean_interval(scores))


def outcome(**changes: Any) -> Outcome:
    finalists = [finalist(ROWS[1], 0.88, 0.90, 0.89), finalist(ROWS[0], 0.91, 0.90, 0.92)]
    return Outcome("demo", spaces.load({**SPACE, **changes}), ROWS, finalists)


def test_the_interval_is_student_s() -> None:
    generator = np.random.default_rng(0)
    for count in (2, 3, 10):
        values = generator.normal(0.9, 0.01, count)
        expected = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
        assert mean_interval(values.tolist()) == pytest.approx(expected)
    assert mean_interval([0.9]) is None


def test_the_winner_is_the_best_on_fresh_seeds() -> None:
    found = outcome()
    assert found.best is ROWS[1], "the search's favourite"
    assert found.winner is found.finalists[1], "who was merely less lucky"
    assert found.optimism == pytest.approx(0.93 - 0.91)
    low, high = found.optimism_interval or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(found.optimism)
    assert high - low == pytest.approx(np.diff(stats.t.interval(0.95, 2, scale=stats.sem([0.91, 0.90, 0.92])))[0])
    loss = outcome(objective="validation.loss")
    assert loss.best is ROWS[0]
    assert loss.winner is loss.finalists[0], "less is better"
    assert loss.optimism == pytest.approx(0.89 - 0.90)


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
    assert "looks better by" in page
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_the_page_of_a_search_without_an_end() -> None:
    page = render(Outcome("empty", spaces.load(SPACE), [], [], left="no trial came to its end, so there is no winner"))
    assert "No trial came to its end" in page
