"""``fittingroom study``: published reports as files that run, and a measured verdict for each of their claims."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fittingroom.cli.engine import Address, Engine, check_engine, open_crew
from fittingroom.cli.options import DataDir, Device, Epochs, Json, Only, Records, RunsDir, Seeds, StudyName
from fittingroom.cli.output import duration, note, notices, print_json, print_line, print_table, visible
from fittingroom.cli.plan import plan_study
from fittingroom.cli.records import records_of
from fittingroom.errors import ExtraMissing, UsageError

if TYPE_CHECKING:
    from fittingroom.cluster import AnyCrew
    from fittingroom.study.execute import Progress, Standing
    from fittingroom.study.plan import Planned
    from fittingroom.study.results import Failure, Result
    from fittingroom.study.schema import Claim, Selection, Study
    from fittingroom.study.searches import Searched
    from fittingroom.study.timing import Timings
    from fittingroom.study.verdict import Verdict
    from fittingroom.workers import Event

__all__ = ["app"]

WIDTH = 80
INDENT = " " * 6

app = typer.Typer(help="Studies: published reports as files that run and are judged.", no_args_is_help=True)


@app.command("list")
def list_studies(as_json: Json = False) -> None:
    """List the studies that come with the program."""
    from fittingroom.study.file import load, shipped
    from fittingroom.study.grid import unsearched
    from fittingroom.study.plan import plan

    studies = [load(name) for name in shipped()]
    values = [
        {
            "name": study.name,
            "title": study.title,
            "runs": len(plan(study)),
            "searches": len(unsearched(study)),
            "systems": len(study.runs),
            "claims": len(study.claims),
        }
        for study in studies
    ]
    if as_json:
        print_json(values)
        return
    rows = [[str(value[column]) for column in ("name", "runs", "searches", "claims", "title")] for value in values]
    print_table([("study", "left"), ("runs", "right"), ("searches", "right"), ("claims", "right"), ("title", "left")], rows)


@app.command("show")
def show(name: StudyName, as_json: Json = False) -> None:
    """Show a study: its systems, its assumptions, its claims, and how much there is to run."""
    from fittingroom.report.text import plural
    from fittingroom.study.file import load
    from fittingroom.study.grid import unsearched
    from fittingroom.study.plan import plan

    study = load(name)
    planned = plan(study)
    if as_json:
        print_json({**study.model_dump(mode="json"), "plan": [_planned(one) for one in planned]})
        return
    for text in (study.title, f"from {study.source}", study.about):
        for line in _paragraph(text):
            print_line(line)
    for title, entries in (
        ("protocol", list(study.protocol.items())),
        ("systems", [(f"{run} ({_made(study, run)})", values.about) for run, values in study.runs.items()]),
        ("assumptions", list(study.assumptions.items())),
        ("claims", [(claim.id, claim.text) for claim in study.claims]),
    ):
        if entries:
            print_line("")
            print_line(title)
            for head, text in entries:
                _print_entry(head, text)
    print_line("")
    searched = len(unsearched(study))
    also = f", {plural(searched, 'search', 'searches')}" if searched else ""
    print_line(f"{plural(len(planned), 'run')}{also} and {plural(len(study.claims), 'claim')}")
    print_line(f"run it with: fittingroom study run {shlex.quote(name)}")


def _made(study: Study, run: str) -> str:
    """How many cells a run has, or that a search finds it."""
    from fittingroom.study.grid import cells

    return "found by a search" if study.runs[run].search else str(len(cells(study, run)))


app.command("plan")(plan_study)


@app.command("run")
def run(
    name: StudyName,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Default: one a core.", show_default=False)] = None,
    only: Only = None,
    epochs: Epochs = None,
    seeds: Seeds = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and how long it takes; train nothing.")] = False,
    keep_earlier: Annotated[bool, typer.Option("--keep-earlier", help="Keep runs made by an earlier state of the code.")] = False,
    runs_dir: RunsDir = Path("runs"),
    records: Records = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    engine: Engine = "local",
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Train what a study asks for and is not done yet, then judge its claims. Stopped or killed, the same command goes on."""
    from fittingroom.study import execute
    from fittingroom.study.checks import check_data, check_models
    from fittingroom.study.file import load
    from fittingroom.study.plan import plan
    from fittingroom.study.searches import with_found
    from fittingroom.study.timing import measured_timings

    check_engine(engine, address)
    study = load(name)
    check_models(study)
    if engine == "local":  # the nodes of a cluster have folders of their own
        check_data(study, data_dir)
    planned = plan(study, only or (), epochs, seeds)
    base = runs_dir / "studies" / study.name
    folder = base / f"epochs-{epochs}" if any(one.reduced for one in planned) else base
    records = records or folder / "records"
    if records.exists() and not records.is_dir():
        raise UsageError(f"{records} is no folder; --records names the folder of a study's records")
    notify = notices()
    with _stoppable(name), open_crew(engine, address, workers, data_dir, device) as crew, execute.owned(base, study.name):
        due = _due_searches(study, only or (), records, keep_earlier, epochs)
        if not dry_run:
            for one in due:
                _search(one, base, records, crew)
        study = with_found(study, records, notify)
        planned = plan(study, only or (), epochs, seeds)
        stands = execute.standing(planned, records, keep_earlier, notify)
        to_time = stands.todo if engine == "local" else ()  # how fast this machine is says nothing of a cluster
        timings = measured_timings(to_time, stands.records, base, crew, note)
        for line in _standing_lines(planned, stands, keep_earlier):
            note(line)
        if dry_run:
            _print_plan(planned, stands, timings, crew.workers, due, as_json)
            return
        if stands.todo:
            note(_expected(stands.todo, timings, crew.workers))
        with _watched(planned, stands) as watch:
            failed = execute.execute(stands.todo, folder, records, crew, timings, watch)
    results, lost, verdicts = _judged(study, records, notify)
    page = _write_page(study, results, lost, verdicts, folder / "report.html")
    failures = {**stands.failed, **failed}
    if as_json:
        print_json({**_verdicts(study, results, verdicts), "failed": failures, "records": str(records), "report": str(page)})
    else:
        _print_verdicts(verdicts)
        print_line("")
        print_line(f"records {records}")
        print_line(f"report  {page}  (open it in a browser)")
        if short := _reduced(study, results):
            note(f"reduced ({', '.join(short)}): no test of the report's own protocol")
    if failures:
        note(f"{len(failures)} of {len(planned)} runs failed; claims on them say so")
        raise typer.Exit(1)


