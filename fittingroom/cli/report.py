"""``fittingroom report``: a run, or a study, as one page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fittingroom.cli.options import DataDir, Json, RunsDir
from fittingroom.cli.output import note, print_json, print_line
from fittingroom.cli.records import records_of
from fittingroom.errors import RunError, UsageError, nearest

__all__ = ["report"]

Subject = Annotated[
    str, typer.Argument(metavar="RUN|STUDY", help="A run folder, its name or a part of it, or 'last'; or a study's name or TOML file.")
]
Records = Annotated[
    Path | None,
    typer.Option("--records", help="A study's records. Default: RUNS/studies/NAME/records, else records/studies/NAME.", show_default=False),
]
Output = Annotated[Path | None, typer.Option("--output", help="The page. Default: report.html, with the run or study.", show_default=False)]


def report(
    subject: Subject,
    runs_dir: RunsDir = Path("runs"),
    data_dir: DataDir = None,
    records: Records = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Write a run's or a study's report.html: one page that works offline. Nothing is measured anew; the test set stays as it is."""
    if _is_study(subject, runs_dir):
        found, page = _study(subject, runs_dir, records, output)
    elif records is not None:
        raise UsageError(f"--records is for studies, and '{subject}' is none; see fittingroom study list")
    else:
        found, page = _run(subject, runs_dir, data_dir, output)
    if as_json:
        print_json({**found, "report": str(page)})
        return
    print_line(str(page))


def _is_study(subject: str, runs_dir: Path) -> bool:
    """Whether a study is meant: the name of a shipped one or a TOML file, and no run is called exactly that."""
    from fittingroom.study.file import shipped

    if any((path / "recipe.toml").is_file() for path in (Path(subject), runs_dir / subject)):
        return False
    return subject.endswith(".toml") or subject in shipped()


def _run(subject: str, runs_dir: Path, data_dir: Path | None, output: Path | None) -> tuple[dict[str, str], Path]:
    from fittingroom import runs
    from fittingroom.files import write_text
    from fittingroom.report import render
    from fittingroom.report.run_page import view, write_report
    from fittingroom.study.file import shipped

    try:
        found = runs.find(subject, runs_dir)
    except RunError as error:
        raise RunError(f"{error}{nearest(subject, shipped())}") from None
    if output is None:
        return {"run": str(found.path)}, write_report(found, data_dir=data_dir, notify=note)
    write_text(output, render(view(found, data_dir, note)))
    return {"run": str(found.path)}, output


def _study(subject: str, runs_dir: Path, records: Path | None, output: Path | None) -> tuple[dict[str, str], Path]:
    from fittingroom.report.study_page import write_study_report
    from fittingroom.study.file import load
    from fittingroom.study.results import read_failures, read_results
    from fittingroom.study.searches import with_found
    from fittingroom.study.verdict import judge

    study = load(subject)
    folder = records_of(study.name, runs_dir, records)
    if records is None and runs_dir not in folder.parents:
        note(f"nothing of it was run in {runs_dir}: this is of the records in {folder}")
    study = with_found(study, folder, note)
    results = read_results(folder, study, note)
    if not results:
        note(f"no records of {study.name} in {folder}: the page says so; fittingroom study run {shlex.quote(subject)} makes them")
    failures = read_failures(folder, study, note)
    path = output or runs_dir / "studies" / study.name / "report.html"
    page = write_study_report(study, results, judge(study, results, failures), path, failures=failures)
    return {"study": study.name, "records": str(folder)}, page
