"""The arguments that builders take: their types, how they are checked, and how they are listed.

A builder's keyword-only parameters are its arguments; their annotations say what is accepted, their defaults what holds
when nothing is said, and the ``Args:`` part of the docstring what they mean. Nothing is written down twice.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from fittingroom.errors import UsageError, nearest

__all__ = [
    "ActivationName",
    "Argument",
    "Count",
    "Flag",
    "NotNegative",
    "Pooling",
    "Positive",
    "Rate",
    "Width",
    "Widths",
    "checked",
    "listed",
]

ActivationName = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "elu", "leaky-relu"]
"""A name of `layers.ACTIVATIONS`."""
Pooling = Literal["max", "average"]
"""Over 2×2 windows with stride 2."""
Width = Annotated[int, Field(strict=True, ge=1, le=4096)]
"""Channels of a convolution, or units of a dense layer."""
Widths = Annotated[tuple[Width, ...], Field(max_length=16)]
"""Widths of successive layers."""
Rate = Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)]
"""Probability of dropping an entry."""
Flag = Annotated[bool, Field(strict=True)]
"""Yes or no."""
Count = Annotated[int, Field(strict=True, ge=1, le=100_000)]
"""How many of something."""
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
"""A number above zero."""
NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
"""A number of zero or more."""


@dataclass(frozen=True)
class Argument:
    """One argument of a builder.

    Attributes:
        accepts: what may be given, in words.
        choices: the values to choose from; empty where it is not a choice.
        default: what holds when it is not given.
        description: what it means.
    """

    accepts: str
    choices: tuple[Any, ...]
    default: Any
    description: str


def listed(builder: Callable[..., Any]) -> dict[str, Argument]:
    """Return the arguments that ``builder`` takes, by name, in the order of its signature."""
    descriptions = _descriptions(inspect.getdoc(builder) or "")
    arguments = {}
    for name, (adapter, default) in _parameters(builder).items():
        schema = adapter.json_schema()
        arguments[name] = Argument(_in_words(schema), tuple(schema.get("enum", ())), default, descriptions.get(name, ""))
    return arguments


def checked(model: str, builder: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``arguments`` as ``builder`` wants them.

    Raises:
        UsageError: one is unknown, or its value is of the wrong type or out of range.
    """
    known = _parameters(builder)
    result = {}
    for name, value in arguments.items():
        if name not in known:
            takes = f"it takes: {', '.join(known)}" if known else "it takes none"
            raise UsageError(f"{model} has no argument '{name}'{nearest(name, known)}; {takes}")
        adapter, _ = known[name]
        try:
            result[name] = adapter.validate_python(value)
        except ValidationError:
            schema = adapter.json_schema()
            hint = nearest(str(value), [str(choice) for choice in schema.get("enum", ())])
            raise UsageError(f"{model}: {name} must be {_in_words(schema)}, not {value!r}{hint}") from None
    return result


def _parameters(builder: Callable[..., Any]) -> dict[str, tuple[TypeAdapter[Any], Any]]:
    hints = get_type_hints(builder, include_extras=True)
    return {
        name: (TypeAdapter(hints[name]), parameter.default)
        for name, parameter in inspect.signature(builder).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _in_words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if schema["type"] == "array":
        return f"a list of {schema.get('minItems', 0)} to {schema['maxItems']} items, each {_in_words(schema['items'])}"
    kind = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}[schema["type"]]
    if "minimum" in schema and "maximum" in schema:
        return f"{kind} from {schema['minimum']} to {schema['maximum']}"
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{words} {schema[key]:g}" for key, words in bounds.items() if key in schema]
    return " ".join([kind, " and ".join(limits)]).strip()


def _descriptions(docstring: str) -> dict[str, str]:
    """Read ``name: text`` entries, continued on deeper lines, from the ``Args:`` part of a docstring."""
    part = re.search(r"^Args:\n((?:(?:    .*)?\n?)*)", docstring, re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", part.group(1) if part else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
