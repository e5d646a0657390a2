"""``fittingroom train``: a recipe or a model into a run folder, or a stopped run further."""

from __future__ import annotations

import json
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fittingroom.cli.options import DataDir, Device, Json, Quiet, RunsDir, Threads
from fittingroom.cli.output import (
    accuracy_line,
    download_progress,
    note,
    note_missing_kernels,
    notices,
    print_json,
    print_line,
    print_table,
    recipe_values,
    watched,
    written,
)
from fittingroom.errors import UsageError

if TYPE_CHECKING:
    from fittingroom.experiment import Setting, Team
    from fittingroom.recipe import Loaded, Recipe
    from fittingroom.runs import Run

__all__ = ["train"]


What = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL|RECIPE.toml", help="A model, a recipe that comes with the program, or a recipe file.", show_default=False
    ),
]
Data = Annotated[str | None, typer.Option("--data", metavar="NAME|PATH", help="Short for --set data.name=NAME.", show_default=False)]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value: --set optim.lr=0.01.", show_default=False)
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", help="As many epochs as these minutes hold here, all waiting counted.", show_default=False)
]
RunDir = Annotated[
    Path | None, typer.Option("--run-dir", help="The run folder; the default is a new one in --runs-dir.", show_default=False)
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Share each batch among this many workers, by Ray Train.")]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="The Ray cluster of the workers; the default is this machine.", show_default=False),
]


