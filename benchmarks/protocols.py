"""Train the reports' networks to the end of their protocols, and every other model for an epoch, into ``records/``.

    python -m benchmarks.protocols list
    python -m benchmarks.protocols run [NAME …] [--threads 1]

Each run is an ordinary run folder under ``runs/protocols``: killed, it goes on with the same command; finished, it is not
repeated. The test set is opened once, at the end of each. What is committed is the compact record, not the weights.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.arguments import count
from fittingroom import experiment, models, recipe, runs
from fittingroom.files import write_text

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "records" / "protocols"
RUNS = ROOT / "runs" / "protocols"

# Name of the record: shipped recipe or model, and what differs from it.
PROTOCOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "basic": ("basic", {}),
    "standard": ("standard", {}),
    "lenet5": ("lenet5", {}),
    "cnn-vs-svm-1-layer": ("cnn-vs-svm", {"model.layers": 1}),
    "cnn-vs-svm-2-layers": ("cnn-vs-svm", {}),
    "cnn-vs-svm-3-layers": ("cnn-vs-svm", {"model.layers": 3}),
    "custom-cnn-as-intended": ("custom-cnn", {}),
    "custom-cnn-as-written": ("custom-cnn", {"data.normalise": "raw-mean-std"}),
    "custom-cnn-deep": ("custom-cnn-deep", {}),
    "three-block": ("three-block", {}),
    "three-block-digits": ("three-block", {"data.name": "mnist"}),
    "alexnet": ("alexnet", {}),
    "resnet20": ("resnet20", {}),
}
ONE_EPOCH = {name: (name, {"train.epochs": 1}) for name in models.names() if name not in PROTOCOLS and name not in recipe.shipped()}
PHOTOGRAPHS = {
    "photographs-compact": (
        "compact",
        {
            "data.name": "clothing-photos",
            "data.size": 64,
            "augment.crop": 2,
            "train.epochs": 20,
            "train.batch_size": 64,
            "loss.class_weights": "balanced",
        },
    )
}
ALL = {**PROTOCOLS, **ONE_EPOCH, **PHOTOGRAPHS}


def record(run: runs.Run) -> dict[str, Any]:
    """Return what is kept of a run: recipe, environment, every epoch, the final figures."""
    evaluation = {split: part for split, part in run.evaluation.items() if split != "openings"}
    for part in evaluation.values():
        part.pop("mistakes", None)
        part.pop("calibration", None)
        part.pop("confused_pairs", None)
    environment = run.environment
    environment["data"].pop("source", None)  # a path of the machine it ran on
    return {
        "recipe": run.recipe.values,
        "environment": environment,
        "history": run.history,
        "evaluation": evaluation,
        "openings": run.evaluation.get("openings", []),
    }


def carry_out(name: str, setting: experiment.Setting) -> None:
    """Train (or go on with) one protocol and write its record."""
    source, changes = ALL[name]
    folder = RUNS / name
    if (folder / "recipe.toml").exists():
        run = experiment.resume(runs.Run(folder), setting)
    else:
        run = experiment.train(recipe.load(source, changes), folder, setting=setting)
    if "test" not in run.evaluation:
        experiment.evaluate(run, test=True, reason="end of the protocol", setting=setting)
    RECORDS.mkdir(parents=True, exist_ok=True)
    write_text(RECORDS / f"{name}.json", json.dumps(record(run), ensure_ascii=False) + "\n")
    print(f"{name}: test {run.evaluation['test']['accuracy']:.4f} after {len(run.history)} epochs", flush=True)


def main() -> None:
    """Carry out the named protocols, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["list", "run"])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--threads", type=count)
    options = parser.parse_args()
    if unknown := set(options.names) - set(ALL):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(ALL)}")
    for name in options.names or ALL:
        if options.command == "list" or (RECORDS / f"{name}.json").exists():
            print(name, "recorded" if (RECORDS / f"{name}.json").exists() else "to do")
            continue
        note = lambda line, name=name: print(f"{name}: {line}", file=sys.stderr, flush=True)  # noqa: E731
        done = lambda line, note=note: note(f"epoch {line['epoch']} {line['train']['seconds']:.0f} s {line.get('validation')}")  # noqa: E731
        carry_out(name, experiment.Setting(threads=options.threads, notify=note, epoch_done=done))


if __name__ == "__main__":
    main()
