"""Measure what a cluster costs beside this machine's own workers, into ``records/cluster.json``.

    python -m benchmarks.cluster [--rounds 3]

The cluster is the tests' own: two nodes of one core each, on this machine, so that what differs is Ray and the way of the files and
not the processors. A round does everything in turn, as whole commands with all their waiting, and is written down when it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.arguments import count
from fittingroom import environment
from fittingroom.files import write_json

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "records" / "cluster.json"
RUNS = 6
EPOCHS = 2
STUDY = f"""
title = "What a cluster costs"
source = "made for benchmarks/cluster.py"
base = {{ model = "lenet5", data = {{ name = "fashion-mnist", validation = 0.2 }}, train = {{ epochs = {EPOCHS} }} }}
seeds = {list(range(RUNS))}
claims = []
[runs.lenet5]
"""
WAYS = ("local", "ray here", "two nodes")
TRAINED = ("compact", "resnet20")


def command(*arguments: str, cwd: Path) -> float:
    """Carry out a command; return its seconds."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "fittingroom", *arguments], cwd=cwd, env=environ, check=True, capture_output=True)
    return time.perf_counter() - began


def study(folder: Path, *options: str) -> dict[str, float]:
    """Carry the study out anew; return its seconds, and how many of them a core was training."""
    (folder / "cost.toml").write_text(STUDY, encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        seconds = command("study", "run", "cost.toml", "--runs-dir", runs, *options, cwd=folder)
        trained = sum(sum(epoch_seconds(path)) for path in Path(runs).rglob("metrics.jsonl"))
    return {"seconds": seconds, "trained": trained}


def one_run(folder: Path, model: str, workers: int) -> dict[str, Any]:
    """Train one run by so many workers of one thread each; return seconds: of the command, and of each epoch."""
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        run = str(Path(runs) / "run")
        options = ["--set", "data.limit=6000", "--set", "data.validation=0", "--threads", "1", "--workers", str(workers), "-q"]
        seconds = command("train", model, "--epochs", str(EPOCHS + 1), "--run-dir", run, *options, cwd=folder)
        return {"seconds": seconds, "epochs": list(epoch_seconds(Path(run) / "metrics.jsonl"))}


def epoch_seconds(path: Path) -> Iterator[float]:
    """The seconds of training in a run's epochs."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield float(json.loads(line)["train"]["seconds"])


def measure(done: dict[str, Any], backwards: bool) -> None:
    """Measure what a round lacks, into ``done``."""
    from tests.cluster.nodes import nodes  # needs pytest

    turns = slice(None, None, -1 if backwards else 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for way in [way for way in WAYS if way not in done][turns]:
            if way == "local":
                done[way] = study(folder, "--workers", "2")
            elif way == "ray here":
                done[way] = study(folder, "--engine", "ray")
            else:
                with nodes(1, 1, cwd=folder) as cluster:
                    done[way] = study(folder, "--engine", "ray", "--address", cluster.address)
        for model, workers in [(model, workers) for model in TRAINED for workers in (1, 2) if f"{model}, {workers}" not in done][turns]:
            done[f"{model}, {workers}"] = one_run(folder, model, workers)


def run(rounds: int) -> None:
    """Measure the rounds, or parts of them, that are missing."""
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {"environment": environment.describe(), "rounds": []}
    record["rounds"] += [{} for _ in range(rounds - len(record["rounds"]))]
    for number, done in enumerate(record["rounds"], 1):
        done.setdefault("load", os.getloadavg()[0])
        measure(done, backwards=number % 2 == 0)
        write_json(RECORD, record)
        print(f"round {number}", flush=True)


def cost() -> str:
    """Return what a study costs, as far as it is measured."""
    if not RECORD.exists():
        return "*Not measured yet.*\n"
    record = json.loads(RECORD.read_text())
    rounds, machine = record["rounds"], record["environment"]
    rows = ["| by | seconds | over local workers | of these a core did not train |", "| --- | --- | --- | --- |"]
    names = {
        "local": "two local workers",
        "ray here": "`--engine ray`, which starts Ray and ends it",
        "two nodes": "`--engine ray --address`, two nodes of one core that are up",
    }
    for way, told in names.items():
        seconds = [one[way]["seconds"] for one in rounds]
        ratios = [one[way]["seconds"] / one["local"]["seconds"] for one in rounds]
        idle = [one[way]["seconds"] - one[way]["trained"] / 2 for one in rounds]
        over = "" if way == "local" else f"{_spread(ratios, '.2f')} ×"
        rows.append(f"| {told} | {_spread(seconds, '.0f')} s | {over} | {_spread(idle, '.1f')} s |")
    head = (
        f"A study of {RUNS} runs of LeNet-5, {EPOCHS} epochs each, on two cores of an {machine['processor']}; "
        f"the middle of {len(rounds)} rounds, from the least to the most:"
    )
    return "\n".join([head, "", *rows]) + "\n"


def together() -> str:
    """Return what sharing batches costs, as far as it is measured."""
    if not RECORD.exists():
        return "*Not measured yet.*\n"
    parts = [f"{model}, {workers}" for model in TRAINED for workers in (1, 2)]
    rounds = [one for one in json.loads(RECORD.read_text())["rounds"] if all(part in one for part in parts)]
    rows = [
        "| network | an epoch: one process | two workers | speed, two over one | waiting beside the epochs: one process | two workers |",
        "| --- " * 6 + "|",
    ]
    for model in TRAINED:
        # The first epoch pays for what is done once.
        one, two = ([statistics.fmean(done[f"{model}, {workers}"]["epochs"][1:]) for done in rounds] for workers in (1, 2))
        waits = [
            [done[f"{model}, {workers}"]["seconds"] - sum(done[f"{model}, {workers}"]["epochs"]) for done in rounds] for workers in (1, 2)
        ]
        quicker = [alone / shared for alone, shared in zip(one, two, strict=True)]
        rows.append(
            f"| `{model}` | {_spread(one, '.1f')} s | {_spread(two, '.1f')} s | {_spread(quicker, '.2f')} × "
            f"| {_spread(waits[0], '.1f')} s | {_spread(waits[1], '.1f')} s |"
        )
    head = (
        "Epochs of 6,000 images at the recipe's batch, one thread a worker, both workers on the two cores of one machine; the middle of "
        f"{len(rounds)} rounds, from the least to the most:"
    )
    return "\n".join([head, "", *rows]) + "\n"


def _spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


TABLES = {"together": together, "cost": cost}


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=count, default=3)
    run(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
