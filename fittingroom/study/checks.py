"""What the types of a study's tables cannot tell: whether it can be run and judged as written.

Every check raises `UsageError`, a line that names table and key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from fittingroom import models, recipe
from fittingroom.data.named import CATALOG
from fittingroom.errors import FittingRoomError, UsageError, nearest
from fittingroom.study.grid import cells, combined, equal, recipe_of, seeds_of, selected, space_of
from fittingroom.study.metrics import COUNTED, metric_of, metric_words, parse_claimed, pattern_of
from fittingroom.study.schema import (
    Claim,
    Consistency,
    Count,
    Number,
    Order,
    Scalar,
    Selection,
    Shape,
    Study,
    placed_selections,
    selections_of,
)

__all__ = [
    "check_claim",
    "check_data",
    "check_factors",
    "check_models",
    "check_number_of_runs",
    "check_recipes",
    "check_run",
    "check_seeds",
    "check_values",
]

# More runs than this are a slip in a grid: at a minute each they would take half a week.
MOST_RUNS = 5_000


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


def check_seeds(place: str, seeds: list[int]) -> None:
    """Some seeds, each once; ``place`` is where they stand, as a reader of the file knows it."""
    if not seeds:
        raise UsageError(f"{place}: no seeds; give at least one")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise UsageError(f"{place}: seed {twice} is there twice")


def check_factors(study: Study) -> None:
    """Each factor has levels, or one dotted key that no other factor has."""
    keys: dict[str, str] = {}
    for name, factor in study.factors.items():
        if isinstance(factor, str):
            if keys.setdefault(factor, name) != name:
                raise UsageError(f"factors.{name}: '{factor}' has a short name already, '{keys[factor]}'")
        elif not factor:
            raise UsageError(f"factors.{name}: no levels; give each a name and its changes, or name a dotted key")


def check_values(study: Study, place: str, factor: str, values: list[Scalar]) -> None:
    """Values of a factor in a grid: some, each once, and levels of the factor where it has levels."""
    if not values:
        raise UsageError(f"{place}: an empty list makes an empty grid; give at least one value, or leave the key out")
    for index, value in enumerate(values):
        if any(equal(value, other) for other in values[:index]):
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


def check_run(study: Study, name: str) -> None:
    """What a run builds on, its assumptions, its grid and its seeds."""
    runs, place = study.runs[name], f"runs.{name}"
    if runs.search is None:
        _check_base(f"{place}.base", runs.base, study)
    elif runs.base is not None:
        raise UsageError(f"{place}: a run has a `base` or a `search`, not both; the base of what is searched is the space's")
    _check_assumptions(study, place, runs.assumes)
    for factor, values in runs.grid.items():
        check_values(study, f"{place}.grid.{factor}", factor, values)
    if "seed" in (*runs.set, *runs.grid):
        raise UsageError(f"{place}: the seed is set by `seeds`, not by `set` or `grid`")
    if runs.seeds is not None:
        check_seeds(f"{place}.seeds", runs.seeds)
    for some in runs.seeds_where:
        check_seeds(f"{place}.seeds_where.seeds", some.seeds)
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


def check_number_of_runs(study: Study) -> None:
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


def check_recipes(study: Study) -> None:
    """Every recipe of the study is accepted, and every space that it searches."""
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
        if not any(equal(value, known) for known in grid[factor]):
            known = [str(one) for one in grid[factor]]
            raise UsageError(f"{place}.{factor}: the grid has no value {value!r}{nearest(str(value), known)}; it has: {', '.join(known)}")


def check_claim(study: Study, claim: Claim) -> None:
    """The runs that a claim speaks of are there, can be compared, and have its metric; its figures are such."""
    place = f"claims.{claim.id}"
    if claim.reading:
        raise UsageError(f"{place}.reading: unknown key; readings are the study's, and a claim fixes one in `where`")
    _check_assumptions(study, place, claim.assumes)
    for field, selection in placed_selections(claim):
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
    if metric in COUNTED and value < 0:
        raise UsageError(f"{place}: '{written}' is no number of {metric_words(metric)}")
    if unit != "share" and "%" in written:
        raise UsageError(f"{place}: '{written}' is a percentage, and {metric_words(metric)} is none")


def _check_compared(study: Study, place: str, claim: Claim) -> None:
    """Runs are compared with others, not with themselves."""
    selections = [(field, selection, selected(study, selection)) for field, selection in placed_selections(claim)]
    own = selections[0][2] if selections else []
    for field, other, there in selections[1:]:
        if there and all(one in own for one in there):
            raise UsageError(f"{place}.{field}: these are the runs that they are compared with; name others")
        if any(one in own for one in there) and not other.each:
            raise UsageError(f"{place}.{field}: holds the runs that they are compared with; say `where`, or `each = true` for all others")


def _check_metric(study: Study, place: str, metric: str, selections: list[Selection]) -> None:
    """The metric is known, and the runs have the epoch, the classes or the size it speaks of."""
    try:
        pattern = pattern_of(metric)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None
    counted = metric in COUNTED
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
