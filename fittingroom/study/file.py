"""The study file: what a report built and claimed, as one frozen, checked value. Nothing here trains or judges.

A study is written in TOML (``docs/studies.md`` explains it with an example). It holds recipes only as changes to a base recipe, so
that what differs between two runs is what is written down. `load` returns it with every abbreviation written out: readings
stand in the grids and the claims, bases that are other runs are resolved, and factors are called by their short names.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fittingroom import models, recipe
from fittingroom.data.named import CATALOG
from fittingroom.errors import FittingRoomError, UsageError, nearest
from fittingroom.tune import space

__all__ = [
    "KINDS",
    "METRICS",
    "AnyClaim",
    "Claim",
    "Claimed",
    "Consistency",
    "Count",
    "Found",
    "Metric",
    "Number",
    "Order",
    "Runs",
    "Seeds",
    "Selection",
    "Shape",
    "Study",
    "Unmeasured",
    "cells",
    "check_models",
    "claimed_words",
    "combined",
    "load",
    "metric_of",
    "metric_words",
    "parse_claimed",
    "recipe_of",
    "search_key",
    "seeds_of",
    "selected",
    "selections_of",
    "shipped",
    "space_of",
    "unsearched",
    "variation_key",
]

Scalar = bool | int | float | str
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=80)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]

# More runs than this are a slip in a grid: at a minute each they would take half a week.
MOST_RUNS = 5_000
# The longest of the five studies has about 40,000 bytes; what is much larger is something else, and is not read to its end.
MOST_BYTES = 1_000_000
STUDIES = Path(__file__).parent.parent / "studies"


class Table(BaseModel):
    """Base of every table of a study: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Seeds(Table):
    """Seeds for some cells of a grid: more where the report speaks of them, fewer where a run takes long."""

    where: dict[str, Scalar]
    """Values that a cell has."""
    seeds: list[Seed]
    """The seeds of those cells."""


class Runs(Table):
    """One named variation of the base recipe, a grid of them, or what a search finds best."""

    about: str = ""
    """What it is, in the report's terms."""
    base: str | None = None
    """What to start from instead of the study's base: another run of the study, whose changes and assumptions it takes over (but not its
    grid nor its seeds), or else a shipped recipe or a model. A study as `load` returns it names recipes and models alone."""
    search: str | None = None
    """In place of a base, a space to be searched, by the name of one that comes with the program or as a file beside the study: the run is
    made with the values that win the search. What `set` and a cell of the grid change is changed in every recipe that is tried."""
    set: dict[str, Any] = {}
    """Changes to the base: ``optim.lr = 0.01``. An empty table takes a table of the recipe back to its defaults: ``augment = {}``."""
    grid: dict[str, list[Scalar]] = {}
    """Dotted keys (or names of `factors`) and the values of each: one run for every combination, in the order written, the last key
    changing fastest. In a study as `load` returns it the study's `readings` stand in it, first."""
    seeds: list[Seed] | None = None
    """Seeds of these runs; None takes the study's."""
    seeds_where: list[Seeds] = []
    """Other seeds for some cells; the last entry that fits a cell holds. Read them through `seeds_of`."""
    assumes: list[str] = []
    """Names of the assumptions that these runs rest on."""
    short: str = ""
    """In what these runs fall short of the report's own protocol by the study's choice: `6 of 50 epochs`. Every verdict on them says so."""


class Found(Table):
    """What a search of the study came to.

    Scores are in the units of the space's metric.
    """

    recipe: dict[str, Any]
    """The winner's, whole."""
    params: dict[str, Any]
    """The winner's values of what was searched."""
    trials: int
    """How many there were."""
    given_up: int
    """How many of them were pruned."""
    metric: str
    """What they were judged by."""
    best: float
    """The best score of a trial."""
    scores: dict[str, float] = Field(min_length=1)
    """The winner's, on seeds that no trial had, by seed."""


class Selection(Table):
    """Some runs of a study: all seeds of a named variation, or of the cells of a grid that have these values."""

    run: str
    """Name of the variation or grid."""
    where: dict[str, Scalar] = {}
    """Values that a cell of the grid has; empty means all its cells."""
    each: bool = False
    """Of runs that others are compared with: every cell stands for itself, but for those compared with it; else their mean is compared."""


class Claim(Table):
    """What all claims have."""

    id: Name
    """Unique in the study: lower case, digits and hyphens. One that holds for several readings gets their names appended."""
    text: str
    """The claim, in our words."""
    source: str
    """Where the report says it: a section, table or figure."""
    assumes: list[str] = []
    """Names of the assumptions that the verdict hangs on, beside those of its runs."""
    reading: dict[str, Scalar] = {}
    """Filled in by `load`: the reading that this claim is judged under, a value of each of the study's `readings` it hangs on."""


class Number(Claim):
    """A value of a metric."""

    kind: Literal["number"]
    of: Selection
    metric: str = ""
    """One of `METRICS`."""
    claimed: str = ""
    """The figure as printed, with its digits: `"0.90"`, `"91.98 %"`; `parse_claimed` reads it."""
    figures: dict[str, str] = {}
    """In place of the two, several figures of the same runs, by metric: `load` makes a claim of each and leaves this empty."""


class Order(Claim):
    """One group of runs above another on a metric, paired over seeds and over the factors they do not differ in.

    *Above* is a larger value, whatever the metric; for losses, durations and erraticness a `Shape` with ``relation = "less"`` reads better.
    """

    kind: Literal["order"]
    metric: str
    above: Selection
    below: list[Selection] = Field(min_length=1)
    """Each of them must lie below; with `relation = "at least"` or equal."""
    relation: Literal["above", "at least"] = "above"
    margin: float | None = Field(None, ge=0)
    """In the metric's units. `at least`: differences up to this count as none; where nothing is stated, 0.003 of accuracies and of the mean
    F1, and 0 of the rest. `above`: the difference must be larger than this; where nothing is stated, than 0."""


