"""What a study asks to be run: the cells of its grids, their seeds and their recipes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fittingroom import recipe
from fittingroom.errors import UsageError, nearest
from fittingroom.study.schema import Runs, Scalar, Selection, Study
from fittingroom.tune import space

__all__ = [
    "cell_key",
    "cells",
    "combined",
    "dotted",
    "equal",
    "over",
    "recipe_of",
    "search_key",
    "seeds_of",
    "selected",
    "slug",
    "space_of",
    "unsearched",
    "variation_key",
]


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
    return name, cell_key(cell)


def cell_key(cell: Mapping[str, Any]) -> str:
    """A cell as text, the same for equal cells."""
    return json.dumps(dict(cell), sort_keys=True)


def search_key(name: str, cell: Mapping[str, Scalar]) -> str:
    """Name a search, and its files: the run and the values of its cell."""
    return "-".join([name, *map(slug, cell.values())])


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
        base, changes = study.base if runs.base is None else runs.base, over(_changes_of(study, runs, cell), {"seed": seed})
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


def dotted(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes by dotted keys: a table of the recipe is changed key by key, what lies below that is replaced whole, as is a named model."""
    dotted: dict[str, Any] = {}
    for key, value in changes.items():
        if isinstance(value, dict) and value and "." not in key and not (key == "model" and "name" in value):
            dotted.update({f"{key}.{inner}": inner_value for inner, inner_value in value.items()})
        else:
            dotted[key] = value
    return dotted


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two sets of changes as one: what the second says of a key, or of a table around it, takes the place of what the first said."""
    kept = {key: value for key, value in below.items() if not any(key == other or key.startswith(f"{other}.") for other in above)}
    return {**kept, **above}


def equal(one: Scalar, other: Scalar) -> bool:
    """Whether two values are the same for a recipe: ``True`` is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def slug(value: Scalar) -> str:
    """A value as a part of a name: lower case, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-")


def _runs(study: Study, name: str) -> Runs:
    if name not in study.runs:
        raise UsageError(f"no run '{name:.60}'{nearest(name, study.runs) or '; known: ' + ', '.join(study.runs)}")
    return study.runs[name]


def _fits(cell: Mapping[str, Scalar], where: Mapping[str, Scalar]) -> bool:
    return all(factor in cell and equal(cell[factor], value) for factor, value in where.items())


def _changes_of(study: Study, runs: Runs, cell: Mapping[str, Scalar]) -> dict[str, Any]:
    """What a cell of a run changes in the recipe that it starts from."""
    changes: dict[str, Any] = dict(runs.set)
    for factor, value in cell.items():
        changes = over(changes, _changes(study, factor, value))
    return changes


def _changes(study: Study, factor: str, value: Scalar) -> dict[str, Any]:
    """What a value of a factor changes in the recipe."""
    known = study.factors.get(factor, factor)
    return {known: value} if isinstance(known, str) else dotted(known[str(value)])


def _words(cell: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{factor} = {value}" for factor, value in cell.items())
