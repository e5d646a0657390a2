"""Recipes: what is written is what is read, where each value came from, and errors that name the remedy."""

from __future__ import annotations

import signal
import string
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fittingroom import models
from fittingroom.errors import UsageError
from fittingroom.recipe import Recipe, load, parse_override, shipped, to_toml

fractions = st.floats(0, 1, exclude_max=True)
positive = st.floats(0, 1e6, exclude_min=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = texts | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)


def table(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=values)


normalisations = st.sampled_from(["unit", "mean-std", "raw-mean-std"]) | st.integers(1, 3).flatmap(
    lambda count: st.fixed_dictionaries(
        {"mean": st.lists(st.floats(-9, 9), min_size=count, max_size=count), "std": st.lists(positive, min_size=count, max_size=count)}
    )
)
written_models = texts | st.dictionaries(
    texts.filter(lambda key: key != "name"), scalars | st.lists(scalars, max_size=3), max_size=3
).flatmap(lambda arguments: texts.map(lambda name: {**arguments, "name": name}))
written_recipes = st.fixed_dictionaries(
    {"model": written_models},
    optional={
        "seed": st.integers(0, 2**63 - 1),
        "defaults": st.sampled_from(["torch", "keras"]),
        "data": table(
            name=texts,
            validation=fractions | st.just("test"),
            split_seed=st.integers(0),
            normalise=normalisations,
            size=st.integers(1, 1024) | st.lists(st.integers(1, 1024), min_size=2, max_size=2),
            channels=st.sampled_from([1, 3]),
            limit=st.integers(1),
        ),
        "augment": table(
            rotate=st.floats(0, 180), shift=fractions, zoom=fractions, flip=st.booleans(), crop=st.integers(0, 64), erase=fractions
        ),
        "loss": table(name=st.sampled_from(["cross-entropy", "focal"]), label_smoothing=fractions, class_weights=st.just("balanced")),
        "optim": table(
            name=st.sampled_from(["sgd", "adam", "adamw", "rmsprop", "muon"]),
            lr=positive,
            momentum=fractions,
            epsilon=positive,
            l2=positive,
            schedule=st.sampled_from(["constant", "step", "cosine", "one-cycle"]),
        ),
        "train": table(
            epochs=st.integers(1, 100_000),
            batch_size=st.integers(1, 65_536),
            precision=st.sampled_from(["auto", "fp32", "bf16"]),
            stop=table(
                monitor=st.sampled_from(["validation.loss", "train.accuracy"]),
                patience=st.integers(1, 99),
                min_delta=positive,
                restore_best=st.booleans(),
            ),
        ),
    },
)


@given(written_recipes)
def test_toml_round_trip(written: dict[str, Any]) -> None:
    recipe = load(written).recipe
    again = load(tomllib.loads(to_toml(recipe))).recipe
    assert again == recipe
    assert again.hash == recipe.hash
    assert Recipe.model_validate(recipe.values) == recipe


@pytest.mark.parametrize("text", ["\x7f", "\0\x1f", '"\\', "\r\n\t", "\u2028\ufeff", "é😀", "x = 1", 3 * "'", "#", " "])
def test_texts_that_toml_writes_in_its_own_way(text: str) -> None:
    recipe = load({"model": {"name": text, text: text}, "data": {"name": text}}).recipe
    assert load(tomllib.loads(to_toml(recipe))).recipe == recipe


@given(written_recipes)
def test_every_value_has_one_origin(written: dict[str, Any]) -> None:
    loaded = load(written)
    flat = dict(leaves(loaded.recipe.values))
    assert set(loaded.origins) == set(flat)
    for key, value in leaves(written):
        if key in flat and value is not None:
            assert loaded.origins[key] == "recipe"
    assert all(origin in ("recipe", "default") for origin in loaded.origins.values())


def leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [(f"{prefix}{key}", value)]
    return found


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipe_loads_and_its_model_takes_its_arguments(name: str) -> None:
    recipe = load(name).recipe
    models.check(recipe.model.name, recipe.model.arguments)
    assert load(tomllib.loads(to_toml(recipe))).recipe == recipe
    assert all(origin in (f"recipe {name}", "default") for origin in load(name).origins.values())


def test_a_model_name_is_a_recipe() -> None:
    loaded = load("mlp")
    assert loaded.recipe == Recipe.model_validate({"model": {"name": "mlp"}})
    assert loaded.origins["model.name"] == "command line"
    assert loaded.origins["optim.lr"] == "default"


