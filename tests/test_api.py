"""The Python functions: what the commands do, with runs as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fittingroom
from fittingroom import Recipe, runs
from fittingroom.api import compare_recipes, names_of
from fittingroom.errors import RunError, UsageError
from fittingroom.evaluate.compare import recipe_names
from fittingroom.experiment import Setting
from fittingroom.runs import Run

SETTING = Setting(device="cpu", threads=1, download=False)


@pytest.fixture(scope="module")
def trained(made_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Two runs of one family, in one folder."""
    folder = tmp_path_factory.mktemp("runs")
    values = {"data.name": str(made_set), "train.epochs": 2}
    first = fittingroom.train("mlp", values, runs_dir=folder, setting=SETTING)
    second = fittingroom.train("mlp", {**values, "seed": 1}, run_dir=folder / "second", setting=SETTING)
    return first, second


def test_train(trained: tuple[Run, Run]) -> None:
    first, second = trained
    assert (first.state, second.state, second.name) == ("finished", "finished", "second")
    assert first.path.parent == second.path.parent
    assert first.recipe.family == second.recipe.family
    assert first.origins["data.name"] == "command line"


def test_what_was_not_trained_is_not_compared(trained: tuple[Run, Run]) -> None:
    first, second = trained
    with pytest.raises(RunError, match=r"mlp with seed 2 was not trained in .*, so nothing is compared"):
        compare_recipes(first, second, "gaussian-nb", seeds=3, runs_dir=first.path.parent, train_all=lambda missing: None)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("unknown metric 'speed'", {"metric": "speed"}),
        ("unknown split 'all'", {"split": "all"}),
        ("margin must be positive", {"margin": -1.0}),
        ("does not open the test set", {"split": "test"}),
    ],
)
def test_a_question_that_has_no_answer_trains_nothing(trained: tuple[Run, Run], words: str, changes: dict[str, Any]) -> None:
    def train_all(missing: object) -> None:
        raise AssertionError("it trains")

    with pytest.raises(UsageError, match=words):
        compare_recipes(trained[0], "gaussian-nb", seeds=3, runs_dir=trained[0].path.parent, train_all=train_all, **changes)
    with pytest.raises(UsageError, match="a comparison needs two recipes"):
        compare_recipes(*trained, seeds=3, runs_dir=trained[0].path.parent, train_all=train_all)


def test_names_tell_recipes_apart_and_not_data_sets(trained: tuple[Run, Run]) -> None:
    first, _ = trained
    changes: dict[str, dict[str, Any]] = {
        "narrow": {"model": {"name": "mlp", "hidden": [4]}},
        "narrow, digits": {"model": {"name": "mlp", "hidden": [4]}, "data.name": "digits"},
        "wide": {"model": {"name": "mlp", "hidden": [32]}},
        "bayes": {"model": {"name": "gaussian-nb"}},
    }
    recipes = {name: first.recipe.updated(values) for name, values in changes.items()}
    names = recipe_names([*recipes.values(), recipes["wide"].updated({"seed": 7})])
    assert {name: names[recipe.family] for name, recipe in recipes.items()} == {
        "narrow": "mlp (model.hidden=[4])",
        "narrow, digits": "mlp (model.hidden=[4])",
        "wide": "mlp (model.hidden=[32])",
        "bayes": "gaussian-nb",
    }
    assert names_of(first, "gaussian-nb")[first.recipe.family] == "mlp"


def test_a_recipe_in_every_form_trains_to_the_same_bits(trained: tuple[Run, Run], tmp_path: Path) -> None:
    recipe = trained[0].recipe
    (tmp_path / "recipe.toml").write_text((trained[0].path / "recipe.toml").read_text())
    for name, what in {
        "recipe": recipe,
        "values": recipe.values,
        "file": tmp_path / "recipe.toml",
        "text": str(tmp_path / "recipe.toml"),
    }.items():
        run = fittingroom.train(what, run_dir=tmp_path / name, setting=SETTING)
        assert run.recipe == recipe
        assert (run.path / "weights.safetensors").read_bytes() == (trained[0].path / "weights.safetensors").read_bytes()


def test_load_run(trained: tuple[Run, Run]) -> None:
    folder = trained[0].path.parent
    assert fittingroom.load_run("second", folder) == trained[1]
    assert fittingroom.load_run(trained[1].path) == trained[1]
    with pytest.raises(RunError, match="no run"):
        fittingroom.load_run("third", folder)


def test_evaluate(trained: tuple[Run, Run]) -> None:
    run = trained[1]
    validation = fittingroom.evaluate(run, setting=SETTING)
    assert validation.count == 100
    assert "openings" not in run.evaluation
    test = fittingroom.evaluate(str(run.path), test=True, setting=SETTING)
    assert test.accuracy == run.evaluation["test"]["accuracy"]
    assert [opening["reason"] for opening in run.evaluation["openings"]] == ["fittingroom.evaluate(test=True)"]


def test_compare(trained: tuple[Run, Run]) -> None:
    first, second = trained
    found = fittingroom.compare(first, str(second.path))
    assert found.names == (first.name, "second")
    assert found.images == 100
    parts = [run.read_predictions("validation") for run in trained]
    right = [part.probabilities.argmax(1) == part.labels for part in parts]
    assert found.accuracies == pytest.approx([r.mean() for r in right])
    assert found.only_second == int((right[1] & ~right[0]).sum())
    with pytest.raises(RunError, match="has no test predictions"):
        fittingroom.compare(first, second, split="test")


def test_only_what_was_measured_on_the_same_images_is_compared(trained: tuple[Run, Run], made_set: Path, tmp_path: Path) -> None:
    values = {"data.name": str(made_set), "train.epochs": 1}
    other = fittingroom.train("mlp", {**values, "data.split_seed": 5}, run_dir=tmp_path / "split", setting=SETTING)
    with pytest.raises(RunError, match=r"different validation images; give both the same data\.split_seed"):
        fittingroom.compare(trained[0], other)
    digits = fittingroom.train("mlp", {"data.name": "digits", "train.epochs": 1}, run_dir=tmp_path / "digits", setting=SETTING)
    with pytest.raises(RunError, match="trained on different data"):
        fittingroom.compare(trained[0], digits)
    empty = runs.create(tmp_path / "empty", fittingroom.recipe.load("mlp"))
    with pytest.raises(RunError, match="has no validation predictions"):
        fittingroom.compare(trained[0], empty)


def test_mistakes_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown key"):
        fittingroom.train("mlp", {"optim.learning_rate": 1}, runs_dir=tmp_path)
    with pytest.raises(UsageError, match="unknown model"):
        fittingroom.train("mpl", runs_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_is_at_hand() -> None:
    assert Recipe.model_validate({"model": "mlp"}).updated({"seed": 3}).seed == 3
    assert np.isclose(Recipe.model_validate({"model": "mlp"}).optim.lr, 1e-3)
