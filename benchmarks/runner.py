"""Find out what carrying out a study costs beside its runs, into ``records/runner.json``.

    python -m benchmarks.runner runs/studies/NAME [--workers 2]

Nothing is run for it: the times are those of the files of a study that has just been carried out. A command begins where it takes the
study's lock and ends with its page; a run begins with its recipe and ends with the last file in its folder. What of the workers' time
lies outside runs is the runner's: starting, handing out, writing records, judging claims, and waiting for the last run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.arguments import count
from fittingroom import environment
from fittingroom.files import write_json
from fittingroom.runs import Run

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "records" / "runner.json"


def times(folder: Path) -> tuple[float, list[tuple[float, float]]]:
    """Return the seconds of a study's last command, and when each of its runs began and ended after its beginning."""
    began = (folder / ".lock").stat().st_mtime
    spans = []
    for path in sorted(folder.iterdir()):
        if (path / "recipe.toml").exists() and Run(path).state == "finished":
            ends = [file.stat().st_mtime - began for file in path.iterdir() if file.is_file()]
            if min(ends) >= 0:  # one of an earlier command has begun before
                spans.append((min(ends), max(ends)))
    return (folder / "report.html").stat().st_mtime - began, spans


def overhead(seconds: float, workers: int, spans: list[list[float]]) -> float:
    """Return the workers' time outside runs over that within."""
    return workers * seconds / sum(end - begin for begin, end in spans) - 1


def record(folder: Path, workers: int) -> None:
    """Write down the times of a study."""
    kept: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    seconds, spans = times(folder)
    rounded = sorted([round(begin, 3), round(end, 3)] for begin, end in spans)
    kept[folder.name] = {"environment": environment.describe(), "workers": workers, "seconds": seconds, "runs": rounded}
    write_json(RECORD, kept)


def table() -> str:
    """Return what is recorded."""
    rows = ["| study | runs | workers | minutes | beside the runs |", "| --- | --- | --- | --- | --- |"]
    for name, one in sorted(json.loads(RECORD.read_text()).items()):
        share = overhead(one["seconds"], one["workers"], one["runs"])
        rows.append(f"| `{name}` | {len(one['runs'])} | {one['workers']} | {one['seconds'] / 60:.1f} | {share:.1%} |")
    return "\n".join(rows) + "\n"


TABLES = {"runner": table}


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=count, default=2)
    options = parser.parse_args()
    record(options.folder, options.workers)


if __name__ == "__main__":
    main()