def test_origins_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('model = "lenet5"\n[optim]\nlr = 0.5\nmomentum = 0.9\n[train]\nstop = { patience = 7 }\n')
    loaded = load(path, ["optim.lr=0.25", "model.dropout=0.5", "data.normalise=unit", "train.stop.patience=3", "data.name=a/b c.npz"])
    recipe = loaded.recipe
    assert (recipe.optim.lr, recipe.optim.momentum, recipe.model.arguments) == (0.25, 0.9, {"dropout": 0.5})
    assert (recipe.data.normalise.kind, recipe.data.name, recipe.train.stop and recipe.train.stop.patience) == ("unit", "a/b c.npz", 3)
    expected = {
        "model.name": str(path),
        "model.dropout": "command line",
        "optim.lr": "command line",
        "optim.momentum": str(path),
        "optim.name": "default",
        "data.normalise": "command line",
        "train.stop.patience": "command line",
        "train.stop.monitor": "default",
    }
    assert {key: loaded.origins[key] for key in expected} == expected


def test_overriding_a_table_takes_the_place_of_what_was_in_it() -> None:
    loaded = load("three-block", {"train.stop": {"patience": 2}})
    assert loaded.recipe.train.stop is not None
    assert loaded.recipe.train.stop.restore_best is True
    assert loaded.origins["train.stop.patience"] == "command line"
    assert loaded.origins["train.stop.monitor"] == "default"


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("optim.lr=0.01", "optim.lr", 0.01),
        ("seed = 3", "seed", 3),
        ("augment.flip=true", "augment.flip", True),
        ("data.name=fashion-mnist", "data.name", "fashion-mnist"),
        ('data.name="3"', "data.name", "3"),
        ("model.hidden=[64, 32]", "model.hidden", [64, 32]),
        ("data.normalise={mean = [0.5], std = [0.5]}", "data.normalise", {"mean": [0.5], "std": [0.5]}),
        ("data.name=a=b", "data.name", "a=b"),
    ],
)
def test_overrides_as_the_command_line_has_them(text: str, key: str, value: Any) -> None:
    assert parse_override(text) == (key, value)


def test_updated_checks_again() -> None:
    recipe = load("mlp").recipe
    assert recipe.updated({"optim.lr": 0.5}).optim.lr == 0.5
    assert recipe.optim.lr == 1e-3
    with pytest.raises(UsageError, match=r"optim\.lr"):
        recipe.updated({"optim.lr": -1})


KNOWN_KEYS = sorted(key for key, _ in leaves(load("mlp", {"train.stop": {}}).recipe.values) if not key.startswith("model"))


