"""Runs that are killed, interrupted or starved at any moment go on to the same bits. All processes here are real ones.

``FITTINGROOM_KILLS=500`` asks for more kills than the suite's 20.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fittingroom import experiment, recipe
from fittingroom.cli.main import main
from fittingroom.experiment import Setting
from fittingroom.files import is_temporary
from fittingroom.runs import Run
from tests.processes import PATIENCE, Child, as_someone_else, may_write_everywhere, until

KILLS = int(os.environ.get("FITTINGROOM_KILLS", "20"))
SETTING = Setting(device="cpu", threads=1, download=False, checkpoint_seconds=0.0)

# All that has a state: dropout, augmentation, Adam, a schedule, an average, early stopping.
CHANGES = {
    "model.dropout": 0.2,
    "augment.shift": 0.1,
    "augment.erase": 0.3,
    "optim.schedule": "one-cycle",
    "optim.warmup": 0.3,
    "train.average": 0.98,
    "train.stop": {"monitor": "validation.loss", "patience": 20},
    "train.precision": "fp32",
}


@pytest.fixture(scope="module", autouse=True)
def warm(made_set: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let torch load here what it loads when it is first used, so that no child has to."""
    experiment.train(loaded(made_set, **{"train.epochs": 1}), tmp_path_factory.mktemp("warm") / "run", setting=SETTING)


def loaded(made_set: Path, **changes: Any) -> recipe.Loaded:
    return recipe.load({"model": "lenet5"}, {"data.name": str(made_set), **CHANGES, **changes})


def live(path: Path, what: recipe.Loaded, setting: Setting = SETTING) -> None:
    """What a person does: begin, and from then on go on."""
    if (path / "recipe.toml").exists():
        experiment.resume(Run(path), setting)
    else:
        experiment.train(what, path, setting=setting)


def undisturbed(path: Path, what: recipe.Loaded) -> Run:
    assert Child(lambda: live(path, what)).wait() == 0
    return Run(path)


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """An epoch's record without what a clock had a part in."""
    return {**record, "train": {key: value for key, value in record["train"].items() if key not in ("seconds", "images_per_second")}}


def assert_same(run: Run, expected: Run) -> None:
    """Every bit that does not come from a clock."""
    assert run.state == "finished"
    for name in (
        "weights.safetensors",
        "predictions/validation.safetensors",
        "evaluation.json",
        "recipe.toml",
        "environment.json",
        "origins.json",
    ):
        assert (run.path / name).read_bytes() == (expected.path / name).read_bytes(), name
    assert [record["epoch"] for record in run.history] == list(range(1, len(expected.history) + 1))
    assert list(map(timeless, run.history)) == list(map(timeless, expected.history))
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert names[-2:] == sorted(path.name for path in expected.checkpoints.iterdir())[-2:]
    assert len(names) <= 4
    assert not any(is_temporary(path) for path in run.path.rglob("*"))


def test_killed_at_random_moments(made_set: Path, tmp_path: Path) -> None:
    """As often as it takes, a run is begun anew; each that comes to its end has the bits of the one left alone."""
    what = loaded(made_set, **{"train.epochs": 10})
    began = time.monotonic()
    expected = undisturbed(tmp_path / "undisturbed", what)
    seconds = time.monotonic() - began
    chance = random.Random(KILLS)
    kills = rounds = 0
    while kills < KILLS:
        path, rounds = tmp_path / f"run-{rounds}", rounds + 1
        while True:
            child = Child(lambda path=path: live(path, what))  # type: ignore[misc]
            if child.wait(seconds=chance.uniform(0, 0.8 * seconds)) is not None:
                break
            if kills < KILLS:
                child.send(signal.SIGKILL)
                kills += 1
            child.wait()
        assert child.wait() == 0, child.errors
        assert_same(Run(path), expected)


def dying(left: int) -> None:
    """Let this process die, as by a kill, before its ``left``-th change to a disk."""
    remaining = [left]

    def instead_of(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **options: Any) -> Any:
            remaining[0] -= 1
            if remaining[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return instead

    for name in ("mkdir", "fsync", "replace", "unlink", "ftruncate"):
        setattr(os, name, instead_of(getattr(os, name)))


def killed_before_each_change(made_set: Path, tmp_path: Path, every: int) -> None:
    what = loaded(made_set, **{"train.epochs": 2, "data.limit": 100})
    expected = undisturbed(tmp_path / "undisturbed", what)
    before = 1
    while True:
        path = tmp_path / f"before-{before}"

        def live_and_die(path: Path = path, before: int = before) -> None:
            dying(before)
            live(path, what)

        child = Child(live_and_die)
        if child.wait() == 0:
            break
        assert child.wait() == -signal.SIGKILL, child.errors
        child = Child(lambda path=path: live(path, what))  # type: ignore[misc]
        assert child.wait() == 0, f"killed before change {before}: {child.errors}"
        assert_same(Run(path), expected)
        before += every
    assert before > 30


def test_killed_before_a_change_to_the_disk(made_set: Path, tmp_path: Path) -> None:
    killed_before_each_change(made_set, tmp_path, every=5)


@pytest.mark.slow
def test_killed_before_every_change_to_the_disk(made_set: Path, tmp_path: Path) -> None:
    killed_before_each_change(made_set, tmp_path, every=1)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "both"])
