"""The page of a search: its trials over time, each parameter against the score, the finalists, and how much was luck."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from fittingroom.files import write_text
from fittingroom.report import text
from fittingroom.report.charts import element, nice_ticks
from fittingroom.report.shell import render_page
from fittingroom.report.study_charts import Estimate, dot_intervals
from fittingroom.tune.finalists import Outcome, TrialRow
from fittingroom.tune.space import stored

__all__ = ["render", "write_tune_report"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 400, 250, 48, 14, 12, 30
"""Of a chart and of its margins, in pixels of its own scale."""
MOST_ROWS = 500
"""Trials listed in the table; of more, the best."""


def write_tune_report(found: Outcome, path: Path) -> Path:
    """Write a search's page to ``path`` and return it.

    Raises:
        FittingRoomError: it cannot be written there.
    """
    write_text(path, render(found))
    return path


def render(found: Outcome) -> str:
    """Return the whole page, from doctype to last newline; write it as UTF-8."""
    return render_page(
        "tune.html",
        ["study.css"],
        found=found,
        headline=_headline(found),
        summary=_summary(found),
        luck=_luck(found),
        over_time=_over_time(found),
        parameters=[(key, _against(found, place, key)) for place, key in enumerate(found.space.order)],
        finalists=_finalists(found),
        rows=_rows(found),
        score=lambda value: _score(found, value),
        ends=lambda interval: _ends(found, interval),
    )


def _accuracy(found: Outcome) -> bool:
    return found.space.objective.metric == "validation.accuracy"


def _score(found: Outcome, value: float | None) -> str:
    if value is None:
        return "—"
    return text.percent(value, 2) if _accuracy(found) else f"{value:.4f}"


def _ends(found: Outcome, interval: tuple[float, float]) -> tuple[float, float]:
    """Return an interval as it is drawn: no accuracy is below 0 or above 1, whatever Student's t says of two seeds."""
    low, high = interval
    return (max(low, 0.0), min(high, 1.0)) if _accuracy(found) else interval


def _headline(found: Outcome) -> dict[str, str]:
    """Return the figure at the top: the winner's mean over fresh seeds, or, where there is none, the search's best score."""
    winner, best = found.winner, found.best
    if winner is not None and winner.mean is not None:
        ends = [] if winner.interval is None else [_score(found, end) for end in _ends(found, winner.interval)]
        around = f"95 % interval {' to '.join(ends)}" if ends else "one seed: no interval"
        return {"label": f"Winner on {text.plural(len(winner.scores), 'fresh seed')}", "figure": _score(found, winner.mean), "note": around}
    if best is not None:
        return {"label": "Best score of the search", "figure": _score(found, best.value), "note": "picked as the best of many: partly luck"}
    return {"label": "No trial came to its end", "figure": "—", "note": found.left}


def _summary(found: Outcome) -> list[str]:
    counts = {state: sum(trial.state == state for trial in found.trials) for state in ("complete", "pruned", "fail", "running")}
    words = {"complete": "trained to the end", "pruned": "given up early", "fail": "failed", "running": "not finished"}
    told = ", ".join(f"{count:,} {words[state]}" for state, count in counts.items() if count)
    spent = sum(trial.seconds for trial in found.trials)
    sentences = [f"{text.plural(len(found.trials), 'trial')} in {text.duration(spent)} of work: {told}."]
    if found.winner is not None:
        sentences.append(f"The winner is trial {found.winner.trial.number}: {_values(found.winner.trial.params)}.")
    return sentences + ([f"{found.left[:1].upper()}{found.left[1:]}."] if found.left else [])


