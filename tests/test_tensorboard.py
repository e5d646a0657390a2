"""TensorBoard's event files, read back with TensorBoard's own reader: what ``metrics.jsonl`` says, each epoch once."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fittingroom import experiment
from fittingroom.experiment import Setting
from fittingroom.recipe import Loaded, load
from fittingroom.runs import Run
from tests.processes import Child, until

pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SETTING = Setting(device="cpu", threads=1, download=False, tensorboard=True, checkpoint_seconds=0.0)


def loaded(made_set: Path) -> Loaded:
    return load("mlp", {"data.name": str(made_set), "train.epochs": 5, "optim.l2": 0.001})


def scalars(run: Run) -> dict[str, dict[int, float]]:
    """Values by tag and step, as TensorBoard would draw them."""
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    read = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    assert all(len({event.step for event in values}) == len(values) for values in read.values()), "a step is there once"
    return {tag: {event.step: event.value for event in values} for tag, values in read.items()}


def expected(run: Run) -> dict[str, dict[int, Any]]:
    found: dict[str, dict[int, Any]] = {}
    for record in run.history:
        for part in ("train", "validation"):
            for quantity, value in record[part].items():
                found.setdefault(f"{quantity}/{part}", {})[record["epoch"]] = pytest.approx(value, rel=1e-6)
    return found


def test_the_event_files_say_what_the_metrics_say(made_set: Path, tmp_path: Path) -> None:
    run = experiment.train(loaded(made_set), tmp_path / "run", setting=SETTING)
    assert scalars(run) == expected(run)
    assert list(scalars(run)["accuracy/validation"]) == [1, 2, 3, 4, 5]
    assert {"loss/train", "seconds/train", "penalty/train", "loss/validation"} <= set(scalars(run))


def test_without_being_asked_there_are_none(made_set: Path, tmp_path: Path) -> None:
    run = experiment.train(loaded(made_set), tmp_path / "run", setting=replace(SETTING, tensorboard=False))
    assert not (run.path / "tensorboard").exists()


@pytest.mark.parametrize("safe", [True, False], ids=["checkpoint an epoch", "one checkpoint"])
def test_after_a_kill_epochs_that_are_trained_again_replace_those_before(made_set: Path, tmp_path: Path, safe: bool) -> None:
    run = Run(tmp_path / "run")

    def die(record: dict[str, Any]) -> None:
        if record["epoch"] == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    setting = replace(SETTING, epoch_done=die, checkpoint_seconds=0.0 if safe else 3600.0)
    child = Child(lambda: experiment.train(loaded(made_set), run.path, setting=setting))
    assert child.wait() == -signal.SIGKILL, child.errors
    second = int(time.time())
    assert list(scalars(run)["loss/train"]) == [1, 2, 3]
    until(lambda: int(time.time()) > second)  # a file is named for the second in which it begins, and they are read in that order
    experiment.resume(run, SETTING)
    assert [record["epoch"] for record in run.history] == [1, 2, 3, 4, 5]
    assert scalars(run) == expected(run)
