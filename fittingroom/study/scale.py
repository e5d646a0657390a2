"""How long a study takes on so many machines, and what that costs: a simulation over recorded run times.

The rule by which runs are handed out is the crew's: the longest first, each takes as many places as it has threads, and nobody overtakes
the first that waits. Nothing is assumed that can be measured: how long runs take comes from records, what it costs to start a worker and
how much slower workers are that share a machine from a record of ``benchmarks/scale.py``. What is assumed, ``docs/scale.md`` says.
"""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from fittingroom import models
from fittingroom.errors import FittingRoomError, UsageError
from fittingroom.recipe import Recipe
from fittingroom.seeds import derive
from fittingroom.study.plan import Planned
from fittingroom.study.results import Record
from fittingroom.study.timing import kind, multiply_adds

__all__ = [
    "Estimate",
    "Overheads",
    "Row",
    "Simulated",
    "Task",
    "behind",
    "enough",
    "estimates",
    "forecast",
    "machines_up_to",
    "read_overheads",
    "simulate",
]

RESAMPLES = 200
"""How many studies are simulated, each with run times drawn from the recorded ones."""
LEVEL = 0.95
"""So many of them lie within the range that is told."""
WORTH = 0.1
"""More machines do not help any more where twice as many save less than this part of the time."""
DONE = 1e-9
"""Seconds of work that are left by rounding alone."""


@dataclass(frozen=True)
class Overheads:
    """What carrying out runs costs beside training them, as measured. Without arguments: nothing.

    Attributes:
        boot: seconds until a machine can begin its first run, when its server starts.
        start: seconds from handing out a run to its first step.
        beyond: what follows training, looks at validation and test images and writing, as a part of training time.
        slowdown: how many times longer a run takes where runs on all other places of its machine go on beside it; None: not measured.
        cores: of the machine on which that was measured.
    """

    boot: float = 0.0
    start: float = 0.0
    beyond: float = 0.0
    slowdown: float | None = None
    cores: int = 1

    def work(self, seconds: float) -> float:
        """Seconds that a run of so much training takes alone on a machine that is up."""
        return self.start + seconds * (1 + self.beyond)


@dataclass(frozen=True)
class Task:
    """A run to be simulated: seconds that it takes alone, of which one that takes several threads takes as many places."""

    seconds: float
    threads: int = 1


@dataclass(frozen=True)
class Simulated:
    """What came of a simulation.

    Attributes:
        wall: seconds from the beginning to the end of the last run.
        busy: seconds of all places together in which a run was on them.
        ends: when each run ended, in the order of the tasks.
    """

    wall: float
    busy: float
    ends: tuple[float, ...]


@dataclass
class _Running:
    number: int
    places: int
    left: float


@dataclass
class _Machine:
    """A machine with the runs on it; time passes for it when it is looked at."""

    cores: int
    free: int
    slowdown: float
    now: float
    busy: float = 0.0
    looks: int = 0
    running: list[_Running] = field(default_factory=list)

    def pace(self, run: _Running) -> float:
        """How many times longer than alone a run takes beside what is on the machine now: all of the slowdown where it is full."""
        others = self.cores - self.free - run.places
        return 1.0 + (self.slowdown - 1.0) * others / (self.cores - 1) if others else 1.0

    def begin(self, run: _Running, now: float) -> None:
        self.pass_time(now)
        self.running.append(run)
        self.free -= run.places

    def pass_time(self, now: float) -> None:
        passed = max(now - self.now, 0.0)
        paces = [self.pace(run) for run in self.running]
        self.busy += passed * (self.cores - self.free)
        for run, pace in zip(self.running, paces, strict=True):
            run.left -= passed / pace
        self.now += passed

    def take_ended(self) -> list[_Running]:
        ended = [run for run in self.running if run.left <= DONE]
        self.running = [run for run in self.running if run.left > DONE]
        self.free += sum(run.places for run in ended)
        return ended

    def next_end(self) -> float:
        return self.now + min(max(run.left, 0.0) * self.pace(run) for run in self.running)


