from __future__ import annotations

import re
from pathlib import Path

import pytest

from fittingroom.errors import UsageError
from fittingroom.study.file import load, shipped
from fittingroom.study.grid import cells, recipe_of, seeds_of
from fittingroom.study.plan import plan
from fittingroom.study.schema import Study
from tests.study.small import TEXT, write_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return load(write_study(tmp_path, "digits"))


def test_every_run_once(study: Study) -> None:
    planned = plan(study)
    assert [one.key for one in planned] == [
        "plain-seed0",
        "plain-seed1",
        "poolings-max-seed0",
        "poolings-max-seed1",
        "bayes-seed0",
    ]
    assert [one.also for one in planned[:2]] == [(("poolings", {"pooling": "average"}),)] * 2, "the same recipe is trained once"
    assert planned[2].cell == {"pooling": "max"}
    assert planned[2].loaded.recipe == recipe_of(study, "poolings", {"pooling": "max"}, 0).recipe
    assert planned[0].title == "plain, seed 0"
    assert not any(one.reduced or one.full != one.loaded.recipe for one in planned)


def test_a_part_of_it_has_the_same_names(study: Study) -> None:
    assert [one.key for one in plan(study, only=["poolings"])] == ["plain-seed0", "plain-seed1", "poolings-max-seed0", "poolings-max-seed1"]
    assert [one.key for one in plan(study, only=["bayes"])] == ["bayes-seed0"]
    with pytest.raises(UsageError, match="study small has no run 'pooling' — did you mean 'poolings'"):
        plan(study, only=["pooling"])


def test_fewer_epochs_are_marked(study: Study) -> None:
    planned = plan(study, epochs=1)
    assert [one.reduced for one in planned] == [("epochs 1 of 2",)] * 4 + [()], "a classical model has no epochs"
    assert {one.loaded.recipe.train.epochs for one in planned[:4]} == {1}
    assert planned[0].full == plan(study)[0].loaded.recipe
    assert planned[0].key != plan(study)[0].key, "its record must not take the place of the whole run's"
    assert not any(one.reduced for one in plan(study, epochs=2))


def test_what_only_fewer_epochs_make_the_same_stays_apart(tmp_path: Path) -> None:
    """Two epochs are the whole protocol of one run and a part of the other's: each needs a record of its own."""
    longer = '[runs.longer]\nabout = "more epochs"\nset = { "train.epochs" = 6 }\n\n[runs.bayes]'
    study = load(write_study(tmp_path, "digits", text=TEXT.replace("[runs.bayes]", longer)))
    whole, part = (one for one in plan(study, epochs=2, seeds=1) if one.run in ("plain", "longer"))
    assert whole.loaded.recipe == part.loaded.recipe
    assert (whole.reduced, part.reduced) == ((), ("epochs 2 of 6",))
    assert [one.also for one in (whole, part)] == [(("poolings", {"pooling": "average"}),), ()]
    assert whole.key != part.key


@pytest.mark.parametrize(("count", "seeds"), [(1, [0, 0, 0]), (4, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3])])
def test_fewer_and_more_seeds(study: Study, count: int, seeds: list[int]) -> None:
    assert [one.seed for one in plan(study, seeds=count)] == seeds


def test_values_that_read_alike_are_told_apart(tmp_path: Path) -> None:
    levels = 'levels = { "A b" = { "optim.lr" = 0.1 }, "a-B" = { "optim.lr" = 0.2 } }'
    text = TEXT.replace("[factors]", f"[factors]\n{levels}").replace("grid = { pooling", 'grid = { levels = ["A b", "a-B"], pooling')
    names = [one.key for one in plan(load(write_study(tmp_path, "digits", text=text)))]
    assert len(set(names)) == len(names) == 2 + 8 + 1
    assert sum(re.fullmatch(r"poolings-a-b-max-seed0(-[0-9a-f]{8})?", name) is not None for name in names) == 2


def test_long_names_are_cut(tmp_path: Path) -> None:
    text = TEXT.replace("[runs.plain]", f"[runs.{'long-' * 15}name]").replace('{ run = "plain" }', '{ run = "poolings" }')
    text = text.replace("seeds = [0, 1]", "seeds = [1000000, 1000001]")
    names = [one.key for one in plan(load(write_study(tmp_path, "digits", text=text)))]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) == 80


@pytest.mark.parametrize("name", shipped())
def test_the_plans_of_the_shipped_studies(name: str) -> None:
    """Each cell of each run, with each of its seeds, is trained by exactly one entry of the plan; its key can name a file."""
    study = load(name)
    planned = plan(study)
    trained = [one.loaded.recipe.hash for one in planned]
    assert len(set(trained)) == len(trained)
    every = [(run, cell, seed) for run in study.runs for cell in cells(study, run) for seed in seeds_of(study, run, cell)]
    assert set(trained) == {recipe_of(study, *one).recipe.hash for one in every}
    keys = [one.key for one in planned]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,88}", key) for key in keys)
