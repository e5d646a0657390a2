"""Hold what ``fittingroom study plan`` predicts against what happens, into ``records/scale.json``.

    python -m benchmarks.scale run [--rounds 3]
    python -m benchmarks.scale show

What is predicted is a small study of unequal runs, on one worker and on one a core. The run times from which it is predicted are those of a
pass of their own, by one worker. What starting and sharing cost comes from another model: four runs of LeNet-5, on one worker and on one
a core. A round does all four things, in turn; it is written down when it ends, and the command goes on with those that are missing.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.arguments import count
from fittingroom import environment
from fittingroom.environment import cores
from fittingroom.files import write_json
from fittingroom.recipe import load as load_recipe
from fittingroom.study import execute
from fittingroom.study.file import load
from fittingroom.study.plan import plan
from fittingroom.study.results import read_records
from fittingroom.study.scale import Estimate, Row, estimates, forecast, read_overheads
from fittingroom.study.schema import Study
from fittingroom.study.timing import Timings
from fittingroom.workers import Crew, Job

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "records" / "scale.json"
EXAMPLE = "study plan shallow-vs-deep --cores 2 --price 0.40"
RUNS = 4
STUDY = """
title = "Runs of unequal length"
source = "made for benchmarks/scale.py"
base = { model = "basic", data = { name = "fashion-mnist", validation = 0.2 }, train = { epochs = 2 } }
seeds = [0, 1]
claims = []
[runs.basic]
[runs.standard]
set = { model = "standard" }
[runs.mlp]
set = { model = "mlp" }
[runs.bayes]
set = { model = "gaussian-nb" }
seeds = [0]
"""


def small_study(folder: Path) -> Study:
    """The study that is predicted and carried out."""
    path = folder / "unequal.toml"
    path.write_text(STUDY, encoding="utf-8")
    return load(path)


def carried_out(workers: int, known: list[Estimate]) -> tuple[float, list[Estimate]]:
    """Carry the study out; return the seconds that it took, and what its records tell of its runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planned = plan(small_study(folder))
        means = {run.key: run.mean for run in known}
        recorded = {one.loaded.recipe.family: means[one.key] for one in planned if one.key in means}
        began = time.perf_counter()
        with Crew(workers, device="cpu") as crew:
            failed = execute.execute(planned, folder, folder / "records", crew, Timings({}, recorded))
            seconds = time.perf_counter() - began
        if failed:
            sys.exit(f"failed: {failed}")
        return seconds, estimates(planned, read_records(folder / "records"))[0]


def way(workers: int) -> dict[str, Any]:
    """Train LeNet-5 four times; return when each run took its first step, and what was not training."""
    begun: dict[str, float] = {}
    starts: dict[str, float] = {}
    trained = 0.0
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with Crew(workers, device="cpu") as crew:
            for seed in range(RUNS):
                recipe = load_recipe("lenet5", {"seed": seed, "train.epochs": 2, "data.validation": 0.2})
                crew.add(Job(str(seed), recipe, Path(folder) / str(seed), test="benchmark"))
            for event in crew.events():
                now = time.perf_counter()
                if event.kind == "started":
                    begun[event.job.key] = now
                elif event.kind == "epoch":
                    seconds = event.values["record"]["train"]["seconds"]
                    starts.setdefault(event.job.key, now - seconds - begun[event.job.key])
                    trained += seconds
                elif event.kind == "failed":
                    sys.exit(event.values["reason"])
            total = (time.perf_counter() - began) * workers
    return {"workers": workers, "first_epoch_begins_after": starts, "trained": trained, "not_training": total - trained}


def run(rounds: int) -> None:
    """Measure the rounds that are missing."""
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if not record:
        _, known = carried_out(1, [])
        record = {"environment": environment.describe(), "runs": [asdict(one) for one in known], "rounds": []}
    known = recorded_runs(record)
    while len(record["rounds"]) < rounds:
        done: dict[str, Any] = {"load": os.getloadavg()[0]}
        # In turn, and the other one first every second time.
        for workers in (1, cores()) if len(record["rounds"]) % 2 == 0 else (cores(), 1):
            done[f"overheads, {workers}"] = way(workers)
            done[f"study, {workers}"] = {"workers": workers, "seconds": carried_out(workers, known)[0]}
        record["rounds"].append(done)
        write_json(RECORD, record)
        print(f"round {len(record['rounds'])}", flush=True)
    show()


def recorded_runs(record: dict[str, Any]) -> list[Estimate]:
    """What was known of the runs' times before the rounds."""
    return [Estimate(**{**one, "seconds": tuple(one["seconds"])}) for one in record["runs"]]


def compared() -> list[tuple[Row, list[float]]]:
    """What is predicted for each number of workers, with what was measured in each round."""
    record = json.loads(RECORD.read_text())
    overheads = read_overheads(RECORD)
    measured: dict[int, list[float]] = {}
    for one in record["rounds"]:
        for name, part in one.items():
            if name.startswith("study, "):
                measured.setdefault(part["workers"], []).append(part["seconds"])
    runs = recorded_runs(record)
    return [(forecast(runs, [1], workers, overheads)[0], measured[workers]) for workers in sorted(measured)]


def show() -> None:
    """Print what is recorded."""
    print(table())


def table() -> str:
    """Return the table of what was predicted and what was measured."""
    if not RECORD.exists():
        return "*Not measured yet.*\n"
    record, cost = json.loads(RECORD.read_text()), read_overheads(RECORD)
    machine, found = record["environment"], compared()
    told = [
        f"On {machine['cores']} cores of an {machine['processor']}, {len(record['runs'])} runs, {len(found[0][1])} rounds:",
        "",
        "| workers | predicted (95 %) | measured, from … to | predicted over measured |",
        "| --- | --- | --- | --- |",
    ]
    for workers, (row, seconds) in zip((1, machine["cores"]), found, strict=True):
        middle = statistics.median(seconds)
        told.append(
            f"| {workers} | {row.wall:.1f} s ({row.low:.1f} … {row.high:.1f}) | {middle:.1f} s, {min(seconds):.1f} … {max(seconds):.1f} "
            f"| {row.wall / middle:.2f} |"
        )
    sharing = "was not measured" if cost.slowdown is None else f"makes runs {cost.slowdown:.2f} times longer"
    told += [
        "",
        f"The overheads, measured on LeNet-5: {cost.boot:.1f} s until a machine is up, {cost.start:.2f} s before the first step of a run, "
        f"{cost.beyond:.0%} of training time for what follows it; sharing a full machine {sharing}.",
    ]
    return "\n".join(told) + "\n"


def example() -> str:
    """Return what the command of the page prints in a checkout with its records and nothing else."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "records").symlink_to(ROOT / "records")
        command = [sys.executable, "-m", "fittingroom", *EXAMPLE.split()]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
        done = subprocess.run(command, cwd=name, env=environ, capture_output=True, text=True, check=True)
    return f"<!-- test: skip (a test of its own runs it on the records) -->\n```console\n$ fittingroom {EXAMPLE}\n{done.stdout}```\n"


TABLES = {"plan": example, "scale": table}


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "show"])
    parser.add_argument("--rounds", type=count, default=3)
    options = parser.parse_args()
    if options.command == "run":
        run(options.rounds)
    else:
        show()


if __name__ == "__main__":
    main()