@given(st.sampled_from(KNOWN_KEYS), st.sampled_from(string.ascii_lowercase), st.data())
def test_a_mistyped_key_is_refused_and_the_nearest_named(key: str, letter: str, data: st.DataObject) -> None:
    table, _, name = key.rpartition(".")
    place = data.draw(st.integers(0, len(name)))
    mistyped = f"{table}.{name[:place]}{letter}{name[place:]}".lstrip(".")
    with pytest.raises(UsageError) as caught:
        load("mlp", {mistyped: 1})
    message = str(caught.value)
    assert f"unknown key '{mistyped}'" in message
    assert "did you mean" in message or "known:" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["optim.lr=fast"], ["command line", "optim.lr", "number", "'fast'"]),
        (["optim.lr=0"], ["optim.lr", "greater than 0"]),
        (["optim.lr=nan"], ["optim.lr", "finite"]),
        (["optim.lr=inf"], ["optim.lr", "finite"]),
        (["optim.name=adma"], ["optim.name", "did you mean 'adam'"]),
        (["optim=sgd"], ["optim", "a table"]),
        (["optim.lr.peak=1"], ["optim.lr"]),
        (["optim.nesterov=true"], ["nesterov", "momentum"]),
        (["optim.name=sgd", "optim.nesterov=true"], ["nesterov", "momentum"]),
        (["optmi.lr=1"], ["unknown key 'optmi'", "did you mean 'optim'"]),
        (["optim.lrr=1"], ["unknown key 'optim.lrr'", "did you mean 'optim.lr'"]),
        (["lr=1"], ["unknown key 'lr'", "did you mean 'optim.lr'"]),
        (["seed=-1"], ["seed", "0"]),
        (["seed=1.5"], ["seed", "integer"]),
        (["seed=1" + 400 * "0"], ["seed"]),
        (["train.epochs=0"], ["train.epochs", "greater than 0"]),
        (["train.batch_size=0"], ["train.batch_size"]),
        (["train.stop=yes"], ["train.stop", "a table"]),
        (["train.stop.patience=0"], ["train.stop.patience"]),
        (["train.stop.monitor=validation.los"], ["train.stop.monitor", "did you mean 'validation.loss'"]),
        (["train.stop.monitor=loss"], ["train.stop.monitor", "validation.loss"]),
        (["data.validation=1"], ["data.validation", "less than 1"]),
        (["data.validation=tset"], ["data.validation", "'test'"]),
        (["data.normalise=zscore"], ["data.normalise", "'mean-std'"]),
        (["data.normalise={mean=[0.5]}"], ["data.normalise", "mean and std together"]),
        (["data.normalise={mean=[0.5], std=[0.0]}"], ["data.normalise.std", "greater than 0"]),
        (["data.size=0"], ["data.size"]),
        (["data.size=big"], ["data.size"]),
        (["data.channels=2"], ["data.channels", "1 or 3"]),
        (["augment.shift=1"], ["augment.shift", "less than 1"]),
        (["augment.flip=maybe"], ["augment.flip"]),
        (["model.x={a=1}"], ["argument 'x'"]),
        (["model.x=inf"], ["argument 'x'", "finite"]),
        (["model=7"], ["model"]),
        (["model.name=7"], ["model.name"]),
        (["lr"], ["'lr'", "key=value"]),
        (["=1"], ["key=value"]),
        (["..=1"], ["unknown key"]),
        (["seed=" + 5000 * "["], ["seed"]),
    ],
)
def test_a_wrong_value_is_one_line_that_names_key_and_remedy(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        load("mlp", overrides)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert len(message) < 300


@given(
    st.dictionaries(
        st.sampled_from([*KNOWN_KEYS, "model", "data", "train"]), scalars | st.lists(scalars, max_size=2), min_size=1, max_size=2
    )
)
def test_whatever_is_written_it_is_a_recipe_or_a_usage_error(overrides: dict[str, Any]) -> None:
    try:
        recipe = load("mlp", overrides).recipe
    except UsageError as error:
        said = str(error)
    else:
        said = "one line"
        assert load(tomllib.loads(to_toml(recipe))).recipe == recipe
    assert len(said.splitlines()) == 1


def test_only_plain_values_in_a_mapping() -> None:
    with pytest.raises(UsageError, match="only numbers"):
        load({"model": "mlp", "seed": object()})
    with pytest.raises(UsageError, match="'model' is missing"):
        load({})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"model = ", "not valid TOML"),
        (b'model = "mlp"\nmodel = "mlp"', "not valid TOML"),
        (b"\xff\xfe", "cannot be read"),
        (b"x = " + 5000 * b"[", "not valid TOML"),
        (b"", "'model' is missing"),
        (b'model = "mlp"\n[optim]\nlearning_rate = 1', "unknown key 'optim.learning_rate'"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such recipe file"):
        load(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path)


def test_hash_stands_for_values_not_for_spelling() -> None:
    short = load({"model": "mlp", "optim": {"lr": 1}}).recipe
    spelled = load({"optim": {"lr": 1.0, "name": "adam"}, "model": {"name": "mlp"}, "data": {"normalise": {"kind": "mean-std"}}}).recipe
    assert short.hash == spelled.hash
    assert (
        len({short.hash, short.updated({"seed": 1}).hash, short.updated({"optim.lr": 2}).hash, short.updated({"model.dropout": 0.5}).hash})
        == 4
    )
    assert short.family == short.updated({"seed": 1}).family != short.updated({"optim.lr": 2}).family


def test_hash_is_the_same_in_every_process() -> None:
    code = "from fittingroom.recipe import load; print(load('three-block').recipe.hash)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": "7"}, timeout=240)
    assert printed.stdout.strip() == load("three-block").recipe.hash


def test_a_recipe_cannot_be_changed() -> None:
    recipe = load("mlp").recipe
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 1  # type: ignore[misc]


def test_ctrl_c_stays_ctrl_c() -> None:
    """Wherever it strikes while a recipe is written down: no library makes an error of its own of it."""
    recipe = load("custom-cnn").recipe

    def strike(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def write_down() -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.001)
        while True:
            assert recipe.values

    before = signal.signal(signal.SIGVTALRM, strike)
    try:
        for _ in range(100):
            with pytest.raises(KeyboardInterrupt):
                write_down()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
