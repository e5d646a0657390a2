"""Write docs/recipes.md from the docstrings of recipe.py; ``make pages`` calls it, and a test keeps the page up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fittingroom.files import write_text
from fittingroom.recipe import Augment, Data, Loss, Normalise, Optim, Recipe, Stop, Train

__all__ = ["text"]

HEAD = """\
# Recipes

A recipe is a TOML file that determines a run, every value of it. Each value has a default, so that the shortest recipe is
`model = "compact"`. An unknown key is an error that names the nearest known one.

```toml
model   = { name = "lenet5", activation = "relu", pooling = "max" }
seed    = 3
data    = { name = "fashion-mnist", validation = 0.2 }
augment = { rotate = 10, shift = 0.1 }
optim   = { name = "sgd", lr = 0.05, momentum = 0.9, schedule = "cosine" }

[train]
epochs = 20
batch_size = 64
stop = { monitor = "validation.loss", patience = 5 }
```

```sh
fittingroom train mine.toml
fittingroom train mine.toml --set optim.lr=0.02 --set train.stop.patience=3
fittingroom train mine.toml --show
```

`--set` overrides any value, by table and key; `--show` prints all of them with where each came from, and trains nothing. The
recipes of the reports come with the program: `fittingroom train lenet5` takes that of the report. `fittingroom models NAME`
lists the arguments of a model. For a classical model (a support-vector machine, a forest …) only `model`, `seed` and `data` count: it is
fitted in one go, to the images as `data` scales them.

Where the default is *none*, that is what holds when the key is left out: TOML has no word for it.

<!-- From here on written by docs/make_recipes.py from the docstrings of fittingroom/recipe.py. -->
"""

TABLES = {"": Recipe, "data": Data, "augment": Augment, "loss": Loss, "optim": Optim, "train": Train, "train.stop": Stop}


def text() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for name, table in TABLES.items():
        parts += [f"## `[{name}]`" if name else "## At the top", ""]
        if name:
            parts += [" ".join((table.__doc__ or "").split()), ""]
        parts += ["| key | value | default | meaning |", "| --- | --- | --- | --- |", *_rows(table), ""]
        if table is Data:
            parts += [f"The names of `normalise`: {_meaning(Normalise.model_fields['kind'].description or '')}", ""]
    return "\n".join(parts).rstrip() + "\n"


def _rows(table: type[Recipe] | type[Any]) -> list[str]:
    schema = table.model_json_schema()
    return [
        f"| `{name}` | {_in_words(described)} | {_default(described)} | {_meaning(described['description'])} |"
        for name, described in schema["properties"].items()
        if "description" in described
    ]


def _in_words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        kinds = {part.get("type"): part for part in schema["anyOf"]}
        if "number" in kinds:
            kinds.pop("integer", None)
        return ", or ".join(_in_words(part) for kind, part in kinds.items() if kind != "null")
    if "$ref" in schema:
        return "a name or a table" if schema["$ref"].endswith(("Model", "Normalise")) else "a table"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return "one or two whole numbers from 1 to 1024"
    kind = {"integer": "a whole number", "number": "a number", "boolean": "`true` or `false`", "string": "text"}[schema["type"]]
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{words} {schema[key]:,}" for key, words in bounds.items() if key in schema and schema[key] < 2**62]
    return " ".join([kind, " and ".join(limits)]).strip()


def _default(schema: dict[str, Any]) -> str:
    if "default" not in schema:
        return "must be given"
    value = schema["default"]
    if isinstance(value, dict):  # of `normalise`, whose name stands for the table
        value = value["kind"]
    return "none" if value is None else f"`{json.dumps(value)}`"


def _meaning(description: str) -> str:
    return " ".join(description.split()).replace("|", "\\|").replace("; None ", "; none ").replace(" None ", " none ")


if __name__ == "__main__":
    write_text(Path(__file__).parent / "recipes.md", text())
