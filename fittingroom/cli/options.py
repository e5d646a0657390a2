"""Options that several commands share, defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fittingroom.cli.output import note
from fittingroom.environment import cores

__all__ = ["DataDir", "Device", "Epochs", "Json", "Only", "Quiet", "Records", "RunName", "RunsDir", "Seeds", "StudyName", "Threads"]


def _more_than_cores(threads: int | None) -> int | None:
    if threads is not None and threads > (there := cores()):
        note(f"{threads} threads on the {there} {'core' if there == 1 else 'cores'} of this machine: they wait for each other")
    return threads


DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Look for data here first.", show_default=False)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, its name or a part of it, or 'last'.")]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="The folder of all runs.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=1024, help="Default: torch's choice.", show_default=False, callback=_more_than_cores),
]

# Of studies.
StudyName = Annotated[str, typer.Argument(metavar="NAME|STUDY.toml", help="A study that comes with the program, or a study file.")]
Records = Annotated[
    Path | None,
    typer.Option(
        "--records",
        help="The folder of the records; default: RUNS/studies/NAME/records, to read them else records/studies/NAME of a checkout.",
        show_default=False,
    ),
]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="RUN", help="Only these runs.", show_default=False)]
Epochs = Annotated[int | None, typer.Option(min=1, help="Train no more epochs than this; marked as reduced.", show_default=False)]
Seeds = Annotated[int | None, typer.Option(min=1, max=1000, help="So many seeds a run.", show_default=False)]
