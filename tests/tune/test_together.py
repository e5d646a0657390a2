"""A search whose trials a crew trains: the same trials as processes of their own make, whoever is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fittingroom.errors import FittingRoomError
from fittingroom.runs import Run
from fittingroom.tune.finalists import outcome
from fittingroom.tune.search import Search, rests
from fittingroom.tune.space import Space
from fittingroom.tune.together import carry_out_with
from fittingroom.workers import Crew
from tests.processes import Child, until
from tests.tune.searching import grid, live, told

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forks")


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(2, device="cpu") as crew:
        yield crew


def together(crew: Crew, folder: Path, space: Space, **options: Any) -> list[str]:
    """Carry a search out with a crew; return the lines that were told."""
    lines: list[str] = []
    with Search.at(folder, space) as search:
        carry_out_with(search, crew, notify=lines.append, **options)
    return lines


def of_its_own(folder: Path, space: Space) -> None:
    """Be a process that may be killed."""
    with Crew(2, device="cpu") as crew:
        together(crew, folder, space)


@pytest.fixture(scope="module")
def undisturbed(made_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "grid"
    live(folder, grid(made_set))
    return folder


def weights(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("*/*/weights.safetensors"))}


@pytest.mark.slow
def test_the_same_trials(undisturbed: Path, made_set: Path, crew: Crew, tmp_path: Path) -> None:
    lines = together(crew, tmp_path / "grid", grid(made_set))
    assert told(tmp_path / "grid", grid(made_set)) == told(undisturbed, grid(made_set))
    assert weights(tmp_path / "grid") == weights(undisturbed)
    assert len(lines) == 8
    assert together(crew, tmp_path / "grid", grid(made_set)) == [], "nothing is left to do"


@pytest.mark.slow
def test_the_same_finalists(made_set: Path, crew: Crew, tmp_path: Path) -> None:
    space = grid(made_set, finalists=2, fresh_seeds=2)
    live(tmp_path / "one", space)
    lines = together(crew, tmp_path / "two", space)
    assert weights(tmp_path / "two") == weights(tmp_path / "one")
    assert sum("finalist" in line for line in lines) == 4
    for name in ("one", "two"):
        with Search.at(tmp_path / name, space) as search:
            assert outcome(search).winner is not None
    assert together(crew, tmp_path / "two", space) == []


@pytest.mark.slow
def test_a_controller_that_is_killed(undisturbed: Path, made_set: Path, crew: Crew, tmp_path: Path) -> None:
    """Its trials are taken up by the next, go on from what they had, and count once."""
    space, folder = grid(made_set), tmp_path / "grid"
    child = Child(lambda: of_its_own(folder, space))
    until(lambda: len(list(folder.glob("trials/*/weights.safetensors"))) >= 3)
    child.send(signal.SIGKILL)
    child.wait()
    together(crew, folder, space)
    assert told(folder, space) == told(undisturbed, space)
    assert weights(folder) == weights(undisturbed)


@pytest.mark.slow
def test_beside_a_process_of_its_own(undisturbed: Path, made_set: Path, tmp_path: Path) -> None:
    space, folder = grid(made_set), tmp_path / "grid"
    children = [Child(lambda: live(folder, space)), Child(lambda: of_its_own(folder, space))]
    assert [child.wait() for child in children] == [0, 0], [child.errors for child in children]
    assert told(folder, space) == told(undisturbed, space)
    assert weights(folder) == weights(undisturbed)


@pytest.mark.slow
def test_what_is_pruned_and_what_diverges(made_set: Path, crew: Crew, tmp_path: Path) -> None:
    """With one worker, the trials that are cut short are those that one process cuts short, after the same epochs."""
    changes: dict[str, Any] = {
        "pruner": "best-so-far",
        "set": {"train.epochs": 6, "train.precision": "fp32"},
        "space": {"optim.lr": [0.01, 1e-6, 3e-6]},
    }
    space = grid(made_set, **changes)
    live(tmp_path / "one", space)
    crew.workers = 1
    together(crew, tmp_path / "two", space)
    crew.workers = 2
    assert told(tmp_path / "two", space) == told(tmp_path / "one", space)
    states = [state for _, state, *_ in told(tmp_path / "two", space)]
    assert "PRUNED" in states
    for number, state in enumerate(states):
        run = Run(tmp_path / "two" / "trials" / f"{number:04d}")
        assert (state, run.state) in {("PRUNED", "stopped"), ("COMPLETE", "finished")}
    diverging = grid(made_set, set={"train.epochs": 2, "optim.name": "sgd"}, space={"optim.lr": [0.01, 1e30]})
    lines = together(crew, tmp_path / "three", diverging)
    assert sorted(state for _, state, *_ in told(tmp_path / "three", diverging)) == ["COMPLETE", "FAIL"]
    assert any("the loss became" in line for line in lines)


def test_none_begins_when_the_time_is_up(made_set: Path, crew: Crew, tmp_path: Path) -> None:
    space = grid(made_set)
    together(crew, tmp_path / "grid", space, deadline=1.0)
    assert told(tmp_path / "grid", space) == []


@pytest.mark.slow
def test_trials_in_hand_rest_when_the_time_is_up(made_set: Path, crew: Crew, tmp_path: Path) -> None:
    """At the end of their epoch; and they go on when there is more time."""
    space = grid(made_set, set={"train.epochs": 100_000, "train.precision": "fp32"})
    together(crew, tmp_path / "grid", space, deadline=1.0)
    epochs = [0, 0]
    for seconds in (2, 6):  # what came after the last checkpoint is trained again first
        assert together(crew, tmp_path / "grid", space, deadline=time.time() + seconds) == []
        with Search.at(tmp_path / "grid", space) as search:
            assert [(trial.number, rests(trial)) for trial in search.trials] == [(0, True), (1, True)]
            found = [Run(search.run_folder(number)) for number in (0, 1)]
            assert [(run.state, run.reason) for run in found] == [("stopped", "the time for the search was up")] * 2
            assert all(len(run.history) > before for run, before in zip(found, epochs, strict=True))
            epochs = [len(run.history) for run in found]


def test_what_every_trial_would_meet(crew: Crew, tmp_path: Path) -> None:
    space = grid(tmp_path / "missing.npz")
    with pytest.raises(FittingRoomError, match=r"missing\.npz"):
        together(crew, tmp_path / "grid", space)
    assert [state for _, state, *_ in told(tmp_path / "grid", space)] == ["RUNNING"] * 2