class Shape(Claim):
    """A measure of a curve: compared with another group's (`smoother than`), or with a stated epoch or value."""

    kind: Literal["shape"]
    of: Selection
    metric: str
    than: list[Selection] = []
    """Compared runs; empty where `claimed` states a value."""
    times: float = Field(1.0, gt=0)
    """What the values of `than` are multiplied by: with 0.5, `less` means less than half."""
    relation: Literal["less", "greater", "between"]
    claimed: list[float] = []
    """One number for `less` and `greater`, two for `between` (both included), in the metric's units; none where `than` is given."""


class Count(Claim):
    """A number that follows from the architecture alone."""

    kind: Literal["count"]
    of: Selection
    metric: Literal["parameters", "multiply_adds"]
    claimed: str
    """As printed: `"121k"`, `"54,410"`."""


class Consistency(Claim):
    """Whether the report agrees with itself and with the data set it names."""

    kind: Literal["consistency"]
    table: str | None = None
    """A published table, as text, to be audited."""
    data: str | None = None
    """The data set that the table is said to be of."""
    accuracy: list[str] = []
    """Figures quoted beside the table; without a table, accuracies said to be of the test images of `data`."""
    states: list[str] = []
    """What the report says of one and the same thing in several places; more than one distinct value is a contradiction."""


class Unmeasured(Claim):
    """What cannot be tested here, and why."""

    kind: Literal["not testable"]
    because: str


AnyClaim = Annotated[Number | Order | Shape | Count | Consistency | Unmeasured, Field(discriminator="kind")]
KINDS: dict[str, type[Claim]] = {
    get_args(kind.model_fields["kind"].annotation)[0]: kind for kind in (Number, Order, Shape, Count, Consistency, Unmeasured)
}


class Study(Table):
    """A report as a file that runs."""

    name: str = ""
    """The file's name without its ending; given by `load`, never written in the file."""
    title: str
    """The report's title."""
    source: str
    """File name of the report, or where it can be found."""
    about: str = ""
    """What it did, in two or three sentences."""
    protocol: dict[str, str] = {}
    """What the report says of its protocol, by subject; "not stated" where it is silent."""
    base: str | dict[str, Any]
    """The base recipe: a shipped recipe's or model's name, or its values."""
    seeds: list[Seed] = [0, 1, 2]
    """Seeds of every run that does not say otherwise."""
    assumptions: dict[str, str] = {}
    """Each choice that the report leaves open, and what was chosen and why, by name."""
    factors: dict[str, str | dict[str, dict[str, Any]]] = {}
    """Short names for grids and selections: of a dotted key, `activation = "model.activation"`, or of several changes at once, each
    level with a name of its own, `augmentation = { without = {}, with = { "augment.rotate" = 10 } }`. A cell then has the level's name."""
    readings: dict[str, list[Scalar]] = {}
    """Factors in which the report can be read more than one way, and their values: every run whose own grid does not mention the factor
    is made in each, and every claim about numbers, orders and shapes that does not say which is judged for each."""
    runs: dict[Name, Runs] = Field(min_length=1)
    """The systems and experiments, by name."""
    claims: list[AnyClaim]
    """What it claims."""
    omitted: dict[str, str] = {}
    """What the report names and this study does not run or judge, and why."""
    found: dict[str, Found] = {}
    """What its searches found, by `search_key`; never in the file: `fittingroom.study.searches.with_found` fills it in from records."""


class Metric(NamedTuple):
    """What a metric is.

    Attributes:
        description: what it measures, in a line.
        unit: of its values; empty for a plain number.
        higher_is_better: None where neither is.
    """

    description: str
    unit: str
    higher_is_better: bool | None


_KEPT = "at the epoch whose weights were kept"
METRICS: Mapping[str, Metric] = {
    "test.accuracy": Metric("part of the test images classified right", "share", True),
    "test.loss": Metric("mean cross-entropy of the test images", "nats", False),
    "validation.accuracy": Metric(f"part of the validation images classified right, {_KEPT}", "share", True),
    "validation.loss": Metric(f"validation loss, {_KEPT}", "nats", False),
    "train.accuracy": Metric(f"training accuracy as the loop recorded it, {_KEPT}", "share", True),
    "train.loss": Metric(f"training loss as the loop recorded it, {_KEPT}", "nats", False),
    "validation.accuracy@EPOCH": Metric("validation accuracy after an epoch: its number from 1, `last` or `best`", "share", True),
    "validation.loss@EPOCH": Metric("validation loss after an epoch", "nats", False),
    "train.accuracy@EPOCH": Metric("training accuracy during an epoch", "share", True),
    "train.loss@EPOCH": Metric("training loss during an epoch", "nats", False),
    "f1": Metric("mean F1 over the classes, on the test images", "share", True),
    "f1:CLASS": Metric("F1 of one class, on the test images", "share", True),
    "precision:CLASS": Metric("precision of one class, on the test images", "share", True),
    "recall:CLASS": Metric("recall of one class, on the test images", "share", True),
    "confusion:TRUE>PREDICTED": Metric("test images of one class taken for another", "images", False),
    "confusion-rank:A|B": Metric("rank of a pair of classes among all pairs by mutual confusion on the test images; 1 is most", "", None),
    "erraticness.accuracy": Metric("how far an epoch's validation accuracy lies from the line between its neighbours", "share", False),
    "erraticness.loss": Metric("the same of the validation loss", "nats", False),
    "gap": Metric("training minus validation accuracy at the last epoch", "share", False),
    "distance": Metric("how far training and validation accuracy lie apart at the last epoch, whichever leads", "share", False),
    "gap_opens": Metric("epoch from which training accuracy stays over a point ahead of validation, two or more to the end", "epoch", None),
    "best_epoch": Metric("epoch of the highest validation accuracy, the first of them", "epoch", None),
    "best_epoch.loss": Metric("epoch of the lowest validation loss, the first of them", "epoch", None),
    "epochs": Metric("epochs trained", "epochs", None),
    "epochs_to_95": Metric("epochs until 95 % of the way from the first to the best validation accuracy", "epochs", False),
    "gain_after:EPOCH": Metric("best validation accuracy less that after an epoch", "share", None),
    "loss_rise": Metric("validation loss at the last epoch less its lowest", "nats", False),
    "seconds": Metric("training time in all, on the machine that ran it", "s", False),
    "max_loss_after:EPOCH": Metric("largest training or validation loss after an epoch", "nats", False),
    "parameters": Metric("trainable numbers", "", False),
    "multiply_adds": Metric("multiplications with addition for one image, in convolutions and dense layers", "", False),
}
"""What a claim may be about, by name. Capitals stand for what the claim fills in: an epoch, or classes by their names.

`EPOCH` after `@` is a number from 1, `last`, or `best`: the epoch of the highest validation accuracy (the first of them).
"""

