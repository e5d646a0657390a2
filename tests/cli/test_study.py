"""``fittingroom study``: from the plan to the verdicts, on a small study of digits."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from fittingroom.cli import study as cli_study
from fittingroom.runs import Run
from fittingroom.study.file import load, shipped
from fittingroom.study.results import checksum
from tests.cli.running import Done, fittingroom, snapshot
from tests.processes import Child, until
from tests.study.small import TEXT, write_study
from tests.study.test_searches import SPACE
from tests.study.test_searches import STUDY as SEARCHING

TINY = (
    TEXT.replace('model = { name = "lenet5", dropout = 0.2, pooling = "average" }', 'model = { name = "mlp" }')
    .replace("[factors]", '[runs.wide]\nabout = "more units"\nset = { "model.hidden" = [64] }\n\n[factors]')
    .replace('pooling = "model.pooling"', 'rate = "optim.lr"')
    .replace('pooling = ["average", "max"]', "rate = [0.003, 0.01]")
    .replace('pooling = "max"', "rate = 0.01")
    .replace('pooling = "average"', "rate = 0.003")
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A folder in which the study has been run, and what the command said."""
    folder = tmp_path_factory.mktemp("finished")
    study = write_study(folder, "digits", text=TINY)
    done = fittingroom("study", "run", study, "--runs-dir", folder / "runs", "--workers", 2, "--device", "cpu")
    assert done.code == 0, done.err
    return folder, done


@pytest.fixture
def study(finished: tuple[Path, Done], own_home: Path) -> Path:
    """A copy of it, to be changed; the study file."""
    shutil.copytree(finished[0] / "runs", own_home / "runs")
    return Path(shutil.copy(finished[0] / "small.toml", own_home))


def test_the_shipped_studies() -> None:
    listed = fittingroom("study", "list", "--json").json
    assert [one["name"] for one in listed] == list(shipped())
    assert all(one["runs"] >= one["systems"] > 0 < one["claims"] for one in listed)
    done = fittingroom("study", "list")
    assert done.code == 0
    assert "shallow-vs-deep" in done.out
    shown = fittingroom("study", "show", "shallow-vs-deep")
    assert shown.code == 0
    for words in ("one convolution of 32", "batch-size", "standard-beats-basic", "fittingroom study run shallow-vs-deep"):
        assert words in shown.out
    value = fittingroom("study", "show", "shallow-vs-deep", "--json").json
    assert {"title", "runs", "claims", "assumptions", "plan"} <= value.keys()


def test_a_run_from_plan_to_page(finished: tuple[Path, Done]) -> None:
    folder, done = finished
    assert "7 runs: 0 done, 7 to do" in done.err
    assert sum(line.startswith("[") for line in done.err.splitlines()) == 7
    assert "[7/7]" in done.err
    assert re.search(r"^about \d+ s with 2 workers, and 1 runs? of which nobody knows yet$", done.err, re.MULTILINE)
    assert "\n      ! one seed\n" not in done.out, "both seeds are there"
    assert "plain-accuracy" in done.out
    records = folder / "runs" / "studies" / "small" / "records"
    assert len(list(records.glob("*.json"))) == 7
    assert (folder / "runs" / "studies" / "small" / "report.html").is_file()
    runs = [Run(path.parent) for path in (folder / "runs" / "studies" / "small").glob("*/recipe.toml")]
    assert len(runs) == 7
    assert all(run.state == "finished" and "test" in run.evaluation for run in runs)


def test_what_is_done_is_not_done_again(study: Path) -> None:
    before = snapshot(Path("runs/studies/small/records"))
    again = fittingroom("study", "run", study, "--json")
    assert again.code == 0, again.err
    assert "7 runs: 7 done, 0 to do" in again.err
    assert snapshot(Path("runs/studies/small/records")) == before
    assert again.json["failed"] == {}
    assert again.json["reduced"] == []
    planned = fittingroom("study", "run", study, "--dry-run", "--json").json
    assert [one["to_do"] for one in planned["plan"]] == [False] * 7
    assert planned["seconds"] == 0
    table = fittingroom("study", "run", study, "--dry-run")
    assert table.out.count("done") == 7
    assert "about 0 s" in table.out


