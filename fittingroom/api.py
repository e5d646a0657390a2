"""The Python functions, for scripts and notebooks: what the commands do, with runs as values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fittingroom import experiment, recipe, runs
from fittingroom.errors import RunError
from fittingroom.evaluate import Evaluation
from fittingroom.evaluate.compare import Comparison, compare_predictions
from fittingroom.experiment import Setting
from fittingroom.runs import Run

__all__ = ["compare", "evaluate", "load_run", "train"]


def train(
    what: str | Path | Mapping[str, Any] | recipe.Recipe,
    overrides: Mapping[str, Any] | None = None,
    *,
    run_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    setting: Setting | None = None,
) -> Run:
    """Train a model, a recipe file, or a recipe given as values; return its run.

    >>> run = fittingroom.train("lenet5", {"train.epochs": 5, "optim.lr": 0.002})  # doctest: +SKIP

    Args:
        what: a model's or shipped recipe's name, a TOML file, a mapping, or a `Recipe`.
        overrides: values by dotted key.
        run_dir: the run folder; None makes a new one in ``runs_dir``.
        runs_dir: the folder of all runs.
        setting: device, threads, where data is looked for, callbacks.
    """
    source = what.values if isinstance(what, recipe.Recipe) else what
    loaded = recipe.load(source, overrides or {})
    return experiment.train(loaded, Path(run_dir) if run_dir is not None else None, Path(runs_dir), setting)


def load_run(reference: str | Path, runs_dir: str | Path = "runs") -> Run:
    """Return a run by folder, name, part of a name, or `last`."""
    return runs.find(reference, Path(runs_dir))


def evaluate(run: Run | str | Path, *, test: bool = False, setting: Setting | None = None) -> Evaluation:
    """Measure a run on validation, or, with ``test=True``, on the test set: the opening is written down."""
    found = run if isinstance(run, Run) else load_run(run)
    result = experiment.evaluate(found, test=test, reason="fittingroom.evaluate(test=True)", setting=setting)
    return Evaluation.from_json(result["test" if test else "validation"])


def compare(first: Run | str | Path, second: Run | str | Path, *, split: str = "validation") -> Comparison:
    """Compare two runs on the images of a split, from their stored predictions.

    Raises:
        RunError: they were not measured on the same images.
    """
    pair = [run if isinstance(run, Run) else load_run(run) for run in (first, second)]
    parts = [run.read_predictions(split) for run in pair]
    recorded = [run.environment.get("data", {}).get("train_sha256") for run in pair]
    if None in recorded or recorded[0] != recorded[1]:
        raise RunError(f"{pair[0].name} and {pair[1].name} were trained on different data and cannot be compared")
    if not np.array_equal(parts[0].indices, parts[1].indices) or not np.array_equal(parts[0].labels, parts[1].labels):
        raise RunError(f"{pair[0].name} and {pair[1].name} were measured on different {split} images; give both the same data.split_seed")
    predicted = [part.probabilities.argmax(1) for part in parts]
    return compare_predictions((pair[0].name, pair[1].name), predicted[0], predicted[1], parts[0].labels)
