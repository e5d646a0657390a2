"""What each choice of a grid does: main effects and interactions of two, drawn and in plain words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from fittingroom.errors import UsageError
from fittingroom.evaluate.statistics import CONFIDENCE, Component, Contrast, Factorial, factorial, holm
from fittingroom.report import study_charts, text
from fittingroom.report.study_charts import Estimate, LevelLine, p_value, write
from fittingroom.report.study_runs import Variation
from fittingroom.study.schema import Study

__all__ = ["FactorSection", "factor_sections"]

MOST_INTERACTIONS = 6
"""Most interactions drawn; the table has them all."""


@dataclass(frozen=True)
class FactorSection:
    """What the page says of one grid.

    Attributes:
        name: of the grid.
        sentences: what was found, in plain words.
        effects: caption and chart of each factor's main effect, the strongest first.
        interactions: caption, chart and sentence of each interaction that is more than noise, the strongest first.
        tables: title, columns and rows.
    """

    name: str
    sentences: list[str]
    effects: list[tuple[str, Markup]] = field(default_factory=list)
    interactions: list[tuple[str, Markup, str]] = field(default_factory=list)
    tables: list[tuple[str, list[str], list[list[str]]]] = field(default_factory=list)


def factor_sections(study: Study, variations: Sequence[Variation]) -> list[FactorSection]:
    """Return a section for each grid in which two factors or more vary and of which anything was run."""
    sections = []
    for name, runs in study.runs.items():
        factors = [factor for factor, values in runs.grid.items() if len(values) > 1]
        cells = [v for v in variations if v.run == name]
        if len(factors) > 1 and any(v.judged for v in cells):
            sections.append(_section(name, factors, cells))
    return sections


def _section(name: str, factors: Sequence[str], cells: Sequence[Variation]) -> FactorSection:
    missing = sum(not v.judged for v in cells)
    if missing:
        done = f"{len(cells) - missing:,} of {len(cells):,}"
        return FactorSection(name, [f"{done} combinations have been run. Effects are told when all have: each needs every combination."])
    split = "test" if all(v.accuracies("test") for v in cells) else "validation"
    runs = [({factor: v.cell[factor] for factor in factors}, accuracy) for v in cells for accuracy in v.accuracies(split)]
    try:
        found = factorial(runs)
    except UsageError as error:
        return FactorSection(name, [f"No effects can be told: {error}."])
    mains = sorted((part for part in found.components if len(part.factors) == 1), key=lambda part: -part.share)
    pairs = sorted((part for part in found.components if len(part.factors) == 2), key=lambda part: -part.share)
    real = _real([*mains, *pairs])
    drawn = [part for part in pairs if part.factors in real][:MOST_INTERACTIONS]
    return FactorSection(
        name,
        _sentences(found, mains, pairs, real, split),
        [_main_effect(name, part) for part in mains],
        [_interaction(name, part, runs) for part in drawn],
        [_effects_table(mains), _interactions_table(pairs)],
    )


def _real(parts: Sequence[Component]) -> set[tuple[str, ...]]:
    """Return the factors of the components that are more than noise, after Holm's correction for how many are looked at."""
    tested = [(part, part.p_value) for part in parts if part.p_value is not None]
    adjusted = holm([p for _, p in tested])
    return {part.factors for (part, _), p in zip(tested, adjusted, strict=True) if p < 1 - CONFIDENCE}


def _sentences(
    found: Factorial, mains: Sequence[Component], pairs: Sequence[Component], real: set[tuple[str, ...]], split: str
) -> list[str]:
    mean = text.percent(found.mean)
    words = [f"Over all combinations the {split} accuracy is {mean} on average; the error comes from {found.error_from}."]
    words += [_told(part) for part in mains if part.factors in real]
    silent = [part.factors[0] for part in mains if part.factors not in real]
    if silent:
        words.append(f"No effect beyond noise, as one of several that are looked at: {', '.join(silent)}.")
    depend = [_both(part) for part in pairs if part.factors in real]
    if depend:
        words.append(f"These pairs do not simply add up: {'; '.join(depend)}. A factor’s average then hides what it does in either case.")
    elif pairs:
        words.append("No two factors are seen to depend on one another beyond noise.")
    return words


def _told(part: Component) -> str:
    best, worst = max(part.means, key=lambda mean: mean[1]), min(part.means, key=lambda mean: mean[1])
    contrast, turned = _between(part, worst[0], best[0])
    low, high = _magnitude(contrast.interval.low, contrast.interval.high, -1 if turned else 1)
    names = f"{part.factors[0]}: {text.value(best[0])} is {text.points(best[1] - worst[1])} better than {text.value(worst[0])}"
    share = f"{text.percent(part.share, 0) if part.share >= 0.005 else 'under 1 %'} of the variance between combinations"
    return f"{names} (95 % interval {low * 100:.1f} to {high * 100:.1f}); {share}."


