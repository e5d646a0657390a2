"""Write docs/findings.md from the records of the studies; ``make pages`` calls it, and a test keeps the page up to date.

Every figure on the page comes from ``records/studies``. The prose below stands under a study only once all of its runs are recorded.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from fittingroom.files import write_text
from fittingroom.study.file import Study, load, shipped
from fittingroom.study.plan import plan
from fittingroom.study.results import read_records, read_results
from fittingroom.study.searches import with_found
from fittingroom.study.verdict import VERDICTS, Verdict, judge

__all__ = ["text"]

# In plain words, once a study is complete: the verdicts that the words rest on, and the words. ``{claim}`` becomes what was measured,
# ``{claim|low}`` the lower end of where one more run would lie.
# Records that change a verdict stop this script until somebody has read the words again.
PROSE: dict[str, tuple[dict[str, str], str]] = {
    "cnn-vs-svm": (
        {
            "cnn-validation-accuracy": "reproduced",
            "cnn-test-accuracy": "lower than claimed",
            "cnn-of-three-test-accuracy": "lower than claimed",
            "one-layer": "lower than claimed",
            "svm-radial": "higher than claimed",
            "svm-linear": "lower than claimed",
            "fewer-layers-do-better": "supported",
            "a-third-layer-does-not-help": "supported",
            "more-layers-overfit": "not supported",
            "validation-loss-turns": "supported",
            "cnn-beats-svm": "undecided",
            "cnn-is-quicker-than-radial": "supported",
            "cnn-is-quicker-than-linear": "not supported",
            "adam-is-best": "undecided",
            "filters-are-best": "undecided",
            "filter-size-is-best": "undecided",
            "rate-does-not-help": "supported",
            "batch-size-does-not-help": "undecided",
            "dropout-is-best": "undecided",
            "dropout-prevents-overfitting": "supported",
        },
        """**What holds.** Its most surprising statement: one convolution does better than two, by {fewer-layers-do-better} on
the test images, and a third makes it worse again, by {a-third-layer-does-not-help}. Dropout narrows the gap between training and
validation ({dropout-prevents-overfitting}), no learning rate tried does better than the usual one, and the validation loss turns before
the end, at epoch {validation-loss-turns} of 10.

**What does not.** Why fewer convolutions do better: not because more of them overfit. The gap between training and validation is *wider*
with one convolution than with three, by {more-layers-overfit}: the deeper networks fit the training images less well too. The figures
are out of reach with the protocol as far as it is told: one convolution reaches {one-layer} and not 92.7 %, two {cnn-test-accuracy}, three
{cnn-of-three-test-accuracy}; 91.98 % lies within what a run may show on its *validation* images alone ({cnn-validation-accuracy}).

**The support-vector machine** depends on a kernel that the report does not name. With the radial one it reaches {svm-radial}, more than
the 86 % claimed and, with one run, not clearly less than the CNN ({cnn-beats-svm}), and takes longer than the CNN; with the linear one
{svm-linear}, less than claimed, and is quicker than the CNN. So “better and quicker” holds of no single machine for sure.

**Its search.** Of what it varied, only the learning rate makes a difference that three seeds show. Whether others than its values do
better stays open: the rival that comes closest, or leads, lies {filters-are-best} from its numbers of filters (its own less the
rival's), {filter-size-is-best} from its filter size, {batch-size-does-not-help} from its batch size and {dropout-is-best} from its
dropout rate.""",
    ),
    "shallow-vs-deep": (
        {
            "basic-accuracy-on-test-images": "reproduced",
            "basic-accuracy-held-out": "reproduced",
            "standard-accuracy-on-test-images": "reproduced",
            "standard-accuracy-held-out": "reproduced",
            "standard-beats-basic-on-test-images": "undecided",
            "standard-beats-basic-held-out": "supported",
            "basic-beats-standard-at-3-on-test-images": "undecided",
            "basic-beats-standard-at-3-held-out": "undecided",
            "basic-optimum-on-test-images": "not supported",
            "standard-optimum-on-test-images": "not supported",
            "standard-optimum-held-out": "undecided",
            "basic-optimum-held-out": "not supported",
            "basic-is-cheaper-held-out": "supported",
            "basic-is-as-good-held-out": "undecided",
        },
        """**What holds.** Both accuracies are reproduced, done as the report did it (basic {basic-accuracy-on-test-images},
standard {standard-accuracy-on-test-images}) and with validation images of their own (basic {basic-accuracy-held-out},
standard {standard-accuracy-held-out}). The deeper network is better by {standard-beats-basic-held-out} in the proper protocol; in the
report's own the same difference, {standard-beats-basic-on-test-images}, leaves it open after three seeds. The small network costs
less, as it says.

**What does not.** Done as the report did it, epochs 3 and 4 are not the optimum: validation loss is lowest at epoch
{basic-optimum-on-test-images} (basic) and {standard-optimum-on-test-images} (standard) of 8, so training on, against the report's
advice, was right. (With images of their own for validation, that of the standard network alone leaves it open.) That the small network
leads after three epochs is within chance: {basic-beats-standard-at-3-on-test-images} as the report did it.

**Why it could look so.** The report compares a single run of each network. One more run of the basic network would lie anywhere
between {basic-accuracy-on-test-images|low} and {basic-accuracy-on-test-images|high}: both of the report's accuracies fit in there.""",
    ),
}

