"""What was aimed at, what was reached, and what the records say of why it is not more."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import profiles, sweep
from benchmarks.peers.summary import Cell, fastest, geometric_mean, memory_over_plain, over_limit, ratios, spread
from benchmarks.places import HIGHEST, read_record

__all__ = ["Target", "targets"]

MINUTES = {2: (93.0, 93.9), 5: (93.9, 94.5), 10: (94.3, 95.0)}
"""Minutes, and the test accuracies of `compact` that are asked for and aimed at, in %."""
IMAGES = 60_000
"""Of Fashion-MNIST to learn from, those held back included."""


@dataclass(frozen=True)
class Target:
    """Something that was aimed at.

    Attributes:
        what: it is.
        least, aim: what is asked for, and what is hoped for; where the aim is the lower one, less is better.
        value: what was measured, if it was.
        unit: of all three.
        why: a sentence or two on where it comes from.
    """

    what: str
    least: float
    aim: float
    value: float | None
    unit: str = " ×"
    why: str = ""

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.value is None:
            return ""
        sign = 1 if self.aim > self.least else -1
        return "aim reached" if sign * self.value >= sign * self.aim else "held" if sign * self.value >= sign * self.least else "missed"

    @property
    def short(self) -> bool:
        """Whether it was measured, and the aim is not reached."""
        return self.verdict in ("held", "missed")

    @property
    def measured(self) -> str:
        """The value with its unit."""
        return "not measured yet" if self.value is None else f"{self.value:.2f}{self.unit}"


def targets(cells: list[Cell], kernels: str = HIGHEST) -> list[Target]:
    """All that was aimed at, with what the benchmark's ``cells``, measured with these ``kernels``, and the other records say."""

    def profiled(cell: Cell) -> str:
        """What takes the time of a step."""
        return profiles.sentence(cell["network"], cell["batch"], kernels)

    def bounded(ratio: float, peer: str, cell: Cell) -> str:
        """The ratio that our products alone would have, where they bound it, and the profile of our step."""
        if (over := over_products(cell)) < 1:
            return f"The step takes {over:.2f} times what its products alone take by PyTorch: these bound it no more. {profiled(cell)}"
        return f"A step of nothing but its products would have {ratio * over:.2f} × over `{peer}`. {profiled(cell)}"

    def why_fastest(cell: Cell) -> str:
        return bounded(over_fastest(cell), fastest(cell), cell)

    def why_loader(cell: Cell) -> str:
        return bounded(over_loader(cell), "dataloader", cell)

    blocks = [cell for cell in cells if cell["network"] == "three-block"]
    others = [cell for cell in cells if cell["network"] != "three-block"]
    both_paths = [cell for cell in cells if "plain" in cell["peers"]]
    return [
        over_all(cells),
        decided("over the fastest peer, lowest but for `three-block`", 1.5, 3.0, min, others, over_fastest, why_fastest),
        decided("over the fastest peer, `three-block`, lower of both", 2.5, 3.0, min, blocks, over_fastest, why_fastest),
        decided("over the `DataLoader` loop, lowest", 4.0, 10.0, min, cells, over_loader, why_loader),
        decided("`three-block` step over its products, higher of both; less is better", 1.4, 1.15, max, blocks, over_products, profiled),
        decided("peak memory over the plain path, highest; less is better", 1.2, 1.0, max, both_paths, memory_over_plain, why_memory),
        *accurate(kernels),
        sweeping(kernels),
    ]


# Speed and memory


def over_fastest(cell: Cell) -> float:
    """Our speed over the fastest peer's."""
    return spread(ratios(cell, fastest(cell))).middle


def over_loader(cell: Cell) -> float:
    """Our speed over that of the tutorials' loop."""
    return spread(ratios(cell, "dataloader")).middle


def over_products(cell: Cell) -> float:
    """Our step over its products alone."""
    return spread(over_limit(cell)).middle


def over_all(cells: list[Cell]) -> Target:
    """The mean over all cells, and what it would be if nothing but the products took time."""
    what = "over the fastest peer, geometric mean of all"
    if not cells:
        return Target(what, 2.0, 3.0, None)
    most = geometric_mean([over_fastest(cell) * over_products(cell) for cell in cells])
    why = f"Steps of nothing but their products would have {most:.2f} × in the mean."
    return Target(what, 2.0, 3.0, geometric_mean([over_fastest(cell) for cell in cells]), why=why)


def decided(
    what: str,
    least: float,
    aim: float,
    worst: Callable[..., Cell],
    cells: list[Cell],
    value: Callable[[Cell], float],
    why: Callable[[Cell], str],
) -> Target:
    """A target that holds where it holds in the worst cell."""
    if not cells:
        return Target(what, least, aim, None)
    cell = worst(cells, key=value)
    return Target(what, least, aim, value(cell), why=f"Decided by `{cell['network']}` at batch {cell['batch']}. {why(cell)}")