def _between(part: Component, first: Any, second: Any) -> tuple[Contrast, bool]:
    """Return the contrast of two levels, and whether it is written the other way round."""
    return next((c, c.levels == (second, first)) for c in part.contrasts if c.levels in ((first, second), (second, first)))


def _magnitude(low: float, high: float, direction: float) -> tuple[float, float]:
    """Return an interval as it is, or of the opposite where the direction is negative."""
    return (low, high) if direction > 0 else (-high, -low)


def _main_effect(name: str, part: Component) -> tuple[str, Markup]:
    factor = part.factors[0]
    rows = [
        Estimate(f"{text.value(c.levels[0])} → {text.value(c.levels[1])}", (), c.interval.estimate, (c.interval.low, c.interval.high))
        for c in part.contrasts
    ]
    levels = ", ".join(f"{text.value(level)}: {text.percent(mean)}" for level, mean in part.means)
    chart = study_charts.dot_intervals(
        f"effect-{name}-{_id(factor)}", rows, title=f"Effect of {factor}", unit="points", references=[(0.0, "no difference")]
    )
    return f"{factor} ({levels})", chart


def _interaction(name: str, part: Component, runs: Sequence[tuple[dict[str, Any], float]]) -> tuple[str, Markup, str]:
    across, lines = part.factors
    levels = list(dict.fromkeys(cell[across] for cell, _ in runs))
    kinds = list(dict.fromkeys(cell[lines] for cell, _ in runs))
    drawn = [LevelLine(_named(lines, kind), [(_mean(runs, {across: level, lines: kind}), None) for level in levels]) for kind in kinds]
    chart = study_charts.level_chart(
        f"interaction-{name}-{_id(across)}-{_id(lines)}",
        [_named(across, level) for level in levels],
        drawn,
        title=f"Mean accuracy by {across}, a line for each {lines}",
        unit="percent",
    )
    most = max(part.contrasts, key=lambda contrast: abs(contrast.interval.estimate))
    values = " with ".join(_named(factor, level) for factor, level in zip(part.factors, most.levels, strict=True))
    direction = "better" if most.interval.estimate > 0 else "worse"
    low, high = _magnitude(most.interval.low, most.interval.high, most.interval.estimate)
    sentence = (
        f"{values} is {text.points(abs(most.interval.estimate))} {direction} than the two on their own would make it "
        f"(95 % interval {low * 100:.1f} to {high * 100:.1f})."
    )
    return _both(part), chart, sentence


def _mean(runs: Sequence[tuple[dict[str, Any], float]], where: dict[str, Any]) -> float:
    """Return the mean over the cells with these values, each cell counting alike whatever its number of seeds."""
    values: dict[tuple[Any, ...], list[float]] = {}
    for cell, accuracy in runs:
        if all(cell[factor] == level for factor, level in where.items()):
            values.setdefault(tuple(cell.values()), []).append(accuracy)
    return statistics.fmean(statistics.fmean(cell) for cell in values.values())


def _effects_table(mains: Sequence[Component]) -> tuple[str, list[str], list[list[str]]]:
    rows = [
        [f"{part.factors[0]}: {text.value(c.levels[0])} → {text.value(c.levels[1])}", *_interval(c), p_value(c.p_value)]
        for part in mains
        for c in part.contrasts
    ]
    return "Main effects as a table (p values not adjusted)", ["from → to", "points", "95 % interval", "p"], rows


def _interactions_table(pairs: Sequence[Component]) -> tuple[str, list[str], list[list[str]]]:
    rows = []
    for part in pairs:
        most = max(part.contrasts, key=lambda contrast: abs(contrast.interval.estimate))
        values = " with ".join(_named(factor, level) for factor, level in zip(part.factors, most.levels, strict=True))
        rows.append([_both(part), text.percent(part.share), p_value(part.p_value), values, *_interval(most)])
    columns = ["factors", "of the variance", "p (not adjusted)", "departs most", "points", "95 % interval"]
    return "Interactions of two as a table", columns, rows


def _interval(contrast: Contrast) -> list[str]:
    low, high = (f"{edge * 100:+.2f}".replace("-", "−") for edge in (contrast.interval.low, contrast.interval.high))
    return [write(contrast.interval.estimate, "points").removesuffix("\u202fpoints"), f"{low} to {high}"]


def _named(factor: str, level: Any) -> str:
    """Return a level; numbers, yes and no, with and without say of what."""
    plain = text.value(level)
    return plain if isinstance(level, str) and plain not in ("with", "without") else f"{factor} {plain}"


def _both(part: Component) -> str:
    return " and ".join(part.factors)


def _id(factor: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in factor)
