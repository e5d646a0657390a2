"""From the raw values of the benchmark to ratios with their spread; every ratio is taken within a round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "KERAS",
    "NO_RIVALS",
    "TELLING",
    "Learnt",
    "Spread",
    "agrees",
    "check_alike",
    "completed",
    "earlier",
    "faster_keras",
    "fastest",
    "geometric_mean",
    "learnt",
    "memory_over_plain",
    "noise",
    "over_limit",
    "ratios",
    "rivals",
    "spread",
]

KERAS = ("keras-fp32", "keras-bf16")
NO_RIVALS = ("ours", "plain", "limit")
"""We, we without our kernels, and the products of our step alone."""
CONFIDENCE = 0.99
"""Of an interval within which two peers' mean accuracies differ by chance, if they learn equally well."""

TELLING = 0.05
"""Noise, as a share of images, from which on a few short runs tell nothing."""

FARTHEST = {"ours": 0.05}
"""How far a probability may be from that of our float32 path: ours is computed in bfloat16, with eight bits of precision."""
FARTHEST_FLOAT32 = 1e-3

Cell = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """Several values.

    Attributes:
        middle: their median; low, high: the smallest and the largest.
    """

    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class Learnt:
    """How well a peer learnt against us.

    Attributes:
        accuracies: on validation, one a seed.
        mean: of them.
        difference: ours minus the peer's mean.
        noise: a difference as large as this can be chance.
    """

    accuracies: tuple[float, ...]
    mean: float
    difference: float
    noise: float

    @property
    def alike(self) -> bool:
        """Whether the difference can be chance."""
        return abs(self.difference) <= self.noise

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if not self.alike:
            return "**ours worse**" if self.difference < 0 else "ours better"
        return "within" if self.noise < TELLING else "too noisy to tell"


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest."""
    return Spread(statistics.median(values), min(values), max(values))


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product."""
    return statistics.geometric_mean(values)


def speeds(cell: Cell, peer: str) -> list[float]:
    """Images a second, by round."""
    values: list[float] = cell["peers"][peer]["images_per_second"]
    return values


def ratios(cell: Cell, peer: str) -> list[float]:
    """Our speed over a peer's, by round."""
    return [ours / theirs for ours, theirs in zip(speeds(cell, "ours"), speeds(cell, peer), strict=True)]


def over_limit(cell: Cell) -> list[float]:
    """The time of our step over the time of its convolutions and products alone, by round."""
    return [1 / ratio for ratio in ratios(cell, "limit")]


def memory_over_plain(cell: Cell) -> float:
    """Our largest memory over that of our plain path, both having trained on as many images."""
    return float(cell["peers"]["ours"]["peak_bytes"] / cell["peers"]["plain"]["peak_bytes"])


def faster_keras(cell: Cell) -> str:
    """The number format in which Keras is faster."""
    return max(KERAS, key=lambda peer: statistics.median(speeds(cell, peer)))


def rivals(cell: Cell) -> list[str]:
    """The peers to compare with: of Keras the faster one, and all others that are not ours."""
    return [faster_keras(cell), *(peer for peer in cell["peers"] if peer not in (*KERAS, *NO_RIVALS))]


def fastest(cell: Cell) -> str:
    """The fastest of them."""
    return max(rivals(cell), key=lambda peer: statistics.median(speeds(cell, peer)))


def agrees(peer: str, agreement: dict[str, float]) -> bool:
    """Whether a peer predicts what the network that was trained predicts, to the precision of its numbers."""
    return agreement["largest_difference"] <= FARTHEST.get(peer, FARTHEST_FLOAT32)


def learnt(entry: dict[str, Any]) -> dict[str, Learnt]:
    """Compare each peer's accuracies with ours.

    The spread from seed to seed is taken as the same for all and estimated from all of them together; the noise of a difference of
    means then follows from Student's t distribution.
    """
    from scipy.stats import t

    accuracies: dict[str, list[float]] = entry["accuracy"]
    means = {peer: statistics.mean(values) for peer, values in accuracies.items()}
    freedom = sum(len(values) - 1 for values in accuracies.values())
    variance = sum((value - means[peer]) ** 2 for peer, values in accuracies.items() for value in values) / freedom
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, freedom))
    ours = len(accuracies["ours"])
    return {
        peer: Learnt(tuple(values), means[peer], means["ours"] - means[peer], quantile * (variance * (1 / ours + 1 / len(values))) ** 0.5)
        for peer, values in accuracies.items()
    }


def noise(entry: dict[str, Any]) -> float:
    """The largest difference of a peer's mean accuracy from ours that can be chance."""
    return max(found.noise for found in learnt(entry).values())


def check_alike(record: dict[str, Any], before: dict[str, Any]) -> None:
    """Whether two records may be put together.

    Raises:
        ValueError: they are of different machines, packages or settings.
    """
    for part, own in (("environment", "commit"), ("settings", "sources")):
        differing = [key for key in record[part] if key != own and record[part][key] != before[part].get(key)]
        if differing:
            raise ValueError(f"was measured with another {differing[0]}, so nothing of it goes with what is measured now")


def completed(record: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """A record with what only the one before has; each such entry says of which program it is, in `commit`.

    Raises:
        ValueError: see `check_alike`.
    """
    check_alike(record, before)
    result = dict(record)
    for part in ("cells", "learning", "inference"):
        there = {_key(entry) for entry in record[part]}
        kept = [{"commit": before["environment"]["commit"]} | entry for entry in before[part] if _key(entry) not in there]
        order = [_key(entry) for entry in before[part]]
        entries = [*record[part], *kept]
        result[part] = sorted(entries, key=lambda entry: order.index(_key(entry)) if _key(entry) in order else len(order))
    return result


def _key(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["network"], entry.get("batch")


def earlier(record: dict[str, Any]) -> dict[str, str]:
    """What of a record is of earlier programs, in words, by their commits; one that ends with + had changes that were not committed."""
    found: dict[str, list[str]] = {}
    for part, what in (("cells", "the training"), ("learning", "the check of learning"), ("inference", "the predicting")):
        entries: dict[str, list[dict[str, Any]]] = {}
        for entry in record[part]:
            if entry.get("commit", record["environment"]["commit"]) != record["environment"]["commit"]:
                entries.setdefault(entry["commit"], []).append(entry)
        for commit, some in entries.items():
            of = "all networks" if len(some) == len(record[part]) > 1 else " and ".join(_named(some, record[part]))
            found.setdefault(commit, []).append(f"{what} of {of}")
    return {commit: ", ".join(said) for commit, said in found.items()}


def _named(some: list[dict[str, Any]], of_all: list[dict[str, Any]]) -> list[str]:
    """The networks of some entries, with the batch sizes where not all of a network's are among them."""
    names = []
    for network in dict.fromkeys(entry["network"] for entry in some):
        own, all_own = ([entry for entry in entries if entry["network"] == network] for entries in (some, of_all))
        batches = "" if len(own) == len(all_own) else f" at batch {' and '.join(str(entry['batch']) for entry in own)}"
        names.append(f"`{network}`{batches}")
    return names