PAGE = Path(__file__).parent / "findings.md"
RECORDS = Path(__file__).parent.parent / "records" / "studies"
HEAD = """\
# What came out

Each report is run by `fittingroom study run NAME`, and its claims are judged by `fittingroom study verdicts NAME`. The tables are made
from `records/studies`; the first line of a section says how much of it is recorded so far, and a claim that waits for runs is left
out of its table. In brackets behind a claim stands its [reading](studies.md#readings). [How a verdict is reached](studies.md#verdicts),
[the statistics](statistics.md). `fittingroom report NAME` draws it all, with the evidence.

<!-- Written by docs/make_findings.py. -->
"""


def text() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for name in sorted(shipped()):
        study = with_found(load(name), RECORDS / name, _complain)
        results = read_results(RECORDS / name, study, _complain)
        recorded = {record.recipe.hash for record in read_records(RECORDS / name)}
        parts += _section(study, sum(one.loaded.recipe.hash in recorded for one in plan(study)), judge(study, results))
    return "\n".join(parts).rstrip() + "\n"


def _complain(line: str) -> None:
    print(line, file=sys.stderr)


def _section(study: Study, recorded: int, verdicts: list[Verdict]) -> list[str]:
    counts = Counter(verdict.verdict for verdict in verdicts)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    lines = [f"## `{study.name}`", "", f"*{study.title}*", "", " ".join(study.about.split()), ""]
    lines += [f"{recorded} of {len(plan(study))} runs are recorded. Of {len(verdicts)} claims: {said}.", ""]
    lines += _searched(study)
    judged = [verdict for verdict in verdicts if verdict.verdict != "not yet run"]
    if study.name in PROSE:
        lines += [_prose(study.name, verdicts), ""]
    if judged:
        lines += ["| claim | claimed | measured | verdict |", "| --- | --- | --- | --- |"]
        lines += [f"| {_cell(_text(one))} | {_cell(_claimed(one))} | {_cell(one.measured)} | {one.verdict} |" for one in judged]
        lines.append("")
    return lines


def _searched(study: Study) -> list[str]:
    """What the study's searches found."""
    if not study.found:
        return []
    rows = ["| search | trials | best score of a trial | what won | it, on fresh seeds |", "| --- | --- | --- | --- | --- |"]
    for key, one in study.found.items():
        values = ", ".join(f"`{name}` {format(value, '.3g' if isinstance(value, float) else '')}" for name, value in one.params.items())
        fresh = ", ".join(f"{score:.2%}" for score in one.scores.values())
        rows.append(f"| `{key}` | {one.trials}, {one.given_up} of them given up | {one.best:.2%} | {values} | {fresh} |")
    return [*rows, ""]


def _prose(name: str, verdicts: list[Verdict]) -> str:
    expected, words = PROSE[name]
    found = {verdict.claim.id: verdict for verdict in verdicts}
    if changed := [f"{claim} is {found[claim].verdict}" for claim, verdict in expected.items() if found[claim].verdict != verdict]:
        raise SystemExit(f"docs/make_findings.py: the words on {name} rest on other verdicts ({'; '.join(changed)}); read them again")

    def written(match: re.Match[str]) -> str:
        verdict, bound = found[match["claim"]], match["bound"]
        return f"{100 * verdict.evidence['one_run_interval'][bound]:.2f} %" if bound else verdict.measured

    return re.sub(r"\{(?P<claim>[a-z0-9-]+)(?:\|(?P<bound>low|high))?\}", written, words)


def _text(verdict: Verdict) -> str:
    reading = ", ".join(str(value) for value in verdict.claim.reading.values())
    return f"{verdict.claim.text} ({reading})" if reading else verdict.claim.text


def _claimed(verdict: Verdict) -> str:
    claimed = getattr(verdict.claim, "claimed", "")
    return " to ".join(f"{value:g}" for value in claimed) if isinstance(claimed, list) else claimed


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|") or "—"


if __name__ == "__main__":
    write_text(PAGE, text())
