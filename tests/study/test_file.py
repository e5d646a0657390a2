"""The format of a study: what `load` makes of a file, and that what cannot be meant is refused in one line that names the place."""

from __future__ import annotations

import re
import time
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fittingroom import recipe
from fittingroom.errors import FittingRoomError, UsageError
from fittingroom.study.checks import check_data, check_models
from fittingroom.study.file import load
from fittingroom.study.grid import cells, recipe_of, seeds_of, selected
from fittingroom.study.metrics import METRICS, metric_of, parse_claimed
from fittingroom.study.schema import Number, Order, Selection, selections_of

SMALL = """\
title = "A small report"
source = "small.txt"
base = "lenet5"
seeds = [0, 1]

[assumptions]
rate = "Not stated: 0.001."
kind = "Not stated: rotation."

[factors]
activation = "model.activation"
rate = "optim.lr"

[factors.augmentation]
without = {}
with = { augment.rotate = 10, augment.shift = 0.1 }

[readings]
augmentation = ["without", "with"]

[runs.plain]
assumes = ["rate"]
set = { train.epochs = 4, model.pooling = "max" }

[runs.longer]
base = "plain"
assumes = ["kind"]
set = { train.epochs = 6 }

[runs.several]
grid = { augmentation = ["without"], activation = ["tanh", "relu"], "optim.lr" = [0.1, 0.01] }
seeds = [5]
seeds_where = [{ where = { activation = "relu" }, seeds = [5, 6, 7] }]

[[claims]]
id = "accuracy"
kind = "number"
text = "It reaches 0.90."
source = "Table 1"
of = { run = "plain" }
metric = "test.accuracy"
claimed = "0.90"

[[claims]]
id = "relu-is-better"
kind = "order"
text = "ReLU is better."
source = "Table 2"
metric = "test.accuracy"
above = { run = "several", where = { "model.activation" = "relu" } }
below = [{ run = "several", where = { activation = "tanh" } }]

[[claims]]
id = "smoother"
kind = "shape"
text = "It is smooth."
source = "Figure 1"
of = { run = "longer", where = { augmentation = "with" } }
metric = "erraticness.loss"
relation = "less"
claimed = [0.1]

[[claims]]
id = "agrees"
kind = "consistency"
text = "It agrees with itself."
source = "Text"
states = ["two layers", "three layers"]
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


# What a study means.


def test_it_is_called_by_its_file(small: Path) -> None:
    assert load(small).name == "small"
    assert load(str(small)) == load(small)


def test_cells_are_the_product_in_the_order_written(small: Path) -> None:
    study = load(small)
    named = [{"augmentation": "without", "activation": one, "rate": other} for one, other in product(["tanh", "relu"], [0.1, 0.01])]
    assert cells(study, "several") == named


def test_a_run_without_a_grid_has_the_cells_of_the_readings(small: Path) -> None:
    study = load(small)
    assert cells(study, "plain") == [{"augmentation": "without"}, {"augmentation": "with"}]
    assert cells(study.model_copy(update={"runs": {"alone": study.runs["plain"].model_copy(update={"grid": {}})}}), "alone") == [{}]


def test_a_recipe_is_the_base_with_the_changes_of_run_and_cell(small: Path) -> None:
    study = load(small)
    found = recipe_of(study, "plain", {"augmentation": "with"}, 7)
    changes = {"train.epochs": 4, "model.pooling": "max", "augment.rotate": 10, "augment.shift": 0.1, "seed": 7}
    assert found.recipe == recipe.load("lenet5", changes).recipe
    assert found.origins["seed"] == found.origins["model.pooling"] == "study small"
    assert found.origins["optim.lr"] == "recipe lenet5"
    assert recipe_of(study, "several", cells(study, "several")[3], 0).recipe.optim.lr == 0.01


def test_a_run_that_builds_on_another_takes_its_changes_and_assumptions(small: Path) -> None:
    study = load(small)
    assert study.runs["longer"].assumes == ["rate", "kind"]
    of_longer = recipe_of(study, "longer", {"augmentation": "without"}, 0).recipe
    assert (of_longer.train.epochs, of_longer.model.arguments["pooling"]) == (6, "max")
    assert study.runs["longer"].base is None  # resolved: what others see is a recipe


def test_a_run_may_have_the_name_of_the_recipe_it_starts_from(tmp_path: Path) -> None:
    path = tmp_path / "same.toml"
    path.write_text('title = "x"\nsource = "y"\nbase = "lenet5"\nclaims = []\n[runs.basic]\nbase = "basic"\n')
    assert recipe_of(load(path), "basic", {}, 0).recipe == recipe.load("basic").recipe


def test_a_replaced_model_keeps_none_of_the_old_one_s_arguments(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    runs = '[runs.one]\nset = { model.pooling = "max" }\n[runs.two]\nbase = "one"\nset = { model = { name = "mlp", hidden = [64] } }\n'
    path.write_text('title = "x"\nsource = "y"\nbase = "lenet5"\nclaims = []\n' + runs)
    assert recipe_of(load(path), "two", {}, 0).recipe.model.arguments == {"hidden": [64]}
    check_models(load(path))


def test_the_last_seeds_that_fit_a_cell_hold(small: Path) -> None:
    study = load(small)
    assert [seeds_of(study, "several", cell) for cell in cells(study, "several")] == [[5], [5], [5, 6, 7], [5, 6, 7]]
    assert seeds_of(study, "plain", {"augmentation": "with"}) == [0, 1]


def test_a_selection_means_the_cells_that_have_its_values(small: Path) -> None:
    study = load(small)
    found = selected(study, Selection(run="several", where={"activation": "relu", "rate": 0.1}))
    assert found == [("several", {"augmentation": "without", "activation": "relu", "rate": 0.1})]
    assert len(selected(study, Selection(run="several"))) == 4


def test_a_claim_that_leaves_a_reading_open_is_one_for_each(small: Path) -> None:
    study = load(small)
    assert [claim.id for claim in study.claims] == ["accuracy-without", "accuracy-with", "relu-is-better", "smoother", "agrees"]
    assert [claim.reading for claim in study.claims[:2]] == [{"augmentation": "without"}, {"augmentation": "with"}]
    first = study.claims[0]
    assert isinstance(first, Number)
    assert first.of.where == {"augmentation": "without"}
    order = study.claims[2]
    assert isinstance(order, Order)
    assert [one.where for one in selections_of(order)] == [{"activation": "relu"}, {"activation": "tanh"}]


def test_figures_are_a_claim_each(tmp_path: Path) -> None:
    path = tmp_path / "figures.toml"
    figures = 'figures = { "train.loss@last" = "0.22", "test.accuracy" = "91 %" }'
    path.write_text(SMALL.replace('metric = "test.accuracy"\nclaimed = "0.90"', figures))
    claims = [claim for claim in load(path).claims if isinstance(claim, Number) and claim.reading == {"augmentation": "with"}]
    assert [(claim.id, claim.metric, claim.claimed, claim.figures) for claim in claims] == [
        ("accuracy-training-loss-with", "train.loss@last", "0.22", {}),
        ("accuracy-test-accuracy-with", "test.accuracy", "91 %", {}),
    ]


@pytest.mark.parametrize(
    ("text", "value", "resolution"),
    [
        ("0.90", 0.9, 0.005),
        ("91.98 %", 0.9198, 0.00005),
        ("86%", 0.86, 0.005),
        ("121k", 121_000, 500),
        ("54,410", 54_410, 0.5),
        ("-0.5", -0.5, 0.05),
    ],
)
def test_figures_are_read_with_their_digits(text: str, value: float, resolution: float) -> None:
    found = parse_claimed(text)
    assert (found.value, found.resolution) == pytest.approx((value, resolution))


@given(value=st.integers(0, 10**6), decimals=st.integers(0, 6))
def test_a_printed_figure_lies_within_its_resolution(value: int, decimals: int) -> None:
    exact = value / 997
    found = parse_claimed(f"{exact:.{decimals}f}")
    assert abs(found.value - exact) <= found.resolution * (1 + 1e-9)


@pytest.mark.parametrize(("text", "remedy"), [("0,344", "0.344"), ("0,90 %", "0.90 %"), ("12,5", "12.5")])
def test_a_decimal_comma_is_told_from_thousands(text: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=f"is no number; write {remedy}$"):
        parse_claimed(text)


@pytest.mark.parametrize("text", ["", "about 0.9", "0,90", "ninety", "0.9.0", "1e3", "12,34", "0.9 %%", "nan", "9" * 400])
def test_what_is_no_figure_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_claimed(text)


@pytest.mark.parametrize(
    "metric", ["test.accuracy", "f1", "validation.loss@3", "train.accuracy@last", "f1:T-shirt/top", "max_loss_after:5"]
)
def test_metrics_are_found(metric: str) -> None:
    assert metric_of(metric) in METRICS.values()


@pytest.mark.parametrize(
    "metric", ["test.acuracy", "f1:", "confusion:Shirt", "confusion-rank:A|A", "seconds@3", "train.loss@0", "train.loss@"]
)
def test_what_is_no_metric_is_refused(metric: str) -> None:
    with pytest.raises(UsageError):
        metric_of(metric)


@pytest.mark.parametrize("pattern", [name for name in METRICS if any(part.isupper() for part in name.replace(":", ".").split("."))])
def test_a_pattern_is_no_metric_itself(pattern: str) -> None:
    if pattern in ("f1:CLASS", "precision:CLASS", "recall:CLASS", "confusion:TRUE>PREDICTED", "confusion-rank:A|B"):
        return  # a class may have any name
    with pytest.raises(UsageError):
        metric_of(pattern)


# What is refused. Each: what is changed in the small study, where the message points, and what it says.

REFUSED = {
    "an unknown key": ("seeds = [0, 1]", "seed = [0, 1]", "seed: unknown key — did you mean 'seeds'?"),
    "an unknown key of a run": ("set = { train.epochs = 6 }", "sets = {}", "runs.longer.sets: unknown key — did you mean 'set'?"),
    "an unknown key of a claim": (
        'relation = "less"',
        'relations = "less"',
        "claims.smoother.relations: unknown key — did you mean 'relation'?",
    ),
    "an unknown key of a selection": (
        'of = { run = "plain" }',
        'of = { run = "plain", were = {} }',
        "claims.accuracy.of.were: unknown key — did you mean 'where'?",
    ),
    "an unknown key of one of several selections": (
        'below = [{ run = "several", where',
        'below = [{ run = "several", were',
        "claims.relu-is-better.below[1].were: unknown key — did you mean 'where'?",
    ),
    "a name": (
        'title = "A small report"',
        'title = "A small report"\nname = "x"',
        "name: unknown key; a study is called by its file's name",
    ),
    "no title": ('title = "A small report"', "", "title is missing"),
    "a claim without a source": ('source = "Table 1"', "", "claims.accuracy.source is missing"),
    "a claim without an id": ('id = "accuracy"', "", "claims[1].id is missing"),
    "a claim with an odd id": ('id = "accuracy"', 'id = "An accuracy"', "claims.An accuracy.id: 'An accuracy' is no name"),
    "a claim of no kind": ('kind = "number"', "", "claims.accuracy.kind is missing; one of number,"),
    "a claim of an unknown kind": (
        'kind = "number"',
        'kind = "nummer"',
        "claims.accuracy.kind: no kind of claim 'nummer' — did you mean 'number'?",
    ),
    "a claim without a number": ('claimed = "0.90"', "", "claims.accuracy: a number needs `metric` and `claimed`"),
    "a number that is none": ('claimed = "0.90"', 'claimed = "much"', "claims.accuracy.claimed: 'much' is no number"),
    "a number without its quotes": (
        'claimed = "0.90"',
        "claimed = 0.90",
        "claims.accuracy.claimed: should be text, in quotes (given: 0.9)",
    ),
    "two claims of one id": ('id = "smoother"', 'id = "relu-is-better"', "claims.relu-is-better.id: two claims have this id"),
    "a claim about no run": (
        'of = { run = "plain" }',
        'of = { run = "plane" }',
        "claims.accuracy.of.run: no run 'plane' — did you mean 'plain'?",
    ),
    "a factor that the grid lacks": (
        'where = { activation = "tanh" }',
        'where = { activatoin = "tanh" }',
        "claims.relu-is-better.below[1].where.activatoin: the grid has no such factor — did you mean 'activation'?",
    ),
    "a value that the grid lacks": (
        'where = { activation = "tanh" }',
        'where = { activation = "tan" }',
        "claims.relu-is-better.below[1].where.activation: the grid has no value 'tan' — did you mean 'tanh'?",
    ),
    "a factor of a run without a grid": (
        'of = { run = "plain" }',
        'of = { run = "plain", where = { activation = "tanh" } }',
        "claims.accuracy.of.where.activation: the grid has no such factor",
    ),
    "an unknown metric": (
        'metric = "erraticness.loss"',
        'metric = "eraticness.loss"',
        "claims.smoother.metric: unknown metric 'eraticness.loss' — did",
    ),
    "an unknown class": (
        'metric = "erraticness.loss"',
        'metric = "f1:Skirt"',
        "claims.smoother.metric: fashion-mnist has no class 'Skirt' — did you mean 'Shirt'? (runs.longer)",
    ),
    "an epoch too many": (
        'metric = "erraticness.loss"',
        'metric = "train.loss@7"',
        "claims.smoother.metric: 'train.loss@7' of runs that train 6 epochs (runs.longer)",
    ),
    "an unknown assumption": (
        'assumes = ["kind"]',
        'assumes = ["kinds"]',
        "runs.longer.assumes: no assumption 'kinds' — did you mean 'kind'?",
    ),
    "an unknown assumption of a claim": (
        'claimed = "0.90"',
        'claimed = "0.90"\nassumes = ["rates"]',
        "claims.accuracy.assumes: no assumption 'rates' — did you mean 'rate'?",
    ),
    "an unknown base": (
        'base = "plain"',
        'base = "plian"',
        "runs.longer.base: no recipe, model or other run 'plian' — did you mean 'plain'?",
    ),
    "an unknown base of all": ('base = "lenet5"', 'base = "lenet"', "base: no recipe, model or other run 'lenet' — did you mean 'lenet5'?"),
    "a cycle": ("[runs.plain]", '[runs.plain]\nbase = "longer"', "runs.plain.base: a cycle: plain → longer → plain"),
    "a cycle of one": ("[runs.plain]", '[runs.plain]\nbase = "plain"', "runs.plain.base: 'plain' would build on itself"),
    "a grid of nothing": ("[runs.plain]", "[runs.plain]\ngrid = {}", "runs.plain.grid: an empty grid; give a factor and its values"),
    "an empty grid": (
        'activation = ["tanh", "relu"]',
        "activation = []",
        "runs.several.grid.activation: an empty list makes an empty grid",
    ),
    "a value twice": (
        'activation = ["tanh", "relu"]',
        'activation = ["relu", "relu"]',
        "runs.several.grid.activation: 'relu' is there twice",
    ),
    **{
        f"{what} in a grid": (
            'activation = ["tanh", "relu"]',
            f"activation = [{written}]",
            "runs.several.grid.activation[1]: should be a finite number, text, or true or false",
        )
        for what, written in (("a table", "{}"), ("a list", '["tanh"]'), ("not a number", "nan"))
    },
    "a percentage without its sign": (
        'claimed = "0.90"',
        'claimed = "90"',
        "claims.accuracy.claimed: '90' is no test accuracy, which lies between 0 and 1; percentages need their sign: 90 %",
    ),
    "more than everything": ('claimed = "0.90"', 'claimed = "930 %"', "claims.accuracy.claimed: '930 %' is no test accuracy"),
    "less than nothing": ('claimed = "0.90"', 'claimed = "-93 %"', "claims.accuracy.claimed: '-93 %' is no test accuracy"),
    "a percentage of a loss": (
        'metric = "test.accuracy"\nclaimed = "0.90"',
        'metric = "test.loss"\nclaimed = "45 %"',
        "claims.accuracy.claimed: '45 %' is a percentage, and test loss is none",
    ),
    "runs above themselves": (
        'where = { activation = "tanh" }',
        'where = { activation = "relu" }',
        "claims.relu-is-better.below[1]: these are the runs that they are compared with; name others",
    ),
    "runs above some of themselves": (
        ', where = { activation = "tanh" }',
        "",
        "claims.relu-is-better.below[1]: holds the runs that they are compared with; say `where`, or `each = true`",
    ),
    "a factor by both its names": (
        'activation = ["tanh", "relu"]',
        'activation = ["tanh"], "model.activation" = ["relu"]',
        "runs.several.grid: 'model.activation' is the factor 'activation', which is there too",
    ),
    "an unknown level": (
        'augmentation = ["without"]',
        'augmentation = ["wihtout"]',
        "factor 'augmentation' has no level 'wihtout' — did you mean 'without'?",
    ),
    "an unknown factor": (
        "grid = { augmentation",
        "grid = { augmentatoin",
        "runs.several.grid.augmentatoin: unknown factor — did you mean 'augmentation'?",
    ),
    "a factor without levels": ("without = {}\nwith = { augment.rotate = 10, augment.shift = 0.1 }", "", "factors.augmentation: no levels"),
    "a reading without values": ('augmentation = ["without", "with"]', "augmentation = []", "readings.augmentation: an empty list"),
    "ten million runs": (
        "set = { train.epochs = 6 }",
        "grid = { " + ", ".join(f'"optim.{name}" = {list(range(1, 11))}' for name in "abcdefg") + " }",
        "runs.longer.grid: 40,000,000 runs are more than a study may have (5,000)",  # ten million cells, two readings, two seeds
    ),
    "many runs in many grids": (
        "set = { train.epochs = 6 }",
        "".join(f'\n[runs.r{one}]\ngrid = {{ "optim.lr" = {list(range(1, 1001))} }}' for one in range(9)),
        "runs: 18,008 runs in all are more than a study may have (5,000)",
    ),
    "seeds that repeat": ("seeds = [5]", "seeds = [5, 5]", "runs.several.seeds: seed 5 is there twice"),
    "no seeds": ("seeds = [0, 1]", "seeds = []", "seeds: no seeds; give at least one"),
    "a negative seed": ("seeds = [0, 1]", "seeds = [-1]", "seeds[1]: input should be greater than or equal to 0 (given: -1)"),
    "seeds of no cell": (
        'where = { activation = "relu" }, seeds',
        'where = { activation = "gelu" }, seeds',
        "runs.several.seeds_where.where.activation",
    ),
    "a seed that is set": ("set = { train.epochs = 6 }", "set = { seed = 6 }", "runs.longer: the seed is set by `seeds`"),
    "a recipe that is refused": (
        "set = { train.epochs = 6 }",
        "set = { train.epoch = 6 }",
        "runs.longer (augmentation = without): unknown key 'train.epoch' — did",
    ),
    "a value that is refused": (
        '"optim.lr" = [0.1, 0.01]',
        '"optim.lr" = [0.1, -1]',
        "rate = -1): optim.lr: input should be greater than 0",
    ),
    "a name of a run": ("[runs.longer]", '[runs."Longer run"]', "'Longer run' is no name; use lower-case letters, digits and hyphens"),
    "a run that is no table": (
        '[runs.longer]\nbase = "plain"\nassumes = ["kind"]\nset = { train.epochs = 6 }',
        "[runs]\nlonger = 3",
        "runs.longer: should be a table",
    ),
    "an order above nothing": (
        'below = [{ run = "several", where = { activation = "tanh" } }]',
        "below = []",
        "claims.relu-is-better.below: list should have at least 1 item",
    ),
    "an unknown relation": (
        'relation = "less"',
        'relation = "lower"',
        "claims.smoother.relation: input should be 'less', 'greater' or 'between'",
    ),
    "a shape with nothing to compare": ("claimed = [0.1]", "", "claims.smoother: a shape needs either runs to compare with"),
    "nothing to multiply": ("claimed = [0.1]", "claimed = [0.1]\ntimes = 0.5", "claims.smoother.times: there is nothing to multiply"),
    "each of what is claimed of": (
        'above = { run = "several", where = { "model.activation" = "relu" } }',
        'above = { run = "several", each = true }',
        "claims.relu-is-better.above.each: only runs that others are compared with",
    ),
    "a shape between one": ('relation = "less"', 'relation = "between"', "claims.smoother.claimed: `between` needs two numbers"),
    "one statement": (
        'states = ["two layers", "three layers"]',
        'states = ["two layers"]',
        "claims.agrees.states: one statement agrees with itself",
    ),
    "nothing to be consistent": ('states = ["two layers", "three layers"]', "", "claims.agrees: nothing to be consistent"),
    "an unreadable table": ('states = ["two layers", "three layers"]', 'table = "no table"', "claims.agrees.table: "),
    "an accuracy above one": (
        'states = ["two layers", "three layers"]',
        'accuracy = ["94"]\ndata = "mnist"',
        "claims.agrees.accuracy: 94 is not between 0 and 1; percentages need their sign: 94%",
    ),
    "an accuracy of nothing": (
        'states = ["two layers", "three layers"]',
        'accuracy = ["94%"]',
        "claims.agrees.accuracy: accuracies of how many images?",
    ),
    "unknown data": (
        'states = ["two layers", "three layers"]',
        'accuracy = ["94%"]\ndata = "minst"',
        "claims.agrees.data: no data set 'minst'",
    ),
    "broken TOML": ('title = "A small report"', "title = ", "not valid TOML: "),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_meant_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    old, new, expected = REFUSED[what]
    assert SMALL.count(old) >= 1
    path = tmp_path / "small.toml"
    path.write_text(SMALL.replace(old, new, 1))
    began = time.process_time()
    with pytest.raises(UsageError) as raised:
        load(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300
    assert raised.value.exit_code == 2
    assert time.process_time() - began < 5  # nothing is made of a grid before it is counted


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('kind = "count"\nmetric = "parameters"\nclaimed = "9"', "random-forest has no parameters that could be counted (runs.forest)"),
        ('kind = "number"\nmetric = "validation.loss@2"\nclaimed = "0.9"', "'validation.loss@2' of runs that train 1 epoch (runs.forest)"),
    ],
)
def test_a_classical_model_has_no_size_and_no_second_epoch(written: str, expected: str, tmp_path: Path) -> None:
    claim = f'[[claims]]\nid = "forest"\ntext = "It is so."\nsource = "Table 1"\nof = {{ run = "forest" }}\n{written}\n'
    path = tmp_path / "small.toml"
    path.write_text(f'{SMALL}\n{claim}\n[runs.forest]\nbase = "random-forest"\n')
    with pytest.raises(UsageError) as raised:
        load(path)
    assert str(raised.value) == f"{path}: claims.forest.metric: {expected}"


def test_a_byte_order_mark_is_no_part_of_a_study(small: Path) -> None:
    small.write_bytes(b"\xef\xbb\xbf" + small.read_bytes())
    assert load(small).title == "A small report"


def test_data_that_are_nowhere_are_found_before_training(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    unknown = "unknown data set 'digitss' — did you mean 'digits'?"
    for name, expected in (("digitss", unknown), ("no/where", "no/where: no such file or folder")):
        path.write_text(SMALL.replace("set = { train.epochs = 6 }", f'set = {{ data.name = "{name}" }}'))
        with pytest.raises(FittingRoomError, match=rf"^small: runs\.longer: {re.escape(expected)}"):
            check_data(load(path))
    path.write_text(SMALL.replace("set = { train.epochs = 6 }", 'set = { data.name = "here" }'))
    (tmp_path / "here").mkdir()
    check_data(load(path), tmp_path)


def test_unknown_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown study 'shalow-vs-deep' — did you mean 'shallow-vs-deep'"):
        load("shalow-vs-deep")
    with pytest.raises(UsageError, match=r"none\.toml: no such study file"):
        load(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read as a study"):
        load(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read as a study"):
        load(tmp_path / "bytes.toml")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(UsageError, match="not valid TOML"):
        load(tmp_path / "deep.toml")
    (tmp_path / "large.toml").write_text("#" * 1_000_001)
    with pytest.raises(UsageError, match="too large for a study"):
        load(tmp_path / "large.toml")


def test_an_argument_that_a_model_does_not_take_is_found_before_training(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL.replace('model.pooling = "max"', 'model.poolling = "max"'))
    with pytest.raises(UsageError, match=r"small: runs\.plain: lenet5 has no argument 'poolling' — did you mean 'pooling'"):
        check_models(load(path))


def test_runs_that_do_not_exist_are_named(small: Path) -> None:
    study = load(small)
    with pytest.raises(UsageError, match="no run 'plane' — did you mean 'plain'"):
        cells(study, "plane")


ODD = ["0", "-1", "1.5", "true", '"x"', '""', "[]", "[[]]", "{}", "{ x = 1 }", "[{ x = {} }]", "nan", "1979-05-27", "9" * 30, '"\\u0007"']


def test_whatever_is_written_is_accepted_or_refused_in_one_line(tmp_path: Path) -> None:
    """Each line left out, doubled, and given every other odd value: nothing but a study or one line comes of it."""
    path = tmp_path / "small.toml"
    lines = SMALL.splitlines()
    outcomes = {"accepted": 0, "refused": 0}
    for place, line in enumerate(lines):
        key, equals, _ = line.partition(" = ")
        for new in ["", f"{line}\n{line}", *([f"{key} = {value}" for value in ODD[place % 2 :: 2]] if equals else [])]:
            path.write_text("\n".join([*lines[:place], new, *lines[place + 1 :]]))
            try:
                load(path)
                outcomes["accepted"] += 1
            except UsageError as error:
                outcomes["refused"] += 1
                message = str(error)
                assert message.startswith(f"{path}: "), message
                assert "\n" not in message, message
                assert not any(word in message for word in ("dict[", "pydantic", "Annotated", "Traceback", "function-", "constrained")), (
                    message
                )
    assert outcomes["accepted"] > 30
    assert outcomes["refused"] > 300
