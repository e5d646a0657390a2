"""The evidence of a verdict, for the page: what was measured drawn beside what is claimed, and what the verdict rests on in words.

It reads what `fittingroom.study.verdict.judge` put into ``Verdict.evidence``; nothing is judged or measured anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from fittingroom.report import study_charts, text
from fittingroom.report.study_charts import Estimate, Limits, Unit, p_value, write
from fittingroom.report.study_runs import selection_labels
from fittingroom.study.metrics import metric_of, metric_words
from fittingroom.study.schema import Count, Number, Order, Selection, Shape, Study
from fittingroom.study.verdict import Verdict

__all__ = ["Evidence", "Finding", "evidence"]

MOST_ROWS = 24
"""Longer tables of pairs are left to the command line's JSON; their dots are drawn all the same."""
MOST_COMPARED = 12
"""Of more groups those are shown that say most of the verdict; the command line's JSON has all."""
CHECKS = {"fails": "failed", "holds": "held", "cannot tell": "undecided"}
"""The sign of each outcome of a check."""

Table = tuple[str, list[str], list[list[str]]]


@dataclass(frozen=True)
class Finding:
    """One check of what the report prints: kind of its sign, outcome and sentence, and the figures that clash, if they do."""

    kind: str
    outcome: str
    sentence: str
    clash: list[str]


@dataclass(frozen=True)
class Evidence:
    """What lies below a claim.

    Attributes:
        charts: caption and picture of each.
        facts: name and value, in words.
        findings: of an audit of what the report prints.
        tables: title, columns and rows.
    """

    charts: list[tuple[str, Markup]] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def evidence(name: str, study: Study, verdict: Verdict) -> Evidence:
    """Return what is to be seen of a verdict's evidence.

    Args:
        name: a word, unique on the page, for the ids inside.
        study: the study that it belongs to.
        verdict: the verdict.
    """
    claim, found = verdict.claim, verdict.evidence
    if found.get("findings"):
        return Evidence(findings=[_finding(one) for one in found["findings"]])
    if isinstance(claim, Order | Shape) and found.get("comparisons"):
        return _compared(name, study, claim.metric, found["comparisons"])
    if isinstance(claim, Number | Shape) and found.get("values"):
        return _measured(name, study, claim, found)
    if isinstance(claim, Count) and found.get("counts"):
        return Evidence(facts=[(metric_words(claim.metric), ", ".join(f"{count:,}" for count in found["counts"]))])
    return Evidence()


def _unit(metric: str) -> Unit:
    return "percent" if metric_of(metric).unit == "share" else "plain"


def _measured(name: str, study: Study, claim: Number | Shape, found: Mapping[str, Any]) -> Evidence:
    """Return the values of all seeds with the interval that the claimed figure was held against."""
    metric, unit = claim.metric, _unit(claim.metric)
    values, mean = [float(value) for value in found["values"]], float(found["mean"])
    interval = found.get("one_run_interval") or found.get("interval")
    row = Estimate(selection_labels(study, [claim.of])[0], values, mean, _bounds(interval))
    if isinstance(claim, Number):
        claimed = [(float(found["claimed"]["value"]), f"claimed {claim.claimed}")]
    else:
        claimed = [(value, f"claimed {write(value, unit)}") for value in claim.claimed]
    chart = study_charts.dot_intervals(f"{name}-values", [row], title=metric_words(metric), unit=unit, references=claimed)
    deviation, images, typical = found.get("standard_deviation"), found.get("images"), found.get("typical_spread") or {}
    facts = [
        ("mean", write(mean, unit)),
        ("standard deviation", "" if deviation is None else _apart(deviation, unit)),
        ("one more run", _interval(found.get("one_run_interval"), unit)),
        ("mean of ever more seeds", _interval(found.get("mean_interval") or found.get("interval"), unit)),
        ("the same, on our images", _interval(found.get("same_images_interval"), unit)),
        ("images", "" if images is None else f"{images:,}"),
        ("spread taken from", typical.get("of", "")),
        ("its standard deviation", _apart(typical["standard_deviation"], unit) if typical else ""),
    ]
    return Evidence([(metric_words(metric), chart)], [(key, words) for key, words in facts if words])


