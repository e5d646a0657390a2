"""Searches by processes that die: no trial lost, none counted twice, the same bits. All processes here are real ones.

``FITTINGROOM_KILLS=100`` asks for more kills than the suite's 3; the full numbers are marked slow.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from fittingroom.errors import FittingRoomError, RunError, UsageError
from fittingroom.experiment import Stopped
from fittingroom.recipe import Loaded
from fittingroom.runs import Run
from fittingroom.tune import search as room
from fittingroom.tune import space as spaces
from fittingroom.tune import worker
from fittingroom.tune.finalists import outcome, trainings
from fittingroom.tune.search import Hand, Report, Search, claim, in_hand, take, take_over, training, work
from fittingroom.tune.space import Budget, Space
from fittingroom.tune.storage import local_url, open_storage, shown
from tests.processes import Child, until
from tests.tune.searching import SETTING, grid, live, told
from tests.tune.searching import in_memory as in_memory_search

slow = pytest.mark.slow
OTHERS = ("none", "median", "successive-halving", "hyperband")
KILLS = int(os.environ.get("FITTINGROOM_KILLS", "3"))


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: processes are killed here, not machines, so nothing has to reach a disk."""
    yield from in_memory(tmp_path)


@pytest.fixture
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where to write costs what it costs a user, synchronisation included."""
    return tmp_path_factory.mktemp("disk")


def in_memory(otherwise: Path) -> Iterator[Path]:
    if not os.access("/dev/shm", os.W_OK):
        yield otherwise
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def undisturbed(made_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The grid of eight, searched by one process that nobody disturbs; it also loads here what no child has to load then."""
    for folder in in_memory(tmp_path_factory.mktemp("undisturbed")):
        live(folder / "grid", grid(made_set))
        yield folder / "grid"


@pytest.fixture
def opened() -> Iterator[Callable[..., Search]]:
    """Opens searches, which are closed when the test is over."""
    with ExitStack() as stack:
        yield lambda folder, space, url=None: stack.enter_context(Search.at(folder, space, url))


Opened = Callable[..., Search]


def weights(folder: Path, number: int) -> bytes:
    return (folder / "trials" / f"{number:04d}" / "weights.safetensors").read_bytes()


def assert_same(folder: Path, expected: Path, space: Space) -> None:
    """Every trial is complete, once, with the bits of the search that was left alone."""
    assert told(folder, space) == told(expected, space)
    assert [number for number, *_ in told(folder, space)] == list(range(len(space.cells)))
    assert {state for _, state, *_ in told(folder, space)} == {"COMPLETE"}
    assert sorted(path.name for path in (folder / "trials").iterdir()) == [f"{number:04d}" for number in range(len(space.cells))]
    for number in range(len(space.cells)):
        assert Run(folder / "trials" / f"{number:04d}").state == "finished"
        assert weights(folder, number) == weights(expected, number)


def test_each_cell_once_with_its_own_run(undisturbed: Path, made_set: Path) -> None:
    space = grid(made_set)
    assert [params for _, _, params, _ in told(undisturbed, space)] == space.cells
    for number, state, params, value in told(undisturbed, space):
        run = Run(undisturbed / "trials" / f"{number:04d}")
        assert (state, run.state) == ("COMPLETE", "finished")
        assert run.recipe == space.recipe(params).recipe
        assert value == max(record["validation"]["accuracy"] for record in run.history)
        assert "test" not in run.evaluation
        assert not run.evaluation.get("openings")


def test_a_fraction_of_an_epoch(made_set: Path, tmp_path: Path) -> None:
    """A last epoch that is cut short is an epoch to look at, to prune at and to choose from."""
    space = grid(made_set, set={"train.epochs": 1.5, "train.precision": "fp32"}, space={"optim.lr": [0.001, 0.03]})
    live(tmp_path / "grid", space)
    for number, state, _, value in told(tmp_path / "grid", space):
        history = Run(tmp_path / "grid" / "trials" / f"{number:04d}").history
        assert (state, [record["epoch"] for record in history]) == ("COMPLETE", [1, 2])
        assert value == max(record["validation"]["accuracy"] for record in history)


