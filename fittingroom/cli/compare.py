"""``fittingroom compare``: recipes against each other, over their seeds and on the same images."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fittingroom.cli.engine import Address, Engine, check_engine, open_crew
from fittingroom.cli.options import DataDir, Device, Json, Quiet, RunsDir, Threads
from fittingroom.cli.output import note, notices, print_json, print_line, print_table, watched

if TYPE_CHECKING:
    from fittingroom.cluster import AnyCrew
    from fittingroom.evaluate.compare import RecipeComparison
    from fittingroom.experiment import Setting
    from fittingroom.recipe import Loaded
    from fittingroom.workers import Event

__all__ = ["compare"]

WIDTH = 80

What = Annotated[
    list[str],
    typer.Argument(metavar="RUN|FOLDER|RECIPE…", help="Runs, folders of runs, or recipes and models, whose runs are looked up."),
]
Margin = Annotated[
    float | None,
    typer.Option("--margin", help="Differences below it do not matter: 0.3 points; 0.01 of a loss.", show_default=False),
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", min=1, max=1000, help="Seeds 0 to N − 1; missing ones are trained.", show_default=False)
]

Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=1024, help="Runs side by side; default: 1, on a cluster one a core.", show_default=False),
]


def compare(
    what: What,
    split: Annotated[str, typer.Option("--split", help="validation or test; the test set is not opened.")] = "validation",
    metric: Annotated[str, typer.Option("--metric", help="accuracy, f1 or loss.")] = "accuracy",
    margin: Margin = None,
    seeds: Seeds = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page too.", show_default=False)] = None,
    runs_dir: RunsDir = Path("runs"),
    data_dir: DataDir = None,
    device: Device = "auto",
    threads: Threads = None,
    workers: Workers = None,
    engine: Engine = "local",
    address: Address = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare recipes: is the difference more than chance, does it matter, what does it cost, and how many seeds would decide?"""
    from fittingroom import api
    from fittingroom.evaluate.compare import METRICS

    check_engine(engine, address)
    if margin is not None and metric in METRICS and METRICS[metric].unit == "share":
        margin /= 100  # points

    def train_all(missing: Sequence[Loaded]) -> None:
        from fittingroom.experiment import Setting  # it needs torch, and comparing does not

        names = api.names_of(*what, runs_dir=runs_dir)
        if engine == "local" and (workers or 1) == 1:
            setting = Setting(data_dir=data_dir, device=device, threads=threads, notify=notices())
            _train(missing, names, runs_dir, setting, quiet)
            return
        with open_crew(engine, address, workers, data_dir, device) as crew:
            _train_with(crew, missing, names, runs_dir, threads or 1, quiet)

    found = api.compare_recipes(
        *what,
        split=split,
        metric=metric,
        margin=margin,
        seeds=seeds,
        runs_dir=runs_dir,
        train_all=train_all,
    )
    if html is not None:
        from fittingroom.report.compare_page import write_comparison

        write_comparison(html, found)
        note(f"the page: {html}")
    if as_json:
        print_json(found.to_json())
        return
    _print(found)


def _train(missing: Sequence[Loaded], names: Mapping[str, str], runs_dir: Path, setting: Setting, quiet: bool) -> None:
    """Train the missing runs, one after the other; ``names`` are those of their recipes, by family."""
    from dataclasses import replace

    from fittingroom import api

    for number, loaded in enumerate(missing, 1):
        recipe = loaded.recipe
        note(f"training {names[recipe.family]}, seed {recipe.seed} ({number} of {len(missing)})")
        with watched(recipe, quiet) as watch:
            watching = replace(setting, progress=watch.progress, epoch_done=watch.epoch_done, begun=watch.begun, downloaded=watch.download)
            api.begin_or_go_on(loaded, runs_dir, watching)


def _train_with(crew: AnyCrew, missing: Sequence[Loaded], names: Mapping[str, str], runs_dir: Path, threads: int, quiet: bool) -> None:
    """Train the missing runs side by side, and say which are trained."""
    from fittingroom import api

    trained = 0

    def watch(event: Event) -> None:
        nonlocal trained
        recipe = event.job.loaded.recipe
        name = f"{names[recipe.family]}, seed {recipe.seed}"
        if event.kind == "done":
            trained += 1
            if not quiet:
                note(f"trained {name} ({trained} of {len(missing)})")
        elif event.kind in ("died", "failed"):
            note(f"{name}: {event.values['reason']}")

    api.train_with(crew, missing, runs_dir, threads=threads, watch=watch)


def _print(found: RecipeComparison) -> None:
    from fittingroom.evaluate.compare import COSTS, write_value

    several = len(found.images) > 1
    columns = [("recipe", "left"), *([("data", "left")] if several else []), ("seeds", "right"), (found.metric, "right")]
    columns += [("95 % interval", "right"), *((cost.replace("_", "-"), "right") for cost in COSTS)]
    rows = []
    for one in found.standings:
        interval = one.interval
        ends = [write_value(end, found.metric).removesuffix(" %") for end in (interval.low, interval.high)] if interval else []
        row = [one.recipe, *([one.data] if several else []), str(len(one.seeds)), write_value(one.mean, found.metric), " to ".join(ends)]
        rows.append([*row, *(_cost(one.costs[cost], cost) for cost in COSTS)])
    print_table(columns, rows)
    print_line("")
    sentences = [pair.sentence for pair in found.pairs] + _best_buys(found)
    if found.ranking is not None:
        ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in zip(found.ranking.recipes, found.ranking.ranks, strict=True))
        sentences.append(f"Average ranks over {len(found.ranking.data_sets)} data sets, 1 is best: {ranks}.")
        sentences.append(f"Ranks less than {found.ranking.critical_difference:.2f} apart are not told apart (Nemenyi, 5 %).")
    for sentence in sentences:
        for line in textwrap.wrap(sentence, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False):
            print_line(line)
    for notice in found.notices:
        note(notice)


def _best_buys(found: RecipeComparison) -> list[str]:
    """The recipes that none betters at a cost; over several data sets the page and the JSON have them."""
    from fittingroom.evaluate.compare import COSTS

    if len(found.images) > 1:
        return []
    best = {cost: [one.recipe for one in found.standings if cost in one.best_buy] for cost in COSTS}
    return [f"Best for its {cost.replace('_', '-')}: {', '.join(names)}." for cost, names in best.items() if names]


def _cost(value: float | None, cost: str) -> str:
    from fittingroom.report.text import compact

    if value is None:
        return "—"
    return f"{value:.1f}" if cost == "seconds" else compact(value).replace("\u202f", " ")