def simulate(tasks: Sequence[Task], machines: int, cores: int, overheads: Overheads | None = None) -> Simulated:
    """Carry out tasks, in their order, on machines: the first that waits begins as soon as one of them has the places for it.

    Of several machines that have, the one with most free places takes it. A task of more threads than a machine has cores takes all of
    its places, as in the crew.

    Args:
        tasks: in the order in which they are handed out.
        machines: at least 1.
        cores: places of each, at least 1.
        overheads: what starting and sharing cost; None: nothing.
    """
    cost = overheads or Overheads()
    farm = [_Machine(cores, cores, cost.slowdown or 1.0, cost.boot) for _ in range(min(machines, max(len(tasks), 1)))]
    waiting = deque(_Running(number, min(task.threads, cores), cost.work(task.seconds)) for number, task in enumerate(tasks))
    rooms = [(-cores, number) for number in range(len(farm))]  # the roomiest first; what is not true any more is passed over
    events: list[tuple[float, int, int]] = []  # when the next run of a machine ends; true as long as nothing happened there since
    ends = [0.0] * len(tasks)
    now = cost.boot

    def changed(number: int) -> None:
        machine = farm[number]
        machine.looks += 1
        heapq.heappush(rooms, (-machine.free, number))
        if machine.running:
            heapq.heappush(events, (machine.next_end(), number, machine.looks))

    while waiting or events:
        while -rooms[0][0] != farm[rooms[0][1]].free:
            heapq.heappop(rooms)
        if waiting and -rooms[0][0] >= waiting[0].places:
            number = rooms[0][1]
            farm[number].begin(waiting.popleft(), now)
            changed(number)
            continue
        when, number, looks = heapq.heappop(events)
        if looks == farm[number].looks:
            now = when
            farm[number].pass_time(now)
            for run in farm[number].take_ended():
                ends[run.number] = now
            changed(number)
    return Simulated(max(ends, default=0.0), sum(machine.busy for machine in farm), tuple(ends))


@dataclass(frozen=True)
class Estimate:
    """How long a run may take.

    Attributes:
        key: names it, as in the plan.
        title: what a person calls it.
        source: names the recorded runs that tell; runs of one source may take what any of them took.
        seconds: training time of each of those, alone on its machine, scaled to this run.
        threads: with how many threads.
        scaled: whether those are runs of another recipe: other epochs, images, width.
    """

    key: str
    title: str
    source: str
    seconds: tuple[float, ...]
    threads: int = 1
    scaled: bool = False

    @property
    def mean(self) -> float:
        """Expected training time, in seconds."""
        return fmean(self.seconds)


def estimates(planned: Iterable[Planned], records: Sequence[Record], slowdown: float | None = None) -> tuple[list[Estimate], list[Planned]]:
    """Return what records tell of the times of runs, and those of which they tell nothing.

    The same recipe under other seeds tells best; then the same model, data, batch size and augmentation; then the same model and data:
    of these the time is scaled by epochs, training images and the model's multiplications. Only runs on a CPU are looked at, and of these
    the ones with fewest threads: they use a machine best.

    Args:
        planned: the runs.
        records: of any study.
        slowdown: of a full machine (`Overheads.slowdown`); a run that had one core of several for itself was recorded in company.
    """
    sources = _Sources([record for record in records if record.values["environment"].get("device") == "cpu"], slowdown or 1.0)
    found = [(one, sources.estimate(one)) for one in planned]
    return [told for _, told in found if told is not None], [one for one, told in found if told is None]


def behind(runs: Iterable[Estimate], records: Iterable[Record]) -> list[Record]:
    """Return the records from which times are told."""
    sources = {run.source for run in runs}
    return [one for one in records if one.values["environment"].get("device") == "cpu" and not sources.isdisjoint(_meanings(one.recipe))]


