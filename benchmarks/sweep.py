"""Measure the workers of a sweep against one run after another, into ``records/sweep.json``, or ``sweep-KERNELS.json`` with lesser kernels.

    python -m benchmarks.sweep run [--rounds 5] [--epochs 10]
    python -m benchmarks.sweep show

A round trains LeNet-5 four times on the whole of Fashion-MNIST's training images, both ways, in turn: one run after another in one
process with all threads, as a script would, and by one worker a core. The process of either way is started anew, and all its waiting is
counted. Also told: where the time of the workers goes; how much of such training as many processes of one thread could do that compute
nothing but its convolutions and matrix products; and, of runs of one epoch, how long after it was handed out a job trains whose worker
is not one of the first. Each round is written down when it ends; the command goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arguments import count
from benchmarks.peers.case import COMMAND_LINE, DATA, THREADS
from benchmarks.peers.protocol import Remote
from benchmarks.peers.summary import Spread, spread
from benchmarks.places import read_record, record_of
from fittingroom import environment, native
from fittingroom.files import write_json
from fittingroom.recipe import Loaded, load
from fittingroom.workers import Crew, Job

RUNS = 4
IMAGES = 60_000
VALIDATION = 0.2
"""Of Fashion-MNIST to learn from, and the share of them that is held back."""
STARTS = 8
WAYS = ("one after another", "workers")
PARTS = (
    "training",
    "until the first step",
    "between epochs: validation, checkpoints",
    "after the last epoch: weights, predictions, the test images",
)


def loaded(seed: int, epochs: int) -> Loaded:
    """One of the runs: the shipped recipe of LeNet-5."""
    return load("lenet5", {"seed": seed, "train.epochs": epochs, "data.validation": VALIDATION})


def one_after_another(epochs: int, folder: Path) -> dict[str, Any]:
    """Train all runs in this process."""
    from fittingroom import experiment

    for seed in range(RUNS):
        run = experiment.train(loaded(seed, epochs), folder / str(seed))
        experiment.evaluate(run, test=True, reason="benchmark")
    return {}


def workers(epochs: int, folder: Path) -> dict[str, Any]:
    """Train all runs by a crew; return what of the time was not training."""
    trained = 0.0
    began = time.perf_counter()
    with Crew() as crew:
        for seed in range(RUNS):
            crew.add(Job(str(seed), loaded(seed, epochs), folder / str(seed), test="benchmark"))
        for event in crew.events():
            if event.kind == "epoch":
                trained += event.values["record"]["train"]["seconds"]
            elif event.kind == "failed":
                sys.exit(event.values["reason"])
        total = (time.perf_counter() - began) * crew.workers
    # A training epoch's time does not hold its look at the validation images: what is left over is an upper bound of the overhead.
    return {"workers": crew.workers, "trained": trained, "not_training": total - trained}


def parts(epochs: int, folder: Path) -> dict[str, float]:
    """Where the time of the workers goes, in seconds of all workers together."""
    began, now = time.perf_counter(), 0.0
    given_out: dict[str, float] = {}
    reports: dict[str, list[tuple[float, float]]] = {}
    found = dict.fromkeys(PARTS, 0.0)
    training, before, between, after = PARTS
    with Crew() as crew:
        for seed in range(RUNS):
            crew.add(Job(str(seed), loaded(seed, epochs), folder / str(seed), test="benchmark"))
        last: dict[str, float] = {}
        for event in crew.events():
            now, key = time.perf_counter(), event.job.key
            if event.kind == "started":
                given_out[key] = now
            elif event.kind == "step" and len(reports.setdefault(key, [])) < 2:
                reports[key].append((now, event.values["part"]))
                if len(reports[key]) == 2:
                    last[key] = _first_step(*reports[key])
                    found[before] += last[key] - given_out[key]
            elif event.kind == "epoch":
                seconds = event.values["record"]["train"]["seconds"]
                found[training] += seconds
                found[between] += now - last[key] - seconds
                last[key] = now
            elif event.kind == "done":
                found[after] += now - last[key]
            elif event.kind == "failed":
                sys.exit(event.values["reason"])
        total = (now - began) * crew.workers
    return found | {"no job: the server starts, a core waits for the last": total - sum(found.values())}


def limit(seconds: float = 5.0) -> float:
    """Images a second that as many processes of one thread as there are cores get through, of their products alone."""
    recipe = loaded(0, 1).recipe
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack, ThreadPoolExecutor(cores) as pool:
        own = os.environ | COMMAND_LINE | {THREADS: "1", "OMP_NUM_THREADS": "1", DATA: str(Path(folder) / "data.npz")}
        remotes = [stack.enter_context(Remote(["limit"], Path(folder) / "log", own)) for _ in range(cores)]
        for remote in remotes:
            remote.call("build", network="lenet5", batch=recipe.train.batch_size, seed=0, variant="default")

        def all_at_once(steps: int) -> list[float]:
            asked = {"images": steps * recipe.train.batch_size, "epochs": 1}
            return [*pool.map(lambda remote: remote.call("train", **asked), remotes)]

        steps = 100
        steps = int(steps * seconds / max(all_at_once(steps)))
        return sum(steps * recipe.train.batch_size / float(took) for took in all_at_once(steps))


def starts(folder: Path) -> list[float]:
    """Seconds after which jobs train that were handed out when other workers had been there before.

    No worker tells when it begins its first step: that is reckoned from its first two reports of how far the epoch is.
    """
    begun: dict[str, float] = {}
    reports: dict[str, list[tuple[float, float]]] = {}
    with Crew() as crew:
        for seed in range(STARTS):
            crew.add(Job(str(seed), loaded(seed, 1), folder / str(seed)))
        for event in crew.events():
            now, key = time.perf_counter(), event.job.key
            if event.kind == "started":
                begun[key] = now
            elif event.kind == "step":
                reports.setdefault(key, []).append((now, event.values["part"]))
            elif event.kind == "failed":
                sys.exit(event.values["reason"])
    return [_first_step(*reports[key][:2]) - begun[key] for key in [*begun][crew.workers :]]


def _first_step(report: tuple[float, float], next_report: tuple[float, float]) -> float:
    """When a training began that was so far at two times."""
    (now, part), (later, more) = report, next_report
    return now - part * (later - now) / (more - part)


def measure(way: str, epochs: int) -> dict[str, Any]:
    """Carry out one way in a process of its own and return its wall time, all waiting counted, with what it told."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.sweep", "carry-out", "--way", way, "--epochs", str(epochs), "--folder", folder]
        began = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        return {"seconds": time.perf_counter() - began, **json.loads(done.stdout)}