def why_memory(cell: Cell) -> str:
    """Both sizes."""
    ours, plain = (cell["peers"][peer]["peak_bytes"] / 1e9 for peer in ("ours", "plain"))
    return f"{ours:.2f} GB against {plain:.2f} GB without our kernels."


# What other records tell


def accurate(kernels: str) -> list[Target]:
    """What our own network reaches in some minutes: the mean over the seeds that kept to them."""
    rows = []
    record = read_record("accuracy", kernels) or {"recipes": []}
    for minutes, (least, aim) in MINUTES.items():
        # The first of a record's recipes for these minutes is that of benchmarks.accuracy.
        one = next((one for one in record["recipes"] if one["minutes"] == minutes), {"name": "compact", "runs": []})
        seen = [100 * run["correct"] / run["count"] for run in one["runs"] if run["seconds"] <= 60 * minutes]
        what = f"test accuracy of `{one['name']}` in {minutes} minutes, all waiting counted, mean"
        why = f"{len(seen)} seeds, from {min(seen):.2f} to {max(seen):.2f} %." if seen else ""
        if late := len(one["runs"]) - len(seen):
            why += f" {late} more took longer, up to {max(run['seconds'] for run in one['runs']):.0f} s."
        if seen:
            why = " ".join([why, *why_epochs(one, kernels), *where(record, minutes), *longer(record, one)])
        rows.append(Target(what, least, aim, statistics.mean(seen) if seen else None, " %", why))
    return rows


def why_epochs(one: dict[str, Any], kernels: str) -> Iterator[str]:
    """How many epochs the minutes held, how long their steps alone take, and how many there would be of nothing but products."""
    name, batch = one["name"], one["recipe"]["train"]["batch_size"]
    held = statistics.median(run["epochs"] for run in one["runs"])
    profile = profiles.profile_of(name, batch, kernels)
    if profile is None:
        yield f"The minutes held {held:.3g} epochs; where the time of a step goes is not measured yet."
        return
    step, limit = profiles.pace(name, batch, kernels), profile["limit_seconds"]
    steps = IMAGES * (1 - one["recipe"]["data"]["validation"]) / batch
    yield (
        f"The minutes held {held:.3g} epochs, whose steps alone take {held * steps * step.middle:.0f} s at the pace of the profile "
        f"({held * steps * step.low:.0f} to {held * steps * step.high:.0f} in its rounds)."
    )
    if profile["seconds"] < limit:  # of the same round
        yield "A step takes less than its products alone by PyTorch."
    else:
        yield f"Of nothing but their products they would hold {60 * one['minutes'] / (steps * limit):.1f}."
    yield profiles.sentence(name, batch, kernels)


def where(record: dict[str, Any], minutes: int) -> Iterator[str]:
    """What the waiting was for, in a run of its own."""
    if parts := record.get("where", {}).get(str(minutes)):
        yield f"In a run of its own, at the pace of its minutes: {'; '.join(f'{what} {seconds:.0f} s' for what, seconds in parts.items())}."


def longer(record: dict[str, Any], one: dict[str, Any]) -> Iterator[str]:
    """What more epochs bring, on validation."""
    held = statistics.median(run["epochs"] for run in one["runs"])
    same = [run for run in record.get("longer", []) if but_for_epochs(run["recipe"]) == but_for_epochs(one["recipe"])]
    more = [run for run in same if run["epochs"] > held]
    if more:
        seen = statistics.mean(run["correct_on_validation"] / run["validation_count"] for run in one["runs"])
        told = [f"{100 * run['correct_on_validation'] / run['validation_count']:.2f} % in {run['epochs']} epochs" for run in more]
        yield f"On validation these runs have {100 * seen:.2f} % in the mean; the same recipe has {', '.join(told)}, one seed."


def but_for_epochs(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without its number of epochs and its seed."""
    return {**recipe, "seed": None, "train": {**recipe["train"], "epochs": None}}


def sweeping(kernels: str) -> Target:
    """How many small networks workers train in a minute."""
    record = read_record("sweep", kernels)
    what = f"LeNet-5 of {record['epochs'] if record else 10} epochs trained per minute by a sweep"
    if record is None:
        return Target(what, 3, 8, None, " a minute")
    seen = sweep.figures(record)
    why = f"Of the workers' time {100 * seen.idle.middle:.0f} % is not training."
    if "parts" in record:
        told = [f"{what} {100 * share:.1f} %" for what, share in sweep.shares(record).items() if what != sweep.PARTS[0]]
        why = f"Of the workers' time, in a sweep of its own: {'; '.join(told)}; the rest is training."
    if (most := sweep.most(record)) is not None:
        why += f" As many processes of one thread that compute nothing but the products would get through {most:.2f} in a minute."
    return Target(what, 3, 8, seen.minutes.middle, " a minute", why)