def train(
    what: What = None,
    data: Data = None,
    changes: Changes = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Short for --set seed=N.", show_default=False)] = None,
    epochs: Annotated[float | None, typer.Option(help="Short for --set train.epochs=N.", show_default=False)] = None,
    minutes: Minutes = None,
    run_dir: RunDir = None,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Go on with this run.", show_default=False)] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe and where each value comes from; stop.")] = False,
    runs_dir: RunsDir = Path("runs"),
    data_dir: DataDir = None,
    device: Device = "auto",
    threads: Threads = None,
    workers: Workers = 1,
    address: Address = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard event files too.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a model, or go on with a run that was stopped or killed."""
    began = time.perf_counter()
    if (what is None) == (resume is None):
        raise UsageError("say what to train (a model or a recipe), or --resume RUN, and not both; see fittingroom models")
    overrides = list(changes or [])
    overrides += [f"data.name={json.dumps(data)}"] if data is not None else []
    overrides += [f"seed={seed}"] if seed is not None else []
    overrides += [f"train.epochs={epochs}"] if epochs is not None else []
    if resume is not None and (overrides or minutes is not None or run_dir is not None or show):
        changing = "--set, --data, --seed, --epochs, --minutes, --run-dir and --show"
        raise UsageError(f"--resume goes on with the run as it is: leave out {changing}")
    if minutes is not None:
        _check_minutes(minutes, overrides, show, workers)
    loaded = None if resume is not None else _load(str(what), overrides)
    if loaded is not None and show:
        _show(loaded, as_json)
        return
    from fittingroom import experiment, models, runs

    setting = experiment.Setting(data_dir=data_dir, device=device, threads=threads, notify=notices())
    if loaded is not None and minutes is not None:
        loaded, setting = _fitted_in(loaded, minutes, began, setting)

    if loaded is not None:
        recipe, carry_out = loaded.recipe, partial(experiment.train, loaded, run_dir, runs_dir)
    else:
        stopped = runs.find(str(resume), runs_dir)
        recipe, carry_out = stopped.recipe, partial(experiment.resume, stopped)
    if models.entry(recipe.model.name).kind == "network":
        note_missing_kernels(device)
    with _team(recipe, workers, address, threads, device) as team, watched(recipe, quiet) as watch:
        run = carry_out(
            setting=replace(
                setting,
                tensorboard=tensorboard,
                progress=watch.progress,
                epoch_done=watch.epoch_done,
                begun=watch.begun,
                downloaded=watch.download,
                team=team,
            )
        )
    _finished(run, as_json)


def _load(what: str, overrides: list[str]) -> Loaded:
    """Load the recipe; a newcomer's mistake, naming the data in the model's place, has an answer of its own."""
    from fittingroom import models, recipe
    from fittingroom.data.named import CATALOG

    known = what in models.names() or what in recipe.shipped()  # whatever folders are here
    if not known and (what in CATALOG or Path(what).is_dir() or Path(what).suffix in (".csv", ".npz")):
        raise UsageError(f"{what} is data, and what comes first is a model or a recipe: fittingroom train compact --data {what}")
    return recipe.load(what, overrides)


def _check_minutes(minutes: float, overrides: list[str], show: bool, workers: int) -> None:
    if not 0 < minutes < math.inf:
        raise UsageError(f"--minutes must be a number above 0, not {minutes:g}")
    if any(override.split("=")[0].strip() in ("train", "train.epochs") for override in overrides):
        raise UsageError("--minutes finds the number of epochs, so none can be given beside it")
    if show:
        raise UsageError("--show measures nothing, so it cannot say how many epochs --minutes would be; leave out one of them")
    if workers > 1:
        raise UsageError("--minutes measures how fast one process trains; leave it out with --workers, and give --epochs")


def _fitted_in(loaded: Loaded, minutes: float, began: float, setting: Setting) -> tuple[Loaded, Setting]:
    """The recipe with as many epochs as the minutes hold, and with how many threads: what is trained is a recipe like any other."""
    from fittingroom import pace
    from fittingroom.report.text import plural

    note("seeing how fast this machine is …")
    with download_progress() as downloaded:
        found = pace.pace(loaded.recipe, replace(setting, downloaded=downloaded))
    left = began + 60 * minutes - time.perf_counter()
    epochs = found.epochs(left)
    if not epochs:
        least = math.ceil(10 * (minutes + (found.least() - left) / 60)) / 10
        takes = f"an epoch of {loaded.recipe.model.name} takes about {found.epoch:.3g} s here, and a tenth of one is the least"
        raise UsageError(f"{takes}: give --minutes {least:g}, or fewer images by data.limit")
    note(f"{minutes:g} minutes hold {plural(epochs, 'epoch')} of about {found.epoch:.3g} s here: train.epochs = {epochs}")
    origins = {**loaded.origins, "train.epochs": "--minutes"}
    fitted = replace(loaded, recipe=loaded.recipe.updated({"train.epochs": epochs}), origins=origins)
    return fitted, replace(setting, threads=found.threads)


def _team(recipe: Recipe, workers: int, address: str | None, threads: int | None, device: str) -> AbstractContextManager[Team | None]:
    """The workers that train together; None where this process trains alone."""
    if workers == 1:
        if address is not None:
            raise UsageError("--address is where workers that share a batch run: say how many, --workers 2 or more")
        return nullcontext()
    from fittingroom.cluster import team

    team.check(recipe, workers)
    return team.Team(workers, address, threads, device, notices())


def _show(loaded: Loaded, as_json: bool) -> None:
    values = recipe_values(loaded.recipe, loaded.origins)
    if as_json:
        print_json([{"key": key, "value": value, "origin": origin} for key, value, origin in values])
        return
    print_table([("key", "left"), ("value", "left"), ("from", "left")], [[key, written(value), origin] for key, value, origin in values])


def _finished(run: Run, as_json: bool) -> None:
    from fittingroom import experiment

    judged = experiment.judged(run).get("validation")
    if as_json:
        last = run.history[-1] if run.history else {}
        epochs, figures = last.get("epoch", 0), last.get("train", {})
        measured = run.evaluation.get("validation")
        print_json({"run": str(run.path), "state": run.state, "epochs": epochs, "train": figures, "validation": measured})
        return
    if judged:
        note(accuracy_line("validation", judged))
    if run.recipe.data.validation == "test":
        note('data.validation = "test": these are the test images, seen after every epoch')
    else:
        note(f"the test set stays sealed until: fittingroom evaluate {run.path} --test")
    print_line(str(run.path))