@app.command("verdicts")
def verdicts(name: StudyName, records: Records = None, runs_dir: RunsDir = Path("runs"), as_json: Json = False) -> None:
    """Judge a study's claims from what is recorded; nothing is trained."""
    from fittingroom.study.file import load
    from fittingroom.study.searches import with_found

    study = load(name)
    folder = records_of(study.name, runs_dir, records)
    if records is None:
        note(f"records: {folder}")
    study = with_found(study, folder, note)
    results, _, found = _judged(study, folder, note)
    if as_json:
        print_json(_verdicts(study, results, found))
        return
    if not results:
        note(f"nothing is recorded of it yet; run it with: fittingroom study run {shlex.quote(name)}")
    _print_verdicts(found)


def _due_searches(study: Study, only: Sequence[str], records: Path, keep_earlier: bool, epochs: int | None) -> list[Searched]:
    """The searches that are still to be carried out, each said in a line."""
    from fittingroom.study.searches import searches, with_found

    there = with_found(study, records, code=not keep_earlier).found
    due = [one for one in searches(study, only) if one.key not in there]
    why = ""
    if epochs is not None:
        why = "a search is not shortened by --epochs"
    elif find_spec("optuna") is None:
        why = str(ExtraMissing("Optuna is not installed", "tune"))
    for one in due:
        trials = "" if one.space.trials is None else f" of {one.space.trials} trials"
        each = one.space.recipe({}).recipe.train.epochs
        note(f"search {one.key}{trials}, {each} epochs each, {f'is left out: {why}' if why else 'comes first'}")
    return [] if why else due


def _search(one: Searched, folder: Path, records: Path, crew: AnyCrew) -> None:
    """Carry a search out, watched as `fittingroom tune` is."""
    from fittingroom.cli.tune import watched
    from fittingroom.study.searches import carry_out

    note(f"search {one.key}:")
    carry_out(one, folder, records, crew, watched)


