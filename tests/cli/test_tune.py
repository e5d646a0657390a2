"""``fittingroom tune`` as a user meets it: from a space file to a winner, again, side by side, interrupted, and refused."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.running import command, fittingroom
from tests.processes import Child, until

SPACE = """
sampler = "grid"
finalists = 1
fresh_seeds = 2
[base]
model = { name = "mlp", hidden = [8] }
data = { name = "%s" }
[set]
train.epochs = 2
train.precision = "fp32"
[space]
optim.lr = [0.03, 1e-6, 0.01]
"""


@pytest.fixture
def space(made_set: Path, own_home: Path) -> Path:
    path = own_home / "mine.toml"
    path.write_text(SPACE % made_set)
    return path


def test_from_a_file_to_a_winner_and_again(space: Path) -> None:
    done = fittingroom("tune", space, "--threads", 1)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert re.fullmatch(r"trial +score +time +values", lines[0])
    assert lines[4] == "3 trials: 3 complete"
    assert re.fullmatch(r"finalist \d: \d+\.\d\d% on seeds 1, 2", lines[5])
    assert re.fullmatch(r"winner: trial ([02]), in runs/tune/mine/trials/000\1", lines[6])
    assert re.fullmatch(r"luck in the best score: -?\d+\.\d\d points \(95 % interval .*\)", lines[7])
    assert lines[8] == "runs/tune/mine/report.html"
    assert max(map(len, lines)) <= 80
    assert done.err.count("trial ") == 3
    assert done.err.count("seed ") == 2
    page = Path(lines[8]).read_text(encoding="utf-8")
    assert "looks" in page
    assert "https://" not in page

    again = fittingroom("tune", "mine.toml", "--threads", 1)
    assert (again.out, again.err) == (done.out, ""), "nothing is left to do"
    told = fittingroom("tune", "mine.toml", "--json").json
    assert [trial["state"] for trial in told["trials"]] == ["complete"] * 3
    for trial in told["trials"]:
        assert {"number", "params", "value", "state", "run", "seconds"} <= trial.keys()
        assert (Path(trial["run"]) / "metrics.jsonl").is_file()
    best = max(trial["value"] for trial in told["trials"])
    assert told["best"]["value"] == best
    winner = next(finalist for finalist in told["finalists"] if finalist["number"] == told["winner"])
    assert winner["scores"].keys() == {"1", "2"}, "fresh seeds, and not the search's"
    assert told["optimism"]["value"] == pytest.approx(best - winner["mean"]), "the only finalist is the best trial"
    assert told["lead"] == 0
    assert json.loads(Path("runs/tune/mine/result.json").read_text())["winner"] == told["winner"]
    assert fittingroom("runs", "list", "--runs-dir", "runs/tune/mine/trials").out.count("finished") == 3


def test_a_terminal_shows_how_far_it_is(space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("fittingroom.cli.tune.LOOK_SECONDS", 0.01)
    done = fittingroom("tune", space, "--threads", 1, "--set", "train.epochs=5")
    assert done.code == 0, done.err
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.err)
    assert re.search(r"[12] of 3 trials, best [\d.]+%, about \d+ s left ", plain)
    assert re.search(r"^trial [12], epoch \d", plain, re.MULTILINE)
    assert "finalists: 1 of 2 trainings" in plain
    assert max(map(len, re.split(r"[\r\n]+", plain))) <= 80


@pytest.mark.slow
def test_workers_find_the_same(space: Path) -> None:
    done = fittingroom("tune", space, "--workers", 2, "--name", "two", "--json")
    assert done.code == 0, done.err
    alone = fittingroom("tune", space, "--threads", 1, "--name", "one", "--json", "-q").json
    for ours, theirs in zip(done.json["trials"], alone["trials"], strict=True):
        assert [ours[key] for key in ("number", "params", "value", "state")] == [
            theirs[key] for key in ("number", "params", "value", "state")
        ]
    assert done.json["winner"] == alone["winner"]
    assert done.err.count("complete") == 3


def hold(workers: list[int]) -> None:
    """Stop processes in the middle of their trials, for as long as it takes, but not in the middle of a transaction."""
    while True:
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: all(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T" for pid in workers))
        try:
            with closing(sqlite3.connect("runs/tune/mine/search.db", timeout=0)) as database:
                database.execute("BEGIN EXCLUSIVE")
                return
        except sqlite3.OperationalError:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
            time.sleep(0.01)


@pytest.mark.slow
def test_the_controller_is_killed_while_its_workers_live(space: Path) -> None:
    """The same command, given at once, finds trials in the hands of orphans; in the end every trial is there, once."""
    space.write_text(space.read_text().replace("finalists = 1", "finalists = 0"))
    again = command("tune", space, "--workers", 2, "--set", "train.epochs=60", "--json", "-q")
    trials = Path("runs/tune/mine/trials")
    with subprocess.Popen(again, stdout=subprocess.DEVNULL) as controller:
        until(lambda: len(list(trials.glob("*/metrics.jsonl"))) == 2)
        orphans = [int(pid) for pid in Path(f"/proc/{controller.pid}/task/{controller.pid}/children").read_text().split()]
        hold(orphans)
        controller.kill()
    with subprocess.Popen(again, stdout=subprocess.PIPE) as second:
        until(lambda: (trials / "0002" / "metrics.jsonl").exists())
        for pid in orphans:
            os.kill(pid, signal.SIGCONT)
        out, _ = second.communicate()
    assert (len(orphans), second.returncode) == (2, 0)
    told = json.loads(out)["trials"]
    assert [(trial["number"], trial["state"]) for trial in told] == [(number, "complete") for number in range(3)]
    assert [trial["params"]["optim.lr"] for trial in told] == [0.03, 1e-6, 0.01]
    for trial in told:
        lines = (Path(trial["run"]) / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 61))
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))


def test_changes_to_the_recipe_and_to_the_budget(space: Path) -> None:
    done = fittingroom("tune", space, "--trials", 1, "--set", "train.epochs=1", "--json", "-q")
    assert done.code == 0, done.err
    (trial,) = done.json["trials"]
    assert len((Path(trial["run"]) / "metrics.jsonl").read_text().splitlines()) == 1
    fittingroom("tune", space).refused(2, "runs/tune/mine", "another space", "its set differs", "--name")


def test_interrupted_and_gone_on_with(space: Path) -> None:
    fittingroom("tune", space, "--trials", 1, "--name", "warm", "-q")
    child = Child(lambda: _tune("--set", "train.epochs=100000"))
    until(lambda: list(Path("runs/tune/mine/trials").glob("*/metrics.jsonl")))
    child.send(signal.SIGINT)
    assert child.wait(240) == 130
    assert child.errors.splitlines()[-1] == "stopped; go on with the same command"
    with sqlite3.connect("runs/tune/mine/search.db") as database:
        assert database.execute("SELECT state FROM trials").fetchall() == [("RUNNING",)]
    database.close()
    assert json.loads(Path("runs/tune/mine/trials/0000/state.json").read_text())["reason"] == "interrupted"


def _tune(*arguments: str) -> None:
    import sys

    from fittingroom.cli.main import main

    sys.argv = ["fittingroom", "tune", "mine.toml", "--threads", "1", *arguments]
    main()


def test_mistakes(space: Path, made_set: Path) -> None:
    fittingroom("tune", "missing.toml").refused(2, "missing.toml", "no such space file")
    fittingroom("tune", "custom-cnn-serch").refused(2, "did you mean 'custom-cnn-search'")
    fittingroom("tune", space, "--name", "../up").refused(2, "cannot name a search")
    fittingroom("tune", space, "--set", "optim.lrr=1").refused(2, "mine.toml", "lrr", "did you mean 'optim.lr'")
    fittingroom("tune", space, "--storage", "postgresql://127.0.0.1:1/x").refused(1, "127.0.0.1", "cannot be used")
    fittingroom("tune", space, "--storage", "sqlite://").refused(2, "kept in memory", "sqlite:///search.db")
    fittingroom("tune", space, "--take-over", "7").refused(2, "mine has no trial 7")
    fittingroom("tune", space, "--storage", "search.db").refused(2, "is not a URL")
    Path("reversed.toml").write_text(SPACE % made_set + "optim.momentum = { low = 0.9, high = 0.1 }\n")
    fittingroom("tune", "reversed.toml").refused(2, "reversed.toml", "space: optim.momentum", "low must be below high")


def test_no_trial_comes_to_its_end(space: Path) -> None:
    done = fittingroom("tune", space, "--set", 'model={name="lenet5"}', "--set", "data.size=8", "--json", "-q")
    assert done.code == 1
    assert "trial 0: lenet5: needs images of at least 12×12 pixels" in done.err
