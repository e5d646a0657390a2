"""The space file: a base recipe, the values to search over, and how; one frozen, checked value. Nothing here searches.

A space is written in TOML (``docs/tuning.md`` explains it with an example). Every mistake is found before the first trial begins,
as far as it can be: each value of each parameter is tried on the recipe.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from fittingroom import models, recipe
from fittingroom.errors import UsageError, nearest
from fittingroom.recipe import Loaded

__all__ = ["Budget", "Choice", "Objective", "Parameter", "Pruner", "Range", "Space", "load", "shipped", "stored"]

Value = bool | int | float | str | list[Any] | dict[str, Any]
Conditions = dict[str, list[Value]]

SPACES = Path(__file__).parent.parent / "spaces"
# A space takes a kilobyte; a grid of more cells than this cannot be meant.
MOST_BYTES, MOST_CELLS = 1_000_000, 100_000
# Trials that differ in these would be judged on different images.
IMAGES = ("data.name", "data.validation", "data.split_seed")


class Table(BaseModel):
    """Base of every table of a space: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Choice(Table):
    """A value out of a list: ``[32, 64]``, or ``{ choices = [32, 64], when = … }``; a value may be a list or a table itself."""

    choices: Annotated[list[Value], Field(min_length=1)]
    """The values."""
    when: Conditions = {}
    """Keys of other choices, and the values of each with which this one takes part."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for place, value in enumerate(self.choices):
            if value in self.choices[:place]:
                raise ValueError(f"{value!r} is given twice")
        return self

    @property
    def values(self) -> list[Value]:
        """All values, in the order written."""
        return self.choices

    @property
    def edges(self) -> list[Value]:
        """The values to try on a recipe: all."""
        return self.choices


class Range(Table):
    """A number between two: ``{ low = 1e-4, high = 1e-1, log = true }``, ``{ low = 16, high = 128, step = 16 }``.

    Whole numbers where both ends are whole numbers.
    """

    low: int | float
    high: int | float
    """Both ends belong to the range."""
    step: int | float | None = None
    """Distance of the values; None is 1 for whole numbers and none for others."""
    log: bool = False
    """Whether equal ratios, not equal differences, are equally likely."""
    when: Conditions = {}
    """Keys of choices, and the values of each with which this range takes part."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            hint = " (reversed)" if self.low > self.high else ""
            raise ValueError(f"low must be below high, not {self.low:g} and {self.high:g}{hint}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range begins above 0, not at {self.low:g}")
        if self.step is not None and (self.log or self.step <= 0 or self.step > self.high - self.low):
            raise ValueError("step must be above 0, at most high - low, and not with log = true")
        if self.whole and isinstance(self.step, float):
            raise ValueError(f"a range of whole numbers has a whole step, not {self.step:g}; write low as {float(self.low)}")
        return self

    @property
    def whole(self) -> bool:
        """Whether it is a range of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def last(self) -> int | float:
        """The highest value that `step` reaches."""
        if self.step is None:
            return self.high
        return self._after(math.floor((self.high - self.low) / self.step + 1e-9), self.step)

    @property
    def values(self) -> list[Value] | None:
        """All values in rising order, or None where they cannot be counted."""
        step = self.step if self.step is not None else 1 if self.whole else None
        if step is None:
            return None
        count = round((self.last - self.low) / step) + 1
        return [self._after(place, step) for place in range(min(count, MOST_CELLS + 1))]

    @property
    def edges(self) -> list[Value]:
        """The values to try on a recipe: both ends."""
        return [self.low, self.last]

    def _after(self, steps: int, step: int | float) -> int | float:
        """A value as a person would write it: 0.1 and three times 0.2 are 0.7, and no hair above it."""
        if self.whole:
            return self.low + steps * step
        return float(Decimal(str(self.low)) + steps * Decimal(str(step)))


def stored(value: Value) -> bool | int | float | str:
    """Return a value as Optuna keeps it, which has choices of single values only: a list or a table as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _kind(value: Any) -> str:
    return "choice" if isinstance(value, Choice) or (isinstance(value, Mapping) and "choices" in value) else "range"


Parameter = Annotated[Annotated[Choice, Tag("choice")] | Annotated[Range, Tag("range")], Discriminator(_kind)]
"""What a key's values are taken from."""


