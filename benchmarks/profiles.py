"""Where the time of a training step goes, into ``records/profiles.json``, or ``records/profiles-avx2.json`` where bfloat16 is not fast.

    python -m benchmarks.profiles run [--rounds 5] [--seconds 0.8]

For each network and batch size of the benchmark, and our own recipes for some minutes, one process measures, in turn within each round:
a step of our own loop; the same without our kernels; its products alone (`benchmarks.peers.limit`); and a step under PyTorch's profiler,
for the parts. The profiler makes a step dearer, so the parts are told as they would be if it made all of them dearer by the same factor.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.arguments import count
from benchmarks.arguments import seconds as seconds_above_0
from benchmarks.peers.case import COMMAND_LINE, NETWORKS, THREADS
from benchmarks.peers.summary import Spread, spread
from benchmarks.places import HIGHEST, read_record, record_of
from fittingroom import environment, native
from fittingroom.files import write_json

__all__ = ["TABLES", "profile_of", "sentence"]

ROOT = Path(__file__).parent.parent
NOT_YET = "*Not measured yet: `python -m benchmarks.profiles run` fills this in.*\n"
FEWEST = 5
"""Rounds of a profile that is recorded."""
CASES = [(network, batch) for network in NETWORKS for batch in (32, 128)] + [("compact", 128), ("compact-wide", 128)]
"""Networks, or recipes of our own, and batch sizes."""
MOST = 48_000

# Parts of a step, and the names of the operations that belong to each. An operation that has no part of its own belongs to the part
# of the one that called it.
PRODUCTS = {
    "convolutions": ("aten::conv2d", "aten::convolution", "ConvolutionBackward0"),
    "dense": ("aten::linear", "aten::addmm", "AddmmBackward0"),
    "ours": ("_Convolution", "_ConvolutionBackward"),
    "whole network": ("_Run", "_RunBackward"),
}
"""Parts that multiply. `_Convolution` are the layers that our kernels multiply, which the limit leaves to PyTorch."""
SUMS, COPIES, OPTIMISER, LOOP = "additions and paddings", "batches, casts, copies", "optimiser", "loop, autograd, Python"
OTHERS = {
    "activation, norm, pooling, dropout": (
        *("_Tail", "_TailBackward", "_Dropout", "_DropoutBackward", "aten::batch_norm", "NativeBatchNormBackward0"),
        *("aten::relu", "ReluBackward0", "aten::tanh", "TanhBackward0", "aten::adaptive_avg_pool2d", "MeanBackward1"),
        *("aten::max_pool2d", "MaxPool2DWithIndicesBackward0", "aten::avg_pool2d", "AvgPool2DBackward0"),
        *("aten::bernoulli_", "MulBackward0"),
    ),
    SUMS: ("aten::add", "AddBackward0", "aten::pad", "ConstantPadNdBackward0", "SliceBackward0"),
    COPIES: ("aten::to", "ToCopyBackward0"),
    "augmentation": ("aten::grid_sampler", "aten::affine_grid_generator", "aten::uniform_"),
    OPTIMISER: ("aten::_fused_adam_",),
    "loss": ("aten::cross_entropy_loss", "NllLossBackward0", "LogSoftmaxBackward0"),
}
PARTS = PRODUCTS | OTHERS
ALONE = ("aten::copy_", "aten::clone", "aten::contiguous", "aten::index_select", "aten::mul_", "aten::add_", "aten::flatten")
"""Operations that are copies where no other operation calls them: images being gathered and scaled, for one."""
ENGINE = "autograd::engine::evaluate_function: "
MUON = "Optimizer.step#Muon"
COLUMNS = [*PARTS, LOOP]


# Measuring


def part_of(name: str, caller: str | None) -> str:
    """The part of an operation, called by one of the part ``caller``, or by no other one."""
    if name.startswith(ENGINE):
        return LOOP
    if name.startswith(MUON) or caller == OPTIMISER:  # many products of small matrices, which are no part of the network's
        return OPTIMISER
    for part, names in PARTS.items():
        if name in names:
            return part
    if caller == LOOP and name == "aten::add_":  # autograd adds what comes back to one tensor on two ways
        return SUMS
    return caller or (COPIES if name in ALONE else LOOP)


def by_part(events: Iterable[Any]) -> dict[str, float]:
    """Seconds of each part, from the profiler's events."""
    parts = dict.fromkeys(COLUMNS, 0.0)
    waiting = [(event, None) for event in events if event.cpu_parent is None]
    while waiting:
        event, caller = waiting.pop()
        part = part_of(event.name, caller)
        parts[part] += event.self_cpu_time_total / 1e6
        waiting += [(child, part) for child in event.cpu_children]
    return parts