EPOCHS_OF = ("validation.accuracy", "validation.loss", "train.accuracy", "train.loss")
AFTER_EPOCHS = ("max_loss_after", "gain_after")
OF_CLASSES = {"f1": None, "precision": None, "recall": None, "confusion": ">", "confusion-rank": "|"}


@dataclass(frozen=True)
class Claimed:
    """A figure as it was printed.

    Attributes:
        value: in plain units: a percentage is divided by 100, `121k` is 121,000.
        resolution: half a unit of the last digit printed, in the same units: values within it would be printed the same.
    """

    value: float
    resolution: float


NUMBER = re.compile(r"(?P<sign>-?)(?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<decimals>\d+))?\s*(?P<unit>%|k|M)?")
UNITS = {None: 1.0, "%": 0.01, "k": 1e3, "M": 1e6}


def parse_claimed(text: str) -> Claimed:
    """Read a figure: ``0.90``, ``91.98 %``, ``54,410``, ``121k``.

    Raises:
        UsageError: it is no number.
    """
    found = NUMBER.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"'{text:.40}' is no number; write the figure as printed, such as 0.90, 91.98 % or 121k")
    decimals = found["decimals"] or ""
    unit = UNITS[found["unit"]]
    value = float(f"{found['sign']}{found['whole'].replace(',', '')}.{decimals or 0}") * unit
    if not math.isfinite(value):
        raise UsageError(f"'{text:.40}' is too large for a number")
    return Claimed(value, 0.5 * 10.0 ** -len(decimals) * unit)


def metric_words(metric: str) -> str:
    """Return a metric as a reader names it: ``validation loss at the last epoch``, ``F1 of Shirt``."""
    name, at, epoch = metric.partition("@")
    if at:
        when = {"last": "at the last epoch", "best": "at its best epoch"}.get(epoch, f"after epoch {epoch}")
        return f"{name.replace('.', ' ')} {when}"
    name, _, what = metric.partition(":")
    named = {
        "confusion": "images of {} taken for {}",
        "confusion-rank": "rank of the confusion of {} with {}",
        "max_loss_after": "largest loss after epoch {}",
        "gain_after": "gain of validation accuracy after epoch {}",
        "loss_rise": "rise of the validation loss to the end",
        "distance": "distance of training from validation accuracy at the end",
        "erraticness.accuracy": "erraticness of the validation accuracy",
        "erraticness.loss": "erraticness of the validation loss",
        "gap": "training ahead of validation accuracy at the end",
        "gap_opens": "epoch from which training stays ahead",
        "seconds": "seconds of training",
        "f1": "F1 of {}" if what else "mean F1 over classes",
    }
    if name not in named:
        return f"{name.replace('.', ' ').replace('_', '-')}{f' of {what}' if what else ''}"
    return named[name].format(*what.replace("|", ">").split(">"))


def metric_of(metric: str) -> Metric:
    """What is known of a metric as a claim names it, such as ``f1:Shirt`` or ``validation.loss@3``.

    Raises:
        UsageError: there is none of that name, or what it fills in is missing or no epoch.
    """
    return METRICS[_pattern(metric)]


def _pattern(metric: str) -> str:
    """The key of `METRICS` that a metric is an instance of."""
    if metric in METRICS and not any(part.isupper() for part in re.split(r"\W", metric)):
        return metric
    name, at, epoch = metric.partition("@")
    if at and name in EPOCHS_OF:
        if epoch not in ("last", "best"):
            _epoch(metric, epoch)
        return f"{name}@EPOCH"
    name, colon, rest = metric.partition(":")
    if colon and name in AFTER_EPOCHS:
        _epoch(metric, rest)
        return f"{name}:EPOCH"
    if colon and name in OF_CLASSES:
        separator = OF_CLASSES[name]
        parts = rest.split(separator) if separator else [rest]
        if len(parts) != (2 if separator else 1) or not all(parts) or len(set(parts)) < len(parts):
            wanted = f"two different classes, such as {name}:Shirt{separator}Coat" if separator else f"a class, such as {name}:Shirt"
            raise UsageError(f"'{metric}' needs {wanted}")
        return next(key for key in METRICS if key.startswith(f"{name}:"))
    raise UsageError(f"unknown metric '{metric:.60}'{nearest(metric, METRICS) or '; known: ' + ', '.join(METRICS)}")


def _epoch(metric: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text[:9]) < 1:
        raise UsageError(f"'{metric}' needs an epoch, counted from 1")
    return int(text[:9])


def shipped() -> dict[str, Path]:
    """The studies that come with the program, by name."""
    return {path.stem: path for path in sorted(STUDIES.glob("*.toml"))}


