"""``fittingroom tune``: a search over recipes, its finalists, and how lucky its best score was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated

import typer

from fittingroom.cli.engine import Address, Engine, check_engine, open_crew
from fittingroom.cli.options import DataDir, Device, Json, Quiet, RunsDir, Threads
from fittingroom.cli.output import duration, note, print_json, print_line, print_table, visible, written
from fittingroom.errors import ExtraMissing, FittingRoomError, UsageError

if TYPE_CHECKING:
    from fittingroom.cluster import AnyCrew
    from fittingroom.tune.finalists import Outcome
    from fittingroom.tune.progress import Progress
    from fittingroom.tune.search import Search
    from fittingroom.tune.space import Objective
    from fittingroom.tune.worker import Order

__all__ = ["tune", "watched"]

SHOWN_TRIALS = 10
SHOWN_IN_HAND = 2
LOOK_SECONDS = 1.0
"""Between two looks at how far a search is."""

What = Annotated[str, typer.Argument(metavar="SPACE.toml", help="A space file, or the name of one that comes with the program.")]
Name = Annotated[str | None, typer.Option("--name", help="Of the search; the default is the file's.", show_default=False)]
Trials = Annotated[int | None, typer.Option("--trials", min=1, help="Most trials, in place of the file's.", show_default=False)]
Minutes = Annotated[float | None, typer.Option("--minutes", min=0.01, help="Most minutes, in place of the file's.", show_default=False)]
Storage = Annotated[
    str | None, typer.Option("--storage", metavar="URL", help="postgresql://… to share it; the default is a file.", show_default=False)
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the base recipe: --set train.epochs=5.", show_default=False)
]

TakeOver = Annotated[
    list[int] | None,
    typer.Option("--take-over", metavar="N", min=0, help="Train trial N here: the machine that began it is gone.", show_default=False),
]

Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=1024, help="Trials side by side; default: 1, on a cluster one a core.", show_default=False),
]


def tune(
    space: What,
    workers: Workers = None,
    name: Name = None,
    trials: Trials = None,
    minutes: Minutes = None,
    storage: Storage = None,
    taken_over: TakeOver = None,
    changes: Changes = None,
    runs_dir: RunsDir = Path("runs"),
    data_dir: DataDir = None,
    device: Device = "auto",
    threads: Threads = None,
    engine: Engine = "local",
    address: Address = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search a space of recipes, or go on with a search that was stopped or killed: the same command."""
    from fittingroom import recipe
    from fittingroom.tune import space as spaces

    check_engine(engine, address)
    budget = {key: value for key, value in (("trials", trials), ("minutes", minutes)) if value is not None}
    searched = spaces.load(space, dict(map(recipe.parse_override, changes or [])), budget)
    folder = runs_dir / "tune" / _name(name or Path(space).stem)
    if find_spec("optuna") is None:
        raise ExtraMissing("Optuna is not installed", "tune")
    from fittingroom.report.tune_page import write_tune_report
    from fittingroom.tune import together
    from fittingroom.tune.finalists import outcome
    from fittingroom.tune.search import Search, take_over
    from fittingroom.tune.worker import Order

    with ExitStack() as stack:
        crew = open_crew(engine, address, workers, data_dir, device) if engine != "local" else None
        if crew is not None:
            stack.enter_context(crew)
        places = together.places(crew, threads or 1) if crew else workers or 1
        search = stack.enter_context(Search.at(folder, searched, storage, places))
        for number in taken_over or []:
            take_over(search, number)
        order = Order(
            folder=folder,
            space=searched,
            url=storage,
            deadline=search.deadline(),
            data_dir=data_dir,
            device=device,
            threads=threads or (1 if crew or places > 1 else None),
        )
        try:
            with watched(search, places, order.deadline, quiet) as notify:
                _work(order, search, places, crew, notify)
        except KeyboardInterrupt:
            note("stopped; go on with the same command")
            raise
        found = outcome(search)
    page = write_tune_report(found, folder / "report.html")
    if as_json:
        print_json({**found.to_json(), "report": str(page)})
    else:
        _show(found, page)
    if found.best is None:
        raise FittingRoomError(_nothing(found))


def _name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UsageError(f"'{name}' cannot name a search; take letters, digits, '-', '_' and '.'")
    return name


