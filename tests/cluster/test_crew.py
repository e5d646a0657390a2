"""A crew on a real cluster of two nodes: what comes back is what local workers make, whoever is killed meanwhile.

Whatever uses Ray here is a process of its own, so that no other test forks one that has Ray's threads.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fittingroom import recipe
from fittingroom.cluster import AnyCrew, RayCrew
from fittingroom.cluster.software import software
from fittingroom.errors import RunError
from fittingroom.experiment import Setting
from fittingroom.recipe import Loaded
from fittingroom.runs import Run
from fittingroom.study import execute
from fittingroom.study.file import load
from fittingroom.study.plan import plan
from fittingroom.study.schema import Study
from fittingroom.tune.search import Search
from fittingroom.tune.together import carry_out_with
from fittingroom.workers import Crew, Event, Job
from tests.cli.running import Done, process
from tests.cluster.nodes import Nodes, needs_ray, nodes
from tests.processes import Child, until
from tests.study.small import TEXT, write_study
from tests.study.test_execute import UNKNOWN, table
from tests.test_docs import ROOT, Command, blocks, compare
from tests.tune.searching import grid, live, told

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), needs_ray]

# The digits, brought to a size that LeNet-5 takes; long enough to lose a node in the middle.
DIGITS = TEXT.replace('name = "DATA"', 'name = "digits", size = 16').replace('"data.name" = "DATA"', '"data.name" = "digits"')
EPOCHS = 160
CHECKPOINT_SECONDS = Setting().checkpoint_seconds


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands have their home in the current folder, which is not to be the project's."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with nodes(1, 1, cwd=tmp_path_factory.mktemp("nodes")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load(write_study(tmp_path_factory.mktemp("study"), "digits", EPOCHS, DIGITS))


@pytest.fixture(scope="module")
def expected(study: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The records of the study by local workers."""
    folder = tmp_path_factory.mktemp("expected") / "small"
    with Crew(1, device="cpu") as crew:
        carried_out(study, folder, crew)
    return table(folder)


def carried_out(study: Study, folder: Path, crew: AnyCrew, **watch: Any) -> dict[str, str]:
    with execute.owned(folder, study.name):
        stands = execute.standing(plan(study), folder / "records")
        return execute.execute(stands.todo, folder, folder / "records", crew, UNKNOWN, **watch)


def run_study(study: Study, folder: Path, address: str | None, at: Callable[[Event], object] = lambda event: None) -> None:
    """What a process does: the study on a cluster, and nothing fails."""
    with RayCrew(address, device="cpu", notify=print) as crew:
        assert carried_out(study, folder, crew, watch=lambda one, event, progress: at(event)) == {}


def succeed(work: Callable[[], object]) -> Child:
    child = Child(work)
    assert child.wait() == 0, child.errors
    return child


def scratches() -> list[Path]:
    """Where nodes are at work."""
    return [path for path in Path(tempfile.gettempdir()).glob("fittingroom-node-*") if Run(path).locked]


def test_a_node_is_lost(study: Study, expected: dict[str, Any], two: Nodes, tmp_path: Path) -> None:
    """The study that the issue asks for: two nodes, one killed in the middle, and the records of one machine."""
    folder = tmp_path / "small"
    seen: dict[str, int] = {}
    began: dict[str, float] = {}
    killed: list[int] = []
    died: list[str] = []
    histories: dict[str, list[dict[str, Any]]] = {}
    again: dict[str, tuple[float, int]] = {}

    def at(event: Event) -> None:
        key = event.job.key
        if event.kind == "epoch":
            epoch = event.values["record"]["epoch"]
            if key in died and key not in again:
                lost = [one["train"]["seconds"] for one in histories[key] if one["epoch"] >= epoch]
                again[key] = sum(lost[:-1]), epoch
            seen[key] = epoch
            began.setdefault(key, time.monotonic())
            both = [one for one in seen if seen[one] < EPOCHS and time.monotonic() - began[one] > 1.25 * CHECKPOINT_SECONDS]
            if len(both) == 2 and not killed:
                killed.append(1)
                two.kill(1)
        elif event.kind == "died":
            died.append(key)
            histories[key] = Run(event.job.folder).history
            assert histories[key][-1]["epoch"] == seen[key], "the caller holds what it was told of"

    def work() -> None:
        run_study(study, folder, two.address, at)
        print(json.dumps([died, seen, again]))

    child = succeed(work)
    lost = json.loads(child.out.splitlines()[-1])
    assert len(lost[0]) == 1, lost
    ((seconds, epoch),) = lost[2].values()
    assert epoch > 1, "it goes on"
    assert seconds < CHECKPOINT_SECONDS, "it loses what lay between two checkpoints, and the epoch under way"
    assert table(folder) == expected
    assert not list(folder.glob("*/checkpoints/*"))
    assert not scratches()


