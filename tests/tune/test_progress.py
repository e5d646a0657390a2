"""How far a search is, against what is being carried out at that moment."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fittingroom.recipe import Loaded
from fittingroom.tune import progress as room
from fittingroom.tune.finalists import train_finalists, trainings
from fittingroom.tune.progress import Progress, progress
from fittingroom.tune.search import Report, Search, work
from tests.tune.searching import SETTING, grid


def test_trials_and_finalists_are_counted(made_set: Path, tmp_path: Path) -> None:
    space = grid(made_set, finalists=1, fresh_seeds=2)
    seen: list[Progress] = []
    with Search.at(tmp_path / "search", space) as search:

        def carry(loaded: Loaded, folder: Path, report: Report) -> float:
            report(1, 0.5)
            seen.append(progress(search, 2, None))
            return float(loaded.recipe.optim.lr)

        before = progress(search, 2, None)
        assert (before.phase, before.done, before.of, before.best, before.in_hand, before.left) == ("trials", 0, 8, None, [], None)
        work(search, carry)
        assert [one.done for one in seen] == list(range(8))
        assert [one.in_hand for one in seen] == [[(f"trial {number}", 1)] for number in range(8)]
        assert [one.share for one in seen] == pytest.approx([(number + 0.5) / 8 for number in range(8)])
        assert [one.best for one in seen[1:]] == [max(float(trial.params["optim.lr"]) for trial in search.trials[:n]) for n in range(1, 8)]
        mean = sum(search.seconds_of(trial) for trial in search.trials[:7]) / 7
        # Half of the eighth trial on two places, then two trainings of the finalist.
        assert seen[7].left == pytest.approx(0.5 * mean / 2 + 2 * mean / 2)

        after = progress(search, 2, None)
        assert (after.phase, after.done, after.of, after.share) == ("finalists", 0, 2, 0.0)
        train_finalists(search, SETTING)
        end = progress(search, 2, None)
        assert (end.done, end.of, end.left, end.share) == (2, 2, 0.0, 1.0)
        assert all(one.settled for one in trainings(search))


def test_time_ends_a_search_too(made_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = grid(made_set, budget={"minutes": 1.0}, sampler="random")
    with Search.at(tmp_path / "search", space) as search:
        now = time.time()
        monkeypatch.setattr(room.time, "time", lambda: now)
        found = progress(search, 1, now + 15)
        assert (found.of, found.left, found.share) == (None, pytest.approx(15.0), pytest.approx(0.75))
        assert progress(search, 1, now).phase == "finalists"
