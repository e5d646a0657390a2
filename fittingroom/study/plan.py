"""A study's runs as a plan: what is to be trained, each recipe once, and how long that is expected to take."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fittingroom import models
from fittingroom.errors import UsageError, nearest
from fittingroom.recipe import Loaded, Recipe
from fittingroom.study.grid import cells, recipe_of, seeds_of, variation_key
from fittingroom.study.schema import Study

__all__ = ["Planned", "plan"]

LONGEST_KEY = 80


@dataclass(frozen=True)
class Planned:
    """One training of a study.

    Attributes:
        key: names it, and its files: the run, the cell's values, the seed, and in what it is reduced.
        run: name of the variation or grid.
        cell: the factors' values.
        seed: the seed.
        loaded: the recipe, reduced where that is asked for.
        full: the recipe as the study's protocol has it.
        reduced: in what it falls short of that.
        also: other runs and cells whose recipe is the same: they share it.
    """

    key: str
    run: str
    cell: Mapping[str, Any]
    seed: int
    loaded: Loaded
    full: Recipe
    reduced: tuple[str, ...] = ()
    also: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    @property
    def title(self) -> str:
        """What a person calls it: ``factorial relu max, seed 0``."""
        return " ".join([self.run, *map(str, self.cell.values())]) + f", seed {self.seed}"

    @property
    def place(self) -> tuple[str, str, int]:
        """Run, cell and seed, as something to find it by."""
        return *variation_key(self.run, self.cell), self.seed


def plan(study: Study, only: Iterable[str] = (), epochs: int | None = None, seeds: int | None = None) -> list[Planned]:
    """Return the trainings that a study asks for, in its order; one that several runs share stands where the first of them does.

    Args:
        study: the study.
        only: names of runs; none means all.
        epochs: train no more than so many; what falls short by that is marked reduced.
        seeds: take so many seeds: the first ones of those that the study names, and more of them where it names fewer.

    Raises:
        UsageError: the study has no such run.
    """
    wanted = set(only)
    for name in sorted(wanted):
        if name not in study.runs:
            known = nearest(name, study.runs) or f"; it has: {', '.join(study.runs)}"
            raise UsageError(f"study {study.name} has no run '{name:.60}'{known}")
    # Recipes that are the same only because both are reduced, from 15 epochs and from 50, are two: a record is one of a protocol.
    found: dict[tuple[str, str], Planned] = {}
    for one in _all(study, epochs, seeds):
        meaning = (one.loaded.recipe.hash, one.full.hash)
        first = found.setdefault(meaning, one)
        if first is not one:
            found[meaning] = replace(first, also=(*first.also, (one.run, one.cell)))
    # Which run a training is named for does not depend on what is asked for today.
    return [one for one in _distinct(found.values()) if not wanted or wanted & {one.run, *(name for name, _ in one.also)}]


def _all(study: Study, epochs: int | None, seeds: int | None) -> Iterator[Planned]:
    for name in study.runs:
        for cell in cells(study, name):
            for seed in _seeds(seeds_of(study, name, cell), seeds):
                loaded = recipe_of(study, name, cell, seed)
                full = loaded.recipe
                reduced: tuple[str, ...] = ()
                if epochs is not None and epochs < full.train.epochs and models.entry(full.model.name).kind == "network":
                    reduced = (f"epochs {epochs} of {full.train.epochs}",)
                    loaded = Loaded(full.updated({"train.epochs": epochs}), {**loaded.origins, "train.epochs": "command line"})
                yield Planned(_key(name, cell, seed, reduced), name, cell, seed, loaded, full, reduced)


def _seeds(declared: Sequence[int], count: int | None) -> list[int]:
    if count is None:
        return list(declared)
    more = [seed for seed in range(max(declared) + 1 + count) if seed not in declared]
    return [*declared, *more][:count]


def _key(run: str, cell: Mapping[str, Any], seed: int, reduced: Sequence[str]) -> str:
    """A name for files: short, plain, and the same tomorrow."""
    words = [run, *map(str, cell.values()), f"seed{seed}", *reduced]
    key = re.sub(r"[^a-z0-9.]+", "-", " ".join(words).lower()).strip("-.")
    if len(key) <= LONGEST_KEY:
        return key
    digits = hashlib.sha256(key.encode()).hexdigest()[:8]
    return f"{key[: LONGEST_KEY - 9]}-{digits}"


def _distinct(plans: Iterable[Planned]) -> Iterator[Planned]:
    """Tell apart by their recipes what has one name: factors whose values read alike."""
    taken: set[str] = set()
    for one in plans:
        key = one.key if one.key not in taken else f"{one.key}-{one.loaded.recipe.hash[:8]}"
        taken.add(key)
        yield replace(one, key=key)
