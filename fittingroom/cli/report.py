"""``fittingroom report``: a run as one page."""

from __future__ import annotations

from pathlib import Path

from fittingroom.cli.options import DataDir, Json, RunName, RunsDir
from fittingroom.cli.output import note, print_json, print_line

__all__ = ["report"]


def report(run: RunName, runs_dir: RunsDir = Path("runs"), data_dir: DataDir = None, as_json: Json = False) -> None:
    """Write a run's report.html: one page that works offline. Nothing is measured anew; the test set stays as it is."""
    from fittingroom import runs
    from fittingroom.report.run_page import write_report

    found = runs.find(run, runs_dir)
    page = write_report(found, data_dir=data_dir, notify=note)
    if as_json:
        print_json({"run": str(found.path), "report": str(page)})
        return
    print_line(str(page))
