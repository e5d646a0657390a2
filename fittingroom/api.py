"""The Python functions, for scripts and notebooks: what the commands do, with runs as values."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fittingroom import models, recipe, runs
from fittingroom.cluster import AnyCrew
from fittingroom.errors import RunError, UsageError, nearest
from fittingroom.evaluate import Evaluation
from fittingroom.evaluate.compare import (
    Comparison,
    RecipeComparison,
    check_data,
    check_question,
    check_several,
    compare_runs,
    compare_two,
    recipe_names,
)
from fittingroom.recipe import Loaded
from fittingroom.runs import Run
from fittingroom.workers import Event, Job

if TYPE_CHECKING:
    from fittingroom.experiment import Setting

__all__ = ["begin_or_go_on", "compare", "compare_recipes", "evaluate", "load_run", "names_of", "train", "train_with"]


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
    from fittingroom import experiment  # it needs torch, and comparing does not

    source = what.values if isinstance(what, recipe.Recipe) else what
    loaded = recipe.load(source, overrides or {})
    return experiment.train(loaded, Path(run_dir) if run_dir is not None else None, Path(runs_dir), setting)


def load_run(reference: str | Path, runs_dir: str | Path = "runs") -> Run:
    """Return a run by folder, name, part of a name, or `last`."""
    return runs.find(reference, Path(runs_dir))


def evaluate(run: Run | str | Path, *, test: bool = False, setting: Setting | None = None) -> Evaluation:
    """Measure a run on validation, or, with ``test=True``, on the test set: the opening is written down."""
    from fittingroom import experiment

    found = run if isinstance(run, Run) else load_run(run)
    result = experiment.evaluate(found, test=test, reason="fittingroom.evaluate(test=True)", setting=setting)
    return Evaluation.from_json(result["test" if test else "validation"])


def compare(first: Run | str | Path, second: Run | str | Path, *, split: str = "validation") -> Comparison:
    """Compare two runs on the images of a split, from their stored predictions.

    Raises:
        RunError: they were not measured on the same images.
    """
    one, other = (run if isinstance(run, Run) else load_run(run) for run in (first, second))
    return compare_two(one, other, split)


def compare_recipes(
    *what: Run | str | Path,
    split: str = "validation",
    metric: str = "accuracy",
    margin: float | None = None,
    seeds: int | None = None,
    runs_dir: str | Path = "runs",
    train_all: Callable[[Sequence[Loaded]], object] | None = None,
) -> RecipeComparison:
    """Compare recipes over the seeds that they were trained with.

    >>> print(fittingroom.api.compare_recipes("lenet5", "basic", seeds=5))  # doctest: +SKIP

    Args:
        what: runs (folders, names), folders of runs, or recipes and models, whose finished runs are looked up in ``runs_dir``.
        split: `validation` or `test`; the test set is not opened here.
        metric: `accuracy`, `f1` or `loss`.
        margin: differences below it make no practical difference, in the metric's units: 0.003 is 0.3 points. None takes the metric's own.
        seeds: compare each recipe over the seeds 0 … ``seeds`` − 1, and train those that are missing.
        runs_dir: the folder of all runs.
        train_all: trains the missing runs into ``runs_dir``; None trains one after the other.

    Raises:
        UsageError: nothing of that name, fewer than two recipes, recipes of different data sets, or an unknown metric.
        RunError: runs that were measured on different data, splits or test images, or a missing one that ``train_all`` did not train.
    """
    if seeds is not None and seeds < 1:
        raise UsageError(f"the number of seeds must be at least 1, not {seeds}")
    check_question(split, metric, margin)  # before anything is trained
    folder = Path(runs_dir)
    wanted = [one for name in what for one in _meant(name, folder)]
    if seeds is None:
        return compare_runs([run for one in wanted for run in _runs_of(one, folder)], split, metric, margin)
    check_several(set(recipe_names(one.recipe for one in wanted).values()))
    check_data(one.recipe for one in wanted)
    families = {one.recipe.family: one.recipe.values for one in wanted}
    planned = [recipe.load(values, {"seed": seed}) for values in families.values() for seed in range(seeds)]

    named = [one for one in wanted if isinstance(one, Run)]
    known = {run.recipe.hash: run for run in [*_finished(folder), *named]}
    if missing := [one for one in planned if one.recipe.hash not in known]:
        if split == "test":
            raise UsageError(
                f"{len(missing)} of the {len(planned)} runs are not trained, and a comparison does not open the test set; "
                "compare on validation first, or train them and evaluate each with --test"
            )
        (train_all or _one_by_one(folder))(missing)
        known = {run.recipe.hash: run for run in _finished(folder)} | known
    for one in planned:
        if one.recipe.hash not in known:
            raise RunError(f"{one.recipe.model.name} with seed {one.recipe.seed} was not trained in {folder}, so nothing is compared")
    return compare_runs([known[one.recipe.hash] for one in planned], split, metric, margin)


def names_of(*what: Run | str | Path, runs_dir: str | Path = "runs") -> dict[str, str]:
    """Return what `compare_recipes` calls the recipes that these words stand for, by `Recipe.family`."""
    return recipe_names(one.recipe for name in what for one in _meant(name, Path(runs_dir)))


def train_with(
    crew: AnyCrew,
    missing: Sequence[Loaded],
    runs_dir: str | Path = "runs",
    *,
    threads: int = 1,
    watch: Callable[[Event], object] = lambda event: None,
) -> list[Run]:
    """Train recipes side by side into ``runs_dir``, on workers of this machine or on a cluster; return their runs.

    >>> from fittingroom.cluster import RayCrew  # doctest: +SKIP
    >>> with RayCrew("head:6379") as crew:  # doctest: +SKIP
    ...     runs = fittingroom.api.train_with(crew, [fittingroom.recipe.load("lenet5", {"seed": seed}) for seed in range(5)])

    Args:
        crew: who trains.
        missing: the recipes; a run of one that was stopped or killed goes on.
        runs_dir: the folder of all runs.
        threads: of each run.
        watch: called with everything that happens.

    Raises:
        RunError: one of them failed; those that did not are there.
    """
    folder = Path(runs_dir)
    trained = [runs.unfinished(folder, loaded.recipe) or runs.create_new(folder, loaded, datetime.now()) for loaded in missing]
    for run, loaded in zip(trained, missing, strict=True):
        crew.add(Job(run.name, loaded, run.path, threads))
    failed: dict[str, str] = {}
    codes: set[int] = set()
    try:
        for event in crew.events():
            if event.kind == "failed":
                failed[event.job.key] = str(event.values["reason"])
                codes.add(int(event.values["code"]))
            watch(event)
    finally:
        for run in trained:
            if run.state == "created":  # it never began: nothing is left, as where it is trained alone
                shutil.rmtree(run.path, ignore_errors=True)
    if failed:
        name, reason = next(iter(failed.items()))
        error = RunError(f"{len(failed)} of {len(missing)} runs failed; {name}: {reason}")
        error.exit_code = codes.pop() if len(codes) == 1 else RunError.exit_code
        raise error
    return trained


def begin_or_go_on(loaded: Loaded, runs_dir: str | Path = "runs", setting: Setting | None = None) -> Run:
    """Train a recipe into a new run folder, or go on with the newest run of it that was stopped or killed."""
    from fittingroom import experiment

    begun = runs.unfinished(Path(runs_dir), loaded.recipe)
    return experiment.train(loaded, None, Path(runs_dir), setting) if begun is None else experiment.resume(begun, setting)


def _meant(what: Run | str | Path, folder: Path) -> list[Run | Loaded]:
    """What a word stands for: a run, the finished runs of a folder, or a recipe."""
    if isinstance(what, Run):
        return [what]
    text, inside = str(what), Path(what)
    if any((path / "recipe.toml").is_file() for path in (inside, folder / inside)):
        return [runs.find(what, folder)]
    if inside.is_dir() and (listed := _finished(inside)):
        return list(listed)
    if text.endswith(".toml") or text in recipe.shipped() or text in models.names():
        return [recipe.load(text)]
    try:
        return [runs.find(what, folder)]
    except RunError as error:
        hint = nearest(text, [*models.names(), *recipe.shipped()])
        raise UsageError(f"{error}; a recipe or a model will do too{hint}") from None


def _finished(folder: Path) -> list[Run]:
    """The finished runs of a folder; a damaged one is none."""
    found = []
    for run in runs.list_runs(folder):
        with suppress(RunError):
            found += [run] if run.state == "finished" and run.recipe.hash else []
    return found


def _runs_of(wanted: Run | Loaded, folder: Path) -> list[Run]:
    """A run itself; of a recipe its finished runs, whatever their seed."""
    if isinstance(wanted, Run):
        return [wanted]
    finished = _finished(folder)
    found = [run for run in finished if run.recipe.family == wanted.recipe.family]
    if not found:
        model = wanted.recipe.model.name
        alike = sum(run.recipe.model.name == model for run in finished)
        hint = f"; {alike} of {model} there {'has' if alike == 1 else 'have'} other values: name the runs themselves" if alike else ""
        raise RunError(f"no finished run of {model} as this recipe has it in {folder}{hint}; --seeds 5 trains what is missing")
    return found


def _one_by_one(folder: Path) -> Callable[[Sequence[Loaded]], object]:
    return lambda missing: [begin_or_go_on(loaded, folder) for loaded in missing]