def killed_again_and_again(folder: Path, space: Space, workers: int, kills: int, patience: float, chance: random.Random) -> int:
    """Keep ``workers`` processes at a search and kill them at random moments; return how many were killed before it was done.

    Nobody lives longer than ``patience`` seconds while kills are left: far less than the search takes, if all are to be used on one.
    """
    done = 0
    children: list[Child] = []
    while not children or any(child.wait(0) is None for child in children):
        children = [child for child in children if child.wait(0) is None]
        children += [Child(lambda: live(folder, space)) for _ in range(workers - len(children))]
        if done < kills:
            victim = chance.choice(children)
            if victim.wait(chance.uniform(0, patience)) is None:
                victim.send(signal.SIGKILL)
                done += 1
            assert victim.wait() in (0, -signal.SIGKILL), victim.errors
        else:
            codes = [child.wait() for child in children]
            assert codes == [0] * len(codes), [child.errors for child in children]
            break
    for child in children:
        child.wait()
    return done


def test_killed_at_random_moments(undisturbed: Path, made_set: Path, tmp_path: Path) -> None:
    space, chance = grid(made_set), random.Random(KILLS)
    kills = rounds = 0
    while kills < KILLS:  # on a quick machine a search can be over before all of them
        folder, rounds = tmp_path / f"round-{rounds}", rounds + 1
        kills += killed_again_and_again(folder, space, 2, KILLS - kills, 0.5, chance)
        live(folder, space)
        assert_same(folder, undisturbed, space)


def test_two_share_a_search(undisturbed: Path, made_set: Path, tmp_path: Path) -> None:
    space = grid(made_set)
    children = [Child(lambda: live(tmp_path / "grid", space)) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0], [child.errors for child in children]
    assert_same(tmp_path / "grid", undisturbed, space)


def test_a_trial_in_living_hands_is_left_alone(opened: Opened, made_set: Path, tmp_path: Path) -> None:
    space, folder = grid(made_set), tmp_path / "grid"
    holder = Child(lambda: work(Search.at(folder, space), lambda loaded, path, report: time.sleep(600) or 0.0))
    until(lambda: (folder / "claims" / "0000" / ".lock").exists())
    until(lambda: claim(folder / "claims" / "0000") is None)
    other = Child(lambda: live(folder, space))
    search = opened(folder, space)
    until(lambda: [trial.state.name for trial in search.trials] == ["RUNNING"] + 7 * ["COMPLETE"])
    assert other.wait(0.2) is None, "it waits for the last one"
    holder.send(signal.SIGKILL)
    holder.wait()
    assert other.wait(240) == 0, other.errors
    assert {state for _, state, *_ in told(folder, space)} == {"COMPLETE"}


def dying(after: int, carry: Callable[[Loaded, Path, Report], float]) -> Callable[[Loaded, Path, Report], float]:
    """Carry out trials until the ``after``-th report, and die there as by a kill."""
    left = [after]

    def carried(loaded: Loaded, path: Path, report: Report) -> float:
        def last(epoch: int, value: float) -> None:
            report(epoch, value)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        return carry(loaded, path, last)

    return carried


@pytest.mark.parametrize("pruner", ["best-so-far", *(pytest.param(name, marks=slow) for name in OTHERS)])
def test_killed_between_report_and_checkpoint(pruner: str, made_set: Path, tmp_path: Path) -> None:
    """What was reported before a kill is not reported again, and pruning is decided as it would have been."""
    space = grid(made_set, pruner=pruner, set={"train.epochs": 4, "train.precision": "fp32"}, space={"optim.lr": [0.01, 1e-5, 0.003, 1e-6]})
    live(tmp_path / "whole" / "search", space)
    folder = tmp_path / "killed" / "search"
    for after in (1, 3, 2):
        child = Child(lambda after=after: work(Search.at(folder, space), dying(after, training(space.objective, SETTING))))  # type: ignore[misc]
        assert child.wait() in (-signal.SIGKILL, 0), child.errors
    live(folder, space)
    assert told(folder, space) == told(tmp_path / "whole" / "search", space)
    pruned = [number for number, state, *_ in told(folder, space) if state == "PRUNED"]
    assert pruner != "best-so-far" or {1, 3} <= set(pruned), "worse from the first epoch on"
    assert pruner != "none" or not pruned
    for number in pruned:
        run = Run(folder / "trials" / f"{number:04d}")
        assert run.state == "stopped"
        assert run.reason.startswith(f"pruned: {pruner}, after epoch ")
        assert len(run.history) < 4
        assert not (run.path / "weights.safetensors").exists()


