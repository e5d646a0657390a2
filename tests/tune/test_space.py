"""Space files: what they mean, and how each mistake is answered in one line."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

import fittingroom
from fittingroom.errors import UsageError
from fittingroom.report.tune_page import render
from fittingroom.tune import space as spaces
from fittingroom.tune.finalists import outcome
from fittingroom.tune.search import work
from fittingroom.tune.space import Range, Space
from tests.tune.searching import in_memory

BASE: dict[str, Any] = {"base": "lenet5", "budget": {"trials": 3}, "space": {"optim.lr": [0.1, 0.01]}}


def of(**changes: Any) -> Space:
    return spaces.load({**BASE, **changes})


@pytest.mark.parametrize("name", spaces.shipped())
def test_shipped_spaces_are_accepted(name: str) -> None:
    loaded = spaces.load(name)
    assert loaded.trials or loaded.budget.minutes
    assert loaded.recipe({}).recipe.data.name == "fashion-mnist"


def test_the_grid_of_report_custom_cnn() -> None:
    space = spaces.load("custom-cnn-search")
    cells = {tuple(cell.values()) for cell in space.cells}
    assert cells == set(product([32, 64], [32, 64], [3, 5], [0.0001, 0.0006, 0.001, 0.006]))
    assert (32, 64, 5, 0.001) in cells, "what the report found best"
    recipe = space.recipe(space.cells[-1]).recipe
    assert recipe.train.epochs == 50
    assert recipe.train.stop is not None
    assert recipe.train.stop.restore_best
    assert recipe.data.normalise.kind == "given"
    written = spaces.load("custom-cnn-search", {"data.normalise": "raw-mean-std"})
    assert written.recipe({}).recipe.data.normalise.kind == "raw-mean-std"
    assert written.fixed != space.fixed


def test_a_file_says_the_same_with_dots_or_tables(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('model = "lenet5"\noptim = { name = "sgd" }\n')
    (tmp_path / "one.toml").write_text(
        'base = "base.toml"\nbudget = { trials = 3 }\n[set]\n"train.epochs" = 2\n[space]\n'
        '"optim.lr" = { low = 0.01, high = 0.1, log = true }\n'
        '"optim.nesterov" = { choices = [true], when = { "optim.momentum" = 0.9 } }\n"optim.momentum" = [0.0, 0.9]\n'
    )
    (tmp_path / "two.toml").write_text(
        'base = "base.toml"\nbudget.trials = 3\nset.train.epochs = 2\n[space.optim]\nlr = { low = 0.01, high = 0.1, log = true }\n'
        "nesterov = { choices = [true], when = { optim.momentum = [0.9] } }\nmomentum = [0.0, 0.9]\n"
    )
    one, two = (spaces.load(tmp_path / name) for name in ("one.toml", "two.toml"))
    assert one == two
    assert one.order.index("optim.momentum") < one.order.index("optim.nesterov")
    assert one.recipe({}).recipe.optim.name == "sgd"
    origins = one.recipe({"optim.momentum": 0.9}).origins
    assert [origins[key] for key in ("optim.momentum", "train.epochs", "optim.name", "optim.beta1")] == ["search", "space", "base", "base"]


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    page = Path(fittingroom.__file__).parent.parent / "docs" / "tuning.md"
    if not page.is_file():
        pytest.skip("the documentation is not installed with the package")
    blocks = page.read_text(encoding="utf-8").split("```text\n")
    (tmp_path / "example.toml").write_text(next(block for block in blocks if "optim.momentum" in block).split("```")[0])
    space = spaces.load(tmp_path / "example.toml")
    assert space.budget.minutes == 30
    assert space.active("optim.momentum", {"optim.name": "sgd"})
    assert not space.active("optim.momentum", {"optim.name": "adam"})


def test_a_grid_takes_a_condition_into_account() -> None:
    space = of(
        sampler="grid",
        space={
            "optim.momentum": {"choices": [0.0, 0.9], "when": {"optim.name": "sgd"}},
            "optim.name": ["adam", "sgd"],
            "train.batch_size": {"low": 16, "high": 50, "step": 16},
        },
    )
    naive = [
        {"optim.name": name, "train.batch_size": size} | ({} if momentum is None else {"optim.momentum": momentum})
        for name in ("adam", "sgd")
        for size in (16, 32, 48)
        for momentum in ((0.0, 0.9) if name == "sgd" else (None,))
    ]
    assert sorted(map(repr, (sorted(cell.items()) for cell in space.cells))) == sorted(map(repr, (sorted(cell.items()) for cell in naive)))
    assert of(sampler="grid").trials == 2, "a grid ends by itself, whatever the budget"


@pytest.mark.parametrize("high", [0.7, 0.75])
def test_the_values_of_a_range_are_as_a_person_writes_them(high: float) -> None:
    """Added up in binary the last one would be 0.7000000000000001, above the range."""
    values = Range(low=0.1, high=high, step=0.2)
    assert values.values == [0.1, 0.3, 0.5, 0.7]
    assert values.edges == [0.1, 0.7]


def test_a_model_takes_the_place_of_another() -> None:
    space = of(set={"model": {"name": "mlp", "hidden": [4]}})
    assert space.recipe({}).recipe.model.arguments == {"hidden": [4]}
    space = of(space={"model": ["lenet5", "mlp"], "model.pooling": {"choices": ["max"], "when": {"model": "lenet5"}}})
    assert space.recipe({"model": "mlp"}).recipe.model.arguments == {}
    assert space.recipe({"model.pooling": "max", "model": "lenet5"}).recipe.model.arguments == {"pooling": "max"}


def test_choices_of_lists_and_tables(tmp_path: Path) -> None:
    """Optuna has choices of single values only: it keeps JSON, and everybody else sees the values."""
    (tmp_path / "lists.toml").write_text(
        'base = "mlp"\nsampler = "grid"\n[space]\nmodel.hidden = [[8], [16, 8], []]\n'
        'train.stop = { choices = [{ monitor = "validation.loss", patience = 2 }], when = { model.hidden = [[8], [16, 8]] } }\n'
    )
    space = spaces.load(tmp_path / "lists.toml")
    stop = {"monitor": "validation.loss", "patience": 2}
    expected = [{"model.hidden": [8], "train.stop": stop}, {"model.hidden": [16, 8], "train.stop": stop}, {"model.hidden": []}]
    assert space.cells == expected
    search = in_memory(tmp_path, space, InMemoryStorage())
    met: list[Any] = []
    work(search, lambda loaded, folder, report: met.append(loaded.recipe) or float(len(met)))
    assert [recipe.model.arguments["hidden"] for recipe in met] == [[8], [16, 8], []]
    assert [recipe.train.stop and recipe.train.stop.patience for recipe in met] == [2, 2, None]
    assert [trial.params.get("model.hidden") for trial in search.trials] == ["[8]", "[16, 8]", "[]"]
    assert [trial.params for trial in outcome(search).trials] == expected
    assert "model.hidden [16, 8]" in render(outcome(search))


def test_the_score_of_a_history() -> None:
    history = [{"validation": {"accuracy": value, "loss": 1 - value}} for value in (0.5, 0.9, 0.7)]
    assert of().objective.score(history) == 0.9
    assert of(objective={"metric": "validation.accuracy", "epoch": "last"}).objective.score(history) == 0.7
    assert of(objective="validation.loss").objective.score(history) == pytest.approx(0.1)


MISTAKES = [
    ({"pruners": "none"}, ["unknown key", "'pruner'"]),
    ({"pruner": {"name": "median", "warmups": 1}}, ["pruner: warmups", "did you mean 'warmup'"]),
    ({"pruner": {"name": "hyperband", "warmup": 1}}, ["pruner: hyperband knows no warmup", "best-so-far and median"]),
    ({"pruner": "medain"}, ["pruner: name", "did you mean 'median'"]),
    ({"sampler": "bayes"}, ["sampler", "bayes"]),
    ({"space": {}}, ["space: is empty"]),
    ({"space": {"optim.lr": []}}, ["space: optim.lr", "is empty"]),
    ({"base": "mlp", "space": {"model.hidden": [[8], 16]}}, ["space: model.hidden = 16", "hidden must be a list"]),
    ({"space": {"optim.lr": [0.1, 0.1]}}, ["space: optim.lr", "given twice"]),
    ({"space": {"optim.lr": {"low": 0.1, "high": 0.01}}}, ["space: optim.lr", "0.1 and 0.01", "reversed"]),
    ({"space": {"optim.lr": {"low": 0, "high": 0.1, "log": True}}}, ["space: optim.lr", "above 0"]),
    ({"space": {"optim.lr": {"low": 0.1}}}, ["space: optim.lr.high", "missing"]),
    ({"space": {"optim.lr": {"low": 0.1, "high": 1, "stp": 0.1}}}, ["space: optim.lr.stp", "did you mean 'step'"]),
    ({"space": {"optim.lr": {"low": 0.1, "high": 1.0, "step": 2.0}}}, ["space: optim.lr", "step"]),
    ({"space": {"optim.learning": [0.1]}}, ["space: optim.learning", "unknown key"]),
    ({"space": {"optim.lr": [0.1, -1.0]}}, ["space: optim.lr = -1.0", "greater than 0"]),
    ({"space": {"model.activation": ["relu", "rely"]}}, ["model.activation", "did you mean 'relu'"]),
    ({"space": {"model.filters": [3]}}, ["lenet5 has no argument 'filters'"]),
    ({"space": {"data.split_seed": [0, 1]}}, ["data.split_seed", "different images"]),
    (
        {"space": {"optim.momentum": {"choices": [0.5], "when": {"optim.nam": "sgd"}}, "optim.name": ["sgd"]}},
        ["not searched", "did you mean 'optim.name'"],
    ),
    ({"space": {"optim.momentum": {"choices": [0.5], "when": {"optim.name": "sgdd"}}, "optim.name": ["sgd"]}}, ["is never", "sgdd"]),
    (
        {"space": {"optim.momentum": {"choices": [0.5], "when": {"optim.lr": 0.1}}, "optim.lr": {"low": 0.1, "high": 1.0}}},
        ["optim.lr", "is a range"],
    ),
    (
        {"space": {"optim.lr": {"choices": [0.1], "when": {"seed": 1}}, "seed": {"choices": [1], "when": {"optim.lr": 0.1}}}},
        ["in a circle", "optim.lr, seed"],
    ),
    ({"sampler": "grid", "space": {"optim.lr": {"low": 0.1, "high": 1.0}}}, ["optim.lr", "counted"]),
    ({"sampler": "grid", "space": {"seed": {"low": 0, "high": 10**9}}}, ["100,000 cells"]),
    ({"sampler": "cma-es"}, ["cma-es needs a range"]),
    ({"budget": {}}, ["budget", "how many trials"]),
    ({"budget": {"trials": 0}}, ["budget: trials"]),
    ({"set": {"data.validation": "test"}}, ["test images stay sealed"]),
    ({"set": {"data.validation": 0}}, ["validation"]),
    ({"set": {"optim.lrr": 1}}, ["set: unknown key 'optim.lrr'", "did you mean 'optim.lr'"]),
    ({"base": "nothing.toml"}, ["nothing.toml", "no such recipe file"]),
    ({"objective": "test.accuracy"}, ["objective: metric"]),
    ({"seed": -1}, ["seed"]),
]


@pytest.mark.parametrize(("change", "words"), MISTAKES, ids=[str(change)[:60] for change, _ in MISTAKES])
def test_mistakes(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        of(**change)
    assert "\n" not in str(raised.value)
    for word in words:
        assert word in str(raised.value), f"{word!r} is not in: {raised.value}"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"base = ", "not valid TOML"), (b"\xff", "cannot be read"), (b"#" * 1_000_001, "too large"), (None, "no such space")],
)
def test_files_that_are_no_spaces(content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "space.toml").write_bytes(content)
    with pytest.raises(UsageError, match=words):
        spaces.load(tmp_path / "space.toml")


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(UsageError, match="did you mean 'custom-cnn-search'"):
        spaces.load("custom-cnn-serch")
