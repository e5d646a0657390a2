"""The study file: what a report built and claimed, as one frozen, checked value. Nothing here trains or judges.

A study is written in TOML (``docs/studies.md`` explains it with an example). It holds recipes only as changes to a base recipe, so
that what differs between two runs is what is written down. `load` returns it with every abbreviation written out: readings
stand in the grids and the claims, bases that are other runs are resolved, and factors are called by their short names.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fittingroom.errors import UsageError, nearest
from fittingroom.study.checks import check_claim, check_factors, check_number_of_runs, check_recipes, check_run, check_seeds, check_values
from fittingroom.study.grid import dotted, equal, over, slug
from fittingroom.study.metrics import COUNTED
from fittingroom.study.schema import KINDS, Claim, Number, Runs, Scalar, Seeds, Selection, Study, selections_of, with_selections
from fittingroom.tune import space

__all__ = ["load", "shipped"]

# The longest of the five studies has about 40,000 bytes; what is much larger is something else, and is not read to its end.
MOST_BYTES = 1_000_000
STUDIES = Path(__file__).parent.parent / "studies"


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


# Writing out what a study abbreviates.


def _completed(study: Study) -> Study:
    """The study, checked, with bases that are runs resolved, factors by their short names, readings in grids and claims."""
    check_seeds("seeds", study.seeds)
    check_factors(study)
    study = study.model_copy(update={"readings": _named(study, study.readings, "readings")})
    for factor, values in study.readings.items():
        check_values(study, f"readings.{factor}", factor, values)
    for name, runs in study.runs.items():
        if "grid" in runs.model_fields_set and not runs.grid:
            raise UsageError(f"runs.{name}.grid: an empty grid; give a factor and its values, or leave the key out")
    study = study.model_copy(update={"runs": {name: _resolved(study, name) for name in study.runs}})
    study = study.model_copy(update={"runs": {name: _with_readings(study, name) for name in study.runs}})
    for name in study.runs:
        check_run(study, name)
    check_number_of_runs(study)
    check_recipes(study)
    claims: list[Claim] = []
    for written in study.claims:
        for claim in _figures(_in_short(study, written)):
            check_claim(study, claim)
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
    chain, runs, changes, assumes = [name], own, dotted(own.set), list(own.assumes)
    while runs.base in study.runs and runs.base != chain[-1]:
        chain.append(runs.base)
        if study.runs[runs.base].search is not None:
            raise UsageError(f"runs.{name}.base: '{runs.base}' is searched for, and only what is written down can be built on")
        if runs.base in chain[:-1]:
            raise UsageError(f"runs.{name}.base: a cycle: {' → '.join(chain)}")
        runs = study.runs[runs.base]
        changes = over(dotted(runs.set), changes)
        assumes = [*runs.assumes, *(one for one in assumes if one not in runs.assumes)]
    return own.model_copy(update={"base": runs.base, "set": changes, "assumes": assumes})


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

    return with_selections(claim, named)


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
    names = {"id": f"{claim.id}-{slug(words)}", "text": f"{claim.text}: {words} {claimed}"}
    return claim.model_copy(update={"metric": metric, "claimed": claimed, "figures": {}, **names})


def _readings(study: Study, claim: Claim) -> Iterator[Claim]:
    """A claim as it is, or one for each reading that it leaves open; what follows from the architecture alone leaves none open."""
    selections = [] if getattr(claim, "metric", "") in COUNTED else selections_of(claim)
    open_ = {factor: values for factor, values in study.readings.items() if any(_has(study, one, factor) for one in selections)}
    for values in itertools.product(*open_.values()):
        reading = dict(zip(open_, values, strict=True))
        read = with_selections(claim, partial(_read_as, study, reading))
        yield read.model_copy(update={"id": "-".join([claim.id, *map(slug, values)]), "reading": reading})


def _has(study: Study, selection: Selection, factor: str) -> bool:
    """Whether a selection takes in all readings of a factor."""
    there = study.runs[selection.run].grid.get(factor, [])
    return factor not in selection.where and all(any(equal(value, one) for one in there) for value in study.readings[factor])


def _read_as(study: Study, reading: Mapping[str, Scalar], selection: Selection) -> Selection:
    added = {factor: value for factor, value in reading.items() if _has(study, selection, factor)}
    return selection.model_copy(update={"where": {**selection.where, **added}})
