"""The recipe: everything that determines a training run, as one frozen, checked value.

A recipe is written in TOML, every value has a default, an unknown key is an error that names the nearest
known one, and ``--set optim.lr=0.01`` overrides any value. Nothing here touches torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fittingroom.errors import UsageError, nearest

__all__ = [
    "Augment",
    "Data",
    "Loaded",
    "Loss",
    "Model",
    "Normalise",
    "Optim",
    "Recipe",
    "Stop",
    "Train",
    "load",
    "parse_override",
    "shipped",
    "to_toml",
]

Scalar = bool | int | float | str
Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Epochs = Annotated[float, Field(gt=0, le=100_000)]
WholeEpochs = Annotated[int, Field(gt=0, le=100_000)]


class Table(BaseModel):
    """Base of every table of a recipe: immutable, unknown keys refused, NaN refused, true and false no numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, strict=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        items = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, bool) for item in items) and cls.model_fields[str(field.field_name)].annotation is not bool:
            raise ValueError("input should not be true or false")
        return value


class Model(BaseModel):
    """Which network or classical model, and the arguments of its builder.

    In TOML either a name, ``model = "lenet5"``, or a table, ``model = { name = "lenet5", activation = "tanh" }``.
    Which arguments a model takes, ``fittingroom models NAME`` lists.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _arguments_are_plain(self) -> Self:
        for key, value in self.arguments.items():
            items = value if isinstance(value, list) else [value]
            if not all(isinstance(item, bool | int | float | str) for item in items):
                raise ValueError(f"argument '{key}' must be a number, text, true or false, or a list of these")
            if not all(math.isfinite(item) for item in items if isinstance(item, float)):
                raise ValueError(f"argument '{key}' must be a finite number")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments beside the name."""
        return dict(self.__pydantic_extra__ or {})


class Normalise(Table):
    """How 0–255 pixels become the network's input.

    In TOML either a name — ``"unit"``, ``"mean-std"``, ``"raw-mean-std"`` — or ``{ mean = [0.2860], std = [0.3530] }``,
    in units of pixels scaled to 0–1.
    """

    kind: Literal["unit", "mean-std", "raw-mean-std", "given"] = "mean-std"
    """`unit`: x / 255. `mean-std`: x / 255, then the training set's own mean and std per channel; with `{ mean = […], std = […] }`
    the stated numbers take their place. `raw-mean-std`: (x − 0.2860) / 0.3530 on raw 0–255 pixels, the slip of report `custom-cnn`,
    as written."""
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Field(gt=0)], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        if isinstance(value, Mapping) and value and "kind" not in value:
            return {"kind": "given", **value}
        return value

    @model_validator(mode="after")
    def _numbers_with_given_alone(self) -> Self:
        if (self.kind == "given") != bool(self.mean) or len(self.mean) != len(self.std):
            raise ValueError("give mean and std together, one number per channel, or one of the names unit, mean-std, raw-mean-std")
        return self

    @property
    def written(self) -> str | dict[str, list[float]]:
        """What stands for it in TOML."""
        return {"mean": list(self.mean), "std": list(self.std)} if self.kind == "given" else self.kind


def _one_or_pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


class Data(Table):
    """The data set and how it is split and scaled."""

    name: str = "fashion-mnist"
    """A named set (`fittingroom data list`), or the path of an image folder, a CSV or an npz file."""
    validation: Fraction | Literal["test"] = 0.2
    """The fraction of the training images held back, stratified by class; a set that brings its own validation images uses
    those. `"test"` measures on the test images after each epoch, as report `shallow-vs-deep` did: every such run is marked."""
    split_seed: int = Field(0, ge=0)
    """Seed of the split, apart from the run's seed, so that several seeds share one split and can be paired."""
    normalise: Normalise = Normalise()
    """`"unit"`, `"mean-std"`, `"raw-mean-std"` or `{ mean = […], std = […] }`."""
    size: (
        Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], Annotated[int, Field(ge=1, le=1024)]], BeforeValidator(_one_or_pair)] | None
    ) = None
    """Height and width to which images are brought (image folders need one; one number means a square)."""
    channels: Literal[1, 3] | None = None
    """Gray (1) or RGB (3); None keeps what the set has."""
    limit: int | None = Field(None, ge=1)
    """Use at most this many training images (drawn by `split_seed`, stratified), for quick looks."""


