"""Measure what the README promises, on a quiet machine, into ``records/``.

python -m benchmarks.measure quickstart    three seeds of the quick-start, as whole processes
python -m benchmarks.measure epochs        seconds an epoch of 60,000 images, and what augmentation costs
python -m benchmarks.measure start         --help, and loading Fashion-MNIST from its four files
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.places import read_record, record_of
from fittingroom import environment, native
from fittingroom.files import write_json

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "records"
SEEDS = (0, 1, 2)


def quickstart() -> None:
    """Run the quick-start once a seed; wall time and peak memory are the operating system's."""
    runs = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "fittingroom", "quickstart", "--json", "--seed", str(seed), "--runs-dir", folder]
            began = time.perf_counter()
            finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
            seconds = time.perf_counter() - began
            told = json.loads(finished.stdout)
            recipe = (Path(told["run"]) / "recipe.toml").read_text()
            epochs = len((Path(told["run"]) / "metrics.jsonl").read_text().splitlines())
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        runs.append(
            {
                "seed": seed,
                "epochs": epochs,
                "seconds": seconds,
                "test_accuracy": told["test"]["accuracy"],
                "correct": told["test"]["correct"],
                "peak_bytes": peak,
            }
        )
        print(runs[-1], flush=True)
    described = environment.describe() | {"kernels": native.description()}
    write_json(record_of("quickstart", native.description()), {"environment": described, "recipe": recipe, "runs": runs})


def epochs() -> None:
    """Time training on 12,000 images at batch 32, five epochs of each network after one to warm up, as seconds for 60,000."""
    import torch

    from fittingroom import experiment, recipe
    from fittingroom.train.loop import fit

    cases = {
        "lenet5": ("lenet5", {}),
        "standard": ("standard", {}),
        "three-block, augmented": ("three-block", {}),
        "three-block, not augmented": ("three-block", {"augment": {}}),
    }
    measured = {}
    for name, (source, changes) in cases.items():
        values = recipe.load(source, {**changes, "train.epochs": 6, "data.limit": 12_000}).recipe
        values = values.model_copy(update={"train": values.train.model_copy(update={"stop": None})})
        setting = experiment.Setting()
        prepared = experiment.prepare(values, setting)
        machine = experiment.Machine.choose(values, setting)
        model = experiment.new_model(values, prepared.data.input_shape, len(prepared.data.classes), machine.device)
        training = prepared.resident(prepared.training, machine.device)
        records = [epoch.record for epoch in fit(model, training, None, values, 10, machine.precision)]
        seconds = [record["train"]["seconds"] * 60_000 / len(prepared.training) for record in records[1:]]
        measured[name] = {"seconds": seconds, "precision": machine.precision.name, "batch_size": values.train.batch_size}
        print(name, [round(value, 2) for value in seconds], flush=True)
    write_json(
        RECORDS / "epochs.json",
        {"environment": environment.describe(), "kernels": native.description(), "threads": torch.get_num_threads(), "cases": measured},
    )


