"""``fittingroom compare``: runs, folders and recipes, the seeds that are missing, and the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from fittingroom import recipe
from fittingroom import runs as room
from tests.cli.running import fittingroom

RECIPE = """
model = {{ name = "mlp", hidden = [{width}] }}
[data]
name = "{data}"
[train]
epochs = 1
"""


@pytest.fixture
def recipes(made_set: Path, own_home: Path) -> tuple[Path, Path]:
    """Two recipes that train in an instant."""
    paths = own_home / "narrow.toml", own_home / "wide.toml"
    for path, width in zip(paths, (4, 32), strict=True):
        path.write_text(RECIPE.format(width=width, data=made_set), encoding="utf-8")
    return paths


def trained(folder: Path) -> list[str]:
    return [run.path.name for run in room.list_runs(folder)]


def test_two_runs(runs: Path) -> None:
    done = fittingroom("compare", "network", "classical")
    assert done.code == 0, done.err
    assert re.search(r"^recipe +seeds +accuracy +95 % interval +seconds +parameters +multiply-adds$", done.out, re.MULTILINE)
    assert "with one seed each" in done.out
    assert "McNemar" in done.out
    assert "Best for its seconds: " in done.out
    assert "has one seed only" in done.err
    assert max(map(len, done.out.splitlines())) <= 80


def test_on_a_narrow_terminal_words_stay_whole(runs: Path) -> None:
    wide = fittingroom("compare", runs).out
    command = "import rich.console, sys; rich.console.Console.is_terminal = True; from fittingroom.cli.main import main; main()"
    environ = {**os.environ, "COLUMNS": "74", "NO_COLOR": "1", "TERM": "xterm"}
    done = subprocess.run([sys.executable, "-c", command, "compare", runs], capture_output=True, text=True, env=environ)
    table = re.sub(r"\x1b\[\d+m", "", done.stdout).split("\n\n")[0].splitlines()
    words = set(wide.replace("multiply-adds", "multiply- adds").split())
    assert len(wide.splitlines()[0]) > 74 >= max(map(len, table))
    assert {word for line in table for word in line.split()} <= words


def test_stored_predictions_are_compared_without_torch(runs: Path) -> None:
    """Loading it would take three quarters of the time."""
    command = "import sys; from fittingroom.cli import main; sys.argv[0] = 'fittingroom'\n"
    command += "try:\n    main.main()\nfinally:\n    assert 'torch' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", command, "compare", runs], capture_output=True, text=True)
    assert (done.returncode, "AssertionError" in done.stderr) == (0, False), done.stderr
    assert "McNemar" in done.stdout


def test_a_folder_stands_for_its_runs(runs: Path) -> None:
    assert fittingroom("compare", runs, "--json").json == fittingroom("compare", "network", "classical", "--json").json


def test_missing_seeds_are_trained_once(recipes: tuple[Path, Path], own_home: Path) -> None:
    first = fittingroom("compare", *recipes, "--seeds", 2, "--threads", 1, "--json")
    assert first.code == 0, first.err
    assert "training mlp (model.hidden=[4]), seed 0 (1 of 4)" in first.err
    assert "training mlp (model.hidden=[32]), seed 1 (4 of 4)" in first.err
    there = trained(own_home / "runs")
    assert len(there) == 4
    again = fittingroom("compare", *recipes, "--seeds", 2, "--json")
    assert trained(own_home / "runs") == there
    assert again.json == first.json
    more = fittingroom("compare", *recipes, "--seeds", 3, "-q", "--threads", 1)
    assert "(2 of 2)" in more.err
    assert len(trained(own_home / "runs")) == 6
    looked_up = fittingroom("compare", *recipes, "--json").json
    assert [one["seeds"] for one in looked_up["standings"]] == [[0, 1, 2], [0, 1, 2]]
    assert [one["recipe"] for one in looked_up["standings"]] == ["mlp (model.hidden=[4])", "mlp (model.hidden=[32])"]
    assert "paired over 3 seeds" in more.out
    name = looked_up["standings"][0]["runs"][1]
    expanded = fittingroom("compare", name, recipes[1], "--seeds", 3, "--json").json
    assert expanded == looked_up, "with --seeds a run stands for its recipe"


def test_a_run_that_was_begun_goes_on(recipes: tuple[Path, Path], own_home: Path) -> None:
    begun = room.create_new(own_home / "runs", recipe.load(recipes[0], {"seed": 0}), datetime.now())
    done = fittingroom("compare", *recipes, "--seeds", 1, "--threads", 1)
    assert done.code == 0, done.err
    assert len(trained(own_home / "runs")) == 2
    assert begun.state == "finished"


@pytest.mark.slow
def test_workers_train_side_by_side_what_one_trains_after_the_other(recipes: tuple[Path, Path], own_home: Path) -> None:
    alone = fittingroom("compare", *recipes, "--seeds", 2, "--threads", 1, "--json").json
    room.create_new(own_home / "others", recipe.load(recipes[0], {"seed": 1}), datetime.now())  # one of them was begun before
    together = fittingroom("compare", *recipes, "--seeds", 2, "--workers", 2, "--runs-dir", "others", "--json")
    assert together.code == 0, together.err
    assert "(4 of 4)" in together.err
    assert len(trained(own_home / "others")) == 4
    assert [one["mean"] for one in together.json["standings"]] == [one["mean"] for one in alone["standings"]]
    assert [pair["sentence"] for pair in together.json["pairs"]] == [pair["sentence"] for pair in alone["pairs"]]


def test_the_page(runs: Path, own_home: Path) -> None:
    done = fittingroom("compare", "network", "classical", "--html", "comparison.html")
    assert done.code == 0, done.err
    page = (own_home / "comparison.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    for part in ("Cannot say", "Differences", "Accuracy against training time", "McNemar, seed 0", "default-src"):
        assert part in page
    assert not re.search(r'(src|href)="(?!#|data:)', page), "it asks nothing of the network"


def test_a_margin_is_in_points(runs: Path) -> None:
    assert fittingroom("compare", "network", "classical", "--margin", 0.5, "--json").json["margin"] == 0.005
    assert fittingroom("compare", "network", "classical", "--metric", "loss", "--margin", 0.5, "--json").json["margin"] == 0.5


def test_what_is_refused(runs: Path, recipes: tuple[Path, Path]) -> None:
    fittingroom("compare", "network", "network").refused(2, "runs of one recipe")
    fittingroom("compare", "network", "netwrok").refused(2, "no run 'netwrok'")
    fittingroom("compare", "network", "lenet").refused(2, "did you mean 'lenet5'")
    fittingroom("compare", "network", "classical", "--split", "test").refused(1, "has no test predictions", "--test")
    fittingroom("compare", "network", "classical", "--metric", "speed").refused(2, "unknown metric 'speed'")
    fittingroom("compare", "network", "classical", "--margin", -1).refused(2, "margin must be positive")
    fittingroom("compare", "network", recipes[0]).refused(1, "no finished run of mlp as this recipe has it", "--seeds 5")
    fittingroom("compare", "network", "classical", "--seeds", 0).refused(2)
    fittingroom("compare").refused(2)
    trained = fittingroom("train", "mlp", "--data", "digits", "--epochs", 1, "--threads", 1, "--run-dir", "runs/digits", "-q")
    assert trained.code == 0
    fittingroom("compare", "network", "runs/digits").refused(1, "different data", "run every recipe on each")


def test_recipes_of_different_sets_are_refused_before_anything_is_trained(own_home: Path) -> None:
    Path("small.toml").write_text('model = "mlp"\ndata = { name = "digits" }\n', encoding="utf-8")
    fittingroom("compare", "small.toml", "lenet5", "--seeds", 2).refused(
        2, "different data: lenet5 is run on fashion-mnist, mlp on digits; compare runs on the same data, or run every recipe on each"
    )
    assert not Path("runs").exists()


def test_the_test_set_of_runs_that_have_been_opened(runs: Path) -> None:
    assert fittingroom("evaluate", "classical", "--test").code == 0
    done = fittingroom("compare", "network", "classical", "--split", "test", "--json")
    assert (done.json["split"], list(done.json["images"].values())) == ("test", [100])


@pytest.mark.slow
def test_workers_exit_as_one_process_does(own_home: Path) -> None:
    for name in ("one", "other"):
        Path(f"{name}.toml").write_text(f'model = {{ name = "mlp", hidden = [{len(name)}] }}\ndata = {{ name = "absent.npz" }}\n')
    command = "compare", "one.toml", "other.toml", "--seeds", 1
    fittingroom(*command).refused(4, "absent.npz")
    fittingroom(*command, "--workers", 2).refused(4, "2 of 2 runs failed", "absent.npz")