class _Sources:
    """Recorded runs, by what a run may have in common with them."""

    def __init__(self, records: Sequence[Record], slowdown: float) -> None:
        self._slowdown = slowdown
        self._by_meaning: dict[str, list[Record]] = {}
        for record in records:
            for meaning in _meanings(record.recipe):
                self._by_meaning.setdefault(meaning, []).append(record)

    def estimate(self, one: Planned) -> Estimate | None:
        """What is recorded of a run; None where nothing is."""
        recipe = one.loaded.recipe
        for place, meaning in enumerate(_meanings(recipe)):
            if known := self._by_meaning.get(meaning):
                threads = min(int(record.values["environment"]["threads"]) for record in known)
                told = [record for record in known if record.values["environment"]["threads"] == threads]
                seconds = tuple(self._alone(record) * (_amount(recipe, record) if place else 1.0) for record in told)
                return Estimate(one.key, one.title, meaning, seconds, threads, bool(place))
        return None

    def _alone(self, record: Record) -> float:
        # The crew gives each of several workers a core of its own and leaves a single one to the system.
        environment = record.values["environment"]
        in_company = environment["cores"] == environment["threads"] == 1
        return record.seconds / self._slowdown if in_company else record.seconds


def _meanings(recipe: Recipe) -> tuple[str, str, str]:
    """What two runs can have in common so that one tells of the other's time, the closest first."""
    data = recipe.data
    return recipe.family, kind(recipe), f"{recipe.model.name} on {data.name} {data.size} {data.channels} {data.limit}"


def _amount(recipe: Recipe, record: Record) -> float:
    """How many times the training of ``record`` that of ``recipe`` is."""
    classical = models.entry(recipe.model.name).kind == "classical"
    epochs = 1 if classical else recipe.train.epochs
    trained = 1 if classical else min(len(record.values["history"]), record.recipe.train.epochs)  # fewer where it was stopped early
    size = multiply_adds(recipe) / multiply_adds(record.recipe)
    return epochs / trained * _images(recipe, record) * size


def _images(recipe: Recipe, record: Record) -> float:
    """How many times the training images of ``record`` those of ``recipe`` are, which is of the same data."""
    if recipe.data.limit is not None:
        return 1.0
    here, there = (1.0 if isinstance(share, str) else 1.0 - share for share in (recipe.data.validation, record.recipe.data.validation))
    return here / there


@dataclass(frozen=True)
class Row:
    """A study on so many machines.

    Attributes:
        machines: how many.
        wall: expected seconds from beginning to end: the median of the simulated studies.
        low, high: within which `LEVEL` of them lie.
        core_hours: of all machines from beginning to end, busy or not.
        busy: part of these in which a run was on the core.
        cost: of all machines from beginning to end; None without a price.
        bound: what keeps it from being quicker: `work` (all cores have their share) or `longest run`.
    """

    machines: int
    wall: float
    low: float
    high: float
    core_hours: float
    busy: float
    cost: float | None
    bound: str