def _compared(name: str, study: Study, metric: str, comparisons: Sequence[Mapping[str, Any]]) -> Evidence:
    """Return the values of all groups, and their differences pair by pair against no difference."""
    unit = _unit(metric)
    left_out, comparisons = comparisons[MOST_COMPARED:], comparisons[:MOST_COMPARED]
    compared = [comparisons[0]["above"], *(part["below"] for part in comparisons)]
    above, *below = selection_labels(study, [Selection(**selection) for selection in compared])
    groups: dict[str, list[float]] = {}
    differences = []
    facts: list[tuple[str, str]] = []
    below = [f"{part['times']:g} × {label}" if part["times"] != 1 else label for label, part in zip(below, comparisons, strict=True)]
    for other, part in zip(below, comparisons, strict=True):
        pairs = part["pairs"]
        groups.setdefault(above, [float(pair["above"]) for pair in pairs])
        groups.setdefault(other, [float(pair["below"]) for pair in pairs])
        if pairs:
            interval = part["interval"]
            mean = None if interval is None else float(interval["estimate"])
            differences.append(Estimate(f"{above} less {other}", [float(pair["difference"]) for pair in pairs], mean, _bounds(interval)))
        against = f"against {other}: " if len(comparisons) > 1 else ""
        facts += [(f"{against}{key}", words) for key, words in _comparison_facts(part, unit) if words]
    if left_out:
        verdicts = Counter(part["verdict"] for part in left_out)
        facts.append((f"against {len(left_out)} more", ", ".join(f"{verdict} {count}" for verdict, count in verdicts.items())))
    charts = []
    if rows := [Estimate(label, values, sum(values) / len(values)) for label, values in groups.items() if values]:
        title = metric_words(metric)
        charts.append((title, study_charts.dot_intervals(f"{name}-values", rows, title=title, unit=unit)))
    if differences:
        title, apart, zero = "differences, pair by pair", _apart_unit(unit), [(0.0, "no difference")]
        charts.append((title, study_charts.dot_intervals(f"{name}-pairs", differences, title=title, unit=apart, references=zero)))
    listed = [(part, other) for part, other in zip(comparisons, below, strict=True) if 0 < len(part["pairs"]) <= MOST_ROWS]
    tables = [_pairs_table(part, (above, other), unit) for part, other in listed]
    return Evidence(charts, facts, [], tables)


def _apart_unit(unit: Unit) -> Unit:
    """Return the unit of a difference of two values."""
    return "points" if unit == "percent" else "difference"


def _comparison_facts(part: Mapping[str, Any], unit: Unit) -> list[tuple[str, str]]:
    test, images = part["test"], part["images"]
    facts = [("verdict", part["verdict"]), ("difference", _interval(part["interval"], _apart_unit(unit))), ("how", part["how"])]
    if test:
        tests = {"t test": "p_value", "sign flips": "sign_flip_p", "signs": "sign_p"}
        facts.append(("p", ", ".join(f"{name} {p_value(test[key])}" for name, key in tests.items())))
    if images:
        only = [f"{one['only_above']:,} against {one['only_below']:,} (p {p_value(one['p_value'])})" for one in images["mcnemar"]]
        facts.append((f"right in one only, of {images['images']:,} images", "; ".join(only)))
        facts.append(("over seeds and images", _interval(images["interval"], "points")))
    return facts


def _pairs_table(part: Mapping[str, Any], labels: Sequence[str], unit: Unit) -> Table:
    rows = []
    for pair in part["pairs"]:
        words = [text.value(item) for item in pair["cell"].values()]
        words += [] if pair["seed"] is None else [f"seed {pair['seed']}"]
        values = [write(float(pair["above"]), unit), write(float(pair["below"]), unit), write(float(pair["difference"]), _apart_unit(unit))]
        rows.append([", ".join(words), *values])
    return "Pairs", ["pair", *labels, "difference"], rows


def _finding(found: Mapping[str, Any]) -> Finding:
    sentence = str(found["sentence"])
    outcome = str(found["verdict"])
    clash = found.get("evidence", {}).get("clash") or []
    return Finding(CHECKS.get(outcome, "undecided"), outcome, sentence[:1].upper() + sentence[1:], [str(one) for one in clash])


def _bounds(interval: Mapping[str, Any] | None) -> Limits | None:
    return None if interval is None else (float(interval["low"]), float(interval["high"]))


def _interval(interval: Mapping[str, Any] | None, unit: Unit) -> str:
    if interval is None:
        return ""
    low, high = (write(float(interval[edge]), unit) for edge in ("low", "high"))
    if low == high:
        return f"{low} ({interval['method']})"
    return f"{low} to {high} ({float(interval['confidence']) * 100:.4g} %; {interval['method']})"


def _apart(value: float, unit: Unit) -> str:
    return text.points(value, 2) if unit == "percent" else write(value, unit)
