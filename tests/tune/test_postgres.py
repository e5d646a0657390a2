"""A search on a real PostgreSQL server, which the tests start themselves."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest

from fittingroom.errors import FittingRoomError
from fittingroom.tune import space as spaces
from fittingroom.tune.search import Search, work
from fittingroom.tune.space import Space
from tests.processes import NOBODY, Child, may_write_everywhere, until
from tests.tune.searching import grid, live, told

pytestmark = pytest.mark.skipif(
    not (shutil.which("initdb") and shutil.which("postgres")), reason="no PostgreSQL here: initdb and postgres are not on the path"
)


@dataclass
class Server:
    """A PostgreSQL server of its own, on a free port; it refuses to run as root, so it does as nobody."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://tester@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        command = ["postgres", "-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder), "-h", "127.0.0.1", "-F"]
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **self.owner)
        until(lambda: "ready to accept connections" in (self.folder / "log").read_text())

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(240)
            self.process = None

    @property
    def owner(self) -> dict[str, int | Path]:
        return {"user": NOBODY, "group": NOBODY, "cwd": self.folder} if may_write_everywhere() else {"cwd": self.folder}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Server(Path(name), probe.getsockname()[1])
        probe.close()
        if may_write_everywhere():
            os.chown(name, NOBODY, NOBODY)
        subprocess.run(
            ["initdb", "-D", f"{name}/data", "-U", "tester", "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C"],
            check=True,
            capture_output=True,
            **made.owner,
        )
        made.start()
        yield made
        made.stop()


def test_two_share_a_search(server: Server, made_set: Path, tmp_path: Path) -> None:
    space = grid(made_set, space={"optim.lr": [0.001, 0.01]})
    live(tmp_path / "embedded", space)
    children = [Child(lambda: live(tmp_path / "shared", space, server.url)) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0], [child.errors for child in children]
    assert told(tmp_path / "shared", space, server.url) == told(tmp_path / "embedded", space)
    assert not (tmp_path / "shared" / "search.db").exists()
    with Search.at(tmp_path / "shared", space, server.url) as search:
        study = optuna.load_study(study_name="shared", storage=search.storage)
        assert [trial.user_attrs["run"] for trial in study.trials] == [f"trials/{number:04d}" for number in range(2)]


def numbers(trials: int) -> Space:
    return spaces.load(
        {"base": "lenet5", "sampler": "random", "budget": {"trials": trials}, "space": {"optim.lr": {"low": 0.001, "high": 1.0}}}
    )


def test_machines_with_folders_of_their_own(server: Server, tmp_path: Path) -> None:
    """Three processes with a folder each share a search as machines would: no trial too many, none twice, none of another's resumed."""
    space = numbers(16)
    folders = [tmp_path / str(machine) / "search" for machine in range(3)]
    Search.at(folders[0], space, server.url).close()

    def machine(folder: Path) -> None:
        work(Search.at(folder, space, server.url), lambda loaded, path, report: loaded.recipe.optim.lr)

    children = [Child(lambda folder=folder: machine(folder)) for folder in folders]  # type: ignore[misc]
    assert [child.wait() for child in children] == [0] * 3, [child.errors for child in children]
    with Search.at(folders[0], space, server.url) as search:
        trials = search.trials
    assert [trial.number for trial in trials] == list(range(16))
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert len({trial.value for trial in trials}) == 16
    assert len({trial.user_attrs["place"] for trial in trials}) > 1


def test_another_machines_trial_is_left_alone(server: Server, tmp_path: Path) -> None:
    space = numbers(3)
    def dies(loaded: object, path: Path, report: object) -> float:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    child = Child(lambda: work(Search.at(tmp_path / "theirs" / "left", space, server.url), dies))
    assert child.wait() == -signal.SIGKILL
    for machine, states in (("ours", ["RUNNING", "COMPLETE", "COMPLETE"]), ("theirs", ["COMPLETE"] * 3)):
        with Search.at(tmp_path / machine / "left", space, server.url) as search:
            work(search, lambda loaded, path, report: loaded.recipe.optim.lr)
            assert [trial.state.name for trial in search.trials] == states


def test_a_server_that_goes_away_and_comes_back(server: Server, tmp_path: Path) -> None:
    space, told_so_far = numbers(5), [0]

    def stops_it(loaded: object, path: Path, report: object) -> float:
        told_so_far[0] += 1
        if told_so_far[0] == 3:
            server.stop(signal.SIGQUIT)
        return float(told_so_far[0])

    with Search.at(tmp_path / "gone", space, server.url) as search, pytest.raises(FittingRoomError, match="storage failed") as raised:
        work(search, stops_it)
    assert "\n" not in str(raised.value)
    with pytest.raises(FittingRoomError, match="cannot be used"):
        Search.at(tmp_path / "gone", space, server.url)
    server.start()
    with Search.at(tmp_path / "gone", space, server.url) as search:
        work(search, stops_it)
        assert [(trial.number, trial.state.name) for trial in search.trials] == [(number, "COMPLETE") for number in range(5)]