def _luck(found: Outcome) -> list[str]:
    """Say what selection optimism is, and how much there was, to somebody who has not met the word."""
    if found.winner is None or found.best is None:
        return []
    if found.optimism is None or found.favourite is None or found.lead is None:
        return [
            f"The best score of the search, {_score(found, found.best.value)}, is that of trial {found.best.number}, which diverged on a "
            "fresh seed: how much of it was luck is not known."
        ]
    write = (lambda value: text.points(value, 2)) if _accuracy(found) else "{:.4f}".format
    around = found.optimism_interval
    interval = f" (95 % interval {write(around[0])} to {write(around[1])})" if around else ""
    sure = around is not None and (around[0] > 0 or around[1] < 0)
    looks = "looks better by" if found.optimism > 0 else "looks no better, for its lead over that is"
    sentences = [
        f"The best score of the search is {_score(found, found.best.value)}, of trial {found.best.number}. Trained again on seeds that "
        f"took no part in picking it, this trial reaches {_score(found, found.favourite.mean)} on average: the best score {looks} "
        f"{write(found.optimism)}{interval}.",
        "Whoever picks the best of many scores picks lucky ones too; this difference, the selection optimism, is how lucky. "
        + ("It is more than the seeds' own scatter." if sure else "It is within the seeds' own scatter, so it may be nothing at all.")
        + " All scores are of the same validation images, so what luck with those images adds is not in it; the test set, still sealed, "
        "would show that too.",
    ]
    if len(found.finalists) == 1:
        return sentences
    picked = "The fresh seeds picked the winner among the finalists, so a little luck is left in its mean"
    above = f", which is {write(found.lead)} better than that of trial {found.best.number}" if found.winner is not found.favourite else ""
    return [*sentences, f"{picked}{above}."]


def _over_time(found: Outcome) -> Markup:
    """Draw the trials by number, with the best score so far as a line."""
    known = [trial for trial in found.trials if trial.value is not None]
    if not known:
        return Markup('<p class="quiet">Nothing to draw yet.</p>')
    best: list[tuple[float, float]] = []
    for trial in known:
        if trial.state == "complete" and trial.value is not None:
            better = not best or found.space.objective.sign * (trial.value - best[-1][1]) > 0
            best.append((trial.number, trial.value if better else best[-1][1]))
    ticks = [tick for tick in nice_ticks(0, max(1, known[-1].number), 5) if tick == int(tick)]
    labels = [(tick, f"{tick:.0f}") for tick in ticks]
    spoken = f"{len(known)} trials by number; the best score so far rises to {_score(found, found.best.value if found.best else None)}"
    return _scatter("over-time", found, known, lambda trial: float(trial.number), labels, ("Score by trial", spoken), best)


def _against(found: Outcome, place: int, key: str) -> Markup:
    """Draw the trials' scores against their values of one parameter."""
    known = [trial for trial in found.trials if trial.value is not None and key in trial.params]
    if not known:
        return Markup('<p class="quiet">No trial has it.</p>')
    item = found.space.space[key]
    spoken = (f"Score against {key}", f"{len(known)} trials")
    if not hasattr(item, "choices"):
        scale: Callable[[float], float] = math.log10 if item.log else float
        marks = _decades(item.low, item.high) if item.log else nice_ticks(item.low, item.high, 4)
        labels = [(scale(mark), f"{mark:g}") for mark in marks]
        return _scatter(f"parameter-{place}", found, known, lambda trial: scale(trial.params[key]), labels, spoken)
    positions = {repr(value): float(index) for index, value in enumerate(item.choices)}
    labels = [(positions[repr(value)], text.value(stored(value))[:14]) for value in item.choices]
    return _scatter(f"parameter-{place}", found, known, lambda trial: positions[repr(trial.params[key])], labels, spoken)


