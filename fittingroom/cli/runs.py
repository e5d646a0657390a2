"""``fittingroom runs``: what has been trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from fittingroom.cli.options import Json, RunName, RunsDir
from fittingroom.cli.output import EpochLines, accuracy_line, note, print_json, print_line, print_table, recipe_values, written
from fittingroom.errors import FittingRoomError

__all__ = ["app"]

app = typer.Typer(help="Runs: list them, show one.", no_args_is_help=True)


@app.command("list")
def list_runs(runs_dir: RunsDir = Path("runs"), as_json: Json = False) -> None:
    """List the runs of a folder, oldest first."""
    from fittingroom import runs as room

    listed = []
    for run in room.list_runs(runs_dir):
        try:
            listed.append(_summary(run))
        except FittingRoomError as error:  # one damaged run must not hide the others
            note(f"skipped: {error}")
    if as_json:
        print_json(listed)
        return
    if not listed:
        note(f"no runs in {runs_dir}; train one with fittingroom train compact")
        return
    columns = [("run", "left"), ("state", "left"), ("epochs", "right"), ("validation", "right"), ("test", "right")]
    rows = [[item["run"], item["state"], str(item["epochs"]), _percent(item["validation"]), _percent(item["test"])] for item in listed]
    print_table(columns, rows)


@app.command("show")
def show(run: RunName, runs_dir: RunsDir = Path("runs"), as_json: Json = False) -> None:
    """Show one run: its recipe, its epochs, its evaluation."""
    from fittingroom import experiment
    from fittingroom import runs as room

    found = room.find(run, runs_dir)
    if as_json:
        print_json(
            {
                **_summary(found),
                "recipe": found.recipe.values,
                "history": found.history,
                "evaluation": found.evaluation,
                "environment": found.environment,
            }
        )
        return
    lines, origins = EpochLines(found.recipe.train.last_epoch), found.origins
    # Without a record of where the values came from, none can be passed over as a default.
    values = [value for value in recipe_values(found.recipe, origins) if value[2] != "default" or not origins]
    state = f"{found.path}: {found.state}{f' ({found.reason})' if found.reason else ''}"
    figures = [lines.text(record) for record in found.history]
    figures += [accuracy_line(split, judged) for split, judged in experiment.judged(found).items()]
    print_line(state)
    print_table([("key", "left"), ("value", "left"), ("from", "left")], [[key, written(value), origin] for key, value, origin in values])
    print_line(f"{found.path / 'recipe.toml'} has every value, the defaults too")
    for line in figures:
        print_line(line)


def _summary(run: Any) -> dict[str, Any]:
    evaluation, history = run.evaluation, run.history
    return {
        "run": run.name,
        "path": str(run.path),
        "model": run.recipe.model.name,
        "seed": run.recipe.seed,
        "state": run.state,
        "reason": run.reason,
        "epochs": min(history[-1]["epoch"], run.recipe.train.epochs) if history else 0,  # the last may have been cut short
        "validation": evaluation.get("validation", {}).get("accuracy"),
        "test": evaluation.get("test", {}).get("accuracy"),
    }


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{value:.2%}"