def test_killed_at_random_moments(study: Study, expected: dict[str, Any], two: Nodes, tmp_path: Path) -> None:
    """Workers on the nodes and the controller itself, again and again."""
    folder = tmp_path / "small"
    kills = 0
    while True:
        child = Child(lambda: run_study(study, folder, two.address))
        while child.wait(seconds=1.5) is None:
            if kills < 6 and (working := scratches()):
                pid = int((working[0] / ".lock").read_text().split()[-1])
                os.kill(child.pid if kills % 3 == 2 else pid, signal.SIGKILL)
                kills += 1
        if child.wait() == 0:
            break
        assert child.wait() == -signal.SIGKILL, child.errors
    assert kills >= 3, "it was over too soon"
    assert table(folder) == expected
    assert all(values["openings"] == [execute.OPENING] for values in table(folder).values()), "the test set is opened once"


def test_a_search_on_a_cluster(two: Nodes, made_set: Path, tmp_path: Path) -> None:
    """The same trials as by processes of this machine, one of them pruned, and a node lost in the middle."""
    space = grid(
        made_set,
        set={"train.epochs": 30, "train.precision": "fp32"},
        space={"optim.lr": [0.01, 0.003], "train.batch_size": [32, 64]},
        finalists=1,
        fresh_seeds=1,
    )
    live(tmp_path / "one", space)
    lines: list[str] = []

    def notify(line: str) -> None:
        lines.append(line)
        if len(lines) == 1:
            two.kill(1)

    def work() -> None:
        with RayCrew(two.address, device="cpu") as crew, Search.at(tmp_path / "two", space) as search:
            carry_out_with(search, crew, notify=notify)

    succeed(work)
    assert told(tmp_path / "two", space) == told(tmp_path / "one", space)
    for path in (tmp_path / "one").glob("*/*/weights.safetensors"):
        assert (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()


def last_of(crew: RayCrew, at: Callable[[Event], object] = lambda event: None) -> dict[str, Event]:
    last = {}
    for event in crew.events():
        at(event)
        last[event.job.key] = event
    return last


def small(data: Path | str, **changes: Any) -> Loaded:
    return recipe.load({"model": "lenet5"}, {"data.name": str(data), "train.epochs": 3, "train.precision": "fp32", **changes})


def test_what_can_happen_to_jobs(two: Nodes, made_set: Path, tmp_path: Path) -> None:
    """As in the tests of local workers: stopped, failing, diverging, timed, in somebody else's hands; and data that no node has."""
    caller = tmp_path / "caller"
    caller.mkdir()
    shutil.copy(made_set, caller / "mine.npz")
    loaded = small("mine.npz")
    long = small("mine.npz", **{"train.epochs": 5000})
    diverging = small("mine.npz", **{"optim.lr": 1e30, "optim.name": "sgd", "model.activation": "relu"})
    with Crew(1, device="cpu") as crew:
        crew.add(Job("sent", small(made_set), tmp_path / "local", test="the end"))
        assert [event.kind for event in crew.events()][-1] == "done"

    def work() -> None:
        os.chdir(caller)
        held = tmp_path / "held"
        held.mkdir()
        with RayCrew(two.address, device="cpu") as crew, Run(held).owned():
            assert crew.workers == 2
            crew.add(Job("sent", loaded, tmp_path / "sent", threads=2, test="the end"))
            crew.add(Job("long", long, tmp_path / "long"))
            crew.add(Job("late to stop", long, tmp_path / "late"))
            crew.add(Job("diverging", diverging, tmp_path / "diverging"))
            crew.add(Job("small", small("mine.npz", **{"data.size": 4}), tmp_path / "small"))
            crew.add(Job("no data", small("none.npz"), tmp_path / "none"))
            crew.add(Job("held", loaded, held))
            crew.add(Job("timed", loaded, tmp_path / "timed", do="time"))
            with pytest.raises(ValueError, match="already"):
                crew.add(Job("long", long, tmp_path / "elsewhere"))
            crew.stop("late to stop")
            last = last_of(crew, lambda event: crew.stop("long") if (event.job.key, event.kind) == ("long", "epoch") else None)
            kinds = {key: event.kind for key, event in last.items()}
            assert kinds == {
                "sent": "done",
                "long": "stopped",
                "late to stop": "stopped",
                "diverging": "failed",
                "small": "failed",
                "no data": "failed",
                "held": "failed",
                "timed": "done",
            }
            assert last["diverging"].values["final"] is True
            assert last["small"].values["code"] == 2
            assert "none.npz" in last["no data"].values["reason"]
            assert "in use by" in last["held"].values["reason"]
            assert last["timed"].values["seconds_per_image"] > 0
            crew.stop("long")  # it is gone: nothing to do

    succeed(work)
    assert Run(tmp_path / "long").state == "stopped"
    assert Run(tmp_path / "long").history
    assert [path.name for path in tmp_path.iterdir() if path.name in ("late", "none", "small", "timed")] == []
    sent, local = Run(tmp_path / "sent"), Run(tmp_path / "local")
    assert sent.environment["data"]["source"] == str(caller / "mine.npz"), "as the caller has it"
    assert sent.environment["threads"] == 2
    assert sent.evaluation.keys() == local.evaluation.keys()
    assert not scratches()


def test_a_node_with_other_software(two: Nodes, made_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told of and not used, and without any other that ends it."""
    # The nodes of one machine share its program, and take it from where the caller does: so the caller says that it has another one.
    monkeypatch.setattr("fittingroom.cluster.crew.software", lambda: {**software(), "code": "another"})

    def work() -> None:
        said: list[str] = []
        with RayCrew(two.address, device="cpu", notify=said.append) as crew:
            crew.add(Job("one", small(made_set), tmp_path / "one"))
            with pytest.raises(RunError, match=r"no node of the cluster can be used: .* has other software .*code"):
                last_of(crew)
        assert len(said) == 2
        for line in said:
            assert re.search(r"^not used: 127.0.0.1 has other software .* \(code \w+ there, another here\); install the same there$", line)

    succeed(work)
    assert not (tmp_path / "one").exists()


def family(pid: int) -> set[int]:
    """A process with its children, and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pids: set[int]) -> set[str]:
    """The addresses at which processes listen, as /proc has them."""
    sockets = set()
    for pid in pids:
        with suppress(OSError):
            sockets |= {str(handle.readlink()) for handle in Path(f"/proc/{pid}/fd").iterdir()}
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {words[1] for words in lines if words[3] == "0A" and f"socket:[{words[9]}]" in sockets}


def is_loopback(address: str) -> bool:
    digits = address.split(":")[0]
    last = digits[-8:]  # of an IPv6 address: the IPv4 one that it may stand for
    return socket.inet_ntoa(bytes.fromhex(last)[::-1]).startswith("127.") or digits == "0" * 24 + "01000000"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_ray_on_this_machine(made_set: Path, tmp_path: Path) -> None:
    """It listens to nobody else, leaves SIGTERM to the program, prints nothing, and is gone afterwards, also where it was killed."""
    folders = set(Path("/tmp").glob("fittingroom-ray-*"))

    def work() -> None:
        handler = signal.getsignal(signal.SIGTERM)
        with RayCrew(None, 1, device="cpu") as crew:
            assert signal.getsignal(signal.SIGTERM) is handler
            crew.add(Job("one", small(made_set), tmp_path / "one"))
            assert last_of(crew)["one"].kind == "done"
            addresses = listening(family(os.getpid()))
            assert len(addresses) > 3
            assert [address for address in addresses if not is_loopback(address)] == []

    child = succeed(work)
    assert (child.out, child.errors) == ("", "")
    assert set(Path("/tmp").glob("fittingroom-ray-*")) <= folders

    def endless() -> None:
        with RayCrew(None, 1, device="cpu") as crew:
            crew.add(Job("long", small(made_set, **{"train.epochs": 5000}), tmp_path / "long"))
            last_of(crew)

    child = Child(endless)
    until(lambda: (tmp_path / "long" / "state.json").exists())
    assert scratches()
    child.send(signal.SIGKILL)
    child.wait()
    until(lambda: not scratches())
    until(lambda: str(child.pid) not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout)
    assert Run(tmp_path / "long").state == "stopped"


def test_what_the_page_shows(two: Nodes, tmp_path: Path) -> None:
    """The commands of docs/cluster.md that train runs on a cluster, with the lines that it shows."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for block in blocks(ROOT / "docs" / "tuning.md", "text"):
        if block["mode"] == "file":
            (tmp_path / block["why"]).write_text(block["text"], encoding="utf-8")
    shown = [found["text"] for found in blocks(ROOT / "docs" / "cluster.md", "console") if "--engine ray" in found["text"]]
    commands = [command for text in shown for command in text.split("$ fittingroom ") if command]
    assert {command.split()[0] for command in commands} == {"study", "tune", "train", "compare"}
    for command in commands:
        line, *lines = [text for text in command.splitlines() if text.strip(" …")]
        words = line.replace("HEAD:6379", two.address).split()
        done = process(*words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, capture_output=False)
        assert done.code == 0, done.out
        compare(Command(line, lines, True), Done(done.code, "", "", done.out))
