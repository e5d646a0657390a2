"""A small search on the made-up set, and how to read what it left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.storages import InMemoryStorage

from fittingroom.experiment import Setting
from fittingroom.tune import space as spaces
from fittingroom.tune.finalists import train_finalists
from fittingroom.tune.search import Search, training, work
from fittingroom.tune.space import Space

SETTING = Setting(device="cpu", threads=1, download=False, checkpoint_seconds=0.0)


def grid(made_set: Path, **changes: Any) -> Space:
    """Eight trials of two epochs of a small network."""
    values: dict[str, Any] = {
        "base": {"model": {"name": "mlp", "hidden": [8]}, "data": {"name": str(made_set)}},
        "set": {"train.epochs": 2, "train.precision": "fp32"},
        "sampler": "grid",
        "finalists": 0,
        "space": {"optim.lr": [0.001, 0.003, 0.01, 0.03], "train.batch_size": [32, 64]},
    }
    return spaces.load({**values, **changes})


def in_memory(folder: Path, space: Space, storage: InMemoryStorage) -> Search:
    """A search without a file, which takes no time."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    direction = "maximize" if space.objective.sign > 0 else "minimize"
    optuna.create_study(study_name=folder.name, storage=storage, direction=direction, load_if_exists=True)
    return Search(folder, space, storage, "here")


def live(folder: Path, space: Space, url: str | None = None, setting: Setting = SETTING) -> None:
    """Be a worker from beginning to end."""
    with Search.at(folder, space, url) as search:
        work(search, training(space.objective, setting))
        train_finalists(search, setting)


def told(folder: Path, space: Space, url: str | None = None) -> list[tuple[int, str, dict[str, Any], float | None]]:
    """Number, state, values and score of each trial."""
    with Search.at(folder, space, url) as search:
        return [(trial.number, trial.state.name, trial.params, trial.value) for trial in search.trials]
