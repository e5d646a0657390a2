"""Workers are real processes here, and are really killed: nothing is lost or left behind, and the bits are those of one process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fittingroom import experiment, recipe
from fittingroom.experiment import Setting
from fittingroom.runs import Run
from fittingroom.workers import Crew, Event, Job
from tests.processes import Child, until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forks")


@pytest.fixture(scope="module")
def small(made_set: Path) -> recipe.Loaded:
    changes = {"data.name": str(made_set), "train.epochs": 4, "train.precision": "fp32", "model.dropout": 0.2}
    return recipe.load({"model": "lenet5"}, changes)


def owner(folder: Path) -> int | None:
    """The process that is at work in a run folder."""
    words = (folder / ".lock").read_text().split() if Run(folder).locked else []
    return int(words[-1]) if words else None


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(2, device="cpu") as crew:
        yield crew


def carried_out(crew: Crew, at: Callable[[Event], object] = lambda event: None) -> dict[str, Event]:
    """Read all events of a crew, and return the last one of each job."""
    last = {}
    for event in crew.events():
        at(event)
        last[event.job.key] = event
    return last


def on(kind: str, action: Callable[[Event], object], times: int = 1) -> Callable[[Event], None]:
    """Act at the first events of a kind."""
    seen: list[Event] = []

    def act(event: Event) -> None:
        if event.kind == kind and len(seen) < times:
            seen.append(event)
            action(event)

    return act


def kill(event: Event) -> None:
    """Kill who is at work. A new owner signs a moment after it has the lock: until then nobody's name stands there, or a dead one's."""

    def killed() -> bool:
        with suppress(ProcessLookupError):
            if pid := owner(event.job.folder):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    until(killed)


@pytest.fixture(scope="module")
def expected(small: recipe.Loaded, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run as one process alone makes it."""
    run = experiment.train(small, tmp_path_factory.mktemp("alone") / "run", setting=Setting(device="cpu", threads=1))
    experiment.evaluate(run, test=True, reason="the end", setting=Setting(device="cpu", threads=1))
    return run


def assert_same(run: Run, expected: Run) -> None:
    for name in ("weights.safetensors", "predictions/test.safetensors", "recipe.toml", "origins.json"):
        assert (run.path / name).read_bytes() == (expected.path / name).read_bytes(), name
    assert [line["validation"] for line in run.history] == [line["validation"] for line in expected.history]
    assert [opening["reason"] for opening in run.evaluation["openings"]] == ["the end"]
    assert {key: value for key, value in run.evaluation.items() if key != "openings"} == {
        key: value for key, value in expected.evaluation.items() if key != "openings"
    }


def test_what_can_happen_to_jobs(crew: Crew, small: recipe.Loaded, expected: Run, tmp_path: Path) -> None:
    """One crew, six jobs: one is killed under way, one is stopped, two cannot be done, one is added late, one is timed."""
    diverging = recipe.load(small.recipe.values, {"optim.lr": 1e30, "optim.name": "sgd", "model.activation": "relu"})
    too_small = recipe.load(small.recipe.values, {"data.size": 4})
    long = recipe.load(small.recipe.values, {"train.epochs": 5000})
    told: list[Event] = []
    crew.add(Job("killed", small, tmp_path / "killed", test="the end"))
    crew.add(Job("diverging", diverging, tmp_path / "diverging"))
    crew.add(Job("too small", too_small, tmp_path / "too small"))
    crew.add(Job("long", long, tmp_path / "long"))
    with pytest.raises(ValueError, match="already"):
        crew.add(Job("long", long, tmp_path / "elsewhere"))

    killing = on("epoch", kill)
    adding = on("died", lambda event: crew.add(Job("late", small, tmp_path / "late", test="the end")))

    def at(event: Event) -> None:
        told.append(event)
        if event.job.key == "killed":
            killing(event)
        if event.job.key == "long" and event.kind == "epoch":
            crew.stop("long")
        adding(event)

    last = carried_out(crew, at)
    assert {key: event.kind for key, event in last.items()} == {
        "killed": "done",
        "late": "done",
        "diverging": "failed",
        "too small": "failed",
        "long": "stopped",
    }
    crew.stop("long")  # it is gone: nothing to do
    crew.add(Job("timed", small, tmp_path / "timed", threads=2, do="time"))
    timed = carried_out(crew)["timed"].values
    assert [event.values["reason"] for event in told if event.kind == "died"] == [
        "its worker died, by SIGKILL (memory?); it goes on from its last checkpoint"
    ]
    assert "the loss became" in last["diverging"].values["reason"]
    assert last["diverging"].values["final"]
    assert "needs images of at least" in last["too small"].values["reason"]
    assert not last["too small"].values["final"]
    assert Run(tmp_path / "long").state == "stopped"
    assert not (tmp_path / "timed").exists()
    assert timed["seconds_per_image"] > 0
    assert timed["images"] == 400
    for name in ("killed", "late"):
        assert_same(Run(tmp_path / name), expected)
        assert Run(tmp_path / name).environment["threads"] == 1
        if len(os.sched_getaffinity(0)) >= 2:
            assert Run(tmp_path / name).environment["cores"] == 1, "each worker has a core of its own"