def _work(order: Order, search: Search, workers: int, crew: AnyCrew | None, notify: Callable[[str], None]) -> None:
    from fittingroom.tune import together, worker

    if crew is not None:
        together.carry_out_with(search, crew, order.threads or 1, order.deadline, notify)
    elif workers == 1:
        worker.carry_out(order, notify=notify)
    else:
        worker.start(order, workers, notify)


@contextmanager
def watched(search: Search, places: int, deadline: float | None, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Watch a search: a line for each trial that ends, and on a terminal below them how far it is."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, emoji=False)
    if quiet or not console.is_terminal:
        yield (lambda line: None) if quiet else note
        return
    from rich.progress import BarColumn, Progress, TextColumn

    from fittingroom.tune.progress import progress

    ended = Event()
    with Progress(TextColumn("{task.description}"), BarColumn(bar_width=20), console=console, transient=True) as bar:
        task = bar.add_task("begins …", total=1.0)

        def look() -> None:
            while not ended.wait(LOOK_SECONDS):
                with suppress(FittingRoomError):  # whoever carries the trials out tells of it
                    found = progress(search, places, deadline)
                    bar.update(task, completed=found.share, description=_how_far(search.space.objective, found))
            search.storage.remove_session()  # this thread's

        watcher = Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield lambda line: bar.console.print(visible(line), markup=False)
        finally:
            ended.set()
            watcher.join()


def _how_far(objective: Objective, found: Progress) -> str:
    """Say it in a line, and in another what is being trained."""
    of = "" if found.of is None else f" of {found.of}"
    what = f"{found.done}{of} trials" if found.phase == "trials" else f"finalists: {found.done}{of} trainings"
    best = "" if found.best is None else f", best {_score(objective, found.best)}"
    left = "" if found.left is None else f", about {duration(found.left)} left"
    shown = [f"{name}, epoch {epoch}" for name, epoch in found.in_hand[:SHOWN_IN_HAND]]
    more = len(found.in_hand) - len(shown)
    return f"{what}{best}{left}\n" + "; ".join(shown) + (f"; {more} more" if more > 0 else "")


def _show(found: Outcome, page: Path) -> None:
    """Print the best trials, the finalists and the winner."""
    objective = found.space.objective
    complete = [trial for trial in found.trials if trial.state == "complete"]
    ranked = sorted(complete, key=lambda trial: (-objective.sign * (trial.value or 0.0), trial.number))
    rows = [[str(trial.number), _score(objective, trial.value), f"{trial.seconds:.1f} s", _values(trial.params)] for trial in ranked]
    print_table([("trial", "right"), ("score", "right"), ("time", "right"), ("values", "left")], rows[:SHOWN_TRIALS])
    counts = {state: sum(trial.state == state for trial in found.trials) for state in ("complete", "pruned", "fail", "running")}
    print_line(f"{len(found.trials)} trials: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count))
    for finalist in found.finalists:
        if finalist.mean is not None:
            seeds = ", ".join(map(str, finalist.scores))
            print_line(f"finalist {finalist.trial.number}: {_score(objective, finalist.mean)} on seeds {seeds}")
    if found.winner is None:
        print_line(found.left)
    else:
        print_line(f"winner: trial {found.winner.trial.number}, in {found.winner.trial.run}")
        for line in _luck(found):
            print_line(line)
    print_line(str(page))


def _luck(found: Outcome) -> list[str]:
    """Say how much of the best score was luck, and how far the winner is above the trial that has it."""
    assert found.best is not None
    if found.optimism is None or found.lead is None:
        return [f"luck in the best score: not known, trial {found.best.number} diverged on a fresh seed"]
    unit = 100 if found.space.objective.metric == "validation.accuracy" else 1
    points = " points" if unit == 100 else ""
    around = found.optimism_interval
    interval = f" (95 % interval {around[0] * unit:.2f} to {around[1] * unit:.2f})" if around else " (one seed: no interval)"
    lines = [f"luck in the best score: {found.optimism * unit:.2f}{points}{interval}"]
    if found.winner is not found.favourite:
        lines.append(f"the winner is {found.lead * unit:.2f}{points} better than trial {found.best.number}, which had it")
    return lines


def _nothing(found: Outcome) -> str:
    failed = next((trial for trial in found.trials if trial.state == "fail"), None)
    return f"no trial came to its end; trial {failed.number}: {failed.reason}" if failed else "no trial came to its end; give it more time"


def _score(objective: Objective, value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:.2%}" if objective.metric == "validation.accuracy" else f"{value:.4f}"


def _values(params: Mapping[str, object]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in params.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else written(value)