def test_a_damaged_checkpoint_costs_one_checkpoint_and_no_bit(made_set: Path, tmp_path: Path, damage: str) -> None:
    what = loaded(made_set, **{"train.epochs": 5})
    expected = undisturbed(tmp_path / "undisturbed", what)
    path, told = tmp_path / "run", []

    def stop_after_four() -> None:
        def stop(record: dict[str, Any]) -> None:
            if record["epoch"] == 4:
                os.kill(os.getpid(), signal.SIGKILL)

        live(path, what, replace(SETTING, epoch_done=stop))

    assert Child(stop_after_four).wait() == -signal.SIGKILL
    for place, checkpoint in enumerate(sorted(Run(path).checkpoints.glob("*.safetensors"), reverse=True)):
        content = bytearray(checkpoint.read_bytes())
        content[len(content) // 2] ^= 8
        if place == 0 or damage == "both":
            checkpoint.write_bytes(content if damage == "flipped" else content[:-1])
    experiment.resume(Run(path), replace(SETTING, notify=told.append))
    damaged = {"both": 2}.get(damage, 1)
    assert [("is damaged" in line) for line in told] == damaged * [True] + [False]
    assert told[-1] == ("no checkpoint yet: starting at the first epoch" if damage == "both" else "going on after epoch 3")
    assert_same(Run(path), expected)


# The command line from here on.


def command(*arguments: object) -> Child:
    """The command line in a process of its own."""

    def run() -> None:
        sys.argv = ["fittingroom", *map(str, arguments)]
        main()

    return Child(run)


def settings(made_set: Path, **changes: Any) -> list[str]:
    values = {
        "data.name": made_set,
        "train.precision": "fp32",
        "model.dropout": 0.2,
        "augment.shift": 0.1,
        "train.average": 0.98,
        **changes,
    }
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def begin(made_set: Path, path: Path, **changes: Any) -> list[str]:
    return ["train", "lenet5", "--run-dir", str(path), "--quiet", *settings(made_set, **changes)]


ENDLESS = {"train.epochs": 100_000}


@contextmanager
def training(*arguments: object, run: Run) -> Iterator[Child]:
    """A process that trains, and has finished an epoch by now; killed at the end of the block at the latest."""
    before = len(run.history)
    child = command(*arguments)
    try:
        until(lambda: len(run.history) > before or child.wait(seconds=0) is not None)
        assert child.wait(seconds=0) is None, child.errors
        yield child
    finally:
        child.send(signal.SIGKILL)
        child.wait()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_stops_at_once_and_says_how_to_go_on(made_set: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    run = Run(tmp_path / "run")
    for arguments in (begin(made_set, run.path, **ENDLESS), ["train", "--resume", run.path, "--quiet"]):
        with training(*arguments, run=run) as child:
            child.send(number)
            assert child.wait(PATIENCE) == code, "it trains for hours if it is not stopped"
        assert run.state == "stopped"
        assert run.reason == "interrupted"
        assert child.errors.splitlines()[-1] == f"stopped; go on with: fittingroom train --resume {run.path}"
        assert "Traceback" not in child.errors


def test_one_process_goes_on_and_the_others_say_why_not(made_set: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with training(*begin(made_set, run.path, **ENDLESS), run=run) as child:
        for arguments in (["train", "--resume", run.path], ["evaluate", run.path]):
            other = command(*arguments)
            assert other.wait() == 1
            assert other.errors == f"fittingroom: {run.path} is in use by process {child.pid}; wait for it, or choose another --run-dir\n"
        other = command(*begin(made_set, run.path))
        assert other.wait() == 1
        assert "holds a run already" in other.errors
        assert run.state == "running"
    assert run.state == "stopped"
    children = [command("train", "--resume", run.path, "--quiet") for _ in range(4)]
    try:
        until(lambda: sum(child.wait(seconds=0) == 1 for child in children) == 3)
        assert sum(child.wait(seconds=0) is None for child in children) == 1
        assert sum("is in use by" in child.errors for child in children) == 3
    finally:
        for child in children:
            child.send(signal.SIGKILL)
            child.wait()


def test_a_loss_that_is_no_number_ends_the_run_as_failed(made_set: Path, tmp_path: Path) -> None:
    child = command(*begin(made_set, tmp_path / "run", **{"optim.name": "sgd", "optim.lr": 1e38}))
    assert child.wait() == 1
    (line,) = child.errors.splitlines()
    assert "the loss became" in line
    assert "epoch 1, step " in line
    run = Run(tmp_path / "run")
    assert run.state == "failed"
    assert run.reason in line


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[bool], None]]:
    """A disk of 4 MB mounted at ``folder``, to be filled and emptied, where this process may mount one."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    filler = folder / "filler"

    def fill(full: bool) -> None:
        filler.unlink(missing_ok=True)
        if full:
            with open(filler, "wb") as file:
                file.write(bytes(4 * 2**20 - 150_000))

    try:
        yield fill
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_space(made_set: Path, tmp_path: Path) -> None:
    changes = {"train.epochs": 2}
    assert command(*begin(made_set, tmp_path / "expected", **changes)).wait() == 0
    with small_disk(tmp_path / "disk") as fill:
        run = Run(tmp_path / "disk" / "run")
        fill(True)
        child = command(*begin(made_set, run.path, **changes))
        assert child.wait() == 1
        (line,) = child.errors.splitlines()
        assert line.startswith("fittingroom: cannot write")
        assert "the disk is full; free some space and repeat the command" in line
        assert run.state in ("failed", "stopped")
        assert not any(is_temporary(path) for path in run.path.rglob("*"))
        fill(False)
        assert command("train", "--resume", run.path, "--quiet").wait() == 0
        assert run.read_weights().keys()
        assert (run.path / "weights.safetensors").read_bytes() == (tmp_path / "expected" / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("size", [0, 100, 3000, 50_000])
def test_files_that_may_not_grow(made_set: Path, tmp_path: Path, size: int) -> None:
    """The limit on a file's size, which any process may set, fails writes at different places."""
    import resource

    path = tmp_path / "run"

    def starved() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        sys.argv = ["fittingroom", *begin(made_set, path, **{"train.epochs": 1})]
        # What a command says would count as growth of a file too.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        main()

    child = Child(starved)
    assert child.wait() == 1, child.errors
    again = begin(made_set, path, **{"train.epochs": 1}) if not (path / "recipe.toml").exists() else ["train", "--resume", path, "--quiet"]
    child = command(*again)
    assert child.wait() == 0, child.errors
    assert Run(path).state == "finished"


def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)

    def run() -> None:
        from fittingroom.data import catalog

        digits = catalog.load("digits")  # what another user could not read in this one's folders
        if may_write_everywhere():
            as_someone_else()
        catalog.load = lambda *arguments, **options: digits  # type: ignore[assignment]
        sys.argv = ["fittingroom", "train", "mlp", "--quiet", "--set", "data.name=digits", "--run-dir", str(closed / "run")]
        main()

    child = Child(run)
    assert child.wait() == 1
    (line,) = child.errors.splitlines()
    assert line.startswith("fittingroom: cannot write")
    assert "permission denied; choose a folder that you may write to" in line