def test_verdicts(study: Path) -> None:
    value = fittingroom("study", "verdicts", study, "--json").json
    assert [claim["id"] for claim in value["claims"]] == ["plain-accuracy", "max-beats-average"]
    for claim in value["claims"]:
        assert {"id", "kind", "claimed", "measured", "verdict", "evidence", "sentence", "cautions"} <= claim.keys()
        assert claim["verdict"] != "not yet run"
    assert value["claims"][0]["claimed"] == "0.90"
    done = fittingroom("study", "verdicts", study)
    assert value["claims"][0]["verdict"] in done.out
    shutil.copytree("runs/studies/small/records", "records/studies/small")
    shutil.rmtree("runs")
    brought = fittingroom("study", "verdicts", study, "--json")
    assert brought.json == value
    assert "records/studies/small" in brought.err
    assert "this is of the records in records/studies/small" in fittingroom("report", study, "--output", "brought.html").err
    shutil.rmtree("records")
    none = fittingroom("study", "verdicts", study)
    assert none.code == 0
    assert none.out.count(": not yet run\n") == 2
    assert none.out.splitlines()[-1] == "2 claims: 2 not yet run"
    assert "nothing is recorded of it yet" in none.err


@pytest.mark.parametrize("name", shipped())
def test_the_longest_names_fit_a_terminal(name: str) -> None:
    for command in ("show", "verdicts"):
        done = fittingroom("study", command, name)
        assert done.code == 0, done.err
        assert max(map(len, done.out.splitlines())) <= 80


def test_a_smaller_budget_is_said_and_kept_apart(study: Path) -> None:
    before = snapshot(Path("runs/studies/small/records"))
    done = fittingroom("study", "run", study, "--epochs", 1, "--seeds", 1, "--only", "plain", "--workers", 1, "--json")
    assert done.code == 0, done.err
    assert "reduced (epochs 1 of 2)" in done.err
    again = fittingroom("study", "run", study, "--epochs", 1, "--seeds", 1, "--only", "plain")
    assert again.err.splitlines()[-1] == "reduced (epochs 1 of 2, seeds 1 of 2): no test of the report's own protocol"
    assert done.json["reduced"] == ["epochs 1 of 2", "seeds 1 of 2"]
    page = Path("runs/studies/small/epochs-1/report.html").read_text(encoding="utf-8")
    assert "Fewer seeds than the study asks for: seeds 1 of 2 in 2 variations." in page
    assert snapshot(Path("runs/studies/small/records")) == before
    (record,) = Path("runs/studies/small/epochs-1/records").glob("*.json")
    assert json.loads(record.read_text())["reduced"] == ["epochs 1 of 2"]


def test_fewer_seeds_are_said(study: Path) -> None:
    for path in Path("runs/studies/small/records").glob("*-seed1.json"):
        path.unlink()
    value = fittingroom("study", "verdicts", study, "--json").json
    assert value["reduced"] == ["seeds 1 of 2"]
    assert [claim["marks"] for claim in value["claims"]] == [["one seed", "1 of 2 runs missing"], ["one seed", "2 of 4 runs missing"]]
    lines = fittingroom("study", "verdicts", study).out.splitlines()
    number = next(index for index, line in enumerate(lines) if line.startswith("  plain-accuracy: "))
    assert lines[number + 2] == "      ! one seed, 1 of 2 runs missing"