def test_killed_between_pruning_and_telling(made_set: Path, tmp_path: Path) -> None:
    space = grid(made_set, pruner="best-so-far", space={"optim.lr": [0.01, 1e-6]})
    carry = training(space.objective, SETTING)

    def dies_of_it(loaded: Loaded, path: Path, report: Report) -> float:
        try:
            return carry(loaded, path, report)
        except Stopped:
            os.kill(os.getpid(), signal.SIGKILL)
            raise

    assert Child(lambda: work(Search.at(tmp_path / "search", space), dies_of_it)).wait() == -signal.SIGKILL
    assert [state for _, state, *_ in told(tmp_path / "search", space)] == ["COMPLETE", "RUNNING"]
    live(tmp_path / "search", space)
    assert [state for _, state, *_ in told(tmp_path / "search", space)] == ["COMPLETE", "PRUNED"]
    assert len(Run(tmp_path / "search" / "trials" / "0001").history) == 1, "nothing was trained again"


@pytest.mark.slow
def test_when_the_time_is_up_trials_rest(opened: Opened, undisturbed: Path, made_set: Path, tmp_path: Path) -> None:
    space = grid(made_set)
    search = opened(tmp_path / "grid", space)
    carry = training(space.objective, SETTING)
    work(search, carry, deadline=time.time() - 1)
    assert search.trials == []

    began = [0.0]

    def slow(loaded: Loaded, path: Path, report: Report) -> float:
        began[0] = began[0] or time.time()

        def late(epoch: int, value: float) -> None:
            while len(search.trials) == 3 and time.time() < deadline:
                time.sleep(0.01)
            report(epoch, value)

        return carry(loaded, path, late)

    deadline = time.time() + 3
    work(search, slow, deadline=deadline)
    resting = [trial for trial in search.trials if trial.state.name == "RUNNING"]
    assert len(resting) == 1
    for trial in resting:
        run = Run(search.run_folder(trial.number))
        assert (run.state, run.reason) == ("stopped", "the time for the search was up")
        assert trial.user_attrs["seconds"] > 0
    work(search, carry)
    assert_same(tmp_path / "grid", undisturbed, space)


def test_the_last_epoch_is_the_end_whatever_the_time(opened: Opened, made_set: Path, tmp_path: Path) -> None:
    search = opened(tmp_path / "grid", grid(made_set))
    taken = room._take(search)
    assert taken is not None
    with Hand(search, *taken, lambda: True) as hand:
        hand.recipe()
        with pytest.raises(Stopped, match="the time for the search was up"):
            hand.report(1, 0.5)
        hand.report(2, 0.6)
        hand.tell(0.6)
    assert [(trial.state.name, trial.value) for trial in search.trials] == [("COMPLETE", 0.6)]


def test_what_counts_as_minutes(made_set: Path, tmp_path: Path) -> None:
    """What was done here, told or not; side by side counts once, whatever number of workers asks, and other machines have their own."""
    search = replace(in_memory_search(tmp_path / "grid", grid(made_set, budget={"minutes": 2.0}), InMemoryStorage()), places=3)
    here, there = {"place": "here", "places": 2}, {"place": "there", "places": 2}
    for number, attributes in enumerate([here, there]):
        told = {**attributes, "run": f"trials/{number:04d}", "seconds": 20.0}
        search.study().add_trial(create_trial(value=0.5, user_attrs=told))
    killed = take(search, None)
    assert killed is not None
    killed.let_go()
    killed.folder.mkdir(parents=True)
    for epoch in (1, 2):
        Run(killed.folder).append_epoch({"epoch": epoch, "train": {"loss": 1.0, "accuracy": 0.5, "seconds": 6.0}})
    assert search.spent == pytest.approx(20 / 2 + (6 + 6) / 3)
    assert search.deadline() == pytest.approx(time.time() + 120 - 14, abs=5)


@pytest.fixture
def machines(made_set: Path, tmp_path: Path, opened: Opened) -> tuple[Search, Search]:
    """Two folders with one storage, as two machines have."""
    space = grid(made_set, sampler="random", budget={"trials": 2}, finalists=1)
    url = f"sqlite:///{tmp_path}/shared.db"
    return opened(tmp_path / "one" / "search", space, url), opened(tmp_path / "other" / "search", space, url)


def begun(search: Search) -> Hand:
    hand = take(search, None)
    assert hand is not None
    hand.recipe()
    return hand