def test_a_job_that_always_kills_its_worker_is_given_up(crew: Crew, small: recipe.Loaded, tmp_path: Path) -> None:
    def kill_at_once(event: Event) -> None:
        if event.kind == "started" and event.job.key == "deadly":
            kill(event)

    crew.add(Job("deadly", recipe.load(small.recipe.values, {"train.epochs": 5000}), tmp_path / "deadly"))
    crew.add(Job("other", small, tmp_path / "other"))
    last = carried_out(crew, kill_at_once)
    assert last["deadly"].kind == "failed"
    assert "died 4 times, the last time by SIGKILL" in last["deadly"].values["reason"]
    assert last["other"].kind == "done"


def test_a_failure_that_passes_is_none(crew: Crew, small: recipe.Loaded, expected: Run, tmp_path: Path) -> None:
    """A file stands where the run's folder is to be made, until somebody takes it away."""
    (tmp_path / "way").touch()
    told: list[str] = []

    def at(event: Event) -> None:
        told.append(event.kind)
        if event.kind == "died" and told.count("died") == 2:
            (tmp_path / "way").unlink()

    crew.add(Job("blocked", small, tmp_path / "way" / "run", test="the end"))
    assert carried_out(crew, at)["blocked"].kind == "done"
    assert told.count("died") == 2
    assert_same(Run(tmp_path / "way" / "run"), expected)


def test_a_failure_that_does_not_pass_is_told_after_a_few_attempts(crew: Crew, small: recipe.Loaded, tmp_path: Path) -> None:
    (tmp_path / "way").touch()
    told: list[Event] = []
    crew.add(Job("blocked", small, tmp_path / "way" / "run"))
    last = carried_out(crew, told.append)["blocked"]
    assert [event.kind for event in told] == ["started", "died"] * 3 + ["started", "failed"]
    assert last.values["reason"] in told[1].values["reason"]
    assert not last.values["final"], "a later command may try again"


def test_the_server_is_replaced_too(crew: Crew, small: recipe.Loaded, expected: Run, tmp_path: Path) -> None:
    def kill_server(event: Event) -> None:
        os.kill(os.getpgid(owner(event.job.folder) or 0), signal.SIGKILL)  # the server leads the group of its workers

    crew.add(Job("one", small, tmp_path / "one", test="the end"))
    assert carried_out(crew, on("epoch", kill_server))["one"].kind == "done"
    assert_same(Run(tmp_path / "one"), expected)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_without_the_controller_the_workers_end(small: recipe.Loaded, tmp_path: Path, number: signal.Signals) -> None:
    long = recipe.load(small.recipe.values, {"train.epochs": 5000})

    def control() -> None:
        with Crew(1, device="cpu") as crew:
            crew.add(Job("long", long, tmp_path / "long"))
            carried_out(crew)

    child = Child(control)
    until(lambda: (tmp_path / "long" / "metrics.jsonl").exists())
    child.send(number)
    child.wait()
    until(lambda: not Run(tmp_path / "long").locked)
    assert Run(tmp_path / "long").state == "stopped"