def _judged(study: Study, records: Path, notify: Callable[[str], None]) -> tuple[list[Result], list[Failure], list[Verdict]]:
    from fittingroom.study.results import read_failures, read_results
    from fittingroom.study.verdict import judge

    results, failures = read_results(records, study, notify), read_failures(records, study, notify)
    return results, failures, judge(study, results, failures)


def _reduced(study: Study, results: Sequence[Result]) -> list[str]:
    """In what the results fall short of the study: `epochs 2 of 50`, `seeds 1 of 3`."""
    from fittingroom.study.results import fewer_seeds

    return sorted({*(words for result in results for words in result.reduced), *fewer_seeds(study, results)})


def _write_page(study: Study, results: Sequence[Result], failures: Sequence[Failure], verdicts: Sequence[Verdict], path: Path) -> Path:
    from fittingroom.report.study_page import write_study_report

    return write_study_report(study, results, verdicts, path, failures=failures)


def _planned(one: Planned) -> dict[str, Any]:
    also = [{"run": name, "cell": dict(cell)} for name, cell in one.also]
    return {"key": one.key, "run": one.run, "cell": dict(one.cell), "seed": one.seed, "also": also, "reduced": list(one.reduced)}


def _standing_lines(planned: Sequence[Planned], stands: Standing, keep_earlier: bool) -> Iterator[str]:
    yield f"{len(planned)} runs: {len(stands.done)} done, {len(stands.todo)} to do"
    if short := sorted({words for one in planned for words in one.reduced}):
        yield f"reduced ({', '.join(short)}): such runs never stand for whole ones"
    if stands.earlier:
        kept = "are kept" if keep_earlier else "are made again; --keep-earlier keeps them"
        yield f"made by an earlier state of the code: {len(stands.earlier)}; they {kept}"
    for key, reason in stands.failed.items():
        yield f"{key} failed before and would again: {reason}"


def _expected(todo: Sequence[Planned], timings: Timings, workers: int) -> str:
    """How long a plan takes, in words."""
    from fittingroom.study.timing import expected_together

    seconds, unknown = expected_together(todo, timings, workers)
    if todo and unknown == len(todo):
        return "how long it takes nobody knows yet"
    more = f", and {unknown} {'run' if unknown == 1 else 'runs'} of which nobody knows yet" if unknown else ""
    return f"about {duration(seconds)} with {workers} {'worker' if workers == 1 else 'workers'}{more}"


def _print_plan(
    planned: Sequence[Planned], stands: Standing, timings: Timings, workers: int, due: Sequence[Searched], as_json: bool
) -> None:
    from fittingroom.study.timing import expected_together

    todo = {one.key for one in stands.todo}
    seconds = {one.key: timings.seconds(one.loaded.recipe) for one in planned}
    threads = {one.key: timings.threads(one.loaded.recipe) for one in planned}
    total, unknown = expected_together(stands.todo, timings, workers)
    if as_json:
        plan = [{**_planned(one), "to_do": one.key in todo, "seconds": seconds[one.key], "threads": threads[one.key]} for one in planned]
        searches = [{"key": one.key, "trials": one.space.trials} for one in due]
        print_json({"plan": plan, "searches": searches, "workers": workers, "seconds": total, "unknown": unknown})
        return
    states = {one.key: "to do" if one.key in todo else "failed" if one.key in stands.failed else "done" for one in planned}
    rows = [[one.key, states[one.key], str(threads[one.key]), _time(seconds[one.key])] for one in planned]
    print_table([("run", "left"), ("", "left"), ("threads", "right"), ("time", "right")], rows)
    print_line("")
    print_line(_expected(stands.todo, timings, workers))
    if due:
        take = "a search takes" if len(due) == 1 else f"{len(due)} searches take"
        print_line(f"and, before that, what {take}, of which nobody knows yet")