def start() -> None:
    """Time ``fittingroom --help`` and the loading of the four files, ten times each."""
    from fittingroom.data import catalog

    command = [str(Path(sys.executable).parent / "fittingroom"), "--help"]
    helps = [timed(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)) for _ in range(11)][1:]
    loads = [timed(lambda: catalog.load("fashion-mnist", with_test=True)) for _ in range(11)][1:]
    write_json(RECORDS / "start.json", {"environment": environment.describe(), "help_seconds": helps, "load_seconds": loads})
    print("help", sorted(helps), "load", sorted(loads))


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def quickstart_table() -> str:
    """Quick-start, epochs and start-up in one table, each with its spread."""
    quick, timing, startup = (json.loads((RECORDS / f"{name}.json").read_text()) for name in ("quickstart", "epochs", "start"))
    machine = quick["environment"]
    accuracies, seconds = quick_runs(quick)
    augmented, plain = (timing["cases"][f"three-block, {kind}"]["seconds"] for kind in ("augmented", "not augmented"))
    ratios = [with_it / without for with_it, without in zip(augmented, plain, strict=True)]
    rows = [
        (
            f"`make run`: test accuracy of {of_the_recipe(quick)}, {len(seconds)} seeds",
            f"{statistics.mean(accuracies):.2f} %",
            spread(accuracies, " %", 2),
        ),
        ("`make run`: all waiting counted, environment ready", f"{statistics.mean(seconds):.0f} s", spread(seconds, " s", 0)),
        ("its peak memory", f"{max(run['peak_bytes'] for run in quick['runs']) / 1e9:.2f} GB", ""),
        *(epoch_row(name, case["seconds"]) for name, case in timing["cases"].items()),
        ("the same, augmented over not augmented", f"{statistics.median(ratios):.2f} ×", spread(ratios, " ×", 2)),
        ("`fittingroom --help`", f"{statistics.median(startup['help_seconds']):.2f} s", spread(startup["help_seconds"], " s", 2)),
        (
            "loading Fashion-MNIST from its four files",
            f"{statistics.median(startup['load_seconds']):.2f} s",
            spread(startup["load_seconds"], " s", 2),
        ),
    ]
    other = read_record("quickstart", "avx2")
    if other is not None:
        accuracies, seconds = quick_runs(other)
        place = other["environment"]
        label = f"`make run` on {place['cores']} cores of an {place['processor']} without fast bfloat16 (kernels {place['kernels']})"
        rows[3:3] = [
            (f"{label}: test accuracy of {of_the_recipe(other)}", f"{statistics.mean(accuracies):.2f} %", spread(accuracies, " %", 2)),
            ("there, all waiting counted", f"{statistics.mean(seconds):.0f} s", spread(seconds, " s", 0)),
        ]
    where = f"On {machine['cores']} cores of an {machine['processor']}, {machine['threads']} threads"
    lines = [f"{where}, torch {machine['packages']['torch']}, kernels {timing['kernels']}:", ""]
    lines += ["| | | from … to |", "| --- | --- | --- |", *(f"| {label} | {value} | {around} |" for label, value, around in rows)]
    return "\n".join(lines) + "\n"


def of_the_recipe(record: dict[str, Any]) -> str:
    """What to call the network of a record of the quick-start: its recipe may since have changed, other than in how many epochs fit."""
    from fittingroom import recipe

    same = {"train.epochs": 1, "seed": 0}
    then = recipe.load(tomllib.loads(record["recipe"]), same).recipe
    return "`compact`" if then == recipe.load("compact", same).recipe else "`compact` by an earlier recipe"


def quick_runs(record: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Test accuracies in %, and seconds, of the quick-start's runs."""
    return [100 * run["test_accuracy"] for run in record["runs"]], [run["seconds"] for run in record["runs"]]


def epoch_row(name: str, seconds: list[float]) -> tuple[str, str, str]:
    """A row of the table: an epoch's time."""
    model, _, manner = name.partition(", ")
    label = f"an epoch of 60,000 images at batch 32, `{model}`{f', {manner}' if manner else ''}"
    return label, f"{statistics.median(seconds):.1f} s", spread(seconds, " s", 1)


def spread(values: list[float], unit: str, digits: int) -> str:
    """Smallest and largest."""
    return f"{min(values):.{digits}f} … {max(values):.{digits}f}{unit}"


def protocols_table() -> str:
    """What the reports' networks reach at the end of their protocols, one run each."""
    lines = ["| record | epochs | validation | test (95 % interval) | training |", "| --- | --- | --- | --- | --- |"]
    for path in sorted((RECORDS / "protocols").glob("*.json")):
        record: dict[str, Any] = json.loads(path.read_text())
        test, validation = record["evaluation"]["test"], record["evaluation"].get("validation")
        seconds = sum(epoch["train"]["seconds"] for epoch in record["history"])
        interval = f"{100 * test['interval']['low']:.2f} … {100 * test['interval']['high']:.2f}"
        judged = f"{100 * validation['accuracy']:.2f} %" if validation else "—"
        lines.append(
            f"| {path.stem} | {len(record['history'])} | {judged} | {100 * test['accuracy']:.2f} % ({interval}) | {seconds / 60:.1f} min |"
        )
    return "\n".join(lines) + "\n"


TABLES = {"quickstart": quickstart_table, "protocols": protocols_table}


def main() -> None:
    """Carry out what is named."""
    os.chdir(ROOT)
    known = {"quickstart": quickstart, "epochs": epochs, "start": start}
    if len(sys.argv) != 2 or sys.argv[1] not in known:
        sys.exit(__doc__)
    known[sys.argv[1]]()


if __name__ == "__main__":
    main()