class Pruner(Table):
    """Which trials are given up before their last epoch. In TOML a name, or ``{ name = "median", warmup = 3 }``."""

    name: Literal["none", "best-so-far", "median", "successive-halving", "hyperband"] = "none"
    """`best-so-far`, the rule of report custom-cnn: a trial is dropped once its best epoch is behind what the best finished trial
    had reached by then. The others are Optuna's: its best epoch is worse than the median of the finished trials at this epoch, once
    five are finished (`median`); not among the best third at 1, 3, 9 … epochs (`successive-halving`, Li et al., 2018; `hyperband`,
    Li et al., 2018, several of these side by side)."""
    warmup: int = Field(0, ge=0)
    """Epochs after which no trial is dropped yet; for `best-so-far` and `median`."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_a_warmup(self) -> Self:
        if self.warmup and self.name not in ("best-so-far", "median"):
            raise ValueError(f"{self.name} knows no warmup; best-so-far and median do")
        return self


class Objective(Table):
    """What a trial is judged by. In TOML a metric, or ``{ metric = "validation.loss", epoch = "last" }``."""

    metric: Literal["validation.accuracy", "validation.loss"] = "validation.accuracy"
    """Accuracy is to rise, loss to fall."""
    epoch: Literal["best", "last"] = "best"
    """Which epoch counts."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"metric": value} if isinstance(value, str) else value

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.metric == "validation.accuracy" else -1

    def of(self, record: Mapping[str, Any]) -> float:
        """Return the metric of an epoch's record."""
        part, quantity = self.metric.split(".")
        return float(record[part][quantity])

    def score(self, history: Sequence[Mapping[str, Any]]) -> float:
        """Return what a run with this history is worth."""
        values = [self.of(record) for record in history]
        return values[-1] if self.epoch == "last" else max(values, key=lambda value: self.sign * value)


class Budget(Table):
    """How long to search; with both, whichever is used up first. A grid ends by itself."""

    trials: int | None = Field(None, ge=1, le=1_000_000)
    """How many trials."""
    minutes: float | None = Field(None, gt=0)
    """Minutes of work on trials, those before an interruption included. The finalists' trainings come on top."""