def load(source: str | Path) -> Study:
    """Load and check a study, every recipe in it too.

    Args:
        source: the name of a shipped study, or a TOML file.

    Raises:
        UsageError: unreadable file, unknown key, or what cannot be run or judged as written; one line that names file, table and key.
    """
    path = _found(source)
    where = path.name if path.parent == STUDIES else str(path)
    values = _read(path, where)
    try:
        if "name" in values:
            raise UsageError("name: unknown key; a study is called by its file's name")
        if "found" in values:
            raise UsageError("found: unknown key; what a search finds is read from its record")
        try:
            study = Study.model_validate(values)
        except ValidationError as error:
            raise UsageError(_one_line(error, values)) from None
        beside = {name: _beside(path, runs) for name, runs in study.runs.items()}
        study = _completed(study.model_copy(update={"name": path.stem, "runs": beside}))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return study


def cells(study: Study, name: str) -> list[dict[str, Scalar]]:
    """The cells of a run's grid: a value for each factor, in the order written; one empty cell where there is no grid.

    Of a run that is searched for, those whose search has found something: there is nothing to train in the others yet.

    Raises:
        UsageError: the study has no such run.
    """
    runs = _runs(study, name)
    every = combined(runs.grid)
    return every if runs.search is None else [cell for cell in every if search_key(name, cell) in study.found]