def run(rounds: int, epochs: int) -> None:
    """Measure the rounds that are missing."""
    kernels = native.description()
    kept = read_record("sweep", kernels) or {}
    same = kept.get("epochs") == epochs
    done: list[dict[str, Any]] = kept["rounds"] if same else []
    while len(done) < rounds:
        # In turn, and the other one first every second time.
        order = WAYS if len(done) % 2 == 0 else WAYS[::-1]
        measured = {way: measure(way, epochs) for way in order}
        done.append({"load": os.getloadavg()[0], **measured})
        described = environment.describe() | {"kernels": kernels}
        about = {"environment": described, "model": "lenet5", "epochs": epochs, "runs": RUNS}
        write_json(record_of("sweep", kernels), (kept if same else {}) | about | {"rounds": done})
        print(f"round {len(done)}: {_ratio(done[-1]):.2f} ×", flush=True)
    others: dict[str, Callable[[Path], Any]] = {
        "starts": starts,
        "parts": lambda folder: parts(epochs, folder),
        "limit_images_per_second": lambda folder: limit(),
    }
    for name, found in others.items():
        record = read_record("sweep", kernels) or {}
        if name not in record:
            with tempfile.TemporaryDirectory() as folder:
                write_json(record_of("sweep", kernels), record | {name: found(Path(folder))})


@dataclass(frozen=True)
class Figures:
    """What a record says, over its rounds.

    Attributes:
        gain: throughput of the workers over one run after another.
        minutes: runs that the workers train in a minute.
        start: seconds until a worker after the first ones trains; those wait for the server, which the others find there. In records
            without ``starts`` a first look at the validation images is counted in.
        idle: share of the workers' time that is not training.
    """

    gain: Spread
    minutes: Spread
    start: Spread
    idle: Spread


def figures(record: dict[str, Any]) -> Figures:
    """Summarise a record."""
    crews = [one["workers"] for one in record["rounds"]]
    if (begun := record.get("starts")) is None:
        begun = [seconds for crew in crews for seconds in list(crew["first_epoch_begins_after"].values())[crew["workers"] :]]
    return Figures(
        spread([_ratio(one) for one in record["rounds"]]),
        spread([record["runs"] / crew["seconds"] * 60 for crew in crews]),
        spread(begun),
        spread([crew["not_training"] / (crew["not_training"] + crew["trained"]) for crew in crews]),
    )


def shares(record: dict[str, Any]) -> dict[str, float]:
    """Of the workers' time, what each of its parts takes, in a record that has them."""
    whole = sum(record["parts"].values())
    return {what: seconds / whole for what, seconds in record["parts"].items()}


def most(record: dict[str, Any]) -> float | None:
    """Runs a minute, were they nothing but convolutions and matrix products, where a record has that."""
    images = record.get("limit_images_per_second")
    return None if images is None else 60 * images / (record["epochs"] * IMAGES * (1 - VALIDATION))


def table() -> str:
    """The records as tables."""
    records = [record for level in reversed(native.LEVELS) if (record := read_record("sweep", level)) is not None]
    return "\n".join(map(_table, records)) or "*Not measured yet: `python -m benchmarks.sweep run` fills this in.*\n"


def _table(record: dict[str, Any]) -> str:
    place, seen = record["environment"], figures(record)
    workers, rounds = record["rounds"][0]["workers"]["workers"], len(record["rounds"])
    looked = "" if "starts" in record else ", with its first look at the validation images"
    spent = shares(record) if "parts" in record else {}
    rows = {
        f"throughput of {workers} workers over one run after another": _told(seen.gain, " ×"),
        f"LeNet-5 of {record['epochs']} epochs, trained in a minute": _told(seen.minutes, ""),
        f"until a worker after the first ones trains{looked}": _told(seen.start, " s"),
        "of the workers' time, not training": f"{100 * seen.idle.middle:.0f} %",
        **{f"of the workers' time, in a sweep of its own: {what}": f"{100 * share:.1f} %" for what, share in spent.items()},
    }
    where = f"On {place['cores']} cores ({place['processor']}), {rounds} rounds of {record['runs']} runs:"
    return "\n".join([where, "", "| | |", "| --- | --- |", *(f"| {what} | {value} |" for what, value in rows.items())]) + "\n"


def _ratio(one: dict[str, Any]) -> float:
    return float(one["one after another"]["seconds"] / one["workers"]["seconds"])


def _told(seen: Spread, unit: str) -> str:
    return f"{seen.middle:.2f}{unit} ({seen.low:.2f} … {seen.high:.2f})"


TABLES = {"sweep": table}


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "show", "carry-out"])
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--epochs", type=count, default=10)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.command == "run":
        run(options.rounds, options.epochs)
    elif options.command == "show":
        print(table())
    else:
        carry_out = workers if options.way == "workers" else one_after_another
        print(json.dumps(carry_out(options.epochs, options.folder)))


if __name__ == "__main__":
    main()
