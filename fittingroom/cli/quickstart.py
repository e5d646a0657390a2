"""``fittingroom quickstart``: the first five minutes, in one command."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fittingroom.cli.options import DataDir, Json, RunsDir, Threads
from fittingroom.cli.output import accuracy_line, download_progress, note, note_missing_kernels, notices, print_json, print_line, watched
from fittingroom.errors import DataMissing

if TYPE_CHECKING:
    from fittingroom.recipe import Loaded

__all__ = ["quickstart"]

# Two minutes, but for a download; the test set and the page take what a plan leaves free.
SECONDS = 120.0


def quickstart(
    seed: Annotated[int, typer.Option(min=0, help="The run's seed.")] = 0,
    runs_dir: RunsDir = Path("runs"),
    data_dir: DataDir = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train our quickest good model on Fashion-MNIST, open the test set once, and write a page to show: two minutes in all."""
    began = time.perf_counter()
    note("loading torch …")
    from fittingroom import experiment, pace, recipe
    from fittingroom.report.run_page import write_report
    from fittingroom.report.text import plural

    loaded = recipe.load("compact", [f"seed={seed}"])
    notify = notices()
    note_missing_kernels()
    setting = experiment.Setting(data_dir=data_dir, threads=threads, notify=notify)
    try:
        loading = time.perf_counter() - began
        with download_progress() as downloaded:
            experiment.prepare(loaded.recipe, replace(setting, downloaded=downloaded))
        at_hand = time.perf_counter()
        note("seeing how fast this machine is …")
        found = pace.pace(loaded.recipe, setting)
        setting = replace(setting, threads=found.threads)
        left = SECONDS - loading - (time.perf_counter() - at_hand)
        if not found.epochs(left):
            note(f"an epoch takes about {found.epoch:.0f} s here: even a tenth of one takes longer than two minutes")
        loaded = _shortened(loaded, found.epochs(left) or pace.LEAST_EPOCHS)
    except DataMissing as error:
        note(f"{error}")
        note("NOTE: Fashion-MNIST cannot be had here, so this trains on scikit-learn's 8×8 digits instead.")
        note("NOTE: its figures say nothing about clothes.")
        loaded = recipe.load("compact", [f"seed={seed}", "data.name=digits", "data.validation=0.2"])
    told = f"{loaded.recipe.model.name} on {loaded.recipe.data.name}, {plural(loaded.recipe.train.epochs, 'epoch')}"
    note(f"training {told}; Ctrl-C stops, and --resume goes on")
    with watched(loaded.recipe, then="then: fittingroom evaluate RUN --test; fittingroom report RUN") as watch:
        watching = replace(setting, progress=watch.progress, epoch_done=watch.epoch_done, begun=watch.begun)
        run = experiment.train(loaded, runs_dir=runs_dir, setting=watching)
    result = experiment.evaluate(run, test=True, reason="quickstart, once at its end", setting=setting)
    page = write_report(run, data_dir=data_dir, notify=notify)
    seconds = time.perf_counter() - began
    if as_json:
        print_json({"run": str(run.path), "seconds": seconds, "test": result["test"], "report": str(page)})
        return
    print_line(f"{accuracy_line('test', experiment.judged(run)['test'])} in {seconds:.0f} s, all waiting counted")
    print_line(f"run    {run.path}")
    print_line(f"report {page}  (open it in a browser)")


def _shortened(loaded: Loaded, epochs: float) -> Loaded:
    """The recipe, with fewer epochs where this machine is too slow for all of them."""
    if epochs >= loaded.recipe.train.epochs:
        return loaded
    recipe = loaded.recipe.updated({"train.epochs": epochs})
    return replace(loaded, recipe=recipe, origins={**loaded.origins, "train.epochs": "quickstart"})