class Augment(Table):
    """Random changes to training images, drawn anew for each image and epoch; all off by default."""

    rotate: float = Field(0.0, ge=0, le=180)
    """Largest angle, in degrees, either way."""
    shift: Fraction = 0.0
    """Largest shift, as a fraction of the side, each direction."""
    zoom: Fraction = 0.0
    """Largest change of scale: factors from 1 − zoom to 1 + zoom."""
    stretch: Fraction = 0.0
    """Largest change of the aspect: width and height are scaled apart by factors from 1 − stretch to 1 + stretch."""
    perspective: Fraction = 0.0
    """Largest move of each corner, as a fraction of the side."""
    flip: bool = False
    """Mirror left to right with probability one half."""
    crop: int = Field(0, ge=0, le=64)
    """Pad by this many pixels on each side, then cut the original size at random."""
    erase: Probability = 0.0
    """Probability of overwriting a random rectangle (2–33 % of the area) with noise (Zhong et al., 2017)."""

    @property
    def active(self) -> bool:
        """Whether any augmentation is on."""
        return self != Augment()


class Loss(Table):
    """What is minimised."""

    name: Literal["cross-entropy", "focal"] = "cross-entropy"
    """Mean over the batch of −log of the true class's probability; `focal` gives the examples that are right already less weight."""
    label_smoothing: Fraction = 0.0
    """Weight of the uniform distribution mixed into the target (Szegedy et al., 2016)."""
    focal_gamma: float = Field(2.0, ge=0)
    """Focusing exponent of the focal loss (Lin et al., 2017); used by `focal` alone."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced`: count / (classes × count of the class), as scikit-learn has it."""


class Optim(Table):
    """The optimiser and its schedule."""

    name: Literal["sgd", "adam", "adamw", "rmsprop", "muon"] = "adam"
    """The update rule."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate (the peak of a one-cycle schedule)."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Momentum of SGD, RMSprop and Muon."""
    nesterov: bool = False
    """Nesterov's momentum, for SGD."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the mean of gradients, for Adam and AdamW."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the mean of squared gradients, for Adam and AdamW."""
    epsilon: float | None = Field(None, gt=0)
    """Adam's and RMSprop's ε; None takes the framework's default (1e-8 torch, 1e-7 Keras)."""
    rho: float | None = Field(None, gt=0, lt=1)
    """RMSprop's decay; None takes the framework's default (0.99 torch, 0.9 Keras)."""
    l2: float = Field(0.0, ge=0)
    """λ of a penalty λ·Σw² added to the loss: kernels only, no ½, as Keras regularisers have it."""
    l2_layers: Literal["all", "conv"] = "all"
    """Whether `l2` holds for all kernels or for those of convolutions alone."""
    weight_decay: float = Field(0.0, ge=0)
    """λ in PyTorch's sense: λ·w added to the gradient of every parameter (decoupled from it for AdamW and Muon)."""
    clip_norm: float = Field(0.0, ge=0)
    """Scale the whole gradient down to this norm when it is longer; 0 never."""
    clip_value: float = Field(0.0, ge=0)
    """Clip each gradient entry to ± this value; 0 never."""
    schedule: Literal["constant", "step", "cosine", "one-cycle"] = "constant"
    """How the learning rate changes: never, in drops, along half a cosine, or up and then down in straight lines."""
    step_every: int = Field(10, ge=1)
    """Epochs between drops, for `step`."""
    step_factor: float = Field(0.1, gt=0, le=1)
    """Factor of each drop, for `step`."""
    warmup: Fraction = 0.0
    """Fraction of all steps over which the rate rises linearly from zero (for `one-cycle`, the rising part)."""
    final: Fraction = 0.0
    """Fraction of `lr` at which `cosine` and `one-cycle` end."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not (self.name == "sgd" and self.momentum > 0):
            raise ValueError('nesterov needs name = "sgd" and a momentum above 0')
        return self


class Stop(Table):
    """Early stopping."""

    monitor: str = "validation.loss"
    """Any recorded quantity: `validation.loss`, `validation.accuracy`, `train.loss`, `train.accuracy`."""
    patience: int = Field(5, ge=1)
    """Stop after this many epochs in a row without an improvement."""
    min_delta: float = Field(0.0, ge=0)
    """The least change that counts as an improvement."""
    restore_best: bool = True
    """Keep the weights of the best epoch rather than the last."""

    @field_validator("monitor")
    @classmethod
    def _is_recorded(cls, monitor: str) -> str:
        known = [f"{part}.{quantity}" for part in ("train", "validation") for quantity in ("loss", "accuracy")]
        if monitor not in known:
            raise ValueError(f"not recorded; known: {', '.join(known)}{nearest(monitor, known)}")
        return monitor


class Train(Table):
    """The loop."""

    epochs: Epochs | WholeEpochs = 10
    """Passes over the training images; at most, where `stop` is given. With a fraction, `3.5`, the last is cut short."""
    batch_size: int = Field(32, ge=1, le=65_536)
    """Images a step."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 multiplications where the processor has them, with weights and sums kept in fp32; fp32 otherwise."""
    average: float = Field(0.0, ge=0, lt=1)
    """Decay, per step, of an exponential moving average of the weights that is evaluated and kept in their place; 0 is off."""
    stop: Stop | None = None
    """Early stopping; None never stops before the last epoch."""

    @field_validator("epochs")
    @classmethod
    def _whole_where_it_is(cls, epochs: float) -> int | float:
        return int(epochs) if epochs == int(epochs) else epochs

    @property
    def last_epoch(self) -> int:
        """The number of the last epoch, whole or cut short."""
        return math.ceil(self.epochs)