def test_machines_that_are_out_of_time_do_not_wait_for_each_other(machines: tuple[Search, Search]) -> None:
    one, other = (replace(search, space=search.space.model_copy(update={"budget": Budget(trials=9)})) for search in machines)
    with begun(one) as hand:
        hand.tell(0.5)
    for search in (one, other):
        with begun(search) as hand:
            assert hand.give_up(Stopped("the time for the search was up")) == ""
    for search in (one, other):
        assert [training.number for training in trainings(search)] == [0, 0, 0]
        assert outcome(search).left.startswith("the finalists are not trained yet")
    with begun(other) as hand:
        assert hand.number == 2, "there is more time there"
        assert trainings(one) == []
        hand.tell(0.4)
    assert trainings(one)


def test_a_trial_whose_process_died_rests_when_the_time_is_up(machines: tuple[Search, Search]) -> None:
    one, other = machines
    with begun(one) as hand:
        hand.tell(0.5)
    with begun(other) as killed:
        assert in_hand(other, time.time() - 1), "not dead yet"
        assert trainings(one) == []
    assert not in_hand(other, time.time() - 1)
    assert killed.number == 1
    assert len(trainings(one)) == 3


def test_a_trial_of_a_machine_that_is_gone_is_taken_over(machines: tuple[Search, Search]) -> None:
    one, gone = machines
    with begun(one) as hand:
        hand.tell(0.5)
    lost = begun(gone)
    params = one.trials[1].params
    assert "has trials in hand (1)" in outcome(one).left
    assert "--take-over 1" in outcome(one).left
    take_over(one, 1)
    with pytest.raises(Stopped, match="another machine took the trial over"):
        lost.report(1, 0.1)
    assert lost.tell(0.1) == "", "it was not gone, and finds out in time"
    work(one, lambda loaded, path, report: 0.6)
    assert [(trial.number, trial.params, trial.value) for trial in one.trials[1:]] == [(1, params, 0.6)]
    assert one.trials[1].user_attrs["place"] == one.place
    assert len(trainings(one)) == 3
    take_over(one, 1)  # the same command again
    take_over(one, 0)
    assert {trial.state.name for trial in one.trials} == {"COMPLETE"}
    with pytest.raises(UsageError, match="no trial 7"):
        take_over(one, 7)


def test_a_trial_too_many_waits_until_there_are_to_be_more(made_set: Path, tmp_path: Path, opened: Opened) -> None:
    """Two machines ask for the last trial at the same moment; when the budget is raised, each cell of the grid is still tried once."""
    url, few, all_of_them = f"sqlite:///{tmp_path}/shared.db", grid(made_set, budget={"trials": 2}), grid(made_set)
    one = opened(tmp_path / "one" / "search", few, url)
    work(one, nothing)
    assert room._ask(one, one.trials[:1]) is None, "as if only one had been known"
    assert [trial.number for trial in one.trials] == [0, 1]
    other = opened(tmp_path / "other" / "search", all_of_them, url)
    work(other, nothing)
    assert [trial.number for trial in other.trials] == list(range(8))
    assert {trial.state.name for trial in other.trials} == {"COMPLETE"}
    assert [trial.params for trial in other.trials] == all_of_them.cells
    assert [trial.user_attrs["place"] == other.place for trial in other.trials] == [False] * 2 + [True] * 6


def test_values_that_a_recipe_cannot_have_fail_alone(opened: Opened, made_set: Path, tmp_path: Path) -> None:
    space = grid(made_set, space={"data.size": [8, 12]}, set={"model": "lenet5", "train.epochs": 1})
    live(tmp_path / "search", space)
    trials = opened(tmp_path / "search", space).trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]
    assert "needs images of at least 12×12 pixels" in trials[0].user_attrs["reason"]


def test_what_every_trial_would_meet_ends_the_search(made_set: Path, tmp_path: Path) -> None:
    space = grid(made_set, set={"data.name": str(tmp_path / "gone.npz"), "train.epochs": 1})
    with pytest.raises(FittingRoomError, match=r"gone\.npz"):
        live(tmp_path / "search", space)
    assert [state for _, state, *_ in told(tmp_path / "search", space)] == ["RUNNING"], "it is taken up when the data are back"


