"""The evidence of a verdict, for the page: what was measured drawn beside what is claimed, and what the verdict rests on in words.

It reads what `fittingroom.study.verdict.judge` put into ``Verdict.evidence``; nothing is judged or measured anew.
"""

from __future__ import annotations

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
MOST_DRAWN = 12
"""Of more groups those are drawn that say most of the verdict; the table has all."""
LEAST_PAIRS = 6
"""With fewer pairs tests by signs alone can never call a difference real at 5 %."""
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
        return _compared(name, study, claim.metric, found)
    if isinstance(claim, Number | Shape) and found.get("values"):
        return _measured(name, study, claim, found)
    if isinstance(claim, Count) and found.get("counts"):
        return Evidence(facts=[(metric_words(claim.metric), ", ".join(f"{count:,}" for count in found["counts"]))])
    return Evidence()


def _unit(metric: str) -> Unit:
    return "percent" if metric_of(metric).unit == "share" else "plain"


def _measured(name: str, study: Study, claim: Number | Shape, found: Mapping[str, Any]) -> Evidence:
    """Return the values of all seeds with the interval that the claimed figure was held against."""
    # Shares are written as the report writes them: what stands in the table's cell stands here.
    metric, unit = claim.metric, _unit(claim.metric) if "%" in str(claim.claimed) else "plain"
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
        ("rule", found.get("rule", "")),
        ("one more run", _interval(found.get("one_run_interval"), unit)),
        ("mean of ever more seeds", _interval(found.get("mean_interval") or found.get("interval"), unit)),
        ("the same, on our images", _interval(found.get("same_images_interval"), unit)),
        ("images", "" if images is None else f"{images:,}"),
        ("spread taken from", typical.get("of", "")),
        ("its standard deviation", _apart(typical["standard_deviation"], unit) if typical else ""),
    ]
    return Evidence([(metric_words(metric), chart)], [(key, words) for key, words in facts if words])


def _compared(name: str, study: Study, metric: str, found: Mapping[str, Any]) -> Evidence:
    """Return the values of all groups, and their differences pair by pair against what they must exceed.

    Of several comparisons the first decides: it is told in full, the others in a table.
    """
    unit, comparisons = _unit(metric), found["comparisons"]
    compared = [comparisons[0]["above"], *(part["below"] for part in comparisons)]
    above, *others = selection_labels(study, [Selection(**selection) for selection in compared])
    below = [f"{part['times']:g} × {label}" if part["times"] != 1 else label for label, part in zip(others, comparisons, strict=True)]
    told = [(part, other) for part, other in zip(comparisons, below, strict=True) if part["pairs"]]
    groups: dict[str, list[float]] = {}
    for part, other in told[:MOST_DRAWN]:
        groups.setdefault(above, _values(part, "above"))
        groups.setdefault(other, _values(part, "below"))
    differences = [
        Estimate(
            f"{above} less {other}",
            [float(pair["difference"]) for pair in part["pairs"]],
            None if part["interval"] is None else float(part["interval"]["estimate"]),
            _bounds(part["interval"]),
        )
        for part, other in told[:MOST_DRAWN]
    ]
    charts = []
    if groups:
        rows = [Estimate(label, values, sum(values) / len(values)) for label, values in groups.items()]
        title = metric_words(metric)
        charts.append((title, study_charts.dot_intervals(f"{name}-values", rows, title=title, unit=unit)))
        title, apart = "differences, pair by pair", _apart_unit(unit)
        drawn = study_charts.dot_intervals(f"{name}-pairs", differences, title=title, unit=apart, references=_limits(found, unit))
        charts.append((title, drawn))
    first, rival = comparisons[0], below[0]
    facts = [("decided against", rival)] if len(below) > 1 else []
    facts += [(key, words) for key, words in _comparison_facts(first, unit) if words]
    tables = [_comparisons_table(comparisons, below, unit)] if len(below) > 1 else []
    if 1 < len(first["pairs"]) <= MOST_ROWS:
        tables.append(_pairs_table(first, (above, rival), unit))
    return Evidence(charts, facts, [], tables)


def _values(part: Mapping[str, Any], side: str) -> list[float]:
    """The values of a side of a comparison: one a pair, or all seeds where a single run is held against their mean."""
    return [float(value) for value in part["sides"][side]] if part["sides"] else [float(pair[side]) for pair in part["pairs"]]


def _limits(found: Mapping[str, Any], unit: Unit) -> list[tuple[float, str]]:
    """Return no difference, and how large one must be, or may be, where that is something else; to be drawn."""
    margin = float(found["margin"])
    if not margin:
        return [(0.0, "no difference")]
    limit = -margin if found["relation"] == "at least" else margin
    return [(0.0, "no difference"), (limit, f"{'allowed' if limit < 0 else 'claimed'}: {write(limit, _apart_unit(unit))}")]


def _comparisons_table(comparisons: Sequence[Mapping[str, Any]], below: Sequence[str], unit: Unit) -> Table:
    """Return a row for each group that must lie below, in the order of how much they say of the verdict."""
    level = (comparisons[0]["corrected"] or {}).get("confidence")
    rows = []
    for part, other in zip(comparisons, below, strict=True):
        interval = part["interval"]
        difference = "—" if interval is None else write(float(interval["estimate"]), _apart_unit(unit))
        ends = [_ends(part[which], unit) for which in ("interval", "corrected")]
        rows.append([other, part["verdict"], difference, *ends, part["why"]])
    refutes = f"{level * 100:.4g} %: refutes" if level else ""
    return "One by one", ["against", "verdict", "difference", "95 %: supports", refutes, "why"], rows


def _apart_unit(unit: Unit) -> Unit:
    """Return the unit of a difference of two values."""
    return "points" if unit == "percent" else "difference"


def _comparison_facts(part: Mapping[str, Any], unit: Unit) -> list[tuple[str, str]]:
    test, images = part["test"], part["images"]
    facts = [("verdict", part["verdict"]), ("difference", _interval(part["interval"], _apart_unit(unit))), ("how", part["how"])]
    facts.append(("over seeds alone, cells averaged", _interval(part["over_seeds"], _apart_unit(unit))))
    if test:
        tests = {"sign flips": "sign_flip_p", "signs": "sign_p"}
        facts.append(("p", f"{p_value(test['p_value'])} by the t test, against no difference; what decides is its interval"))
        pairs = len(part["pairs"])
        least = f" ({pairs} pairs cannot bring them below {0.5 ** (pairs - 1):.3g})" if pairs < LEAST_PAIRS else ""
        facts.append(("p without a bell curve", ", ".join(f"{p_value(test[key])} by {name}" for name, key in tests.items()) + least))
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


def _ends(interval: Mapping[str, Any] | None, unit: Unit) -> str:
    if interval is None:
        return "—"
    low, high = (write(float(interval[edge]), _apart_unit(unit)).removesuffix("\u202fpoints") for edge in ("low", "high"))
    return f"{low} to {high}"


def _interval(interval: Mapping[str, Any] | None, unit: Unit) -> str:
    if interval is None:
        return ""
    low, high = (write(float(interval[edge]), unit) for edge in ("low", "high"))
    if low == high:
        return f"{low} ({interval['method']})"
    return f"{low} to {high} ({float(interval['confidence']) * 100:.4g} %; {interval['method']})"


def _apart(value: float, unit: Unit) -> str:
    return text.points(value, 2) if unit == "percent" else write(value, unit)