class Space(Table):
    """A search: what is fixed, what varies, how values are chosen, how long."""

    base: str | dict[str, Any]
    """A recipe that comes with the program, a recipe file (beside the space file), a model, or a recipe's values."""
    set: dict[str, Any] = {}
    """Changes to the base: dotted keys and values."""
    space: Annotated[dict[str, Parameter], Field(min_length=1)]
    """Dotted keys of the recipe and what their values are taken from."""
    sampler: Literal["grid", "random", "tpe", "cma-es"] = "tpe"
    """`grid`: each combination once. `random`. `tpe`: tree-structured Parzen estimator (Bergstra et al., 2011).
    `cma-es`: covariance matrix adaptation (Hansen, 2016) over the ranges; choices and conditional ranges at random."""
    pruner: Pruner = Pruner()
    objective: Objective = Objective()
    budget: Budget = Budget()
    seed: int = Field(0, ge=0, le=2**63 - 1)
    """Of the sampler; the runs' own seed is the recipe's."""
    finalists: int = Field(3, ge=0, le=100)
    """How many of the best are trained again before a winner is named."""
    fresh_seeds: int = Field(3, ge=1, le=100)
    """On how many seeds each of them."""

    @property
    def order(self) -> list[str]:
        """The parameters, each after those that it depends on; otherwise as written.

        Raises:
            ValueError: some depend on each other in a circle.
        """
        done: list[str] = []
        while len(done) < len(self.space):
            ready = [key for key in self.space if key not in done and all(on in done for on in self.space[key].when)]
            if not ready:
                raise ValueError("conditions in a circle: " + ", ".join(key for key in self.space if key not in done))
            done += ready
        return done

    def active(self, key: str, params: Mapping[str, Any]) -> bool:
        """Whether a parameter takes part, given those before it."""
        return all(on in params and params[on] in values for on, values in self.space[key].when.items())

    @cached_property
    def cells(self) -> list[dict[str, Value]]:
        """The cells of the grid, the last parameter varying fastest.

        Raises:
            ValueError: a range has no end of values, or there are more than a hundred thousand cells.
        """
        cells: list[dict[str, Value]] = [{}]
        for key in self.order:
            values = self.space[key].values
            if values is None:
                raise ValueError(f"space: {key}: a grid needs values that can be counted; give choices, or a step")
            if len(cells) * len(values) > MOST_CELLS:
                raise ValueError(f"a grid of more than {MOST_CELLS:,} cells; give fewer values, or another sampler with a budget")
            cells = [wider for cell in cells for wider in self._widened(cell, key, values)]
        return cells

    def _widened(self, cell: dict[str, Value], key: str, values: Sequence[Value]) -> Iterator[dict[str, Value]]:
        if not self.active(key, cell):
            yield cell
        else:
            yield from ({**cell, key: value} for value in values)

    @property
    def trials(self) -> int | None:
        """How many trials there will be at most, or None where time alone decides."""
        limits = [self.budget.trials] if self.budget.trials is not None else []
        limits += [len(self.cells)] if self.sampler == "grid" else []
        return min(limits, default=None)

    @property
    def fixed(self) -> dict[str, Any]:
        """All that must not change between two calls for one search: everything but budget and finalists."""
        return self.model_dump(mode="json", exclude={"budget", "finalists", "fresh_seeds"})

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a trial whose parameters Optuna has kept as `stored` has it."""
        meant = {key: {stored(value): value for value in item.choices} for key, item in self.space.items() if isinstance(item, Choice)}
        return {key: meant[key][value] if key in meant else value for key, value in params.items()}

    def recipe(self, params: Mapping[str, Any], seed: int | None = None) -> Loaded:
        """Return the recipe of a trial, with the base's own seed or another.

        Raises:
            UsageError: the recipe refuses these values together.
        """
        changes = {**_leaves(self.set), **params, **({} if seed is None else {"seed": seed})}
        # A table before what is in it: "model" before "model.dropout".
        loaded = recipe.load(self.base, dict(sorted(changes.items(), key=lambda item: item[0].count("."))))
        origins = {key: _origin(key, origin, params) for key, origin in loaded.origins.items()}
        return Loaded(loaded.recipe, origins)


def shipped() -> dict[str, Path]:
    """The spaces that come with the program, by name."""
    return {path.stem: path for path in sorted(SPACES.glob("*.toml"))}


def load(
    source: str | Path | Mapping[str, Any], changes: Mapping[str, Any] | None = None, budget: Mapping[str, Any] | None = None
) -> Space:
    """Load and check a space.

    Args:
        source: a TOML file, the name of a space that comes with the program, or a mapping of values.
        changes: dotted keys and values of the recipe, beside those of the table ``set``.
        budget: values for `Budget` in place of those of the file.

    Raises:
        UsageError: unreadable file, unknown key, or a value that cannot be accepted; the message names table, key and remedy.
    """
    where, folder, values = _read(source)
    try:
        space = Space.model_validate(_normalised(values, folder, changes or {}, budget or {}))
        _check(space)
    except ValidationError as error:
        raise UsageError(f"{where}: {_one_line(error)}") from None
    except (ValueError, UsageError) as error:
        raise UsageError(f"{where}: {error}") from None
    return space


def _read(source: str | Path | Mapping[str, Any]) -> tuple[str, Path, dict[str, Any]]:
    """Return how to name the source, the folder that its base is looked for in, and its values."""
    if isinstance(source, Mapping):
        return "space", Path(), dict(source)
    known = shipped()
    path = known.get(str(source), Path(source))
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"{path}: too large for a space (more than {MOST_BYTES:,} bytes); name a space file")
        return path.name if str(source) in known else str(source), path.parent, tomllib.loads(content.decode("utf-8"))
    except FileNotFoundError:
        listed = "" if path.suffix or path.name != str(source) else nearest(str(source), known) or f"; shipped: {', '.join(known)}"
        raise UsageError(f"{source}: no such space file{listed}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a space ({error})") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None


def _normalised(values: dict[str, Any], folder: Path, changes: Mapping[str, Any], budget: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with dotted keys as they are meant, a base beside the space file found, and changes taken in."""
    base = values.get("base")
    if isinstance(base, str) and base.endswith(".toml") and not Path(base).is_absolute():
        base = str(folder / base)
    if isinstance(base, str):
        base = recipe.load(Path(base) if base.endswith(".toml") else base).recipe.values
    found = {**values, "base": base} if base is not None else dict(values)
    if isinstance(found.get("set", {}), Mapping):
        found["set"] = {**_leaves(found.get("set", {})), **changes}
    if isinstance(found.get("space"), Mapping):
        found["space"] = {key: _parameter(value) for key, value in _leaves(found["space"], {"choices", "low", "high"}).items()}
    if isinstance(found.get("budget", {}), Mapping):
        found["budget"] = {**found.get("budget", {}), **budget}
    return found