def forecast(
    runs: Sequence[Estimate],
    machines: Sequence[int],
    cores: int,
    overheads: Overheads | None = None,
    price: float | None = None,
    resamples: int = RESAMPLES,
) -> list[Row]:
    """Simulate a study on each of several numbers of machines, many times, with times drawn from the recorded ones.

    Every draw takes for each source a resample of its recorded times, and for each run one of these; where a single time is recorded, it is
    spread as those of the other sources are. The same draws are simulated on every number of machines, and are the same in every call.

    Args:
        runs: what is to be carried out, at least one.
        machines: the numbers of machines.
        cores: of each machine.
        overheads: what starting and sharing cost.
        price: of a machine for an hour.
        resamples: how many studies are simulated; one is enough where nothing is spread.
    """
    cost = overheads or Overheads()
    ordered = sorted(runs, key=lambda run: -run.mean)  # as they are handed out: by what is expected, not by what will be
    draws = [[Task(seconds, run.threads) for run, seconds in zip(ordered, drawn, strict=True)] for drawn in _drawn(ordered, resamples)]
    longest = max(cost.work(run.mean) for run in ordered)
    work = sum(cost.work(run.mean) * min(run.threads, cores) for run in ordered)
    rows = []
    for count in machines:
        simulated = [simulate(tasks, count, cores, cost) for tasks in draws]
        low, wall, high = np.quantile([one.wall for one in simulated], [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
        hours = count * float(wall) / 3600
        rows.append(
            Row(
                machines=count,
                wall=float(wall),
                low=float(low),
                high=float(high),
                core_hours=cores * hours,
                busy=fmean(one.busy / (one.wall * count * cores or 1.0) for one in simulated),
                cost=None if price is None else price * hours,
                bound="longest run" if longest >= work / (count * cores) else "work",
            )
        )
    return rows


def _drawn(runs: Sequence[Estimate], resamples: int) -> list[list[float]]:
    """Draw the times of all runs, so many times."""
    sources = {run.source: np.array(run.seconds) / run.mean for run in runs}
    several = [ratios for ratios in sources.values() if len(ratios) > 1]
    if not several:
        return [[run.mean for run in runs]]
    others = np.concatenate(several)
    generator = np.random.Generator(np.random.PCG64(derive(0, "scale")))
    draws = []
    for _ in range(resamples):
        again = {name: generator.choice(ratios, len(ratios)) if len(ratios) > 1 else others for name, ratios in sources.items()}
        draws.append([run.mean * float(generator.choice(again[run.source])) for run in runs])
    return draws


def machines_up_to(runs: Sequence[Estimate], cores: int, most: int | None = None) -> list[int]:
    """Return 1, 2, 4, 8 … machines: up to ``most``, or until every run has places of its own from the beginning."""
    needed = -(-sum(min(run.threads, cores) for run in runs) // cores)
    last = needed if most is None else most
    counts = [1]
    while counts[-1] < last:
        counts.append(2 * counts[-1] if most is None else min(2 * counts[-1], most))
    return counts


def enough(rows: Sequence[Row]) -> Row | None:
    """Return the first row after which more machines save less than a tenth; None where all of them still help."""
    return next((row for row, more in pairwise(rows) if more.wall > (1 - WORTH) * row.wall), None)


def read_overheads(path: Path) -> Overheads:
    """Read what starting and sharing cost from a record of ``benchmarks/scale.py``, or, without sharing, of ``benchmarks/sweep.py``.

    Raises:
        UsageError: there is no such file.
        FittingRoomError: it is none of these records.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        ways = [way for one in record["rounds"] for way in one.values() if isinstance(way, dict) and "trained" in way]
        return _overheads(ways, int(record["environment"]["cores"]))
    except FileNotFoundError:
        raise UsageError(f"no file {path}; --overheads names a record of benchmarks/scale.py") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise FittingRoomError(f"{path} is no record of benchmarks/scale.py ({what}); make it again") from None


def _overheads(ways: Sequence[dict[str, Any]], cores: int) -> Overheads:
    first, later = [], []  # the first run of each worker waits for the server
    for way in ways:
        starts = [float(seconds) for seconds in way["first_epoch_begins_after"].values()]
        first += starts[: way["workers"]]
        later += starts[way["workers"] :]
    start = fmean(later)
    # A worker that waits at the end for another one is no overhead: where there is a single worker, none does.
    single = [way for way in ways if way["workers"] == 1]
    rest = sum(float(way["not_training"]) - sum(way["first_epoch_begins_after"].values()) for way in single or ways)
    trained = fmean(float(way["trained"]) for way in single or ways)
    beyond = rest / len(single or ways) / trained
    together = [float(way["trained"]) for way in ways if way["workers"] == cores > 1]
    slowdown = max(fmean(together) / trained, 1.0) if single and together else None
    return Overheads(max(fmean(first) - start, 0.0), start, max(beyond, 0.0), slowdown, cores)