@contextmanager
def _stoppable(name: str) -> Iterator[None]:
    """Say how to go on where a person stops it."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"stopped; go on with the same command: fittingroom study run {shlex.quote(name)} …")
        raise


@contextmanager
def _watched(planned: Sequence[Planned], stands: Standing) -> Iterator[Callable[[Planned, Event, Progress], None]]:
    """Watch the runs: a line for each that ends, and on a terminal a bar below."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, emoji=False)
    before = len(planned) - len(stands.todo)

    def line(one: Planned, event: Event, progress: Progress) -> str | None:
        if event.kind in ("died", "failed"):
            return f"{one.title}: {event.values['reason']}"
        if event.kind != "done":
            return None
        left = "" if progress.left is None else f"; about {duration(progress.left)} left"
        return f"[{before + progress.finished}/{len(planned)}] {one.title}{left}"

    if not console.is_terminal or not stands.todo:
        yield lambda one, event, progress: note(said) if (said := line(one, event, progress)) else None
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(TextColumn("{task.description}"), BarColumn(bar_width=28), console=console, transient=True) as bar:
        task = bar.add_task("starting workers …", total=1.0)

        def watch(one: Planned, event: Event, progress: Any) -> None:
            if said := line(one, event, progress):
                bar.console.print(visible(said), markup=False)
            left = "" if progress.left is None else f", about {duration(progress.left)} left"
            done = f"{before + progress.finished} of {len(planned)} runs{left}"
            bar.update(task, completed=progress.share, description=done)

        yield watch


def _print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print a line with each verdict, below it what is claimed, what was found and how little was run; at the end how many of each."""
    for one in verdicts:
        _print_entry(f"{one.claim.id}: {one.verdict}", *_found(one), *([f"! {', '.join(one.marks)}"] if one.marks else []))
    counts = Counter(one.verdict for one in verdicts)
    print_line("")
    noun = "claim" if len(verdicts) == 1 else "claims"
    told = f"{len(verdicts)} {noun}: {', '.join(f'{count} {verdict}' for verdict, count in counts.most_common())}"
    for line in _paragraph(told):
        print_line(line)
    cautions = [(one.claim.id, text) for one in verdicts for text in one.cautions]
    if cautions:
        note(f"{len({claim for claim, _ in cautions})} verdicts come with cautions; --json and the page have them in full")


def _found(one: Verdict) -> list[str]:
    """The claim in words, unless it is but a figure; the figure beside ours; or why there is none."""
    from fittingroom.study.schema import Consistency, Count, Number, Shape

    claim = one.claim
    printed = isinstance(claim, Number | Count)
    claimed = [f"claimed {_claimed(claim)}"] if printed or (isinstance(claim, Shape) and claim.claimed) else []
    against = f" against {one.rival}" if one.rival else ""
    measured = [f"measured {one.measured}{against}"] if one.measured and not isinstance(claim, Consistency) else []
    together = ", ".join([*claimed, *measured])
    figures = [together] if len(together) <= WIDTH - len(INDENT) else [*claimed, *measured]
    why = [] if measured or one.verdict == "not yet run" else [one.sentence]
    return [*([] if printed else [claim.text]), *filter(None, figures), *why]


def _print_entry(head: str, *said: str) -> None:
    """Print a line, and what is said of it indented below: names are too long for columns."""
    print_line(f"  {head}")
    for text in said:
        for line in _paragraph(text, INDENT):
            print_line(line)


def _verdicts(study: Study, results: Sequence[Result], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    claims = [
        {
            "id": one.claim.id,
            "kind": getattr(one.claim, "kind", ""),
            "text": one.claim.text,
            "source": one.claim.source,
            "claimed": _claimed(one.claim),
            "measured": one.measured,
            "verdict": one.verdict,
            "sentence": one.sentence,
            "cautions": list(one.cautions),
            "marks": list(one.marks),
            "evidence": one.evidence,
        }
        for one in verdicts
    ]
    return {"study": study.name, "claims": claims, "reduced": _reduced(study, results)}


def _claimed(claim: Claim) -> str:
    """What the report says, in few words."""
    from fittingroom.study.schema import selections_of
    from fittingroom.study.wording import claimed_words

    first, *rest = [_chosen(one) for one in selections_of(claim)] or [""]
    return claimed_words(claim, first, ", ".join(rest))


def _chosen(selection: Selection) -> str:
    words = " ".join([selection.run, *map(str, selection.where.values())])
    return f"each of {words}" if selection.each else words


def _paragraph(text: str, indent: str = "") -> list[str]:
    import textwrap

    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _time(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)
