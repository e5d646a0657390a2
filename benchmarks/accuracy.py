"""How accurate our own network is in minutes, into ``records/accuracy.json``, or ``accuracy-KERNELS.json`` with lesser kernels.

    python -m benchmarks.accuracy [--seeds 5] [--minutes 2,5,10]
    python -m benchmarks.accuracy --where 2,5
    python -m benchmarks.accuracy --longer RUN [RUN …]

Each run is a command of its own, ``fittingroom train RECIPE --minutes N``, which finds out how many epochs the minutes hold: from
nothing to a trained network, all waiting counted; the machine should be quiet. When all are trained, the test set is opened once for
each. Told apart from that is the accuracy with the mean of an image and its mirror image. What is done is kept in ``runs/accuracy``;
the command goes on with what is missing, and leaves alone what the record has of other minutes and recipes.

``--where`` trains once more for so many minutes, leaves the test set sealed, and tells what the waiting was for. ``--longer`` writes down
how accurate on validation runs of more epochs are, that were trained by hand: whether it is epochs that the minutes lack.
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
from pathlib import Path
from typing import Any

from benchmarks.arguments import count
from benchmarks.peers.pages import table as markdown
from benchmarks.places import read_record, record_of
from fittingroom import environment, native
from fittingroom.files import write_json
from fittingroom.runs import Run

__all__ = ["TABLES"]

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "accuracy"
# For so many minutes; why these, docs/speed-log.md tells.
RECIPES = {2: "compact", 5: "compact", 10: "compact-wide"}
COMMAND = [sys.executable, "-m", "fittingroom", "train"]


def trained(minutes: int, seed: int) -> tuple[Run, float]:
    """Train for so many minutes, unless that is done; return the run and how long the command took, in seconds."""
    folder = RUNS / f"{RECIPES[minutes]}-{minutes}-{seed}"
    clock = folder.with_suffix(".json")
    if not clock.exists():
        if folder.exists():
            sys.exit(f"{folder} was begun and not finished, so its time is not known: remove it")
        folder.parent.mkdir(parents=True, exist_ok=True)
        asked = ["--minutes", str(minutes), "--seed", str(seed), "--run-dir", str(folder), "--quiet"]
        load, began = os.getloadavg()[0], time.perf_counter()
        subprocess.run([*COMMAND, RECIPES[minutes], *asked], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        write_json(clock, {"seconds": time.perf_counter() - began, "load": load})
    return Run(folder), float(json.loads(clock.read_text())["seconds"])


def judged(run: Run) -> dict[str, Any]:
    """Open the test set for a run, once, and look at mirror images too."""
    from fittingroom import experiment
    from fittingroom.data import catalog
    from fittingroom.data.arrays import Images

    if "test" not in run.evaluation:
        experiment.evaluate(run, test=True, reason="benchmarks.accuracy")
    test = catalog.load("fashion-mnist", with_test=True).test
    assert test is not None
    mirrored = experiment.probabilities(run, Images(test.pixels[:, :, ::-1].copy(), test.labels))
    both = run.read_predictions("test").probabilities + mirrored
    evaluation = run.evaluation["test"]
    return {
        "count": evaluation["count"],
        "correct": evaluation["correct"],
        "correct_with_mirror_images": int((both.argmax(1) == test.labels).sum()),
        "correct_on_validation": run.evaluation["validation"]["correct"],
        "validation_count": run.evaluation["validation"]["count"],
    }


def run(seeds: int, asked: list[int]) -> None:
    """Train what is missing, then open the test set."""
    runs = {minutes: [(seed, *trained(minutes, seed)) for seed in range(seeds)] for minutes in asked}
    described = environment.describe() | {"kernels": native.description()}
    found = [
        {
            "minutes": minutes,
            "name": RECIPES[minutes],
            "environment": described,
            "recipe": some[0][1].recipe.values,
            "parameters": some[0][1].environment["model"]["parameters"],
            "multiply_adds": some[0][1].environment["model"]["multiply_adds"],
            "runs": [{"seed": seed, "epochs": one.recipe.train.epochs, "seconds": seconds, **judged(one)} for seed, one, seconds in some],
        }
        for minutes, some in runs.items()
    ]
    before = read_record("accuracy", native.description()) or {"recipes": []}
    kept = [one for one in before["recipes"] if one["minutes"] not in runs or one["name"] != RECIPES[one["minutes"]]]
    recipes = sorted([*found, *kept], key=lambda one: int(one["minutes"]))
    keep("recipes", recipes)


def where(minutes: int) -> dict[str, float]:
    """Train once; return what each part of the waiting took, in seconds, by when the command told of each epoch."""
    asked = ["--minutes", str(minutes), "--seed", "0"]
    told: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        began = time.perf_counter()
        command = [*COMMAND, RECIPES[minutes], *asked, "--run-dir", str(folder)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            told += [time.perf_counter() - began for line in process.stderr if line.startswith("epoch ")]
        total = time.perf_counter() - began
        if process.returncode:
            sys.exit(process.returncode)
        seconds = [record["train"]["seconds"] for record in Run(folder).history]
    between = told[-1] - told[0] - sum(seconds[1:])
    looking = between / max(1, len(seconds) - 1)
    return {
        "training": sum(seconds),
        "start, data, a look at the pace": told[0] - seconds[0] - looking,
        "validation and checkpoints": between + looking,
        "weights, predictions, evaluation": total - told[-1],
        "minutes left over": 60 * minutes - total,
    }


def longer(folder: Path) -> dict[str, Any]:
    """What a finished run reached on validation."""
    one, judged = Run(folder), Run(folder).evaluation["validation"]
    last = one.history[-1]["train"]["accuracy"]
    about = {"name": one.recipe.model.name, "recipe": one.recipe.values, "epochs": one.recipe.train.epochs, "seed": one.recipe.seed}
    return {**about, "training_accuracy": last, "correct_on_validation": judged["correct"], "validation_count": judged["count"]}


def keep(part: str, values: Any) -> None:
    """Write one part of the record beside the others."""
    before = read_record("accuracy", native.description()) or {"recipes": []}
    write_json(record_of("accuracy", native.description()), before | {part: values})


def table() -> str:
    """What is recorded, kind of kernels by kind of kernels."""
    records = [record for level in reversed(native.LEVELS) if (record := read_record("accuracy", level)) is not None]
    return "\n".join(map(_table, records)) or "*Not measured yet: `python -m benchmarks.accuracy` fills this in.*\n"


def _table(record: dict[str, Any]) -> str:
    rows = []
    for one in record["recipes"]:
        seconds, epochs = ([run[key] for run in one["runs"]] for key in ("seconds", "epochs"))
        plain, mirrored = ([100 * run[key] / run["count"] for run in one["runs"]] for key in ("correct", "correct_with_mirror_images"))
        rows.append(
            [
                f"{one['minutes']}",
                f"`{one['name']}`",
                f"{statistics.median(seconds):.0f} s ({min(seconds):.0f} … {max(seconds):.0f})",
                f"{statistics.median(epochs):.3g} ({min(epochs)} … {max(epochs)})",
                f"**{statistics.mean(plain):.2f} %** ± {statistics.stdev(plain):.2f} ({', '.join(f'{value:.2f}' for value in plain)})",
                f"{statistics.mean(mirrored):.2f} % ± {statistics.stdev(mirrored):.2f}",
            ]
        )
    asked = ["minutes", "recipe", "taken, all waiting counted", "epochs"]
    head = [*asked, "test accuracy ± its spread over seeds, and by seed", "with mirror images"]
    sizes = {one["name"].split()[0]: (one["parameters"], one["multiply_adds"]) for one in record["recipes"]}
    what = "; ".join(
        f"`{name}`, {parameters:,} parameters, {products / 1e6:.1f} million multiply-adds an image"
        for name, (parameters, products) in sizes.items()
    )
    machine = record["recipes"][-1]["environment"]
    return f"On {machine['cores']} cores ({machine['processor']}), kernels {machine['kernels']}; {what}:\n\n{markdown(head, rows)}"


TABLES = {"accuracy": table}


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=count, default=5)
    parser.add_argument("--minutes", default=",".join(map(str, RECIPES)))
    parser.add_argument("--where", help="train once for each of these minutes, and tell what the waiting was for")
    parser.add_argument("--longer", nargs="+", type=Path, help="folders of runs of more epochs")
    given = parser.parse_args()
    if given.longer:
        if strange := [str(folder) for folder in given.longer if "validation" not in Run(folder).evaluation]:
            parser.error(f"{strange[0]} is no run that was judged on validation images")
        keep("longer", [longer(folder) for folder in given.longer])
        return
    try:
        asked = [int(minutes) for minutes in (given.where or given.minutes).split(",")]
    except ValueError:
        asked = []
    if not asked or set(asked) - set(RECIPES):
        parser.error(f"minutes are {', '.join(map(str, RECIPES))}, not {given.where or given.minutes}")
    if given.where:
        for minutes in asked:
            before = read_record("accuracy", native.description()) or {}
            keep("where", before.get("where", {}) | {str(minutes): where(minutes)})
        return
    if given.seeds < 2:
        parser.error("a spread needs two seeds or more")
    run(given.seeds, asked)


if __name__ == "__main__":
    main()