class Recipe(Table):
    """Everything that determines a run."""

    model: Model
    """A model's name, or a table of its name and its arguments: `{ name = "lenet5", activation = "tanh" }`."""
    seed: int = Field(0, ge=0, le=2**63 - 1)
    """Of all randomness of the run: first weights, order of images, augmentation, dropout."""
    defaults: Literal["torch", "keras"] = "torch"
    """Whose defaults hold where this recipe is silent: initialisation, ε, batch-norm momentum and ε."""
    data: Data = Data()
    augment: Augment = Augment()
    loss: Loss = Loss()
    optim: Optim = Optim()
    train: Train = Train()

    @property
    def values(self) -> dict[str, Any]:
        """All values as plain nested dicts, defaults spelled out; None where a framework default is taken."""
        values = self.model_dump(mode="json")
        # Not by a serializer of `Normalise`: what Ctrl-C raises in one, pydantic turns into an error of its own.
        values["data"]["normalise"] = self.data.normalise.written
        return values

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that stand for every value, the seed included."""
        return _digest(self.values)

    @property
    def family(self) -> str:
        """The same without the seed: runs of one family differ by seed alone."""
        return _digest({key: value for key, value in self.values.items() if key != "seed"})

    def updated(self, changes: Mapping[str, Any]) -> Recipe:
        """Return a copy with dotted keys replaced, checked again: ``recipe.updated({"optim.lr": 0.01})``."""
        return load(self.values, overrides=changes).recipe


@dataclass(frozen=True)
class Loaded:
    """A recipe with where each of its values came from.

    Attributes:
        recipe: the checked recipe.
        origins: for each dotted key, `default`, a file's name or `command line`.
    """

    recipe: Recipe
    origins: dict[str, str]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]


# A recipe takes a kilobyte or two; what is larger is something else, and is not read to its end.
MOST_BYTES = 1_000_000
RECIPES = Path(__file__).parent / "recipes"
PYDANTIC_TABLE = re.compile(r"a valid dictionary or instance of \w+")


def shipped() -> dict[str, Path]:
    """The recipes that come with the program, by name."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.toml"))}