def test_a_run_whose_worker_has_yet_to_notice(crew: Crew, small: recipe.Loaded, expected: Run, tmp_path: Path) -> None:
    """A worker waits for the folder of a run that somebody else still holds."""
    held = tmp_path / "held"
    run = experiment.train(replace(small, recipe=small.recipe.updated({})), held, setting=Setting(device="cpu", threads=1))

    def hold() -> None:
        with run.owned():
            (tmp_path / "holding").touch()
            until(lambda: (tmp_path / "let go").exists())

    child = Child(hold)
    until(lambda: (tmp_path / "holding").exists())
    seen: list[str] = []
    crew.add(Job("held", small, held, test="the end"))
    events = crew.events()
    seen.append(next(events).kind)
    assert "openings" not in run.evaluation
    (tmp_path / "let go").touch()
    seen += [event.kind for event in events]
    assert child.wait() == 0
    assert seen == ["started", "done"]
    assert_same(Run(held), expected)


def test_a_server_that_does_not_listen_is_left_no_later_than_soon(small: recipe.Loaded, tmp_path: Path, monkeypatch: Any) -> None:
    """As while it downloads. Its workers notice by themselves."""
    monkeypatch.setattr("fittingroom.workers.crew.GRACE_SECONDS", 0.1)
    with Crew(1, device="cpu") as crew:
        crew.add(Job("long", recipe.load(small.recipe.values, {"train.epochs": 5000}), tmp_path / "long"))
        next(event for event in crew.events() if event.kind == "epoch")
        os.kill(os.getpgid(owner(tmp_path / "long") or 0), signal.SIGSTOP)
    until(lambda: not Run(tmp_path / "long").locked)


def test_a_defect_says_where_it_is(crew: Crew, small: recipe.Loaded, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    crew.close()  # the next server writes to what is captured
    crew.add(Job("broken", small, tmp_path / "broken", threads=0))
    last = carried_out(crew)["broken"]
    assert last.kind == "failed"
    assert "Traceback" in capfd.readouterr().err


def test_nothing_heavy_in_the_controller() -> None:
    """The process that hands out jobs does not load torch: the server does."""
    child = Child(lambda: _imported_alone())
    assert child.wait() == 0, child.errors


def _imported_alone() -> Any:
    import subprocess

    code = "import sys, fittingroom.workers; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is told by Linux")
def test_workers_share_the_images(tmp_path: Path) -> None:
    count, held = 40_000, {}
    np.savez(tmp_path / "large.npz", images=np.zeros((count, 28, 28), np.uint8), labels=np.arange(count) % 10)

    def look(event: Event) -> None:
        if event.kind == "step" and event.job.key not in held and (pid := owner(event.job.folder)):
            held[event.job.key] = private_bytes(pid)

    changes = {"data.name": str(tmp_path / "large.npz"), "data.normalise": "unit", "train.epochs": 1, "train.batch_size": 200}
    with Crew(2, device="cpu") as crew:
        for seed in range(2):
            crew.add(Job(str(seed), recipe.load({"model": "mlp"}, {**changes, "seed": seed}), tmp_path / str(seed)))
        limited = recipe.load({"model": "mlp"}, {**changes, "data.limit": 1000, "train.epochs": 20})
        crew.add(Job("few", limited, tmp_path / "few"))
        ends = carried_out(crew, look)
    assert {event.kind for event in ends.values()} == {"done"}
    images = count * 28 * 28
    for seed in ("0", "1"):
        assert held[seed] < held["few"] + images / 2, "each worker has images of its own"


def private_bytes(pid: int) -> int:
    """Memory that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private"))
