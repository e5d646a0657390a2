"""Searches of a study: what the tuner finds becomes a run like any other, and is found once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fittingroom.errors import UsageError
from fittingroom.runs import Run
from fittingroom.study.execute import OPENING
from fittingroom.study.file import load
from fittingroom.study.grid import cells, recipe_of, unsearched
from fittingroom.study.plan import plan
from fittingroom.study.results import checksum
from fittingroom.study.schema import Study
from fittingroom.study.searches import _folder, carry_out, searches, with_found
from fittingroom.workers import Crew
from tests.study.small import write_study

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forks")

SPACE = """
base = { model = { name = "mlp", hidden = [16] }, data = { name = "DATA", validation = 0.2 }, train = { epochs = 2, precision = "fp32" } }
sampler = "grid"
finalists = 1
fresh_seeds = 2

[space]
optim.lr = [1e-7, 0.01]
"""
STUDY = """
title = "What is best?"
source = "made up"
base = "lenet5"
seeds = [0, 1]
readings = { scale = ["unit", "raw"] }

[factors]
scale = { unit = { data.normalise = "unit" }, raw = { data.normalise = { mean = [0.0], std = [0.00392156862745098] } } }

[runs.found]
search = "space.toml"

[runs.stated]
base = "mlp"
set = { data.name = "DATA", data.validation = 0.2, train.epochs = 2, train.precision = "fp32", model.hidden = [16], optim.lr = 1e-6 }

[[claims]]
id = "nothing-better"
kind = "order"
text = "Nothing does better."
source = "everywhere"
metric = "validation.accuracy"
relation = "at least"
above = { run = "stated" }
below = [{ run = "found" }]
"""


def written(folder: Path, data: Path, study: str = STUDY, space: str = SPACE) -> Path:
    (folder / "space.toml").write_text(space.replace("DATA", str(data)), encoding="utf-8")
    return write_study(folder, data, text=study)


@pytest.fixture(scope="module")
def study(made_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load(written(tmp_path_factory.mktemp("study"), made_set))


@pytest.fixture(scope="module")
def folder(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, and of records in it, with one of the two searches carried out."""
    folder = tmp_path_factory.mktemp("runs")
    with Crew(2, device="cpu") as crew:
        carry_out(searches(study)[0], folder, folder / "records", crew)
    return folder


def test_there_is_a_search_for_each_reading(study: Study) -> None:
    assert [one.key for one in searches(study)] == ["found-unit", "found-raw"] == unsearched(study)
    assert [one.space.recipe({}).recipe.data.normalise.kind for one in searches(study)] == ["unit", "given"]
    assert searches(study, ["stated"]) == []
    assert cells(study, "found") == []
    assert {one.run for one in plan(study)} == {"stated"}


def test_what_is_found_is_a_run_like_any_other(study: Study, folder: Path) -> None:
    known = with_found(study, folder / "records")
    assert unsearched(known) == ["found-raw"]
    assert cells(known, "found") == [{"scale": "unit"}]
    assert [(one.run, one.cell, one.seed) for one in plan(known, ["found"])] == [("found", {"scale": "unit"}, seed) for seed in (0, 1)]
    recipe = recipe_of(known, "found", {"scale": "unit"}, 7).recipe
    # One of the two rates learns nothing in two epochs.
    assert (recipe.optim.lr, recipe.seed, recipe.data.normalise.kind, recipe.model.name) == (0.01, 7, "unit", "mlp")


def test_the_record_tells_what_the_runs_do(study: Study, folder: Path) -> None:
    found = with_found(study, folder / "records").found["found-unit"]
    trials = [Run(path.parent) for path in sorted((folder / "searches").glob("found-unit-*/trials/*/recipe.toml"))]
    best = {run.recipe.optim.lr: max(line["validation"]["accuracy"] for line in run.history) for run in trials}
    assert (found.trials, found.given_up, found.params) == (2, 0, {"optim.lr": 0.01})
    assert found.best == best[0.01] > best[1e-7]
    fresh = [Run(path.parent) for path in sorted((folder / "searches").glob("found-unit-*/finalists/*/recipe.toml"))]
    assert {str(run.recipe.seed): max(line["validation"]["accuracy"] for line in run.history) for run in fresh} == found.scores
    assert str(folder) not in (folder / "records" / "searches" / "found-unit.json").read_text()
    assert all("test" not in run.evaluation for run in trials + fresh), OPENING


def test_a_record_of_another_search_or_a_damaged_one_is_none(made_set: Path, study: Study, folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    other = load(written(tmp_path, made_set, space=SPACE.replace("0.01", "0.02")))
    assert with_found(other, folder / "records", said.append).found == {}
    assert "of another space" in said[0]
    path = tmp_path / "searches" / "found-unit.json"
    path.parent.mkdir()
    sound = (folder / "records" / "searches" / "found-unit.json").read_text()
    values = {key: value for key, value in json.loads(sound).items() if key != "sha256"}
    foreign = {**values, "search": {**values["search"], "winner": 7}}  # whole, and of no finalist
    for damage in ("", "[]", sound.replace('"winner": 1', '"winner": 0'), json.dumps({**foreign, "sha256": checksum(foreign)})):
        path.write_text(damage, encoding="utf-8")
        said.clear()
        assert with_found(study, tmp_path, said.append).found == {}
        assert "not a sound record" in said[0]


def test_what_an_earlier_state_of_the_code_found_is_found_again_when_asked(study: Study, folder: Path, tmp_path: Path) -> None:
    values = json.loads((folder / "records" / "searches" / "found-unit.json").read_text())
    del values["sha256"]
    values["code"] = "earlier"
    (tmp_path / "searches").mkdir()
    (tmp_path / "searches" / "found-unit.json").write_text(json.dumps({**values, "sha256": checksum(values)}), encoding="utf-8")
    assert with_found(study, tmp_path, code=True).found == {}
    assert set(with_found(study, tmp_path).found) == {"found-unit"}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('search = "space.toml"', 'search = "no.toml"', "runs.found.search: "),
        ('search = "space.toml"', 'search = "space.toml"\nbase = "mlp"', "runs.found: a run has a `base` or a `search`, not both"),
        ('base = "mlp"', 'base = "found"', "runs.stated.base: 'found' is searched for"),
        ('source = "made up"', 'source = "made up"\nfound = {}', "found: unknown key"),
        ('search = "space.toml"', 'search = "space.toml"\nset = { optim.lrr = 1 }', "optim.lrr"),
    ],
)
def test_what_cannot_be_meant_is_refused(made_set: Path, tmp_path: Path, before: str, after: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, made_set, STUDY.replace(before, after)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_space_or_code_is_another_search(made_set: Path, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a search that was begun is gone on with by no other one."""
    other = load(written(tmp_path, made_set, space=SPACE.replace("0.01", "0.02")))
    places = [_folder(tmp_path, searches(one)[0]) for one in (study, study, other)]
    monkeypatch.setattr("fittingroom.study.searches.fingerprint", lambda model: "other")
    places.append(_folder(tmp_path, searches(study)[0]))
    assert len(set(places)) == 3
    assert places[0] == places[1]