def test_earlier_code(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fittingroom.study import execute

    monkeypatch.setattr(execute, "fingerprint", lambda model: "another")
    planned = fittingroom("study", "run", study, "--dry-run", "--only", "bayes")
    assert "made by an earlier state of the code: 1; they are made again; --keep-earlier keeps them" in planned.err
    kept = fittingroom("study", "run", study, "--keep-earlier")
    assert kept.code == 0
    assert "made by an earlier state of the code: 7; they are kept" in kept.err


def test_interrupted(own_home: Path) -> None:
    """Whatever it does: even while it finds out how fast the models are, it says how to go on."""
    study = write_study(own_home, "digits", text=TINY)
    child = Child(lambda: _main("study", "run", str(study), "--workers", "1", "--device", "cpu"))
    until(lambda: Path("runs/studies/small/.lock").exists())
    child.send(signal.SIGINT)
    assert child.wait(240) == 130
    assert child.errors.splitlines()[-1].startswith("stopped; go on with the same command: fittingroom study run ")


def _main(*arguments: str) -> None:
    from fittingroom.cli.main import main

    sys.argv = ["fittingroom", *arguments]
    main()


def test_two_controllers(study: Path) -> None:
    with Run(Path("runs/studies/small")).owned():
        fittingroom("study", "run", study).refused(1, "study small is being run in runs/studies/small", "wait for it")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("study show shalow-vs-deep", "did you mean 'shallow-vs-deep'"),
        ("study run none.toml", "none.toml"),
        ("study run small.toml --only plane", "study small has no run 'plane' — did you mean 'plain'?"),
        ("study run small.toml --workers 0", "'--workers'"),
        ("study run small.toml --epochs 0", "'--epochs'"),
        ("study run small.toml --records small.toml", "small.toml is no folder; --records names the folder"),
        ("study verdicts small.toml --records none", "no folder none; --records names the folder"),
        ("study verdicts shallow", "did you mean 'shallow-vs-deep'"),
    ],
)
def test_bad_input(arguments: str, words: str, own_home: Path) -> None:
    write_study(own_home, "digits", text=TINY)
    before = snapshot(own_home)
    fittingroom(*arguments.split()).refused(2, words)
    assert snapshot(own_home) == before


def test_an_argument_that_a_model_does_not_take_is_found_before_anything_is_trained(own_home: Path) -> None:
    write_study(own_home, "digits", text=TINY.replace('"model.hidden" = [64]', '"model.hiden" = [64]'))
    before = snapshot(own_home)
    fittingroom("study", "run", "small.toml").refused(2, "runs.wide", "hiden", "did you mean 'hidden'")
    assert snapshot(own_home) == before


def test_a_damaged_record_is_named(study: Path) -> None:
    path = Path("runs/studies/small/records/plain-seed0.json")
    path.write_text(path.read_text().replace('"epoch":1', '"epoch":2', 1))
    done = fittingroom("study", "verdicts", study)
    assert done.code == 0
    assert f"{path}: not a sound record (its checksum does not agree with it); left out" in done.err


def test_how_long_on_so_many_machines(study: Path) -> None:
    table = fittingroom("study", "plan", study, "--cores", 1, "--price", 0.5)
    assert table.code == 0, table.err
    head, *rows = table.out.split("\n\n")[0].splitlines()
    assert head.split() == ["machines", "seconds", "95", "%", "core-hours", "busy", "cost", "bound", "by"]
    assert [row.split()[0] for row in rows] == ["1", "2", "4", "8"]
    assert "7 runs on machines of 1 core." in table.out
    assert "hardly help: the longest run, " in table.out
    assert max(map(len, table.out.splitlines())) <= 80
    assert "from 7 recorded runs on " in table.err
    assert "what starting a worker costs was not measured here: left out" in table.err
    assert fittingroom("study", "plan", study, "--cores", 1, "--price", 0.5) == table, "drawn from one seed"
    value = fittingroom("study", "plan", study, "--cores", 1, "--machines", 3, "--json").json
    assert [row["machines"] for row in value["machines"]] == [1, 2, 3]
    assert all(row["low"] <= row["wall"] <= row["high"] and row["cost"] is None for row in value["machines"])
    trained = sum(run["seconds"] for run in value["runs"])
    assert value["machines"][0]["low"] <= trained <= value["machines"][0]["high"]
    assert (value["unknown"], value["study"], value["cores"]) == ([], "small", 1)


