"""``fittingroom evaluate``: what a run is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fittingroom.cli.options import DataDir, Device, Json, RunName, RunsDir, Threads
from fittingroom.cli.output import accuracy_line, download_progress, note, notices, print_json, print_line

__all__ = ["evaluate"]


def evaluate(
    run: RunName,
    test: Annotated[bool, typer.Option("--test", help="Open the test set; every opening is written down and shown.")] = False,
    runs_dir: RunsDir = Path("runs"),
    data_dir: DataDir = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Measure a run on its validation images, and on the test images where asked."""
    from fittingroom import experiment, runs

    found = runs.find(run, runs_dir)
    with download_progress() as downloaded:
        setting = experiment.Setting(data_dir=data_dir, device=device, threads=threads, notify=notices(), downloaded=downloaded)
        result = experiment.evaluate(found, test=test, setting=setting)
    if as_json:
        print_json(result)
        return
    split = "test" if test else "validation"
    judged = experiment.judged(found)[split]
    for line in judged.classification_report().splitlines():
        print_line(line)
    print_line("")
    print_line(f"{accuracy_line(split, judged)}, loss {judged.loss:.4f}")
    openings = len(result.get("openings", []))
    if openings:
        note(f"the test set has been opened {openings} time{'s' if openings > 1 else ''} for this run")
