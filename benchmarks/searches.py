"""Carry out searches that come with the program and belong to no study, into ``records/searches/``.

    python -m benchmarks.searches [NAME…] [--workers 2]
    python -m benchmarks.searches compare NAME… [--workers 2]

Each is the command that a person would give, ``fittingroom tune NAME``; stopped, the same command goes on. The recipe that it starts
from and its winner are then trained on five seeds that neither the search nor its finalists had, and compared; ``compare`` does that
alone, and replaces nothing but the comparison in the record. The searches of the reports are carried out by their studies.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.arguments import count
from fittingroom import api, environment, recipe
from fittingroom.files import write_json
from fittingroom.runs import Run
from fittingroom.tune import space as spaces
from fittingroom.workers import Crew, Job

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "records" / "searches"
OF_STUDIES = ROOT / "records" / "studies"
SEARCHES = {"custom-cnn-half-hour": "custom-cnn"}
"""Each with the recipe that its winner is compared with."""
SEEDS = range(1000, 1005)
"""Of the comparison: far from those that searches and finalists take, which count up from the recipe's own."""


def fittingroom(*arguments: str) -> Any:
    """Carry a command out in the checkout; return the value that it prints."""
    command = [sys.executable, "-m", "fittingroom", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def run(names: list[str], workers: int) -> None:
    """Carry out searches, and write each down when it is done."""
    for name in names:
        path = RECORDS / f"{name}.json"
        began = time.time()
        found = fittingroom("tune", name, "--workers", str(workers))
        record = {"environment": environment.describe(), "workers": workers, "seconds": time.time() - began, "search": found}
        write_json(path, {**record, "comparison": compared(name, found, workers)})


def compare(names: list[str], workers: int) -> None:
    """Make the comparisons of recorded searches anew."""
    for name in names:
        path = RECORDS / f"{name}.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        write_json(path, {**record, "comparison": compared(name, record["search"], workers)})


def compared(name: str, search: dict[str, Any], workers: int) -> dict[str, Any]:
    """Train the recipe that a search starts from and its winner on `SEEDS`, where they are not trained yet, and compare them."""
    base, space, values = SEARCHES[name], spaces.load(name), values_of_winner(search)
    folder = ROOT / "runs" / "compared" / name
    jobs = [Job(f"base-{seed}", recipe.load(base, {"seed": seed}), folder / f"base-{seed}") for seed in SEEDS]
    jobs += [Job(f"winner-{seed}", space.recipe(values, seed), folder / f"winner-{seed}") for seed in SEEDS]
    with Crew(workers) as crew:
        for job in jobs:
            if not trained(job):
                crew.add(job)
        for event in crew.events():
            if event.kind in ("done", "failed"):
                print(event.job.key, event.kind, event.values.get("reason", ""), file=sys.stderr)
    return api.compare_recipes(*(Run(job.folder) for job in jobs)).to_json()


def trained(job: Job) -> bool:
    """Whether the run of a job is finished; a run of another recipe in its place is a mistake."""
    run = Run(job.folder)
    if not (job.folder / "recipe.toml").exists():
        return False
    if run.recipe != job.loaded.recipe:
        raise SystemExit(f"{job.folder} holds a run of another recipe; remove it")
    return run.state == "finished"


def values_of_winner(search: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of the trial that won."""
    return next(trial["params"] for trial in search["trials"] if trial["number"] == search["winner"])


def luck(search: dict[str, Any]) -> tuple[float, float, float]:
    """Return how much better the best score is than the same trial on fresh seeds, and the ends of its interval; of an accuracy."""
    one = on_fresh_seeds(search, search["best"]["number"])
    low, high = one["interval"]
    value = search["best"]["value"] - one["mean"]
    return value, value - (high - low) / 2, value + (high - low) / 2


def on_fresh_seeds(search: dict[str, Any], number: int) -> dict[str, Any]:
    """Return what the finalist of that number was worth."""
    found: dict[str, Any] = next(one for one in search["finalists"] if one["number"] == number)
    return found


def table() -> str:
    """Return what the searches found, as far as they are recorded."""
    paths = {name: path for name in SEARCHES if (path := RECORDS / f"{name}.json").exists()}
    paths |= {f"{path.parent.parent.name}: {path.stem}": path for path in sorted(OF_STUDIES.glob("*/searches/*.json"))}
    records = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items()}
    if not records:
        return "*Not carried out yet.*\n"
    columns = ("search", "trials", "minutes of training", "best score", "the winner, on fresh seeds", "luck in the best score")
    rows = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    told = []
    for name, record in records.items():
        search, machine = record["search"], record["environment"]
        trials = search["trials"]
        states = [trial["state"] for trial in trials]
        words = {"complete": "complete", "pruned": "given up", "running": "resting", "fail": "failed"}
        best, winner = (on_fresh_seeds(search, number) for number in (search["best"]["number"], search["winner"]))
        value, low, high = luck(search)
        cells = (
            f"`{name}`",
            ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states),
            f"{sum(one['seconds'] for one in trials) / 60:.0f}",
            f"{search['best']['value']:.2%}",
            f"{winner['mean']:.2%} ({', '.join(f'{score:.2%}' for score in winner['scores'].values())})",
            f"{100 * value:.2f} points ({_signed(100 * low)} to {_signed(100 * high)})",
        )
        rows.append(f"| {' | '.join(cells)} |")
        values = ", ".join(map(_value, values_of_winner(search).items()))
        told.append(f"* `{name}`, on {machine['cores']} cores of an {machine['processor']}: {values}.")
        if winner is not best:
            lead = 100 * (winner["mean"] - best["mean"])
            told.append(f"  On fresh seeds it is {lead:.2f} points better than the trial of the best score.")
        if "comparison" in record:
            told.append(f"  {_compared(name, search, record['comparison'])}")
    return "\n".join([*rows, "", "What won:", "", *told]) + "\n"


def _compared(name: str, search: dict[str, Any], comparison: dict[str, Any]) -> str:
    """Say what came of a comparison, and whether its seeds had a part in picking the winner."""
    base, winner = (one["recipe"] for one in comparison["standings"])
    pair = comparison["pairs"][0]
    sentence = pair["sentence"].replace(base, f"`{SEARCHES[name]}`").replace(winner, "the winner")
    picked = {int(seed) for one in search["finalists"] for seed in one["scores"]} & set(pair["seeds"])
    which = f", {len(picked)} of which had picked it among the finalists" if picked else ", which neither the search nor its finalists had"
    return f"On seeds {pair['seeds'][0]} to {pair['seeds'][-1]}{which}: {sentence}"


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-", "−")


def _value(item: tuple[str, Any]) -> str:
    key, value = item
    return f"`{key}` {f'{value:.3g}' if isinstance(value, float) else json.dumps(value)}"


TABLES = {"searches": table}


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="[compare] NAME", help=", ".join(SEARCHES))
    parser.add_argument("--workers", type=count, default=2)
    options = parser.parse_args()
    alone = options.names[:1] == ["compare"]
    names = options.names[1 if alone else 0 :] or list(SEARCHES)
    if unknown := set(names) - set(SEARCHES):
        parser.error(f"no search {', '.join(sorted(unknown))}; there are {', '.join(SEARCHES)}")
    (compare if alone else run)(names, options.workers)


if __name__ == "__main__":
    main()