def profiled(train: Callable[[], float]) -> tuple[float, dict[str, float]]:
    """Seconds that ``train`` takes under the profiler, and the seconds of its parts."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        seconds = train()
    parts = by_part(profile.events())
    # What no operation accounts for is the loop's Python.
    parts[LOOP] += max(0.0, seconds - sum(parts.values()))
    return seconds, parts


def measure(network: str, batch: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure one network at one batch size; ``seconds`` is about what each of the four takes in a round."""
    from benchmarks.peers.limit import Limit
    from benchmarks.peers.ours import Ours

    ours, limit = Ours(), Limit()
    steps = {}
    for name, peer in (("ours", ours), ("limit", limit)):
        peer.build(network, batch, 0, "default")
        peer.train(2 * batch, 1)
        steps[name] = max(2, min(int(seconds / peer.train(8 * batch, 1) * 8), MOST // batch))

    def train() -> float:
        return ours.train(steps["ours"] * batch, 1)

    def without_kernels() -> float:
        with native.enabled(False):
            return train()

    train()
    without_kernels()
    seen = []
    for _ in range(rounds):
        load = os.getloadavg()[0]
        ours_seconds = train() / steps["ours"]
        plain_seconds = without_kernels() / steps["ours"]
        limit_seconds = limit.train(steps["limit"] * batch, 1) / steps["limit"]
        dear, parts = profiled(train)
        seen.append(
            {
                "load": load,
                "seconds": ours_seconds,
                "plain_seconds": plain_seconds,
                "limit_seconds": limit_seconds,
                "profiled_seconds": dear / steps["ours"],
                "parts": {part: value / steps["ours"] for part, value in parts.items()},
            }
        )
    return {"network": network, "batch": batch, "steps": steps, "rounds": seen}


def run(rounds: int, seconds: float) -> None:
    """Measure all networks, each in a process of its own."""
    threads = len(os.sched_getaffinity(0))
    settings = {**os.environ, **COMMAND_LINE, THREADS: str(threads), "OMP_NUM_THREADS": str(threads)}
    began = time.perf_counter()
    profiles = []
    for network, batch in CASES:
        options = ["--network", network, "--batch", str(batch), "--rounds", str(rounds), "--seconds", str(seconds)]
        command = [sys.executable, "-m", "benchmarks.profiles", "one", *options]
        told = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=settings)
        profiles.append(json.loads(told.stdout.splitlines()[-1]))
        print(f"{time.perf_counter() - began:.0f} s: {brief(profiles[-1])}", flush=True)
    described = environment.describe() | {"threads": threads, "kernels": native.description()}
    write_json(record_of("profiles", native.description()), {"environment": described, "profiles": profiles})


# Telling


def recorded(kernels: str) -> dict[str, Any] | None:
    """The record, where there is one with the products alone beside the step."""
    record = read_record("profiles", kernels)
    return record if record is not None and all("rounds" in one for one in record["profiles"]) else None


def middle(profile: dict[str, Any]) -> dict[str, Any]:
    """The round whose step is the middle one over its products, with the parts in seconds of a step without the profiler."""
    ordered = sorted(profile["rounds"], key=lambda one: one["seconds"] / one["limit_seconds"])
    chosen: dict[str, Any] = ordered[len(ordered) // 2]
    factor = chosen["seconds"] / sum(chosen["parts"].values())
    return chosen | {"parts": {part: factor * value for part, value in chosen["parts"].items()}}


def above(one: dict[str, Any]) -> dict[str, float]:
    """What makes up the time of a step above its products alone, in seconds, the most first."""
    multiplying = sum(one["parts"][part] for part in PRODUCTS)
    whole = one["parts"]["whole network"] > 0
    name = "all layers in one call, beyond their products alone" if whole else "convolutions and dense layers, beyond their products alone"
    beyond = {name: multiplying - one["limit_seconds"], **{part: one["parts"][part] for part in (*OTHERS, LOOP)}}
    return dict(sorted(beyond.items(), key=lambda item: -item[1]))


def sentence(network: str, batch: int, kernels: str = HIGHEST) -> str:
    """Say what the time of a step is, and of its difference from its products alone, all that is at least a twentieth of it."""
    one = profile_of(network, batch, kernels)
    if one is None:
        return "Where its time goes is not measured yet."
    step, limit = one["seconds"], one["limit_seconds"]
    told = {what: value for what, value in above(one).items() if abs(value) >= abs(step - limit) / 20}
    rest = step - limit - sum(told.values())
    parts = [f"{what} {milliseconds(value)}" for what, value in told.items()]
    return (
        f"In the profile, a run of its own, a step takes {milliseconds(step)} ms, its products alone {milliseconds(limit)}; "
        f"the difference, {milliseconds(step - limit)}, is: {'; '.join(parts)}; all else {milliseconds(rest)}."
    )


def profile_of(network: str, batch: int, kernels: str = HIGHEST) -> dict[str, Any] | None:
    """The middle round of a network at a batch size, where it was measured with these kernels."""
    record = recorded(kernels) or {"profiles": []}
    return next((middle(one) for one in record["profiles"] if (one["network"], one["batch"]) == (network, batch)), None)


def pace(network: str, batch: int, kernels: str = HIGHEST) -> Spread:
    """Seconds of a step over the rounds, of what was measured with these kernels."""
    record = recorded(kernels) or {"profiles": []}
    rounds = next(one["rounds"] for one in record["profiles"] if (one["network"], one["batch"]) == (network, batch))
    return spread([seen["seconds"] for seen in rounds])


def milliseconds(seconds: float) -> str:
    """In milliseconds, without the unit."""
    return f"{1e3 * seconds:.2f}".replace("-0.00", "0.00").replace("-", "−")


def brief(profile: dict[str, Any]) -> str:
    """One line for the terminal."""
    one = middle(profile)
    return f"{profile['network']}, {profile['batch']}: {milliseconds(one['seconds'])} ms, products {milliseconds(one['limit_seconds'])}"


def table(kernels: str = HIGHEST) -> str:
    """A row for each network and batch size, a column for each part."""
    record = recorded(kernels)
    if record is None:
        return NOT_YET
    plain = ["without our kernels, over it"] if has_plain(record) else []
    head = ["", "a step", *plain, "its products alone", "it over its products", "with the profiler", *COLUMNS]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows(record))]
    place = record["environment"]
    on = f"On {place['cores']} cores ({place['processor']}), {place['threads']} threads; in milliseconds, of the middle one of "
    return f"{on}{len(record['profiles'][0]['rounds'])} rounds:\n\n" + "\n".join(lines) + "\n"