def combined(grid: Mapping[str, Sequence[Scalar]]) -> list[dict[str, Scalar]]:
    """Every combination of a grid's values, the last key changing fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def variation_key(name: str, cell: Mapping[str, Any]) -> tuple[str, str]:
    """A run and a cell of it as something to find them by: the same for equal cells, in whatever order their factors are."""
    return name, json.dumps(dict(cell), sort_keys=True)


def search_key(name: str, cell: Mapping[str, Scalar]) -> str:
    """Name a search, and its files: the run and the values of its cell."""
    return "-".join([name, *map(_slug, cell.values())])


def unsearched(study: Study) -> list[str]:
    """Name the searches that have found nothing yet."""
    keys = [search_key(name, cell) for name, runs in study.runs.items() if runs.search is not None for cell in combined(runs.grid)]
    return [key for key in keys if key not in study.found]


def space_of(study: Study, name: str, cell: Mapping[str, Scalar]) -> space.Space:
    """The space that is searched for a run of a study.

    Raises:
        UsageError: the study has no such run, or the space is not accepted; the message names the run.
    """
    runs = _runs(study, name)
    assert runs.search is not None
    try:
        return space.load(runs.search, _changes_of(study, runs, cell))
    except UsageError as error:
        raise UsageError(f"runs.{name}.search: {error}") from None


def seeds_of(study: Study, name: str, cell: Mapping[str, Scalar]) -> list[int]:
    """The seeds that a cell is run with.

    Raises:
        UsageError: the study has no such run.
    """
    runs = _runs(study, name)
    seeds = study.seeds if runs.seeds is None else runs.seeds
    for some in runs.seeds_where:
        if _fits(cell, some.where):
            seeds = some.seeds
    return list(seeds)


def recipe_of(study: Study, name: str, cell: Mapping[str, Scalar], seed: int) -> recipe.Loaded:
    """The recipe of one run of a study.

    Raises:
        UsageError: the study has no such run, or the recipe is not accepted; the message names the run.
    """
    runs = _runs(study, name)
    if runs.search is None:
        base, changes = study.base if runs.base is None else runs.base, _over(_changes_of(study, runs, cell), {"seed": seed})
    else:
        base, changes = study.found[search_key(name, cell)].recipe, {"seed": seed}
    try:
        loaded = recipe.load(base, changes)
    except UsageError as error:
        of_cell = f" ({_words(cell)})" if cell else ""
        raise UsageError(f"runs.{name}{of_cell}: {str(error).removeprefix('command line: ').removeprefix('recipe: ')}") from None
    label = f"study {study.name}"
    return replace(loaded, origins={key: label if origin == "command line" else origin for key, origin in loaded.origins.items()})


def selected(study: Study, selection: Selection) -> list[tuple[str, dict[str, Scalar]]]:
    """The runs that a selection means: their name and cell, in the order of the grid.

    Raises:
        UsageError: the study has no such run.
    """
    return [(selection.run, cell) for cell in cells(study, selection.run) if _fits(cell, selection.where)]


def selections_of(claim: Claim) -> list[Selection]:
    """All selections of a claim, in the order of its fields; empty for claims that no run is needed for."""
    return [selection for _, selection in _selections(claim)]


def claimed_words(claim: Claim, first: str, others: str) -> str:
    """Return what a report claims, in the few words that a line or a cell has room for; empty where it claims no figure and no order.

    Args:
        claim: the claim.
        first: how the first of its selections is called.
        others: how those are called that it is compared with; empty where there are none.
    """
    if isinstance(claim, Number | Count):
        return claim.claimed
    if isinstance(claim, Order):
        return f"{first} {claim.relation} {others}"
    if isinstance(claim, Shape):
        words = {"less": "less than", "greater": "more than", "between": "between"}[claim.relation]
        words += f" {claim.times:g} ×" if claim.times != 1 else ""
        return f"{words} {others or ' and '.join(f'{item:g}' for item in claim.claimed)}"
    if isinstance(claim, Consistency):
        return "; ".join([*claim.accuracy, *claim.states]) or "its own table"
    return ""


def check_data(study: Study, data_dir: Path | None = None) -> None:
    """Find out whether every data set is a known one or is there; nothing of it is read.

    Raises:
        UsageError, DataMissing: one is not; the message names the run.
    """
    from fittingroom.data import catalog

    for name in study.runs:
        for data in sorted({recipe_of(study, name, cell, 0).recipe.data.name for cell in cells(study, name)}):
            try:
                catalog.check(data, data_dir)
            except FittingRoomError as error:
                raise type(error)(f"{study.name}: runs.{name}: {error}") from None


def check_models(study: Study) -> None:
    """Find out whether every model takes the arguments that the study gives it; this needs torch, which `load` needs for searches only.

    Raises:
        UsageError: an argument is unknown, or its value is not accepted; the message names the run.
    """
    seen: list[recipe.Model] = []
    for name in study.runs:
        for cell in cells(study, name):
            model = recipe_of(study, name, cell, 0).recipe.model
            if model in seen:
                continue
            seen.append(model)
            try:
                models.check(model.name, model.arguments)
            except UsageError as error:
                raise UsageError(f"{study.name}: runs.{name}: {error}") from None


# Reading the file.


def _found(source: str | Path) -> Path:
    name = str(source)
    if isinstance(source, str) and name in shipped():
        return shipped()[name]
    if isinstance(source, str) and not name.endswith(".toml") and "/" not in name:
        raise UsageError(f"unknown study '{name:.60}'{nearest(name, shipped())}; give the name of a shipped study or a TOML file")
    return Path(source)


def _read(path: Path, where: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"{where}: too large for a study (more than {MOST_BYTES:,} bytes)")
        return tomllib.loads(content.decode("utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"{where}: no such study file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: cannot be read as a study ({error})") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: not valid TOML: {error}") from None


def _one_line(error: ValidationError, values: Mapping[str, Any]) -> str:
    """The first thing that pydantic found wrong, with the place as a reader of the file knows it."""
    # A misspelt key is also a missing one; the misspelling says more.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    path, table = _place(first["loc"], values)
    if first["type"] == "extra_forbidden":
        known = [key for key in table.model_fields if key not in ("name", "reading", "found")] if table else []
        return f"{path}: unknown key{nearest(str(first['loc'][-1]), known) or '; known: ' + ', '.join(known)}"
    if first["type"] == "missing":
        return f"{path} is missing"
    if first["type"] == "union_tag_not_found":
        return f"{path}.kind is missing; one of {', '.join(KINDS)}"
    if first["type"] == "union_tag_invalid":
        given = str(first["ctx"]["tag"])
        return f"{path}.kind: no kind of claim '{given:.40}'{nearest(given, KINDS) or '; known: ' + ', '.join(KINDS)}"
    if first["type"] == "string_pattern_mismatch":
        return f"{path}: '{first['input']!s:.80}' is no name; use lower-case letters, digits and hyphens"
    message = SHOULD_BE.get(first["type"]) or first["msg"][:1].lower() + first["msg"][1:]
    if first["loc"][-1] in UNION_BRANCHES:
        message = "should be a finite number, text, or true or false"
    shown = f" (given: {first['input']!r:.80})" if isinstance(first["input"], bool | int | float | str) else ""
    return f"{path}: {message}{shown}"


SHOULD_BE = {
    "string_type": "should be text, in quotes",
    "list_type": "should be a list, in brackets",
    "dict_type": "should be a table",
    "model_type": "should be a table",
    "model_attributes_type": "should be a table",
}


def _place(location: Iterable[int | str], values: Any) -> tuple[str, type[BaseModel] | None]:
    """A dotted path, claims called by their ids, and the table that the last key belongs to."""
    words: list[str] = []
    table: type[BaseModel] | None = Study
    steps = list(location)
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        if isinstance(step, int):
            values = values[step] if isinstance(values, list) and step < len(values) else None
            named = values.get("id") if isinstance(values, dict) else None
            if words == ["claims"]:
                words[-1] = f"claims.{named}" if isinstance(named, str) else f"claims[{step + 1}]"
            else:
                words[-1] += f"[{step + 1}]"
        elif words and words[0].startswith("claims") and len(words) == 1 and step in KINDS:
            table = KINDS[step]
        elif step in UNION_BRANCHES or "[" in step:
            continue
        else:
            words.append(step)
            values = values.get(step) if isinstance(values, dict) else None
            if words[0] == "runs" and len(words) == 2:
                table = Runs
            elif step in ("of", "above", "below", "than"):
                table = table if last else Selection
            elif step == "seeds_where":
                table = table if last else Seeds
    return ".".join(words), table


UNION_BRANCHES = {"bool", "int", "float", "str"}


# Writing out what a study abbreviates, and checking what the types cannot.


def _completed(study: Study) -> Study:
    """The study, checked, with bases that are runs resolved, factors by their short names, readings in grids and claims."""
    _check_seeds("seeds", study.seeds)
    _check_factors(study)
    study = study.model_copy(update={"readings": _named(study, study.readings, "readings")})
    for factor, values in study.readings.items():
        _check_values(study, f"readings.{factor}", factor, values)
    for name, runs in study.runs.items():
        if "grid" in runs.model_fields_set and not runs.grid:
            raise UsageError(f"runs.{name}.grid: an empty grid; give a factor and its values, or leave the key out")
    study = study.model_copy(update={"runs": {name: _resolved(study, name) for name in study.runs}})
    study = study.model_copy(update={"runs": {name: _with_readings(study, name) for name in study.runs}})
    for name in study.runs:
        _check_run(study, name)
    _check_number_of_runs(study)
    _check_recipes(study)
    claims: list[Claim] = []
    for written in study.claims:
        for claim in _figures(_in_short(study, written)):
            _check_claim(study, claim)
            claims += _readings(study, claim)
    twice = next((claim.id for index, claim in enumerate(claims) if claim.id in {other.id for other in claims[:index]}), None)
    if twice is not None:
        raise UsageError(f"claims.{twice}.id: two claims have this id")
    return study.model_copy(update={"claims": claims})


def _beside(path: Path, runs: Runs) -> Runs:
    """A run whose space, where it is a file, is found from anywhere."""
    if runs.search is None or runs.search in space.shipped():
        return runs
    return runs.model_copy(update={"search": str(path.parent / runs.search)})


def _resolved(study: Study, name: str) -> Runs:
    """A run that no longer builds on another."""
    own = study.runs[name]
    chain, runs, changes, assumes = [name], own, _dotted(own.set), list(own.assumes)
    while runs.base in study.runs and runs.base != chain[-1]:
        chain.append(runs.base)
        if study.runs[runs.base].search is not None:
            raise UsageError(f"runs.{name}.base: '{runs.base}' is searched for, and only what is written down can be built on")
        if runs.base in chain[:-1]:
            raise UsageError(f"runs.{name}.base: a cycle: {' → '.join(chain)}")
        runs = study.runs[runs.base]
        changes = _over(_dotted(runs.set), changes)
        assumes = [*runs.assumes, *(one for one in assumes if one not in runs.assumes)]
    return own.model_copy(update={"base": runs.base, "set": changes, "assumes": assumes})


def _dotted(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes by dotted keys: a table of the recipe is changed key by key, what lies below that is replaced whole, as is a named model."""
    dotted: dict[str, Any] = {}
    for key, value in changes.items():
        if isinstance(value, dict) and value and "." not in key and not (key == "model" and "name" in value):
            dotted.update({f"{key}.{inner}": inner_value for inner, inner_value in value.items()})
        else:
            dotted[key] = value
    return dotted


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two sets of changes as one: what the second says of a key, or of a table around it, takes the place of what the first said."""
    kept = {key: value for key, value in below.items() if not any(key == other or key.startswith(f"{other}.") for other in above)}
    return {**kept, **above}


def _named(study: Study, values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The same with factors by their short names."""
    short = {key: name for name, key in study.factors.items() if isinstance(key, str)}
    named = {short.get(key, key): value for key, value in values.items()}
    if len(named) < len(values):
        twice = next(key for key in values if short.get(key, key) in values and short.get(key, key) != key)
        raise UsageError(f"{place}: '{twice}' is the factor '{short[twice]}', which is there too")
    return named