def _leaves(values: Mapping[str, Any], ends: frozenset[str] | set[str] = frozenset(), prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one with dotted keys; a table that has one of the keys ``ends`` stays as it is.

    So does a model with its name: it takes the place of another model with all its arguments.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, Mapping) and value and not ends & set(value) and not (key == "model" and "name" in value)
        flat |= _leaves(value, ends, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def _parameter(value: Any) -> Any:
    """Return a parameter's table in full: a bare list is a choice, a single condition a list of one."""
    table: Any = {"choices": value} if isinstance(value, list) else value
    if isinstance(table, Mapping) and isinstance(table.get("when"), Mapping):
        conditions = {key: item if isinstance(item, list) else [item] for key, item in _leaves(table["when"]).items()}
        return {**table, "when": conditions}
    return table


def _check(space: Space) -> None:
    """Find what no table can find by itself.

    Raises:
        ValueError, UsageError: with the line to show, but for the file's name.
    """
    for key, parameter in space.space.items():
        _check_conditions(space, key, parameter.when)
    order = space.order
    _try(space, "set", {})
    for key in order:
        if key in IMAGES:
            raise ValueError(f"space: {key}: trials would be judged on different images; search over something else")
        for value in space.space[key].edges:
            _try(space, f"space: {key} = {json.dumps(value)}", {**_circumstances(space, key), key: value})
    if space.recipe({}).recipe.data.validation in (0, "test"):
        raise ValueError("a search chooses by validation images, and the test images stay sealed; set data.validation to a fraction")
    if space.sampler == "cma-es" and not any(isinstance(item, Range) and not item.when for item in space.space.values()):
        raise ValueError("sampler: cma-es needs a range that is not conditional; take tpe, random or grid")
    if space.sampler != "grid" and space.budget == Budget():
        raise ValueError(f"budget: {space.sampler} has no end of its own; say how many trials, how many minutes, or both")
    _ = space.trials


def _check_conditions(space: Space, key: str, when: Conditions) -> None:
    for on, values in when.items():
        parent = space.space.get(on)
        if parent is None:
            raise ValueError(f"space: {key}: when: '{on}' is not searched over{nearest(on, space.space)}")
        if not isinstance(parent, Choice):
            raise ValueError(f"space: {key}: when: '{on}' is a range; a condition can only be on a choice")
        for value in values:
            if value not in parent.choices:
                raise ValueError(f"space: {key}: when: {on} is never {json.dumps(value)}; it has {json.dumps(parent.choices)}")


def _circumstances(space: Space, key: str) -> dict[str, Value]:
    """Return values of other parameters with which ``key`` takes part."""
    found: dict[str, Value] = {}
    for on, values in space.space[key].when.items():
        found |= {**_circumstances(space, on), on: values[0]}
    return found


def _try(space: Space, what: str, params: Mapping[str, Any]) -> None:
    """Find out whether the recipe accepts some values.

    Raises:
        UsageError: it does not.
    """
    try:
        accepted = space.recipe(params).recipe
        models.check(accepted.model.name, accepted.model.arguments)
    except UsageError as error:
        raise UsageError(f"{what}: {str(error).removeprefix('command line: ').removeprefix('recipe: ')}") from None


def _origin(key: str, origin: str, params: Mapping[str, Any]) -> str:
    if origin != "command line":
        return "base" if origin == "recipe" else origin
    return "search" if any(key == name or key.startswith(f"{name}.") for name in params) else "space"


def _one_line(error: ValidationError) -> str:
    """Say the first of several mistakes in a line, with table and key."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part not in ("choice", "range")]
    if path and path[-1] in ("int", "float", "str", "bool"):
        path.pop()
    key = ": ".join(path[:2]) + "".join(f".{part}" for part in path[2:])
    if first["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        return f"{key}: unknown key{nearest(path[-1], known) or '; known: ' + ', '.join(known)}"
    if first["type"] == "missing":
        return f"{key}: is missing"
    if first["type"] == "too_short":
        return f"{key}: is empty; give at least one"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    given = first.get("input")
    shown = f" (given: {given!r:.60})" if isinstance(given, bool | int | float | str) else ""
    hint = ""
    if first["type"] == "literal_error" and isinstance(given, str):
        hint = nearest(given, [word.strip("' ") for word in first["ctx"]["expected"].replace(" or ", ", ").split(",")])
    return f"{key}: {'' if first['type'] == 'value_error' else 'must be '}{message}{shown}{hint}"


def _known_keys(path: Sequence[str]) -> list[str]:
    """Return the keys of the table at ``path``."""
    if not path:
        return list(Space.model_fields)
    tables: dict[str, type[Table]] = {"pruner": Pruner, "objective": Objective, "budget": Budget}
    return list(tables[path[0]].model_fields) if path[0] in tables else ["choices", *Range.model_fields]
