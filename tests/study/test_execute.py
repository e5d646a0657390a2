"""A study whose workers and controller are killed at random moments ends with the table of one left alone."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fittingroom.errors import FittingRoomError, RunError
from fittingroom.runs import Run
from fittingroom.study import execute, timing
from fittingroom.study.execute import Progress
from fittingroom.study.file import load
from fittingroom.study.plan import Planned, plan
from fittingroom.study.results import read_failures, read_records, read_results, write_failure
from fittingroom.study.schema import Study
from fittingroom.study.timing import Timings, expected_together, kind, measured_timings
from fittingroom.workers import Crew, Event, Job
from tests.processes import Child, until
from tests.study.small import write_study

# One thread each, without timing anything.
UNKNOWN = Timings({}, {})

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forks")


@pytest.fixture(scope="module")
def study(made_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load(write_study(tmp_path_factory.mktemp("study"), made_set, epochs=8))


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(2, device="cpu") as crew:
        yield crew


@pytest.fixture(scope="module")
def undisturbed(study: Study, crew: Crew, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's folder, left alone with one worker."""
    folder = tmp_path_factory.mktemp("undisturbed") / "small"
    crew.workers = 1
    carried_out(study, folder, crew)
    crew.workers = 2
    return folder


def of_its_own(study: Study, folder: Path) -> None:
    """What a process does that is to be killed. It exits with 1 where a run was given up, killed too often before it came further."""
    with Crew(2, device="cpu") as crew:
        failed = carried_out(study, folder, crew)
    assert all("its worker died 4 times" in reason for reason in failed.values()), failed
    sys.exit(1 if failed else 0)


def carried_out(study: Study, folder: Path, crew: Crew, planned: list[Planned] | None = None, **watch: Any) -> dict[str, str]:
    """What the command does: own the folder, skip what is done, train the rest."""
    with execute.owned(folder, study.name):
        stands = execute.standing(planned or plan(study), folder / "records")
        return execute.execute(stands.todo, folder, folder / "records", crew, UNKNOWN, **watch)


def table(folder: Path) -> dict[str, Any]:
    """All that the records hold, without what a clock, the number of cores or somebody who edits the checkout had a part in."""
    found = {}
    for path in sorted((folder / "records").glob("*.json")):
        values = json.loads(path.read_text())
        del values["sha256"], values["environment"]["memory_peak"], values["environment"]["cores"], values["environment"]["commit"]
        for line in values["history"]:
            del line["train"]["seconds"], line["train"]["images_per_second"]
        values["openings"] = [opening["reason"] for opening in values["openings"]]
        found[path.name] = values
    return found