def _with_readings(study: Study, name: str) -> Runs:
    runs, place = study.runs[name], f"runs.{name}"
    grid = _named(study, runs.grid, f"{place}.grid")
    readings = {factor: list(values) for factor, values in study.readings.items() if factor not in grid}
    some = [one.model_copy(update={"where": _named(study, one.where, f"{place}.seeds_where")}) for one in runs.seeds_where]
    return runs.model_copy(update={"grid": {**readings, **grid}, "seeds_where": some})


def _in_short(study: Study, claim: Claim) -> Claim:
    def named(selection: Selection) -> Selection:
        return selection.model_copy(update={"where": _named(study, selection.where, f"claims.{claim.id}: where")})

    return _changed(claim, named)


def _figures(claim: Claim) -> list[Claim]:
    """A claim for each of the figures of a number; other claims as they are."""
    if not isinstance(claim, Number):
        return [claim]
    alone = bool(claim.metric or claim.claimed)
    if alone == bool(claim.figures) or (alone and not (claim.metric and claim.claimed)):
        raise UsageError(f"claims.{claim.id}: a number needs `metric` and `claimed`, or else several `figures`")
    return [_figure(claim, metric, claimed) for metric, claimed in claim.figures.items()] or [claim]


def _figure(claim: Number, metric: str, claimed: str) -> Number:
    words = metric.partition("@")[0].replace("train.", "training ").replace(".", " ")
    names = {"id": f"{claim.id}-{_slug(words)}", "text": f"{claim.text}: {words} {claimed}"}
    return claim.model_copy(update={"metric": metric, "claimed": claimed, "figures": {}, **names})


def _readings(study: Study, claim: Claim) -> Iterator[Claim]:
    """A claim as it is, or one for each reading that it leaves open; what follows from the architecture alone leaves none open."""
    selections = [] if isinstance(claim, Count) else selections_of(claim)
    open_ = {factor: values for factor, values in study.readings.items() if any(_has(study, one, factor) for one in selections)}
    for values in itertools.product(*open_.values()):
        reading = dict(zip(open_, values, strict=True))
        read = _changed(claim, partial(_read_as, study, reading))
        yield read.model_copy(update={"id": "-".join([claim.id, *map(_slug, values)]), "reading": reading})


def _has(study: Study, selection: Selection, factor: str) -> bool:
    """Whether a selection takes in all readings of a factor."""
    there = study.runs[selection.run].grid.get(factor, [])
    return factor not in selection.where and all(any(_equal(value, one) for one in there) for value in study.readings[factor])


def _read_as(study: Study, reading: Mapping[str, Scalar], selection: Selection) -> Selection:
    added = {factor: value for factor, value in reading.items() if _has(study, selection, factor)}
    return selection.model_copy(update={"where": {**selection.where, **added}})


def _slug(value: Scalar) -> str:
    return re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-")


def _selections(claim: Claim) -> Iterator[tuple[str, Selection]]:
    """The selections of a claim, each with the place it stands in."""
    for field in ("of", "above", "below", "than"):
        value = getattr(claim, field, [])
        if isinstance(value, Selection):
            yield field, value
        else:
            yield from ((f"{field}[{index}]", one) for index, one in enumerate(value, 1))


def _changed(claim: Claim, change: Callable[[Selection], Selection]) -> Claim:
    """The claim with each of its selections replaced."""
    update: dict[str, Any] = {}
    for field in ("of", "above", "below", "than"):
        value = getattr(claim, field, None)
        if value:
            update[field] = change(value) if isinstance(value, Selection) else [change(one) for one in value]
    return claim.model_copy(update=update)


def _runs(study: Study, name: str) -> Runs:
    if name not in study.runs:
        raise UsageError(f"no run '{name:.60}'{nearest(name, study.runs) or '; known: ' + ', '.join(study.runs)}")
    return study.runs[name]


def _fits(cell: Mapping[str, Scalar], where: Mapping[str, Scalar]) -> bool:
    return all(factor in cell and _equal(cell[factor], value) for factor, value in where.items())