def rows(record: dict[str, Any]) -> Iterator[list[str]]:
    """The rows of the table."""
    for profile in record["profiles"]:
        one = middle(profile)
        over = times([seen["seconds"] / seen["limit_seconds"] for seen in profile["rounds"]])
        plain = [times([seen["plain_seconds"] / seen["seconds"] for seen in profile["rounds"]])] if has_plain(record) else []
        step, limit, profiled = (milliseconds(one[name]) for name in ("seconds", "limit_seconds", "profiled_seconds"))
        parts = [milliseconds(one["parts"][part]) if one["parts"][part] else "" for part in COLUMNS]
        yield [f"`{profile['network']}`, {profile['batch']}", step, *plain, limit, over, profiled, *parts]


def has_plain(record: dict[str, Any]) -> bool:
    """Whether steps without our kernels were measured."""
    return all("plain_seconds" in seen for profile in record["profiles"] for seen in profile["rounds"])


def times(ratios: list[float]) -> str:
    """The middle one of some ratios, with the smallest and the largest."""
    return f"{statistics.median(ratios):.2f} × ({min(ratios):.2f} … {max(ratios):.2f})"


TABLES = {"profile": table, "profile-float": partial(table, "avx2")}


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["run", "one"])
    parser.add_argument("--rounds", type=count, default=FEWEST)
    parser.add_argument("--seconds", type=seconds_above_0, default=0.8, help="that each of the four takes in a round, about")
    parser.add_argument("--network", choices=sorted({network for network, _ in CASES}))
    parser.add_argument("--batch", type=count)
    options = parser.parse_args()
    if options.command == "run" and options.rounds < FEWEST:
        parser.error(f"{FEWEST} rounds or more are recorded; `one` looks at one network")
    if options.command == "run":
        run(options.rounds, options.seconds)
    else:
        print(json.dumps(measure(options.network, options.batch, options.rounds, options.seconds)))


if __name__ == "__main__":
    main()
