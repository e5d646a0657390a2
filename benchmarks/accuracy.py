"""How accurate `compact` is in the minutes it may take, into ``records/accuracy.json``.

    python -m benchmarks.accuracy [--seeds 5]

Each recipe is trained with each seed by a command of its own, from nothing to a trained network, all waiting counted; the machine should be
quiet. When all are trained, the test set is opened once for each. Told apart from that is the accuracy with the mean of an image and its
mirror image. What is done is kept in ``runs/accuracy``; the command goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.pages import table as markdown
from fittingroom import environment
from fittingroom.files import write_json
from fittingroom.runs import Run

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "records" / "accuracy.json"
RUNS = ROOT / "runs" / "accuracy"
RECIPES = {"compact": 2}
"""Each with the minutes that it may take."""


def trained(name: str, seed: int) -> tuple[Run, float]:
    """Train a recipe, unless that is done; return the run and how long the command took."""
    folder = RUNS / f"{name}-{seed}"
    clock = RUNS / f"{name}-{seed}.json"
    if not clock.exists():
        if folder.exists():
            sys.exit(f"{folder} was begun and not finished, so its time is not known: remove it")
        folder.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        command = [sys.executable, "-m", "fittingroom", "train", name, "--seed", str(seed), "--run-dir", str(folder), "--quiet"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        write_json(clock, {"seconds": time.perf_counter() - began, "load": os.getloadavg()[0]})
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
    }


def run(seeds: int) -> None:
    """Train what is missing, then open the test set."""
    runs = {name: [(seed, *trained(name, seed)) for seed in range(seeds)] for name in RECIPES}
    found = {
        name: {
            "minutes": RECIPES[name],
            "recipe": some[0][1].recipe.values,
            "parameters": some[0][1].environment["model"]["parameters"],
            "multiply_adds": some[0][1].environment["model"]["multiply_adds"],
            "runs": [{"seed": seed, "seconds": seconds, **judged(one)} for seed, one, seconds in some],
        }
        for name, some in runs.items()
    }
    write_json(RECORD, {"environment": environment.describe(), "recipes": found})


def table() -> str:
    """What is recorded."""
    if not RECORD.exists():
        return "*Not measured yet: `python -m benchmarks.accuracy` fills this in.*\n"
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    rows = []
    for name, one in record["recipes"].items():
        seconds = [run["seconds"] for run in one["runs"]]
        plain, mirrored = ([100 * run[key] / run["count"] for run in one["runs"]] for key in ("correct", "correct_with_mirror_images"))
        rows.append(
            [
                f"`{name}`",
                f"{statistics.median(seconds):.0f} s ({min(seconds):.0f} … {max(seconds):.0f})",
                f"**{statistics.mean(plain):.2f} %** ± {statistics.stdev(plain):.2f} ({', '.join(f'{value:.2f}' for value in plain)})",
                f"{statistics.mean(mirrored):.2f} % ± {statistics.stdev(mirrored):.2f}",
                f"{one['parameters']:,}",
                f"{one['multiply_adds'] / 1e6:.1f} M",
            ]
        )
    head = ["recipe", "from nothing to a trained network", "test accuracy, by seed", "with mirror images", "parameters", "multiply-adds"]
    machine = record["environment"]
    return f"On {machine['cores']} cores ({machine['processor']}):\n\n{markdown(head, rows)}"


TABLES = {"accuracy": table}


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    run(parser.parse_args().seeds)


if __name__ == "__main__":
    main()
