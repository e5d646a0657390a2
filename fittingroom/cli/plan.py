"""``fittingroom study plan``: how long a study takes on so many machines, and what it costs there."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fittingroom.cli.options import Epochs, Json, Only, RunsDir, Seeds, StudyName
from fittingroom.cli.output import note, print_json, print_line, print_table
from fittingroom.cli.records import records_of
from fittingroom.errors import FittingRoomError, UsageError

if TYPE_CHECKING:
    from fittingroom.study.plan import Planned
    from fittingroom.study.results import Record
    from fittingroom.study.scale import Estimate, Overheads, Row

__all__ = ["plan_study"]

WIDTH = 80
UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
"""Of the table's times: the largest of which the longest of them has three."""

Machines = Annotated[
    int | None, typer.Option("--machines", min=1, max=4096, help="At most so many; default: a place for each run.", show_default=False)
]
Cores = Annotated[int | None, typer.Option("--cores", min=1, max=1024, help="Of each machine; default: as here.", show_default=False)]
Price = Annotated[float | None, typer.Option("--price", min=0, help="Of a machine for an hour.", show_default=False)]
Known = Annotated[
    Path | None, typer.Option("--records", metavar="DIR", help="Recorded runs; default: those of all studies here.", show_default=False)
]
Costs = Annotated[
    Path | None,
    typer.Option("--overheads", metavar="FILE", help="What starting and sharing cost; default: records/scale.json.", show_default=False),
]


def plan_study(
    name: StudyName,
    machines: Machines = None,
    cores: Cores = None,
    price: Price = None,
    only: Only = None,
    epochs: Epochs = None,
    seeds: Seeds = None,
    records: Known = None,
    overheads: Costs = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: Json = False,
) -> None:
    """Tell from recorded run times how long a study takes on 1, 2, 4, 8 … machines, and what that costs; nothing is trained."""
    from fittingroom.environment import cores as cores_here
    from fittingroom.study import scale
    from fittingroom.study.file import load
    from fittingroom.study.plan import plan
    from fittingroom.study.searches import with_found

    if price is not None and not math.isfinite(price):
        raise UsageError(f"--price is what a machine costs for an hour, not {price}")
    study = load(name)
    study = with_found(study, records_of(study.name, runs_dir, records))
    planned = plan(study, only or (), epochs, seeds)
    cost = _overheads(overheads)
    known = _records(runs_dir, records, note)
    runs, unknown = scale.estimates(planned, known, cost.slowdown)
    if not runs:
        raise FittingRoomError(f"nothing is recorded of any model of {study.name}; make a record: {_making(name, planned)}")
    each = cores or cores_here()
    rows = scale.forecast(runs, scale.machines_up_to(runs, each, machines), each, cost, price)
    if as_json:
        print_json(_values(study.name, runs, unknown, each, price, cost, rows))
        return
    _print_table(rows)
    print_line("")
    for sentence in _sentences(name, runs, unknown, each, rows):
        for line in _wrapped(sentence):
            print_line(line)
    if unknown:
        print_line(f"  {_making(name, unknown)}")
    for line in _sources(runs, known, cost):
        note(line)


def _records(runs_dir: Path, records: Path | None, notify: Callable[[str], None]) -> list[Record]:
    """The records of all studies, of what was run here and of what a checkout of the program brings along, or those of one folder."""
    from fittingroom.study.results import read_records

    here = [*(runs_dir / "studies").glob("*/records"), *(runs_dir / "studies").glob("*/epochs-*/records")]
    folders = [records] if records is not None else sorted([*here, *Path("records/studies").glob("*")])
    return [record for folder in folders for record in read_records(folder, notify)]


def _overheads(path: Path | None) -> Overheads:
    from fittingroom.study.scale import Overheads, read_overheads

    brought = [one for one in (Path("records/scale.json"), Path("records/sweep.json")) if one.is_file()]
    return read_overheads(path or brought[0]) if path or brought else Overheads()


def _making(name: str, planned: Sequence[Planned]) -> str:
    return f"fittingroom study run {shlex.quote(name)} --only {planned[0].run} --epochs 1 --seeds 1"