def _decades(low: float, high: float) -> list[float]:
    """Return powers of ten around a log range, with its ends where these are few."""
    powers = [10.0**power for power in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
    return powers if len(powers) > 1 else [low, high]


def _scatter(
    name: str,
    found: Outcome,
    trials: Sequence[TrialRow],
    across: Callable[[TrialRow], float],
    labels: Sequence[tuple[float, str]],
    spoken: tuple[str, str],
    line: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Draw a mark a trial: a filled circle for one that came to its end, a hollow square for one given up early.

    A few hopeless trials would press all others into a line: what lies far from the best is drawn at the edge, as a triangle.
    """
    values = [trial.value for trial in trials if trial.value is not None]
    shown = _near(values, found.space.objective.sign)
    ticks = nice_ticks(min(shown), max(shown), 4)
    places = [*(across(trial) for trial in trials), *(place for place, _ in labels)]
    low, high = min(places), max(places)
    edge = 0.06 * (high - low) or 1.0
    unit: Literal["percent", "plain"] = "percent" if _accuracy(found) else "plain"

    def x(place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (place - low + edge) / (high - low + 2 * edge)

    def y(value: float) -> float:
        kept = min(max(value, ticks[0]), ticks[-1])
        return TOP + (HEIGHT - TOP - BOTTOM) * (ticks[-1] - kept) / (ticks[-1] - ticks[0])

    parts = [element("title", spoken[0], id=f"{name}-title"), element("desc", spoken[1], id=f"{name}-desc")]
    for tick in ticks:
        written = text.percent(tick, 0 if ticks[1] - ticks[0] >= 0.01 - 1e-9 else 1) if unit == "percent" else f"{tick:.6g}"
        parts.append(element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y(tick), y2=y(tick)))
        parts.append(element("text", written, class_="tick", x=LEFT - 7, y=y(tick) + 4, text_anchor="end"))
    parts += [element("text", label, class_="tick", x=x(place), y=HEIGHT - 9, text_anchor="middle") for place, label in labels]
    if line:
        steps = [f"M{x(line[0][0]):.1f} {y(line[0][1]):.1f}"] + [f"H{x(place):.1f} V{y(value):.1f}" for place, value in line[1:]]
        parts.append(element("path", class_="line validation", d=" ".join(steps)))
    for trial in trials:
        if trial.value is not None:
            beyond = (trial.value > ticks[-1]) - (trial.value < ticks[0])
            parts.append(_mark(found, trial, x(across(trial)), y(trial.value), beyond))
    labelled = f"{name}-title {name}-desc"
    return element("svg", *parts, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_labelledby=labelled)


def _near(values: Sequence[float], sign: int) -> list[float]:
    """The values that lie no further from the best than four times as far as the middle one does."""
    ordered = sorted(values, key=lambda value: -sign * value)
    reach = 4 * abs(ordered[0] - ordered[len(ordered) // 2])
    return [value for value in ordered if abs(value - ordered[0]) <= reach] if reach else ordered


def _mark(found: Outcome, trial: TrialRow, x: float, y: float, beyond: int) -> Markup:
    tip = element("title", f"trial {trial.number}: {_score(found, trial.value)}, {_values(trial.params)}")
    if beyond:
        kind = "validation" if trial.state == "complete" else "train"
        return element("path", tip, class_=f"mark {kind} beyond", d=f"M{x - 4:.1f} {y:.1f}h8l-4 {-6 * beyond}z")
    if trial.state == "complete":
        return element("circle", tip, class_="mark validation", cx=x, cy=y, r=3.5)
    return element("rect", tip, class_="mark train", x=x - 3, y=y - 3, width=6, height=6)


def _finalists(found: Outcome) -> Markup | None:
    rows = [
        Estimate(
            f"trial {finalist.trial.number}",
            list(finalist.scores.values()),
            finalist.mean,
            None if finalist.interval is None else _ends(found, finalist.interval),
        )
        for finalist in found.finalists
        if finalist.scores
    ]
    if not rows or found.best is None or found.best.value is None:
        return None
    reference = (found.best.value, "best score of the search")
    unit: Literal["percent", "plain"] = "percent" if _accuracy(found) else "plain"
    return dot_intervals("finalists", rows, title="Finalists on fresh seeds", unit=unit, references=[reference])


def _rows(found: Outcome) -> list[dict[str, Any]]:
    """Return the trials for the table, best first; those without a score last."""
    sign = found.space.objective.sign

    def rank(trial: TrialRow) -> tuple[bool, float, int]:
        return trial.state != "complete", -sign * trial.value if trial.value is not None else math.inf, trial.number

    return [
        {
            "trial": trial,
            "score": _score(found, trial.value),
            "state": trial.reason or trial.state,
            "values": _values(trial.params),
            "time": text.duration(trial.seconds),
        }
        for trial in sorted(found.trials, key=rank)[:MOST_ROWS]
    ]


def _values(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {f'{value:.4g}' if isinstance(value, float) else text.value(stored(value))}" for key, value in params.items())
