"""Carry out the searches that come with the program, into ``records/searches/``.

    python -m benchmarks.searches [NAME…] [--workers 2]

Each is the command that a person would give, ``fittingroom tune NAME``; stopped, the same command goes on. Where a search is to beat the
recipe that it starts from, both are then trained on five seeds that the search did not have, and compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fittingroom import environment
from fittingroom.files import write_json

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "records" / "searches"
SEARCHES = {
    "custom-cnn-half-hour": "custom-cnn",
    "cnn-vs-svm-search": None,
    "custom-cnn-search": None,
}
"""Each with the recipe that its winner is compared with, where it is."""
SEEDS = 5


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
        base = SEARCHES[name]
        if base is not None:
            winner = next(trial for trial in found["trials"] if trial["number"] == found["winner"])
            record["comparison"] = fittingroom("compare", base, winner["run"], "--seeds", str(SEEDS), "--workers", str(workers))
        write_json(path, record)


def table() -> str:
    """Return what the searches found, as far as they are recorded."""
    records = {name: json.loads(path.read_text()) for name in SEARCHES if (path := RECORDS / f"{name}.json").exists()}
    if not records:
        return "*Not carried out yet.*\n"
    columns = ("search", "trials", "minutes of training", "best score", "the winner, on fresh seeds", "luck in the best score")
    rows = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    told = []
    for name, record in records.items():
        search, machine = record["search"], record["environment"]
        trials = search["trials"]
        states = [trial["state"] for trial in trials]
        found = next(one for one in search["finalists"] if one["number"] == search["winner"])
        low, high = search["optimism"]["interval"]
        cells = (
            f"`{name}`",
            f"{states.count('complete')} complete, {states.count('pruned')} given up",
            f"{sum(one['seconds'] for one in trials) / 60:.0f}",
            f"{search['best']['value']:.2%}",
            f"{found['mean']:.2%} ({', '.join(f'{score:.2%}' for score in found['scores'].values())})",
            f"{100 * search['optimism']['value']:.2f} points ({_signed(100 * low)} to {_signed(100 * high)})",
        )
        rows.append(f"| {' | '.join(cells)} |")
        values = next(trial["params"] for trial in trials if trial["number"] == search["winner"])
        told.append(f"* `{name}`, on {machine['cores']} cores of an {machine['processor']}: {', '.join(map(_value, values.items()))}.")
        if "comparison" in record:
            base, winner = (one["recipe"] for one in record["comparison"]["standings"])
            sentence = record["comparison"]["pairs"][0]["sentence"].replace(base, f"`{SEARCHES[name]}`").replace(winner, "the winner")
            told.append(f"  On seeds that the search did not have: {sentence}")
    return "\n".join([*rows, "", "What won:", "", *told]) + "\n"


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-", "−")


def _value(item: tuple[str, Any]) -> str:
    key, value = item
    return f"`{key}` {f'{value:.3g}' if isinstance(value, float) else json.dumps(value)}"


TABLES = {"searches": table}


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SEARCHES))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if unknown := set(options.names) - set(SEARCHES):
        parser.error(f"no search {', '.join(sorted(unknown))}; there are {', '.join(SEARCHES)}")
    run(options.names or list(SEARCHES), options.workers)


if __name__ == "__main__":
    main()
