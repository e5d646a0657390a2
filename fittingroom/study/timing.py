"""How long runs are expected to take, and with how many threads each is trained soonest: measured, and remembered.

What has been recorded tells best: the time of runs that differ by their seed alone. For others a few steps are timed, once for each
model, batch size and data set, and scaled by the multiplications of the model at hand. The timing is done both ways that the cores of
this machine can be shared: a run of one thread on each of them at once, or one run with all of them as threads.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fittingroom import models
from fittingroom.cluster import AnyCrew
from fittingroom.environment import cores
from fittingroom.files import write_json
from fittingroom.recipe import Recipe
from fittingroom.runs import Run
from fittingroom.study.plan import Planned
from fittingroom.study.results import Record
from fittingroom.workers import Job

__all__ = ["Timings", "expected_together", "kind", "measured_timings", "multiply_adds"]

# One pass over an image without learning from it, in passes of training.
LOOKING = 1 / 3
# All threads on one run must be faster by this than one run on each core, so that the noise of a short timing does not decide.
CLEARLY = 0.95


@dataclass(frozen=True)
class Timings:
    """What is known of the speed of models on this machine.

    Attributes:
        measured: by `kind` of recipe: `seconds_per_image` for each number of `threads` tried, `images` of a training pass, and
            `multiply_adds` of the model that was timed.
        recorded: mean training time of finished runs, by the recipe's family, in seconds.
    """

    measured: Mapping[str, Mapping[str, Any]]
    recorded: Mapping[str, float]

    def threads(self, recipe: Recipe) -> int:
        """With how many threads a run is trained: one, or one for each core where that was measured to be faster."""
        seconds = self.measured.get(kind(recipe), {}).get("seconds_per_image", {})
        cores = max(map(int, seconds), default=1)
        if cores == 1 or seconds[str(cores)] is None:
            return 1
        return cores if float(seconds[str(cores)]) < CLEARLY * float(seconds["1"]) / cores else 1

    def seconds(self, recipe: Recipe) -> float | None:
        """Expected time of a whole run, all its epochs; None for what nobody can tell yet, such as a classical model."""
        if (known := self.recorded.get(recipe.family)) is not None:
            return known
        timing = self.measured.get(kind(recipe))
        if timing is None or timing["seconds_per_image"]["1"] is None:
            return None
        passes = 1 + (LOOKING * _validated(recipe))
        each = float(timing["seconds_per_image"][str(self.threads(recipe))]) * multiply_adds(recipe) / timing["multiply_adds"]
        return float(each * timing["images"] * passes * recipe.train.epochs)


def kind(recipe: Recipe) -> str:
    """What recipes have in common that are timed once for all: model, data, batch size, augmentation."""
    data, augmented = recipe.data, "augmented" if recipe.augment.active else "plain"
    return " ".join(map(str, (recipe.model.name, data.name, data.size, data.limit, recipe.train.batch_size, augmented)))


def measured_timings(
    todo: Sequence[Planned], records: Sequence[Record], folder: Path, crew: AnyCrew, notify: Callable[[str], None] = lambda line: None
) -> Timings:
    """Find out how fast the models of a plan are on this machine; what was timed here before is not timed again.

    Args:
        todo: what is to be trained; only what is not known of it is timed.
        records: what has been.
        folder: of the study; ``timings.json`` remembers.
        crew: workers for the timing; none of their jobs may be under way.
        notify: called with a line where it takes a moment.

    Raises:
        FittingRoomError: the folder cannot be written.
    """
    machine = {"node": platform.node(), "cores": cores()}
    kept = Run(folder).read("timings.json", {})
    measured: dict[str, Any] = kept["measured"] if {name: kept.get(name) for name in machine} == machine else {}
    times: dict[str, list[float]] = {}
    for record in records:
        times.setdefault(record.recipe.family, []).append(record.seconds)
    recorded = {family: sum(seconds) / len(seconds) for family, seconds in times.items()}
    unknown = {kind(one.loaded.recipe): one for one in reversed(todo) if kind(one.loaded.recipe) not in measured}
    if unknown:
        notify(f"timing a few steps of {len(unknown)} {'model' if len(unknown) == 1 else 'models'} …")
        workers, crew.workers = crew.workers, cores()  # how many will be at work has no say in the threads of a run
        measured |= {name: found for name, one in unknown.items() if (found := _timed(one, crew, folder)) is not None}
        crew.workers = workers
        write_json(folder / "timings.json", {**machine, "measured": measured})
    return Timings(measured, recorded)


def expected_together(todo: Sequence[Planned], timings: Timings, workers: int) -> tuple[float, int]:
    """Return how long a plan takes on so many workers, in seconds, and of how many of its runs that cannot be told."""
    known = [(timings.seconds(one.loaded.recipe), timings.threads(one.loaded.recipe)) for one in todo]
    work = [(seconds, min(threads, workers)) for seconds, threads in known if seconds is not None]
    longest = max((seconds for seconds, _ in work), default=0.0)
    return max(longest, sum(seconds * threads for seconds, threads in work) / workers), len(known) - len(work)


def _timed(one: Planned, crew: AnyCrew, folder: Path) -> dict[str, Any] | None:
    """Time a recipe alone with all cores, then with one thread on each core at once; None where it fails, as its run will tell."""
    seconds: dict[str, float | None] = {}
    for threads in sorted({1, cores()}, reverse=True):
        for number in range(cores() // threads):
            crew.add(Job(f"timing {threads} {number}", one.loaded, folder, threads, do="time"))
        ends = [event for event in crew.events() if event.kind in ("done", "failed")]
        if any(event.kind == "failed" for event in ends):
            return None
        each = [event.values["seconds_per_image"] for event in ends]
        seconds[str(threads)] = None if None in each else sum(each) / len(each)
        if None in each or ends[0].values["device"] != "cpu":  # threads decide nothing
            seconds = {"1": seconds[str(threads)]}
            break
    return {"seconds_per_image": seconds, "images": ends[0].values["images"], "multiply_adds": multiply_adds(one.loaded.recipe)}


def multiply_adds(recipe: Recipe) -> int:
    """Multiplications of a model for an image of 28×28, at least 1: what counts is how many times those of another."""
    if models.entry(recipe.model.name).kind == "classical":
        return 1
    return _described(recipe.model.name, json.dumps(recipe.model.arguments, sort_keys=True))


@cache
def _described(name: str, arguments: str) -> int:
    return models.describe(name, arguments=json.loads(arguments)).multiply_adds or 1


def _validated(recipe: Recipe) -> float:
    """Images looked at after an epoch, as a part of those learnt from."""
    share = recipe.data.validation
    return 1 / 6 if share == "test" else float(share) / (1 - float(share))
