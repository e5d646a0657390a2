"""The run folder: one owner, states, files that are whole, and folders that are found by what a person types."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from fittingroom import files, runs
from fittingroom.errors import FittingRoomError, RunError
from fittingroom.recipe import load
from fittingroom.runs import Predictions, Run
from tests.processes import Child, as_someone_else, may_write_everywhere, until

LOADED = load("mlp", {"optim.lr": 0.5})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runs.create(tmp_path / "run", LOADED)


def test_a_new_folder(run: Run) -> None:
    assert run.recipe == LOADED.recipe
    assert run.origins == LOADED.origins
    assert (run.state, run.reason, run.history, run.evaluation, run.environment) == ("created", "", [], {}, {})
    assert not run.locked


def test_a_folder_is_used_once(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds a run already; go on with fittingroom train --resume"):
        runs.create(run.path, LOADED)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(RunError, match="not an empty folder"):
        runs.create(tmp_path / "mine", LOADED)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="not an empty folder"):
        runs.create(tmp_path / "file", LOADED)
    (tmp_path / "empty").mkdir()
    assert runs.create(tmp_path / "empty", LOADED).state == "created"
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FittingRoomError, match="a file stands where a folder is needed"):
        runs.create(tmp_path / "file" / "run", LOADED)
    with pytest.raises(FittingRoomError, match="too long"):
        runs.create(tmp_path / ("x" * 300), LOADED)


def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)

    def create() -> None:
        if may_write_everywhere():
            as_someone_else()
        runs.create(closed / "run", LOADED)

    child = Child(create)
    assert (child.wait(), child.errors.count("\n")) == (1, 1)
    assert "permission denied; choose a folder that you may write to" in child.errors
    assert list(closed.iterdir()) == []


def test_a_folder_whose_making_failed_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        raise FittingRoomError(f"cannot write {path}: the disk is full")

    monkeypatch.setattr(runs, "write_json", full)
    with pytest.raises(FittingRoomError, match="full"):
        runs.create(tmp_path / "run", LOADED)
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_make_one_folder_one_does(tmp_path: Path) -> None:
    recipes = [load("mlp", {"seed": seed}) for seed in range(8)]
    begin = time.monotonic() + 0.2

    def make(seed: int) -> None:
        time.sleep(max(0.0, begin - time.monotonic()))
        runs.create(tmp_path / "run", recipes[seed])

    children = [Child(lambda seed=seed: make(seed)) for seed in range(8)]  # type: ignore[misc]
    codes = [child.wait() for child in children]
    assert sorted(codes) == [0] + 7 * [1]  # type: ignore[type-var]
    assert Run(tmp_path / "run").recipe.seed == codes.index(0)
    assert all("holds a run already" in child.errors or "in use by" in child.errors for child in children if child.wait())


def test_each_of_many_that_begin_in_one_second_has_a_folder_of_its_own(tmp_path: Path) -> None:
    now = datetime(2026, 11, 20, 14, 30, 12)
    name = runs.new_name(LOADED.recipe, now)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / name).write_text("a file of mine")
    children = [Child(lambda: print(runs.create_new(tmp_path / "runs", LOADED, now).name)) for _ in range(8)]
    assert [child.wait() for child in children] == 8 * [0]
    assert sorted(child.out.strip() for child in children) == [f"{name}-{number}" for number in range(2, 10)]
    assert {run.state for run in runs.list_runs(tmp_path / "runs")} == {"created"}


def test_one_owner_at_a_time(run: Run) -> None:
    def own() -> None:
        with run.owned():
            time.sleep(60)

    child = Child(own)
    try:
        until(lambda: run.locked and (run.path / ".lock").read_bytes())  # it signs a moment after
        with pytest.raises(RunError, match=f"in use by process {child.pid}; wait for it, or choose another --run-dir"), run.owned():
            pass
        run.set_state("running")
        assert run.state == "running"
    finally:
        os.kill(child.pid, 9)
        child.wait()
    assert run.state == "stopped", "its process is dead"
    with run.owned():
        assert run.locked
    assert not run.locked


def test_looking_does_not_disturb_an_owner_to_be(run: Run) -> None:
    """`runs list` holds the lock for an instant."""

    def look() -> None:
        while True:
            _ = run.locked

    child = Child(look)
    try:
        for _ in range(20):
            with run.owned():
                pass
    finally:
        os.kill(child.pid, 9)
        child.wait()


def test_states_keep_what_was_known(run: Run) -> None:
    created = run.read("state.json", {})["created"]
    run.set_state("running")
    run.set_state("failed", "the loss became nan", memory_peak=7)
    run.set_state("finished")
    state = run.read("state.json", {})
    assert (state["created"], state["memory_peak"], state["reason"], run.state) == (created, 7, "", "finished")
    assert datetime.fromisoformat(state["changed"]).tzinfo is not None


def test_epochs_are_forgotten_from_the_last(run: Run) -> None:
    for epoch in (1, 2, 3):
        run.append_epoch({"epoch": epoch, "train": {"loss": 1 / epoch}})
    with open(run.path / "metrics.jsonl", "ab") as file:
        file.write(b'{"epoch": 4, "tra')
    assert [record["epoch"] for record in run.history] == [1, 2, 3]
    run.forget_epochs_after(2)
    assert run.history == [{"epoch": 1, "train": {"loss": 1.0}}, {"epoch": 2, "train": {"loss": 0.5}}]
    run.append_epoch({"epoch": 3})
    assert [record["epoch"] for record in run.history] == [1, 2, 3]


def test_weights_and_predictions_round_trip(run: Run) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(3, 4, 5, 5, generator=generator).contiguous(memory_format=torch.channels_last)
    run.write_weights({"kernel": kernel, "steps": torch.tensor(3)})
    read = run.read_weights()
    assert torch.equal(read["kernel"], kernel)
    assert read["steps"] == 3
    written = Predictions(np.full((2, 3), 1 / 3, np.float32), np.array([0, 2]), np.array([7, 9]))
    run.write_predictions("test", written)
    found = run.read_predictions("test")
    for name in ("probabilities", "labels", "indices"):
        assert np.array_equal(getattr(found, name), getattr(written, name))
        assert getattr(found, name).dtype == getattr(written, name).dtype


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 40, b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", b"\x02\0\0\0\0\0\0\0{}"])
def test_damaged_arrays_are_named(run: Run, content: bytes) -> None:
    files.write_bytes(run.path / "weights.safetensors", content)
    files.write_bytes(run.path / "predictions" / "validation.safetensors", content)
    if content[:1] != b"\x02":  # two empty, sound files
        with pytest.raises(RunError, match=r"weights\.safetensors is damaged"):
            run.read_weights()
    with pytest.raises(RunError, match=r"validation\.safetensors is damaged"):
        run.read_predictions("validation")


def test_what_is_missing_is_named_with_the_remedy(run: Run) -> None:
    with pytest.raises(RunError, match="the run is created; go on with fittingroom train --resume"):
        run.read_weights()
    with pytest.raises(RunError, match=r"make them with fittingroom evaluate .* --test"):
        run.read_predictions("test")


@pytest.mark.parametrize("name", ["state.json", "origins.json", "environment.json", "evaluation.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_damaged_values_are_named(run: Run, name: str, content: bytes) -> None:
    (run.path / name).write_bytes(content)
    with pytest.raises(RunError, match=f"{name} is damaged"):
        _ = (run.state, run.origins, run.environment, run.evaluation)


def test_lines_that_are_no_epochs_are_named(run: Run) -> None:
    (run.path / "metrics.jsonl").write_text('{"epoch": "one"}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
        _ = run.history
    (run.path / "state.json").write_text(json.dumps({"state": "asleep"}))
    with pytest.raises(RunError, match="unknown state 'asleep'"):
        _ = run.state


def test_find_by_what_a_person_types(tmp_path: Path) -> None:
    names = ["20260101-000000-lenet5-aaaa", "20260102-000000-mlp-bbbb", "20260103-000000-mlp-cccc"]
    for name in names:
        runs.create(tmp_path / name, LOADED)
    (tmp_path / "other").mkdir()

    def found(reference: str | Path) -> str:
        return runs.find(reference, tmp_path).name

    assert [run.name for run in runs.list_runs(tmp_path)] == names
    assert found(tmp_path / names[0]) == found(names[0]) == found("lenet5") == found("aaaa") == names[0]
    assert found("last") == names[2]
    with pytest.raises(RunError, match="'mlp' stands for 2 runs"):
        found("mlp")
    with pytest.raises(RunError, match="did you mean '20260101-000000-lenet5-aaaa'"):
        found("20260101-000000-lenet5-aaab")
    with pytest.raises(RunError, match="no run 'resnet'"):
        found("resnet")
    with pytest.raises(RunError, match=r"no run folder: it has no recipe\.toml"):
        found(tmp_path / "other")
    with pytest.raises(RunError, match="no run"):
        found("x" * 300)
    assert runs.list_runs(tmp_path / "none") == []
    shutil.rmtree(tmp_path / names[2])
    assert found("last") == names[1]
    runs.create(tmp_path / "a-name-of-its-own", LOADED)
    assert found("last") == "a-name-of-its-own", "the newest, whatever it is called"
    (tmp_path / "a-name-of-its-own" / "state.json").write_text("{")
    assert found("last") == names[1], "when a damaged run was created, nobody knows"


def test_names_tell_when_what_and_which() -> None:
    recipe = load("Some Model!").recipe
    name = runs.new_name(recipe, datetime(2026, 11, 20, 14, 30, 12))
    assert name == f"20261120-143012-some-model-{recipe.hash[:4]}"


def test_a_notebook_shows_a_run(run: Run) -> None:
    run.append_epoch({"epoch": 1, "train": {"accuracy": 0.5}, "validation": {"accuracy": 0.25}})
    run.write_json("evaluation.json", {"test": {"accuracy": 0.125}})
    shown = run._repr_html_()
    assert all(part in shown for part in ("<b>run</b>", "mlp", "created", "epoch 1", "0.2500", "0.1250"))
