"""Write docs/findings.md from the records of the studies: python docs/make_findings.py > docs/findings.md (a test keeps it up to date).

Every figure on the page comes from ``records/studies``. The prose below stands under a study only once all of its runs are recorded.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from fittingroom.study.file import Study, load, shipped
from fittingroom.study.plan import plan
from fittingroom.study.results import read_results
from fittingroom.study.verdict import VERDICTS, Verdict, judge

__all__ = ["text"]

RECORDS = Path(__file__).parent.parent / "records" / "studies"
HEAD = """\
# What came out

Each of the five reports was run by `fittingroom study run NAME`, and each of its claims judged by `fittingroom study verdicts NAME`. The
tables are made from `records/studies` and say what is recorded so far; a claim that waits for runs is *not yet run*.
[How a verdict is reached](studies.md), [the statistics](statistics.md). `fittingroom report NAME` draws it all, with the evidence.

<!-- Written by docs/make_findings.py. -->
"""


def text() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for name in sorted(shipped()):
        study = load(name)
        results = read_results(RECORDS / name, study, lambda line: print(line, file=sys.stderr))
        parts += _section(study, len(results), judge(study, results))
    return "\n".join(parts).rstrip() + "\n"


def _section(study: Study, recorded: int, verdicts: list[Verdict]) -> list[str]:
    counts = Counter(verdict.verdict for verdict in verdicts)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    lines = [f"## `{study.name}`", "", f"*{study.title}* ({study.source})", "", " ".join(study.about.split()), ""]
    lines += [f"{recorded} of {len(plan(study))} runs are recorded. Of {len(verdicts)} claims: {said}.", ""]
    judged = [verdict for verdict in verdicts if verdict.verdict != "not yet run"]
    if judged:
        lines += ["| claim | claimed | measured | verdict |", "| --- | --- | --- | --- |"]
        lines += [f"| {_cell(_text(one))} | {_cell(_claimed(one))} | {_cell(one.measured)} | {one.verdict} |" for one in judged]
        lines.append("")
    return lines


def _text(verdict: Verdict) -> str:
    reading = ", ".join(str(value) for value in verdict.claim.reading.values())
    return f"{verdict.claim.text} ({reading})" if reading else verdict.claim.text


def _claimed(verdict: Verdict) -> str:
    claimed = getattr(verdict.claim, "claimed", "")
    return " to ".join(f"{value:g}" for value in claimed) if isinstance(claimed, list) else claimed


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|") or "—"


if __name__ == "__main__":
    print(text(), end="")