def _equal(one: Scalar, other: Scalar) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _changes_of(study: Study, runs: Runs, cell: Mapping[str, Scalar]) -> dict[str, Any]:
    """What a cell of a run changes in the recipe that it starts from."""
    changes: dict[str, Any] = dict(runs.set)
    for factor, value in cell.items():
        changes = _over(changes, _changes(study, factor, value))
    return changes


def _changes(study: Study, factor: str, value: Scalar) -> dict[str, Any]:
    """What a value of a factor changes in the recipe."""
    known = study.factors.get(factor, factor)
    return {known: value} if isinstance(known, str) else _dotted(known[str(value)])


def _words(cell: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{factor} = {value}" for factor, value in cell.items())


def _check_seeds(place: str, seeds: list[int]) -> None:
    if not seeds:
        raise UsageError(f"{place}: no seeds; give at least one")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise UsageError(f"{place}: seed {twice} is there twice")


def _check_factors(study: Study) -> None:
    keys: dict[str, str] = {}
    for name, factor in study.factors.items():
        if isinstance(factor, str):
            if keys.setdefault(factor, name) != name:
                raise UsageError(f"factors.{name}: '{factor}' has a short name already, '{keys[factor]}'")
        elif not factor:
            raise UsageError(f"factors.{name}: no levels; give each a name and its changes, or name a dotted key")


def _check_values(study: Study, place: str, factor: str, values: list[Scalar]) -> None:
    """Values of a factor in a grid: some, each once, and levels of the factor where it has levels."""
    if not values:
        raise UsageError(f"{place}: an empty list makes an empty grid; give at least one value, or leave the key out")
    for index, value in enumerate(values):
        if any(_equal(value, other) for other in values[:index]):
            raise UsageError(f"{place}: {value!r} is there twice")
    levels = study.factors.get(factor)
    if isinstance(levels, dict):
        for value in values:
            if value not in levels:
                raise UsageError(
                    f"{place}: factor '{factor}' has no level '{value}'{nearest(str(value), levels)}; it has: {', '.join(levels)}"
                )
    elif levels is None and "." not in factor and factor not in recipe.Recipe.model_fields:
        raise UsageError(f"{place}: unknown factor{nearest(factor, study.factors)}; name a dotted key or one of [factors]")


def _check_run(study: Study, name: str) -> None:
    runs, place = study.runs[name], f"runs.{name}"
    if runs.search is None:
        _check_base(f"{place}.base", runs.base, study)
    elif runs.base is not None:
        raise UsageError(f"{place}: a run has a `base` or a `search`, not both; the base of what is searched is the space's")
    _check_assumptions(study, place, runs.assumes)
    for factor, values in runs.grid.items():
        _check_values(study, f"{place}.grid.{factor}", factor, values)
    if "seed" in (*runs.set, *runs.grid):
        raise UsageError(f"{place}: the seed is set by `seeds`, not by `set` or `grid`")
    if runs.seeds is not None:
        _check_seeds(f"{place}.seeds", runs.seeds)
    for some in runs.seeds_where:
        _check_seeds(f"{place}.seeds_where.seeds", some.seeds)
        _check_where(f"{place}.seeds_where.where", runs.grid, some.where)


def _check_base(place: str, base: str | None, study: Study) -> None:
    if base is None and isinstance(study.base, str):
        place, base = "base", study.base
    known = [*recipe.shipped(), *models.names()]
    if base is not None and f"runs.{base}.base" == place and base not in known:
        raise UsageError(f"{place}: '{base:.60}' would build on itself; name a recipe, a model or another run")
    if base is not None and base not in known:
        raise UsageError(f"{place}: no recipe, model or other run '{base:.60}'{nearest(base, [*study.runs, *known])}")


def _check_assumptions(study: Study, place: str, assumes: list[str]) -> None:
    for name in assumes:
        if name not in study.assumptions:
            raise UsageError(f"{place}.assumes: no assumption '{name:.60}'{nearest(name, study.assumptions)}; [assumptions] lists them")


def _check_number_of_runs(study: Study) -> None:
    """Refuse what is too much to run, before anything is made of it."""
    for name, runs in study.runs.items():
        most = max(len(study.seeds if runs.seeds is None else runs.seeds), *(len(some.seeds) for some in runs.seeds_where), 1)
        number = math.prod(map(len, runs.grid.values())) * most
        if number > MOST_RUNS:
            raise UsageError(f"runs.{name}.grid: {number:,} runs are more than a study may have ({MOST_RUNS:,}); leave values out")
    number = sum(math.prod(map(len, runs.grid.values())) for runs in study.runs.values())
    if number <= MOST_RUNS:
        number = sum(len(seeds_of(study, name, cell)) for name in study.runs for cell in cells(study, name))
    if number > MOST_RUNS:
        raise UsageError(f"runs: {number:,} runs in all are more than a study may have ({MOST_RUNS:,}); leave values or seeds out")


def _check_recipes(study: Study) -> None:
    if not isinstance(study.base, str):
        try:
            recipe.load(study.base)
        except UsageError as error:
            raise UsageError(f"base: {str(error).removeprefix('recipe: ')}") from None
    for name, runs in study.runs.items():
        if runs.search is not None:
            for cell in combined(runs.grid):
                space_of(study, name, cell)
        for cell in cells(study, name):
            try:
                models.entry(recipe_of(study, name, cell, seeds_of(study, name, cell)[0]).recipe.model.name)
            except UsageError as error:
                message = str(error)
                raise UsageError(message if message.startswith("runs.") else f"runs.{name}: {message}") from None


def _check_where(place: str, grid: Mapping[str, list[Scalar]], where: Mapping[str, Scalar]) -> None:
    for factor, value in where.items():
        if factor not in grid:
            has = f"it has: {', '.join(grid)}" if grid else "it has none"
            raise UsageError(f"{place}.{factor}: the grid has no such factor{nearest(factor, grid)}; {has}")
        if not any(_equal(value, known) for known in grid[factor]):
            known = [str(one) for one in grid[factor]]
            raise UsageError(f"{place}.{factor}: the grid has no value {value!r}{nearest(str(value), known)}; it has: {', '.join(known)}")


def _check_claim(study: Study, claim: Claim) -> None:
    place = f"claims.{claim.id}"
    if claim.reading:
        raise UsageError(f"{place}.reading: unknown key; readings are the study's, and a claim fixes one in `where`")
    _check_assumptions(study, place, claim.assumes)
    for field, selection in _selections(claim):
        if selection.run not in study.runs:
            known = nearest(selection.run, study.runs) or "; known: " + ", ".join(study.runs)
            raise UsageError(f"{place}.{field}.run: no run '{selection.run:.60}'{known}")
        if selection.each and field in ("of", "above"):
            raise UsageError(f"{place}.{field}.each: only runs that others are compared with can be taken one by one")
        _check_where(f"{place}.{field}.where", study.runs[selection.run].grid, selection.where)
    if isinstance(claim, Number | Order | Shape | Count):
        _check_metric(study, f"{place}.metric", claim.metric, selections_of(claim))
    if isinstance(claim, Number | Count):
        _check_figure(f"{place}.claimed", claim.claimed, claim.metric)
    _check_compared(study, place, claim)
    if isinstance(claim, Shape):
        _check_shape(place, claim)
    if isinstance(claim, Consistency):
        _check_consistency(place, claim)


def _check_figure(place: str, written: str, metric: str) -> None:
    """A figure is one that the metric can have, in the metric's unit."""
    try:
        value = parse_claimed(written).value
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None
    unit, least = metric_of(metric).unit, 0 if metric_of(metric).higher_is_better else -1
    if unit == "share" and not least <= value <= 1:
        remedy = "" if "%" in written or value < 0 else f"; percentages need their sign: {written} %"
        raise UsageError(f"{place}: '{written}' is no {metric_words(metric)}, which lies between {least} and 1{remedy}")
    if unit != "share" and "%" in written:
        raise UsageError(f"{place}: '{written}' is a percentage, and {metric_words(metric)} is none")


def _check_compared(study: Study, place: str, claim: Claim) -> None:
    """Runs are compared with others, not with themselves."""
    selections = [(field, selection, selected(study, selection)) for field, selection in _selections(claim)]
    own = selections[0][2] if selections else []
    for field, other, there in selections[1:]:
        if there and all(one in own for one in there):
            raise UsageError(f"{place}.{field}: these are the runs that they are compared with; name others")
        if any(one in own for one in there) and not other.each:
            raise UsageError(f"{place}.{field}: holds the runs that they are compared with; say `where`, or `each = true` for all others")


def _check_metric(study: Study, place: str, metric: str, selections: list[Selection]) -> None:
    """The metric is known, and the runs have the epoch, the classes or the size it speaks of."""
    try:
        pattern = _pattern(metric)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None
    counted = metric in get_args(Count.model_fields["metric"].annotation)
    if pattern == metric and not counted:
        return
    for name, cell in (run for selection in selections for run in selected(study, selection)):
        values = recipe_of(study, name, cell, 0).recipe
        network = models.entry(values.model.name).kind == "network"
        if counted:
            if not network:
                raise UsageError(f"{place}: {values.model.name} has no {metric.replace('_', '-')} that could be counted (runs.{name})")
            continue
        rest = re.split("[@:]", metric, maxsplit=1)[1]
        if pattern.endswith("EPOCH"):
            epochs = values.train.last_epoch if network else 1
            if rest.isdecimal() and int(rest) > epochs:
                raise UsageError(f"{place}: '{metric}' of runs that train {epochs} {'epoch' if epochs == 1 else 'epochs'} (runs.{name})")
        elif values.data.name in CATALOG:
            classes = CATALOG[values.data.name].classes
            for one in re.split("[>|]", rest):
                if one not in classes:
                    raise UsageError(f"{place}: {values.data.name} has no class '{one:.40}'{nearest(one, classes)} (runs.{name})")


def _check_shape(place: str, claim: Shape) -> None:
    if bool(claim.than) == bool(claim.claimed):
        raise UsageError(f"{place}: a shape needs either runs to compare with (`than`) or a value (`claimed`)")
    if claim.times != 1 and not claim.than:
        raise UsageError(f"{place}.times: there is nothing to multiply; give runs to compare with (`than`)")
    wanted = 2 if claim.relation == "between" else 1
    if claim.claimed and len(claim.claimed) != wanted:
        raise UsageError(f"{place}.claimed: `{claim.relation}` needs {'two numbers' if wanted == 2 else 'one number'}")
    if claim.relation == "between" and (claim.than or claim.claimed[0] > claim.claimed[1]):
        raise UsageError(f"{place}.claimed: `between` needs two numbers, the smaller one first")


def _check_consistency(place: str, claim: Consistency) -> None:
    from fittingroom.audit.identity import KNOWN
    from fittingroom.audit.table import parse_figure, read_tables

    if not (claim.table or claim.accuracy or claim.states):
        raise UsageError(f"{place}: nothing to be consistent; give a `table`, an `accuracy` or what the report `states`")
    if len(claim.states) == 1:
        raise UsageError(f"{place}.states: one statement agrees with itself; give what the report says in another place")
    if claim.accuracy and claim.table is None and claim.data is None:
        raise UsageError(f"{place}.accuracy: accuracies of how many images? give a `table` or the name of `data`")
    known = {part.name for part in KNOWN}
    if claim.data is not None and claim.data not in known:
        raise UsageError(f"{place}.data: no data set '{claim.data:.60}' is known by its number of images{nearest(claim.data, known)}")
    try:
        key = "accuracy"
        for figure in claim.accuracy:
            parse_figure(figure)
        if claim.table is not None:
            key = "table"
            read_tables(claim.table, "the text")
    except UsageError as error:
        raise UsageError(f"{place}.{key}: {str(error).removeprefix('the text: ')}") from None