def test_another_space_is_refused(opened: Opened, made_set: Path, undisturbed: Path) -> None:
    with pytest.raises(UsageError, match=r"another space \(its seed differs\); choose another --name"):
        opened(undisturbed, grid(made_set, seed=1))
    opened(undisturbed, grid(made_set, finalists=2, budget={"trials": 5}))


def test_a_run_of_another_recipe_is_refused(made_set: Path, tmp_path: Path) -> None:
    space = grid(made_set)
    live(tmp_path / "search", grid(made_set, space={"optim.lr": [0.5]}))
    (tmp_path / "search" / "search.db").unlink()
    with pytest.raises(RunError, match="another recipe"):
        live(tmp_path / "search", space)


def test_sqlite_keeps_what_was_told(undisturbed: Path) -> None:
    storage: Any = open_storage(local_url(undisturbed))
    with storage._backend.engine.connect() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["truncate", 2], "a rollback journal, and full synchronisation"
    assert not list(undisturbed.glob("search.db-wal"))


def test_optuna_and_its_dashboard_read_it(undisturbed: Path, made_set: Path) -> None:
    study = optuna.load_study(study_name=undisturbed.name, storage=f"sqlite:///{undisturbed / 'search.db'}")
    assert len(study.trials) == 8
    assert study.best_value == max(value or 0.0 for *_, value in told(undisturbed, grid(made_set)))
    for trial in study.trials:
        assert (undisturbed / trial.user_attrs["run"] / "recipe.toml").is_file()
        assert sorted(trial.intermediate_values) == [1, 2]


@contextmanager
def quickly() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 10


def test_storages_that_cannot_be_used(tmp_path: Path) -> None:
    cases = {
        "postgresql://me:secret@127.0.0.1:1/search": "127.0.0.1",
        "postgresql://me:secret@name.invalid/search": "name.invalid",
        f"sqlite:///{tmp_path}/missing/search.db": "unable to open database file",
        f"sqlite:///{tmp_path}/text.db": "not a database",
        "mysql://me:secret@127.0.0.1/search": "mysql is not supported",
        "sqlite://": "kept in memory",
        "sqlite:///:memory:": "kept in memory",
        "search.db": "is not a URL",
        "postgresql://me:secret@host:port/search": "is not a URL",
    }
    (tmp_path / "text.db").write_text("no database, " * 100)
    for url, words in cases.items():
        with quickly(), pytest.raises(FittingRoomError) as raised:
            open_storage(url)
        message = str(raised.value)
        assert words in message
        assert "\n" not in message
        assert "secret" not in message


def test_a_storage_that_cannot_be_used_leaves_no_place(made_set: Path, tmp_path: Path) -> None:
    with pytest.raises(FittingRoomError, match="cannot be used"):
        Search.at(tmp_path / "search", grid(made_set), "postgresql://me:secret@127.0.0.1:1/search")
    assert [path.name for path in (tmp_path / "search").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ([-9, -15], r"all workers were killed \(signal 9, signal 15\); the same command goes on"),
        ([130, -9], r"all workers were killed \(exit code 130, signal 9\)"),
        ([1, 1], r"no worker came to its end \(exit code 1, exit code 1\); what they wrote above says why"),
        ([-9, 1], r"no worker came to its end \(signal 9, exit code 1\)"),
    ],
)
def test_how_workers_ended_is_told(codes: list[int], words: str) -> None:
    assert re.match(words, worker._all_dead(codes))