def load(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | Iterable[str] = ()) -> Loaded:
    """Load and check a recipe.

    Args:
        source: a TOML file, the name of a shipped recipe or of a model, or a mapping of values.
        overrides: dotted keys and values, or ``key=value`` texts as the command line has them.

    Raises:
        UsageError: unreadable file, unknown key, or a value outside its range; the message names key and remedy.
    """
    where, values = _read(source)
    origins = dict.fromkeys(_leaves(values), where)
    changes = dict(overrides) if isinstance(overrides, Mapping) else dict(map(parse_override, overrides))
    for key, value in changes.items():
        _assign(values, key, value)
        origins = {known: origin for known, origin in origins.items() if not known.startswith(f"{key}.")}
        origins.update(dict.fromkeys(_leaves({key: value}), "command line"))
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise UsageError(_one_line(error, where, changes)) from None
    given = origins
    origins = {key: _origin(key, given) for key in _leaves(recipe.values)}
    return Loaded(recipe, origins)


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``key=value``; the value is read as TOML where it can be, as text otherwise."""
    key, separator, value = text.partition("=")
    key = key.strip()
    if not separator or not key:
        raise UsageError(f"'{text}' is not of the form key=value, for example optim.lr=0.01")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return key, value.strip()


def to_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML with every value spelled out; `load` reads back an equal recipe."""
    values = recipe.values
    lines = [f"{key} = {_toml(values[key])}" for key in ("model", "seed", "defaults")]
    for table in ("data", "augment", "loss", "optim", "train"):
        lines += ["", f"[{table}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in values[table].items() if value is not None]
    return "\n".join(lines) + "\n"


def _read(source: str | Path | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(source, Mapping):
        try:
            return "recipe", json.loads(json.dumps(source))
        except (TypeError, ValueError) as error:
            raise UsageError(f"recipe: only numbers, texts, true, false, lists and tables are possible ({error})") from None
    name = str(source)
    if isinstance(source, str) and name in shipped():
        path, where = shipped()[name], f"recipe {name}"
    elif isinstance(source, Path) or name.endswith(".toml") or "/" in name:
        path, where = Path(source), name
    else:
        return "command line", {"model": name}
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"{path}: too large for a recipe (more than {MOST_BYTES:,} bytes); name a recipe file")
        return where, tomllib.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such recipe file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a recipe ({error})") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    table = values
    for parent in parents:
        inner = table.get(parent)
        if parent == "model" and isinstance(inner, str):
            inner = {"name": inner}
        table[parent] = inner = dict(inner) if isinstance(inner, dict) else {}
        table = inner
    table[last] = value


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}")
    return found


def _origin(key: str, given: Mapping[str, str]) -> str:
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        if (origin := given.get(".".join(parts[:end]))) is not None:
            return origin
    return "default"


def _one_line(error: ValidationError, where: str, changes: Mapping[str, Any]) -> str:
    first, *others = error.errors()
    path = [str(part) for part in first["loc"] if isinstance(part, str) and not _is_union_branch(part)]
    key = ".".join(path)
    origin = "command line" if any(key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for name in changes) else where
    if first["type"] == "extra_forbidden":
        return f"{origin}: unknown key '{key}'{_hint(path)}"
    if first["type"] == "missing":
        return f"{origin}: '{key}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    message = PYDANTIC_TABLE.sub("a table", message[:1].lower() + message[1:]).replace("a valid tuple", "a number or a list")
    # A value that may be one of several kinds is refused once for each; the words that it may be are worth saying.
    message += "".join(f"; or {other['ctx']['expected']}" for other in others if other["type"] == "literal_error" and _same(first, other))
    given = first.get("input")
    shown = f" (given: {given!r:.80})" if isinstance(given, bool | int | float | str) else ""
    if first["type"] == "literal_error" and isinstance(given, str):
        choices = [choice.strip("' ") for choice in first.get("ctx", {}).get("expected", "").replace(" or ", ", ").split(",")]
        shown += nearest(given, choices)
    return f"{origin}: {key}: {message}{shown}" if key else f"{origin}: {message}{shown}"


def _same(first: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two errors are about one key."""
    return bool(first["loc"][:-1] == other["loc"][:-1])


def _is_union_branch(part: str) -> bool:
    return "[" in part or part in {"float", "int", "str", "tuple", "constrained-float"}


def _hint(path: list[str]) -> str:
    """What an unknown key may have been meant to be: one that is like it, or one of the same name in a table."""
    *tables, name = path
    known = _known_keys(tables)
    elsewhere = [f"{table}.{name}" for table in known if name in _known_keys([table])] if not tables else []
    if elsewhere:
        return f" — did you mean '{elsewhere[0]}'?"
    inside = "".join(f"{table}." for table in tables)
    return nearest(name, known).replace("mean '", f"mean '{inside}") or "; known: " + ", ".join(sorted(known))


def _known_keys(path: list[str]) -> list[str]:
    table: type[BaseModel] = Recipe
    for name in path:
        annotation: Any = table.model_fields[name].annotation
        if name == "stop":
            annotation = Stop
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        table = annotation
    return list(table.model_fields)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items() if item is not None) + " }"
    return repr(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)