def test_a_plan_of_what_is_recorded_in_part(study: Path) -> None:
    for path in Path("runs/studies/small/records").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        for line in record["history"]:
            line["train"]["seconds"] = 1.0  # how long such a small run takes is chance
        del record["sha256"]
        path.write_text(json.dumps(record | {"sha256": checksum(record)}), encoding="utf-8")
        if path.name.startswith("bayes"):
            path.unlink()
    told = fittingroom("study", "plan", study, "--epochs", 1, "--seeds", 1)
    assert "Left out is 1 run of a model of which nothing is recorded: bayes." in told.out.replace("\n", " ")
    assert told.out.splitlines()[-1] == f"  fittingroom study run {study} --only bayes --epochs 1 --seeds 1"
    assert "are scaled from other recipes of the model" in told.err
    whole = fittingroom("study", "plan", study, "--only", "plain", "--cores", 1, "--json").json
    part = fittingroom("study", "plan", study, "--only", "plain", "--seeds", 1, "--cores", 1, "--epochs", 1, "--json").json
    assert part["runs"][0]["scaled"]
    assert not whole["runs"][0]["scaled"]
    assert {run["seconds"] for run in whole["runs"]} == {2.0}
    # Scaled from networks of other widths too, fewer epochs are expected to take not much longer than what was recorded.
    assert 0 < part["runs"][0]["seconds"] < 3.0
    shutil.rmtree("runs")
    fittingroom("study", "plan", study).refused(1, "nothing is recorded of any model of small; make a record: fittingroom study run ")
    fittingroom("study", "plan", study, "--records", "none").refused(2, "no folder none; --records names the folder")
    fittingroom("study", "plan", study, "--overheads", "none").refused(2, "no file none; --overheads names a record")
    fittingroom("study", "plan", study, "--cores", 0).refused(2, "--cores")


@pytest.mark.slow
def test_what_is_searched_for_is_found_first_and_once(own_home: Path) -> None:
    Path("space.toml").write_text(SPACE.replace("DATA", "digits"), encoding="utf-8")
    file = write_study(own_home, "digits", text=SEARCHING.replace('readings = { scale = ["unit", "raw"] }', ""))
    done = fittingroom("study", "run", file, "--workers", 2)
    assert done.code == 0, done.err
    assert "search found:\ntrial 0" in done.err or "search found:\ntrial 1" in done.err
    assert "[4/4]" in done.err
    assert "nothing-better: not supported" in done.out
    again = fittingroom("study", "run", file)
    assert "search" not in again.err
    assert "4 runs: 4 done, 0 to do" in again.err
    page = Path("runs/studies/small/report.html").read_text(encoding="utf-8")
    assert 'id="searches"' in page
    assert "optim.lr 0.01" in page


@pytest.mark.parametrize(
    ("epochs", "installed", "said"),
    [
        (None, True, "comes first"),
        (1, True, "is left out: a search is not shortened by --epochs"),
        (None, False, "is left out: Optuna is not installed; in the checkout of this program: pip install '.[tune]'"),
    ],
)
def test_a_search_is_announced_or_left_out(
    own_home: Path, epochs: int | None, installed: bool, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("space.toml").write_text(SPACE.replace("DATA", "digits"), encoding="utf-8")
    study = load(write_study(own_home, "digits", text=SEARCHING))
    monkeypatch.setattr(cli_study, "find_spec", lambda name: object() if installed else None)
    due = cli_study._due_searches(study, ["found"], own_home, False, epochs)
    assert [one.key for one in due] == ([] if said.startswith("is left out") else ["found-unit", "found-raw"])
    assert f"search found-raw of 2 trials, 2 epochs each, {said}" in capsys.readouterr().err