def test_workers_that_die_at_their_start(made_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their order, longer here than a pipe holds, is read by nobody."""
    monkeypatch.setattr(worker.sys, "executable", "/bin/false")
    order = worker.Order(folder=tmp_path, space=grid(made_set), data_dir=Path("x" * 1_000_000))
    with pytest.raises(FittingRoomError, match=r"no worker came to its end \(exit code 1, exit code 1\)"):
        worker.start(order, 2, lambda line: None)


def test_a_worker_that_cannot_be_started_ends_the_others(made_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[subprocess.Popen[str]] = []

    def only_one(command: list[str], **options: Any) -> subprocess.Popen[str]:
        if made:
            raise OSError("no more processes")
        made.append(subprocess.Popen(["sleep", "600"], **options))
        return made[0]

    monkeypatch.setattr(worker, "subprocess", SimpleNamespace(Popen=only_one, PIPE=subprocess.PIPE))
    with pytest.raises(OSError, match="no more processes"):
        worker.start(worker.Order(folder=tmp_path, space=grid(made_set)), 2, lambda line: None)
    assert made[0].poll() == -signal.SIGTERM


@slow
def test_workers_with_a_defect_were_not_killed(opened: Opened, made_set: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What no version of the program writes stands in the storage: every worker fails at it, and none was killed."""
    space = grid(made_set)
    search = opened(tmp_path / "search", space)
    left = {"place": search.place, "run": "trials/0000", "token": "", "seconds": "soon"}
    search.study().add_trial(create_trial(state=TrialState.RUNNING, user_attrs=left))
    with pytest.raises(FittingRoomError, match=r"no worker came to its end \(exit code 1, exit code 1\)"):
        worker.start(worker.Order(folder=search.folder, space=space, device="cpu", threads=1), 2, lambda line: None)
    assert "could not convert string to float: 'soon'" in capfd.readouterr().err


def test_a_storage_of_another_version(tmp_path: Path) -> None:
    open_storage(local_url(tmp_path))
    with sqlite3.connect(tmp_path / "search.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
    connection.close()
    with pytest.raises(FittingRoomError, match="no longer compatible") as raised:
        open_storage(local_url(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["why? runs", "a%20b", "50%", "ü # &"])
def test_a_folder_may_have_any_name(name: str, made_set: Path, tmp_path: Path) -> None:
    with Search.at(tmp_path / name / "search", grid(made_set)) as search:
        assert search.trials == []
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "search" / "search.db").is_file()


def test_a_pause_before_the_first_epoch_is_no_work(opened: Opened, made_set: Path, tmp_path: Path) -> None:
    search = opened(tmp_path / "search", grid(made_set))
    first = take(search, None)
    assert first is not None
    first.let_go()
    time.sleep(0.5)
    again = take(search, None)
    assert again is not None
    with again:
        again.recipe()
        again.tell(0.9)
    assert again.number == first.number
    assert search.spent < 0.4


def test_a_url_is_shown_without_its_password() -> None:
    assert shown("postgresql://me:secret@host/search") == "postgresql://me:***@host/search"


def nothing(loaded: Loaded, folder: Path, report: Report) -> float:
    """A trivial objective."""
    return loaded.recipe.optim.lr


@slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_thousand_trials_by_four_processes(sampler: str, on_disk: Path) -> None:
    values: dict[str, Any] = {"base": "lenet5", "sampler": sampler, "budget": {"trials": 1000}}
    space = spaces.load({**values, "space": {"optim.lr": {"low": 1e-4, "high": 1.0, "log": True}, "train.batch_size": [16, 32, 64]}})
    Search.at(on_disk / "search", space).close()
    began = time.monotonic()
    children = [Child(lambda: work(Search.at(on_disk / "search", space), nothing)) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4, [child.errors for child in children]
    seconds = time.monotonic() - began
    print(f"{sampler}: 1,000 trials in {seconds:.0f} s")
    found = told(on_disk / "search", space)
    assert [number for number, *_ in found] == list(range(1000))
    assert all(state == "COMPLETE" and value == params["optim.lr"] for _, state, params, value in found)
    assert seconds < 180


@slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_in_forty_trials(made_set: Path, tmp_path: Path) -> None:
    # Long enough not to be over before all the kills, on a quick machine too.
    set_to = {"train.epochs": 60, "train.precision": "fp32"}
    space = grid(made_set, set=set_to, space={"optim.lr": [0.001 * step for step in range(1, 11)], "train.batch_size": [16, 32, 64, 128]})
    live(tmp_path / "expected", space)
    assert killed_again_and_again(tmp_path / "killed", space, 2, 100, 0.2, random.Random(100)) == 100
    live(tmp_path / "killed", space)
    assert_same(tmp_path / "killed", tmp_path / "expected", space)


@slow
def test_overhead_of_a_trial(opened: Opened, made_set: Path, on_disk: Path) -> None:
    """What a trial takes beyond its run."""
    space = grid(made_set)
    search = opened(on_disk / "search", space)
    inside = 0.0
    carry = training(space.objective, SETTING)

    def timed(loaded: Loaded, path: Path, report: Report) -> float:
        nonlocal inside
        began = time.monotonic()
        try:
            return carry(loaded, path, report)
        finally:
            inside += time.monotonic() - began

    began = time.monotonic()
    work(search, timed)
    overhead = (time.monotonic() - began - inside) / 8
    print(f"{overhead:.3f} s a trial")
    assert overhead < 0.3