def _print_table(rows: Sequence[Row]) -> None:
    unit, size = next((one for one in UNITS if max(row.wall for row in rows) >= 3 * one[1]), UNITS[-1])
    priced = rows[0].cost is not None
    columns = [("machines", "right"), (unit, "right"), ("95 %", "right"), ("core-hours", "right"), ("busy", "right")]
    columns += [*([("cost", "right")] if priced else []), ("bound by", "left")]
    print_table(
        columns,
        [
            [
                f"{row.machines:,}",
                f"{row.wall / size:.1f}",
                f"{row.low / size:.1f}–{row.high / size:.1f}",
                f"{row.core_hours:,.2f}" if row.core_hours < 10 else f"{row.core_hours:,.1f}",
                f"{row.busy:.0%}",
                *([f"{row.cost:,.2f}"] if row.cost is not None else []),
                row.bound,
            ]
            for row in rows
        ],
    )


def _sentences(name: str, runs: Sequence[Estimate], unknown: Sequence[Planned], cores: int, rows: Sequence[Row]) -> list[str]:
    from fittingroom.report.text import plural
    from fittingroom.study.scale import enough

    told = [f"{plural(len(runs), 'run')} on machines of {plural(cores, 'core')}."]
    last = enough(rows) or (rows[-1] if rows[-1].bound == "longest run" else None)
    if last is None:
        told.append(f"Twice as many machines as {rows[-1].machines:,} would still help.")
    else:
        longest = max(runs, key=lambda run: run.mean)
        what = f"the longest run, {longest.title}, takes {_duration(longest.mean)} by itself"
        told.append(f"More machines than {last.machines:,} hardly help: {what}.")
    if unknown:
        names = ", ".join(dict.fromkeys(one.run for one in unknown))
        many = "is 1 run of a model" if len(unknown) == 1 else f"are {len(unknown):,} runs of models"
        told.append(f"Left out {many} of which nothing is recorded: {names}.")
        told.append("What makes a record of one of them:")
    return told


def _sources(runs: Sequence[Estimate], records: Sequence[Record], cost: Overheads) -> list[str]:
    """Where the times come from, and what was not measured."""
    from fittingroom.report.text import plural
    from fittingroom.study.code import fingerprint
    from fittingroom.study.scale import behind

    records = behind(runs, records)
    earlier = sum(record.code != fingerprint(record.recipe.model.name) for record in records)
    machines = sorted({str(record.values["environment"].get("processor")) for record in records})
    scaled = sum(run.scaled for run in runs)
    told = [f"from {plural(len(records), 'recorded run')} on {', '.join(machines)}"]
    told += [f"{earlier:,} of them by an earlier state of the code: it may be quicker or slower now"] if earlier else []
    told += [f"times of {plural(scaled, 'run')} are scaled from other recipes of the model"] if scaled else []
    told += ["what starting a worker costs was not measured here: left out"] if not cost.start else []
    told += ["what sharing a machine costs was not measured here: left out"] if cost.slowdown is None else []
    return told


def _values(
    name: str,
    runs: Sequence[Estimate],
    unknown: Sequence[Planned],
    cores: int,
    price: float | None,
    cost: Overheads,
    rows: Sequence[Row],
) -> dict[str, Any]:
    from dataclasses import asdict

    from fittingroom.study.scale import enough

    last = enough(rows)
    return {
        "study": name,
        "cores": cores,
        "price": price,
        "overheads": asdict(cost),
        "machines": [asdict(row) for row in rows],
        "enough": None if last is None else last.machines,
        "runs": [{"key": run.key, "seconds": run.mean, "threads": run.threads, "scaled": run.scaled} for run in runs],
        "unknown": [one.key for one in unknown],
    }


def _duration(seconds: float) -> str:
    from fittingroom.report.text import duration

    return duration(seconds).replace("\u202f", " ").replace("\u00a0", " ")


def _wrapped(sentence: str) -> list[str]:
    import textwrap

    return textwrap.wrap(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)
