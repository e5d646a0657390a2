"""As many epochs as fit into a time: real runs against a real clock, and what cannot be planned."""

from __future__ import annotations

import itertools
import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fittingroom import pace
from fittingroom.data.arrays import Images
from fittingroom.errors import UsageError
from fittingroom.experiment import Setting
from fittingroom.recipe import Recipe, load
from fittingroom.runs import Run
from tests.cli.running import fittingroom, process
from tests.data.made import write_idx

SETTING = Setting(threads=1, download=False)


def recipe_of(made_set: Path, model: str = "mlp", **changes: object) -> Recipe:
    return load({"model": model}, {"data.name": str(made_set), **changes}).recipe


@pytest.mark.slow
def test_a_run_is_over_within_its_minutes_and_uses_most_of_them(made_set: Path, tmp_path: Path) -> None:
    minutes = 0.25
    began = time.perf_counter()
    done = process("train", "lenet5", "--data", made_set, "--minutes", minutes, "--run-dir", tmp_path / "run", "--threads", "1")
    assert done.code == 0, done.err
    seconds = time.perf_counter() - began
    run = Run(tmp_path / "run")
    assert run.state == "finished"
    assert run.recipe.train.last_epoch == len(run.history) > 1
    assert run.origins["train.epochs"] == "--minutes"
    # Another test may run beside this one, and take from its time or leave it to it: that it was planned at all is what is looked at.
    assert 60 * minutes / 4 < seconds < 60 * minutes * 3


def test_the_pace_is_that_of_training(made_set: Path) -> None:
    found = pace.pace(recipe_of(made_set), SETTING)
    assert found.training > 0
    assert found.validation > 0
    assert found.epoch == found.training + found.validation


@pytest.mark.parametrize(
    ("busy", "alone", "asked", "threads"), [(True, 0.5, None, 1), (True, 0.9, None, None), (False, 0.5, None, None), (True, 0.5, 2, 2)]
)
def test_where_others_keep_the_cores_busy_one_thread_is_tried(
    made_set: Path, monkeypatch: pytest.MonkeyPatch, busy: bool, alone: float, asked: int | None, threads: int | None
) -> None:
    used = [2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: used[-1])
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    clock = itertools.count(0.0, 1e9 if busy else 0.0)
    monkeypatch.setattr(pace, "_worked", lambda: next(clock))
    monkeypatch.setattr(pace, "_measured", lambda recipe, prepared, machine: pace.Pace(alone if used[-1] == 1 else 1.0, 0.0))
    told: list[str] = []
    found = pace.pace(recipe_of(made_set), Setting(threads=asked, download=False, notify=told.append))
    assert (found.threads, used[-1]) == (threads, 2)
    assert found.training == (alone if threads == 1 else 1.0)
    assert [("one thread is faster than 2" in line) for line in told] == ([True] if threads == 1 else [])


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells")
def test_the_work_of_the_cores_is_counted() -> None:
    before, began = pace._worked(), time.process_time()
    while time.process_time() < began + 0.5:
        pass
    assert pace._worked() - before >= 0.4


@pytest.mark.parametrize("found", [pace.Pace(0.0175, 0.0012), pace.Pace(0.8, 0.2), pace.Pace(32.0, 1.5), pace.Pace(700.0, 0.0)])
def test_more_time_holds_more_epochs(found: pace.Pace) -> None:
    held = [found.epochs(seconds) for seconds in range(0, 100_000, 100)]
    assert held == sorted(held)
    assert held[-1] > 0
    assert found.epochs(0) == found.epochs(-5) == 0
    assert found.epochs(found.least() - 0.02 * found.training) == 0
    for wanted in (0.5, 1, 2.25, 9.99, 10, 25):
        # What the last part takes: its training, the look at the validation images after it, and again at the end; and the files.
        seconds = (wanted * found.training + (math.ceil(wanted) + 1) * found.validation + pace.WRITING_SECONDS) / pace.PLANNED
        assert found.epochs(seconds) == pytest.approx(wanted, abs=0.011)
    assert found.epochs(found.least()) == 0.1
    few = [found.epochs(pace.WRITING_SECONDS + found.epoch * number / 77) for number in range(1000)]
    assert [epochs for epochs in few if epochs != round(epochs, 2) or (epochs == int(epochs)) != isinstance(epochs, int)] == []
    assert len(set(few)) > 300


def test_without_validation_images_there_is_nothing_to_judge(made_set: Path) -> None:
    assert pace.pace(recipe_of(made_set, **{"data.validation": 0.0}), SETTING).validation == 0


def test_too_little_time_is_refused_with_how_much_would_do(made_set: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = fittingroom("train", "lenet5", "--data", made_set, "--minutes", 0.01, "--run-dir", folder)
    done.refused(2, "an epoch of lenet5 takes about", "give --minutes")
    (enough,) = re.findall(r"--minutes ([0-9.]+)", done.err)
    assert float(enough) > 0.01
    assert not folder.exists()


def test_a_classical_model_has_no_epochs(made_set: Path) -> None:
    with pytest.raises(UsageError, match="knn is fitted in one go and has no epochs"):
        pace.pace(recipe_of(made_set, "knn"), SETTING)


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        (("--minutes", "0"), "--minutes must be a number above 0, not 0"),
        (("--minutes", "nan"), "--minutes must be a number above 0, not nan"),
        (("--minutes", "1", "--epochs", "3"), "--minutes finds the number of epochs"),
        (("--minutes", "1", "--set", "train.epochs=3"), "--minutes finds the number of epochs"),
        (("--minutes", "1", "--show"), "leave out one of them"),
        (("--minutes", "1", "--workers", "2"), "leave it out with --workers"),
    ],
)
def test_what_minutes_do_not_go_with(beside: tuple[str, ...], words: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fittingroom("train", "mlp", "--data", "digits", "--run-dir", folder, *beside).refused(2, words)
    assert not folder.exists()


@pytest.mark.parametrize(("seconds", "epochs", "said"), [(150.0, 0.67, False), (3000.0, 0.1, True)])
def test_a_quickstart_takes_part_of_an_epoch_where_two_minutes_hold_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, epochs: float, said: bool
) -> None:
    images = Images(np.random.default_rng(0).integers(0, 256, (200, 28, 28, 1), dtype=np.uint8), np.arange(200, dtype=np.int64) % 10)
    write_idx(tmp_path / "data" / "fashion-mnist", images, images)
    monkeypatch.setattr(pace, "pace", lambda recipe, setting: pace.Pace(seconds, 5.0, threads=1))
    done = fittingroom("quickstart", "--data-dir", tmp_path / "data", "--runs-dir", tmp_path / "runs")
    assert done.code == 0, done.err
    assert ("an epoch takes about 3005 s here: even a tenth of one takes longer than two minutes" in done.err) == said
    (folder,) = (tmp_path / "runs").iterdir()
    run = Run(folder)
    assert (run.recipe.train.epochs, run.environment["threads"]) == (pytest.approx(epochs, abs=0.03), 1)
    assert f"training compact on fashion-mnist, {run.recipe.train.epochs} epochs" in done.err
    assert (run.state, len(run.history)) == ("finished", 1)