def at_work(folder: Path) -> list[int]:
    """The processes of the workers."""
    locked = [path for path in folder.glob("*/.lock") if Run(path.parent).locked]
    words = [path.read_text().split() for path in locked]
    return [int(one[-1]) for one in words if one]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("wanted", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments(study: Study, undisturbed: Path, tmp_path: Path, wanted: int) -> None:
    chance = random.Random(wanted)
    kills = rounds = 0
    while kills < wanted:
        folder, rounds = tmp_path / f"round-{rounds}" / "small", rounds + 1
        while True:
            child = Child(lambda folder=folder: of_its_own(study, folder))  # type: ignore[misc]
            killed = 0
            while child.wait(seconds=chance.uniform(0.0, 0.5)) is None:
                if kills < wanted and (workers := at_work(folder)):
                    victim = chance.choice([*workers * 2, child.pid, os.getpgid(workers[0])] if killed > 2 else workers)
                    os.kill(victim, signal.SIGKILL)
                    kills, killed = kills + 1, killed + 1
            if child.wait() == 0:
                break
            assert child.wait() in (1, -signal.SIGKILL), child.errors
        assert table(folder) == table(undisturbed)
        assert all(not list((run / "checkpoints").glob("*")) for run in folder.glob("*-seed*"))
        assert all(values["openings"] == [execute.OPENING] for values in table(folder).values()), "the test set is opened once"


def test_what_is_done_is_skipped(study: Study, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned, records = plan(study), undisturbed / "records"
    stands = execute.standing(planned, records)
    assert (len(stands.done), stands.todo, stands.earlier, stands.failed) == (5, (), (), {})
    more = execute.standing(plan(study, seeds=3), records)
    assert [one.key for one in more.todo] == ["plain-seed2", "poolings-max-seed2", "bayes-seed1", "bayes-seed2"]
    reduced = execute.standing(plan(study, epochs=2), records)
    assert [one.key for one in reduced.todo] == [one.key for one in plan(study, epochs=2)[:4]], "a whole run is not a reduced one"
    part = replace(planned[0], full=planned[0].full.updated({"train.epochs": 50}), reduced=("epochs 8 of 50",))
    assert execute.standing([part], records).todo == (part,), "nor the other way round, though they are trained alike"
    monkeypatch.setattr(execute, "fingerprint", lambda model: "another")
    changed = execute.standing(planned, records)
    assert (len(changed.done), len(changed.earlier), len(changed.todo)) == (0, 5, 5)
    assert not execute.standing(planned, records, keep_earlier=True).todo
    folders = {execute._folder(undisturbed, one) for one in planned}
    assert not any(folder.exists() for folder in folders), "a run of other code is not gone on with"


FAILING = """
title = "What fails"
source = "made up"
base = { model = { name = "lenet5", activation = "relu" }, data = { name = "DATA" }, optim = { name = "sgd" }, train = { epochs = 1 } }
seeds = [0]
claims = []

[runs.rates]
grid = { "optim.lr" = [0.003, 1e30] }

[runs.bayes]
base = "gaussian-nb"
set = { "data.name" = "no.npz" }
"""


def test_what_fails(crew: Crew, made_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run diverges, one's data are not there: each is told once; the first is not tried again, the second is."""
    failing = load(write_study(tmp_path, made_set, text=FAILING))
    folder = tmp_path / "small"
    failed = carried_out(failing, folder, crew)
    assert set(failed) == {"rates-1e-30-seed0", "bayes-seed0"}
    assert "the loss became" in failed["rates-1e-30-seed0"]
    assert "no such file" in failed["bayes-seed0"]
    stands = execute.standing(plan(failing), folder / "records")
    assert stands.done == ("rates-0.003-seed0",)
    assert stands.failed == {"rates-1e-30-seed0": failed["rates-1e-30-seed0"]}
    assert [one.key for one in stands.todo] == ["bayes-seed0"]
    assert len(read_records(folder / "records")) == 1
    (failure,) = read_failures(folder / "records", failing)
    assert (failure.run, failure.cell, failure.seed) == ("rates", {"optim.lr": 1e30}, 0)
    assert failure.reason == failed["rates-1e-30-seed0"]
    path = folder / "records" / "failed" / "rates-1e-30-seed0.json"
    path.write_text(path.read_text().replace('"code": "', '"code": "earlier '))
    again = [[one.key for one in execute.standing(plan(failing), folder / "records", keep).todo] for keep in (True, False)]
    assert again == [["bayes-seed0"], ["rates-1e-30-seed0", "bayes-seed0"]]
    said: list[str] = []
    for damaged in ("", "{}", "[]", "{"):
        path.write_text(damaged)
        assert not read_failures(folder / "records", failing, said.append)
        assert said.pop().startswith(f"{path}: not a sound record of a run that failed")
        assert len(execute.standing(plan(failing), folder / "records").todo) == 2
    one = next(one for one in plan(failing) if one.key == "rates-0.003-seed0")
    write_failure(folder / "records", one.key, one.loaded.recipe, "other code", one.full, "the loss became nan")
    with monkeypatch.context() as patched:
        patched.setattr(execute, "fingerprint", lambda model: "other code")
        stands = execute.standing(plan(failing), folder / "records")
        assert (stands.earlier, stands.failed) == ((one.key,), {one.key: "the loss became nan"}), "what earlier code could, this one cannot"
        assert one.key not in [planned.key for planned in stands.todo]
        kept = execute.standing(plan(failing), folder / "records", keep_earlier=True)
        assert (one.key in kept.earlier, one.key in kept.failed) == (True, False)


def test_a_fraction_of_an_epoch(crew: Crew, made_set: Path, tmp_path: Path) -> None:
    """Runs whose last epoch is cut short are planned, watched and recorded like others, and their epochs told as what they are."""
    text = FAILING.replace("epochs = 1 }", "epochs = 1.5 }").replace("1e30", "0.001").partition("[runs.bayes]")[0]
    cut, folder = load(write_study(tmp_path, made_set, text=text)), tmp_path / "small"
    shares: list[float] = []
    assert not carried_out(cut, folder, crew, watch=lambda one, event, progress: shares.append(progress.share))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    found = read_results(folder / "records", cut)
    assert [(len(result.history), result.epochs) for result in found] == [(2, 1.5), (2, 1.5)]


def test_a_damaged_run_is_a_failed_one(study: Study, undisturbed: Path, crew: Crew, tmp_path: Path) -> None:
    """What a study finds damaged when it wants to keep it is told in a line, and the others are kept."""
    folder, records = tmp_path / "small", tmp_path / "small" / "records"
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(records)
    damages = {"plain-seed0": "predictions/test.safetensors", "plain-seed1": "metrics.jsonl", "bayes-seed0": "evaluation.json"}
    for key, name in damages.items():
        (next(folder.glob(f"{key}-*")) / name).write_text('{"test": {"accuracy": 0.5}}' if name == "evaluation.json" else "{\n" * 3)
    seen: list[tuple[str, str]] = []
    failed = carried_out(study, folder, crew, watch=lambda one, event, progress: seen.append((one.key, event.kind)))
    assert failed.keys() == damages.keys()
    for key in damages:
        assert (key, "failed") in seen
        assert (key, "done") not in seen
        assert "damaged" in failed[key]
        assert "\n" not in failed[key]
    assert "it lacks 'classes'" in failed["bayes-seed0"]
    assert sorted(path.name for path in records.iterdir()) == ["poolings-max-seed0.json", "poolings-max-seed1.json"]


def test_two_at_once(study: Study, tmp_path: Path) -> None:
    def own() -> None:
        with execute.owned(tmp_path, "small"):
            (tmp_path / "owned").touch()
            until(lambda: (tmp_path / "let go").exists())

    child = Child(own)
    until(lambda: (tmp_path / "owned").exists())
    words = f"study small is being run in .* by process {child.pid}; wait for it"
    with pytest.raises(RunError, match=words), execute.owned(tmp_path, "small"):
        pass
    (tmp_path / "let go").touch()
    assert child.wait() == 0
    with execute.owned(tmp_path, "small"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(FittingRoomError, match="a file stands where a folder is needed"), execute.owned(tmp_path / "file" / "x", "small"):
        pass


def test_time_left(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds of work expected, in a plan that an earlier command had done a part of."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = Progress(2, {"a": 6.0, "b": 4.0}, began=now)
    assert (progress.share, progress.left) == (0, None)
    now = 102.0
    progress.note("a", before=0.5, work=0.75)
    assert progress.share == pytest.approx(0.45)
    assert progress.left == pytest.approx(2 * 0.55 / 0.15)
    progress.note("b", before=1.0, work=1.0)  # done before: no pace can be told from it
    assert progress.left == pytest.approx(2 * 0.15 / 0.15)
    progress.note("a", before=0.75, work=1.0)
    assert progress.left == 0


def test_a_model_fitted_in_one_go_tells_of_the_pace(study: Study) -> None:
    progress = Progress(7, {one.key: 1.0 for one in plan(study)})
    bayes = next(one for one in plan(study) if one.run == "bayes")
    execute._note_work(bayes, Event(Job(bayes.key, bayes.loaded, Path()), "done", {}), progress)
    assert (progress.work, progress.before) == ({bayes.key: 1.0}, {bayes.key: 0.0})


def timed(one: float | None, two: float | None) -> Mapping[str, Any]:
    return {"seconds_per_image": {"1": one, "2": two}, "images": 1000, "multiply_adds": 100}


@pytest.mark.parametrize(("two", "threads"), [(0.4, 2), (0.49, 1), (0.6, 1)])
def test_threads_are_chosen_by_measurement(study: Study, two: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cores on one run must be clearly faster than a run on each of them."""
    recipe = plan(study)[0].loaded.recipe
    monkeypatch.setattr(timing, "multiply_adds", lambda recipe: 200)
    timings = Timings({kind(recipe): timed(1.0, two)}, {})
    assert timings.threads(recipe) == threads
    expected = (two if threads == 2 else 1.0) * 2 * 1000 * (1 + 0.25 / 3) * 8
    assert timings.seconds(recipe) == pytest.approx(expected)
    one, other = plan(study)[:2]
    together, unknown = expected_together([one, other, plan(study)[-1]], timings, workers=2)
    assert (together, unknown) == (pytest.approx(expected * (1 if threads == 1 else 2)), 1)


def test_recorded_times_come_first(study: Study, undisturbed: Path) -> None:
    records = read_records(undisturbed / "records")
    one = plan(study)[0]
    times = [sum(line["train"]["seconds"] for line in record.values["history"]) for record in records if "plain" in record.path.name]
    timings = measured_timings([], records, undisturbed, Crew(2))  # nothing is timed: no worker is ever started
    assert timings.seconds(one.loaded.recipe) == pytest.approx(sum(times) / 2)
    assert not (undisturbed / "timings.json").exists()


def test_a_model_is_timed_once(study: Study, crew: Crew, tmp_path: Path) -> None:
    said: list[str] = []
    crew.workers = 1
    timings = measured_timings(plan(study), [], tmp_path, crew, said.append)
    assert crew.workers == 1
    crew.workers = 2
    assert said == ["timing a few steps of 2 models …"]
    network, classical = (plan(study)[number].loaded.recipe for number in (0, -1))
    assert 0 < (timings.seconds(network) or 0) < 600
    assert timings.seconds(classical) is None
    assert timings.threads(classical) == 1
    again = measured_timings(plan(study), [], tmp_path, Crew(2), said.append)
    assert again.measured == timings.measured
    assert set(again.measured) == {kind(network), kind(classical)}
    assert len(said) == 1


def test_events_are_watched(study: Study, crew: Crew, tmp_path: Path) -> None:
    seen: list[tuple[str, str, int]] = []

    def watch(one: Planned, event: Event, progress: Progress) -> None:
        seen.append((one.key, event.kind, progress.finished))

    assert carried_out(study, tmp_path / "small", crew, plan(study, only=["bayes"]), watch=watch) == {}
    assert [kind for _, kind, _ in seen] == ["started", "epoch", "done"]
    assert seen[-1] == ("bayes-seed0", "done", 1)
    assert re.fullmatch(r"bayes-seed0-[0-9a-f]{8}", next((tmp_path / "small").glob("bayes*")).name)