@pytest.mark.slow
def test_killed_as_a_person_would(made_set: Path, tmp_path: Path) -> None:
    """Two kills of the program as it is installed, started from nothing each time."""
    changes = {"train.epochs": 60}
    expected, run = Run(tmp_path / "expected"), Run(tmp_path / "run")
    assert command(*begin(made_set, expected.path, **changes)).wait() == 0
    program = [sys.executable, "-m", "fittingroom"]
    going_on = ["train", "--resume", str(run.path), "--quiet", "--threads", "1"]
    for arguments in ([*begin(made_set, run.path, **changes), "--threads", "1"], going_on):
        process = subprocess.Popen([*program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        seen = {(record["epoch"], record["train"]["seconds"]) for record in run.history}

        def trains_anew(seen: set[tuple[int, float]] = seen) -> bool:
            return any((record["epoch"], record["train"]["seconds"]) not in seen for record in run.history)

        until(lambda: trains_anew() or process.poll() is not None)  # noqa: B023
        process.kill()
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        assert run.state == "stopped"
    done = subprocess.run([*program, *going_on, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"finished"' in done.stdout
    assert (run.path / "weights.safetensors").read_bytes() == (expected.path / "weights.safetensors").read_bytes()
    assert list(map(timeless, run.history)) == list(map(timeless, expected.history))
