"""Charts of a study's page: many runs in one picture, as inline SVG. Pure functions from numbers to markup.

As in `charts`, colours come from classes of the style sheet, and what a colour says, a shape, a dash or a word says too.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeGuard

from markupsafe import Markup

from fittingroom.report.charts import element, nice_ticks
from fittingroom.report.text import duration, percent

__all__ = [
    "Bundle",
    "Claimed",
    "Estimate",
    "LevelLine",
    "Limits",
    "Point",
    "bundle_chart",
    "dot_intervals",
    "level_chart",
    "limits",
    "p_value",
    "pareto_front",
    "scatter",
    "seed_strip",
    "sign",
    "verdict_tape",
    "write",
]

Unit = Literal["percent", "points", "plain", "difference"]
Limits = tuple[float, float]
_Scale = Callable[[float], float]

MOST_POINTS = 60
"""Curves of a small multiple are drawn from at most this many of their points: it is 250 pixels wide."""
ROW_LETTERS, ROW_LINE = 50, 16
"""Of the name of a row of `dot_intervals`: letters in a line, 376 pixels wide, and its height."""


@dataclass(frozen=True)
class Estimate:
    """A row of `dot_intervals`.

    Attributes:
        label: what was estimated.
        values: the single values behind it, one a seed or pair; may be empty.
        mean: the estimate, or None to draw only the values.
        interval: around the mean, or None where there is none.
    """

    label: str
    values: Sequence[float]
    mean: float | None = None
    interval: Limits | None = None


@dataclass(frozen=True)
class Bundle:
    """One quantity of all seeds of a run: thin lines, and their mean as a bold one.

    Attributes:
        seeds: for each seed one value an epoch; None or not finite leaves a gap. Seeds may stop at different epochs.
        kind: `train` (dashed) or `validation` (solid).
    """

    seeds: Sequence[Sequence[float | None]]
    kind: Literal["train", "validation"]

    def mean(self) -> list[float | None]:
        """Return the mean of each epoch that all seeds reached, None where one of them has no value."""
        epochs = min((len(line) for line in self.seeds), default=0)
        known = [[line[epoch] for line in self.seeds] for epoch in range(epochs)]
        return [sum(values) / len(values) if len(values := [v for v in row if _is(v)]) == len(row) else None for row in known]


@dataclass(frozen=True)
class Claimed:
    """A figure that the report prints of an epoch (None: the end) of a curve; `test` has no curve of its own."""

    value: float
    kind: str
    epoch: int | None = None


@dataclass(frozen=True)
class Point:
    """A run in `scatter`: what it costs, what it achieves, and where on the page it is described."""

    label: str
    x: float
    y: float
    interval: Limits | None = None
    anchor: str = ""


@dataclass(frozen=True)
class LevelLine:
    """A line of `level_chart`: an estimate with its interval for each level, in the levels' order; None where there is none."""

    name: str
    estimates: Sequence[tuple[float, Limits | None] | None]


def _is(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def write(value: float, unit: Unit, digits: int = 2) -> str:
    """Return a value in its unit: ``91.20 %``, ``+1.20 points``, ``0.2749``, ``+0.2749`` for a difference of such."""
    if unit == "percent":
        return percent(value, digits)
    if unit == "points":
        return f"{value * 100:+.{digits}f}\u202fpoints".replace("-", "−")
    form = f"{'+' if unit == 'difference' else ''},.4g" if abs(value) < 9999.5 else f"{'+' if unit == 'difference' else ''},.0f"
    return format(value, form).replace("-", "−")


def p_value(probability: float | None) -> str:
    """Return a p value as papers print it."""
    return "—" if probability is None else "< 0.001" if probability < 0.001 else f"{probability:.3f}"


def sign(kind: str) -> Markup:
    """Return the sign of a verdict, drawn, so that no font decides whether it is seen; its word stands beside it."""
    return Markup('<svg class="sign" width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">{}</svg>').format(_use(kind))


def _use(kind: str, **attributes: str | float) -> Markup:
    return element("use", href=f"#sign-{kind}", width=16, height=16, **attributes)


NARROWEST = 0.02
"""Part of the tape that a length must have to bear its sign, which is 16 pixels wide; the list below names all."""


def verdict_tape(groups: Sequence[tuple[str, str, int]]) -> Markup:
    """Draw how many claims got which verdict as lengths of a tape measure that has one mark a claim.

    Args:
        groups: kind (for sign and colour), verdict in words, and how many claims have it, at least 1; in the order drawn.
    """
    total = sum(count for _, _, count in groups)
    spoken = ", ".join(f"{count} {words}" for _, words, count in groups)
    parts = [element("title", f"{total} claims: {spoken}", id="verdict-tape-title")]

    def x(claims: float) -> str:
        return f"{claims / total * 100:.3f}%"

    done = 0
    for kind, words, count in groups:
        length = element("rect", class_=f"verdict-length {kind}", x=x(done), width=x(count), y=0, height=30)
        drawn = [element("title", f"{count} {words}"), length]
        if count >= NARROWEST * total:
            drawn.append(element("svg", _use(kind, x=-8, y=7), class_=f"on-length {kind}", x=x(done + count / 2), overflow="visible"))
        parts.append(element("g", *drawn))
        done += count
    parts.append(element("rect", class_="tape-band", x=0, width="100%", y=34, height=30, rx=2))
    every = next(step for step in (1, 5, 10, 25, 50, 100, 10**9) if total / step <= 12)
    for claim in range(1, total):
        long = claim % every == 0
        parts.append(element("line", class_="tape-tick", x1=x(claim), x2=x(claim), y1=34, y2=46 if long else 41))
        if long:
            parts.append(element("text", str(claim), class_="tape-number", x=x(claim), y=60, text_anchor="middle"))
    return element("svg", *parts, class_="verdict-tape", width="100%", height=64, role="img", aria_labelledby="verdict-tape-title")


def dot_intervals(
    name: str,
    rows: Sequence[Estimate],
    *,
    title: str,
    unit: Unit,
    references: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Draw rows of dots, one a seed, with their mean and its interval, on a common scale.

    Args:
        name: a word, unique on the page, for the ids inside.
        rows: what is drawn, from above; at least one with a value.
        title: what the chart shows; for those who cannot see it.
        unit: how values are written.
        references: values drawn as lines through all rows, with their names: the claimed figure, or no difference.
    """
    width, left, right, row_height, top = 400, 10, 14, 44, 10 + 16 * len(references)
    known = [number for row in rows for number in (*row.values, *([row.mean] if row.mean is not None else []), *(row.interval or ()))]
    known += [value for value, _ in references]
    ticks = nice_ticks(min(known), max(known), 4)
    low, high = ticks[0], ticks[-1]
    labels = [_row_label(row, unit) for row in rows]
    heights = [row_height + ROW_LINE * (len(lines) - 1) for lines, _ in labels]
    *tops, bottom = accumulate(heights, initial=top)

    def x(value: float) -> float:
        return left + (width - left - right) * (value - low) / (high - low)

    spoken = "; ".join(f"{row.label}: {_spoken(row, unit)}" for row in rows)
    parts = [element("title", title, id=f"{name}-title"), element("desc", spoken, id=f"{name}-desc")]
    for tick in ticks:
        parts.append(element("line", class_="grid", x1=x(tick), x2=x(tick), y1=top, y2=bottom))
        anchor = "start" if x(tick) < left + 20 else "end" if x(tick) > width - right - 20 else "middle"
        parts.append(element("text", _tick(tick, ticks, unit), class_="tick", x=x(tick), y=bottom + 17, text_anchor=anchor))
    for index, (value, label) in enumerate(references):
        at, place = x(value), 13 + 16 * index
        anchor = "start" if at < width * 0.3 else "end" if at > width * 0.7 else "middle"
        parts.append(element("line", class_="reference", x1=at, x2=at, y1=place + 4, y2=bottom))
        parts.append(element("text", label, class_="reference-name", x=at, y=place, text_anchor=anchor))
    for row, (lines, figure), above in zip(rows, labels, tops, strict=True):
        parts += _estimate(row, above + ROW_LINE * (len(lines) - 1), x)
        *others, last = lines
        for number, line in enumerate(others):
            parts.append(element("text", line, class_="row-name", x=left, y=above + 14 + ROW_LINE * number))
        written = element("tspan", f"  {figure}" if last else figure, class_="figure-text") if figure else ""
        parts.append(element("text", last, written, class_="row-name", x=left, y=above + 14 + ROW_LINE * len(others)))
    return _svg(name, parts, "dots", width, bottom + 22)


def _row_label(row: Estimate, unit: Unit) -> tuple[list[str], str]:
    """The lines of a row's name, and the figure that stands behind the last of them, which is empty where there is no room left."""
    figure = "" if row.mean is None else write(row.mean, unit)
    lines = textwrap.wrap(row.label, ROW_LETTERS, break_on_hyphens=False) or [""]
    if figure and len(lines[-1]) + 2 + len(figure) > ROW_LETTERS:
        lines.append("")
    return lines, figure


def _estimate(row: Estimate, top: float, x: _Scale) -> list[Markup]:
    middle = top + 29
    parts = []
    if row.interval is not None:
        low, high = x(row.interval[0]), x(row.interval[1])
        parts.append(element("rect", class_="interval-bar", x=low, width=max(1.0, high - low), y=middle - 6, height=12, rx=2))
    if row.mean is not None:
        parts.append(element("line", class_="mean-line", x1=x(row.mean), x2=x(row.mean), y1=middle - 9, y2=middle + 9))
    parts += [element("circle", class_="seed-dot", cx=x(value), cy=middle, r=4) for value in row.values]
    return parts


def _spoken(row: Estimate, unit: Unit) -> str:
    mean = [] if row.mean is None else [f"mean {write(row.mean, unit)}"]
    around = [] if row.interval is None else [f"interval {write(row.interval[0], unit)} to {write(row.interval[1], unit)}"]
    return ", ".join([*mean, *around, *(write(value, unit) for value in row.values)])


def seed_strip(values: Sequence[float], scale: Limits) -> Markup:
    """Draw one dot a seed and their mean on a line that reaches from one end of a scale to the other; as a cell of a table.

    What lies outside of the scale is an arrow at that end of the line: the figures stand beside it.
    """
    low, high = scale

    def x(value: float) -> str:
        return f"{(value - low) / (high - low) * 100:.2f}%"

    inside = [value for value in values if low <= value <= high]
    parts = [element("line", class_="strip-line", x1=0, x2="100%", y1=9, y2=9)]
    if len(values) > 1 and low <= (mean := sum(values) / len(values)) <= high:
        parts.append(element("line", class_="mean-line", x1=x(mean), x2=x(mean), y1=1, y2=17))
    parts += [element("circle", class_="seed-dot", cx=x(value), cy=9, r=3.5) for value in inside]
    arrows = {"0%": ("M0 9l7 -4.5v9z", min(values) < low), "100%": ("M0 9l-7 -4.5v9z", max(values) > high)} if values else {}
    drawn = [(end, element("path", class_="seed-dot", d=shape)) for end, (shape, there) in arrows.items() if there]
    parts += [element("svg", arrow, x=end, overflow="visible") for end, arrow in drawn]
    return element("svg", *parts, class_="strip", height=18, aria_hidden="true")


def limits(values: Sequence[float], unit: Unit) -> Limits | None:
    """Return the range that a family of charts shares: nearly all values, so that one run gone astray does not flatten the others.

    A tenth of the sorted values may lie outside only where leaving them out narrows the range to less than a third.
    """
    known = sorted(filter(math.isfinite, values))
    if not known:
        return None
    cut = len(known) // 20
    inner = (known[cut], known[-1 - cut])
    low, high = inner if 3 * (inner[1] - inner[0]) < known[-1] - known[0] else (known[0], known[-1])
    ticks = nice_ticks(low, high, 4)
    return (max(ticks[0], 0.0), min(ticks[-1], 1.0)) if unit == "percent" else (ticks[0], ticks[-1])


def bundle_chart(
    name: str,
    bundles: Sequence[Bundle],
    *,
    title: str,
    unit: Unit,
    y_limits: Limits,
    epochs: int,
    claimed: Sequence[Claimed] = (),
) -> Markup:
    """Draw curves of a run over epochs, seeds thin and their mean bold, with the report's final figures as marks at the end.

    Args:
        name: a word, unique on the page, for the ids inside.
        bundles: the quantities drawn.
        title: what the chart shows; for those who cannot see it.
        unit: how values are written.
        y_limits: the range drawn; what lies outside is cut off.
        epochs: how many epochs the axis has.
        claimed: what the report prints for the last epoch.
    """
    width, height, left, right, top, bottom = 200, 150, 40, 10, 8, 22
    inner_width, inner_height = width - left - right, height - top - bottom
    low, high = y_limits

    def x(epoch: float) -> float:
        return inner_width * ((epoch - 1) / (epochs - 1) if epochs > 1 else 0.5)

    def y(value: float) -> float:
        return inner_height * (high - value) / (high - low)

    spoken = "; ".join(filter(None, (_ends(bundle, unit) for bundle in bundles)))
    spoken += "".join(f"; the report: {'training' if mark.kind == 'train' else mark.kind} {write(mark.value, unit)}" for mark in claimed)
    parts = [element("title", title, id=f"{name}-title"), element("desc", spoken, id=f"{name}-desc")]
    ticks = [tick for tick in nice_ticks(low, high, 4) if low - 1e-9 <= tick <= high + 1e-9]
    for tick in ticks:
        parts.append(element("line", class_="grid", x1=left, x2=width - right, y1=top + y(tick), y2=top + y(tick)))
        parts.append(element("text", _tick(tick, ticks, unit), class_="tick", x=left - 6, y=top + y(tick) + 4, text_anchor="end"))
    for epoch in sorted({1, (epochs + 1) // 2, epochs}):
        parts.append(element("text", str(epoch), class_="tick", x=left + x(epoch), y=height - 6, text_anchor="middle"))
    lines = [piece for bundle in bundles for piece in _bundle(bundle, x, y)]
    inner = f"-3 0 {inner_width + 6} {inner_height}"
    parts.append(element("svg", *lines, x=left - 3, y=top, width=inner_width + 6, height=inner_height, viewBox=inner))
    for mark in claimed:
        if low <= mark.value <= high:
            across, down = left + x(min(mark.epoch or epochs, epochs)), top + y(mark.value)
            shape = f"M{across:.1f} {down - 6:.1f}l6 6l-6 6l-6 -6z"
            parts.append(element("path", element("title", f"claimed: {write(mark.value, unit)}"), class_=f"claimed {mark.kind}", d=shape))
    return _svg(name, parts, "bundle", width, height)


def _bundle(bundle: Bundle, x: _Scale, y: _Scale) -> list[Markup]:
    """Draw all seeds as one thin path, and their mean; a single seed is its own mean."""
    thin = " ".join(filter(None, (_path(line, x, y) for line in bundle.seeds))) if len(bundle.seeds) > 1 else ""
    bold = _path(bundle.mean(), x, y)
    drawn = [element("path", class_=f"seed-line {bundle.kind}", d=thin)] if thin else []
    if bold:
        drawn.append(element("path", class_=f"line {bundle.kind}", d=bold))
    if max(map(len, bundle.seeds), default=0) == 1:
        drawn += [element("circle", class_=f"seed-dot {bundle.kind}", cx=x(1), cy=y(line[0]), r=3) for line in bundle.seeds if _is(line[0])]
    return drawn


def _path(line: Sequence[float | None], x: _Scale, y: _Scale) -> str:
    count = len(line)
    chosen = range(count) if count <= MOST_POINTS else sorted({round(i * (count - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)})
    pieces: list[list[str]] = [[]]
    for index in chosen:
        value = line[index]
        if value is None or not math.isfinite(value):
            pieces.append([])
        else:
            pieces[-1].append(f"{x(index + 1):.1f} {y(value):.1f}")
    return " ".join("M" + "L".join(piece) for piece in pieces if len(piece) > 1)


def _ends(bundle: Bundle, unit: Unit) -> str:
    known = [value for value in bundle.mean() if value is not None]
    name = "training" if bundle.kind == "train" else "validation"
    return f"{name} from {write(known[0], unit)} to {write(known[-1], unit)}" if known else ""


def level_chart(name: str, levels: Sequence[str], lines: Sequence[LevelLine], *, title: str, unit: Unit) -> Markup:
    """Draw estimates with their intervals over the levels of a factor, a line for each level of another one.

    Lines that are not parallel are what an interaction is. Each line has a dash and a mark of its own, and its name at its end.
    """
    right = 36 + 8 * max(len(line.name) for line in lines)  # as wide as the longest name, and the mark before it
    width, height, left, top, bottom = 304 + right, 230, 50, 14, 30
    known = [number for line in lines for point in line.estimates if point for number in (point[0], *(point[1] or ()))]
    ticks = nice_ticks(min(known), max(known), 4)
    low, high = ticks[0], ticks[-1]

    def x(level: int, line: int) -> float:
        span = (width - left - right) / max(len(levels), 1)
        return left + span * (level + 0.5) + (line - (len(lines) - 1) / 2) * 5

    def y(value: float) -> float:
        return top + (height - top - bottom) * (high - value) / (high - low)

    told = [[f"{level} {write(point[0], unit)}" for level, point in zip(levels, line.estimates, strict=True) if point] for line in lines]
    spoken = "; ".join(f"{line.name}: {', '.join(points)}" for line, points in zip(lines, told, strict=True))
    parts = [element("title", title, id=f"{name}-title"), element("desc", spoken, id=f"{name}-desc")]
    for tick in ticks:
        parts.append(element("line", class_="grid", x1=left, x2=width - right, y1=y(tick), y2=y(tick)))
        parts.append(element("text", _tick(tick, ticks, unit), class_="tick", x=left - 8, y=y(tick) + 4, text_anchor="end"))
    for index, level in enumerate(levels):
        parts.append(element("text", level, class_="tick", x=x(index, 0) + (len(lines) - 1) * 2.5, y=height - 9, text_anchor="middle"))
    ends: list[tuple[float, int]] = []
    for order, line in enumerate(lines):
        points = [(x(at, order), y(point[0]), point[1]) for at, point in enumerate(line.estimates) if point]
        path = "L".join(f"{across:.1f} {down:.1f}" for across, down, _ in points)
        parts.append(element("path", class_=f"line level level{order % 4}", d=f"M{path}"))
        for across, down, interval in points:
            if interval is not None:
                ends_at = {"y1": y(interval[0]), "y2": y(interval[1])}
                parts.append(element("line", class_=f"whisker level{order % 4}", x1=across, x2=across, **ends_at))
            parts.append(_level_mark(order % 4, across, down))
        if points:
            ends.append((points[-1][1], order))
    for place, order in _apart(sorted(ends), 16, top + 4, height - bottom):
        parts.append(_level_mark(order % 4, width - right + 8, place))
        parts.append(element("text", lines[order].name, class_=f"end level{order % 4}", x=width - right + 18, y=place + 4))
    return _svg(name, parts, "levels", width, height)


def _level_mark(kind: int, x: float, y: float) -> Markup:
    if kind == 0:
        return element("circle", class_="level-mark level0", cx=x, cy=y, r=4.5)
    shapes = ("", "m-4.5 -4.5h9v9h-9z", "m0 -5.5l5.5 10h-11z", "m0 -6l6 6l-6 6l-6 -6z")
    return element("path", class_=f"level-mark level{kind}", d=f"M{x:.1f} {y:.1f}{shapes[kind]}")


def _apart(ends: Sequence[tuple[float, int]], space: float, top: float, bottom: float) -> list[tuple[float, int]]:
    """Return places at least ``space`` apart, in order, none below ``bottom`` while there is room."""
    places: list[float] = []
    for place, _ in ends:
        places.append(max(place, places[-1] + space if places else top))
    over = max(0.0, places[-1] - bottom) if places else 0.0
    return [(place - over, order) for place, (_, order) in zip(places, ends, strict=True)]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other one betters, cheapest first: none is as cheap and better, or as good and cheaper.

    Of points that are equal in both, one.

    Args:
        points: cost (less is better) and value (more is better) of each.
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def scatter(
    name: str, points: Sequence[Point], *, title: str, axis: str, unit: Literal["seconds", "count"], ranked: bool = True
) -> Markup:
    """Draw accuracy against cost, the latter on a logarithmic axis, with the Pareto front: the runs that none betters in both.

    Runs on the front are filled and numbered; the others are hollow and say their name when pointed at.

    Args:
        name: a word, unique on the page, for the ids inside.
        points: the runs; ``x`` greater than 0, ``y`` a fraction of 1.
        title: what the chart shows; for those who cannot see it.
        axis: what the cost is.
        unit: how costs are written.
        ranked: whether costs can be compared; where they cannot, there is no front.
    """
    width, height, left, right, top, bottom = 400, 300, 48, 16, 14, 44
    known: list[float] = [number for point in points for number in (point.y, *(point.interval or ()))]
    y_ticks = [tick for tick in nice_ticks(min(known), max(known)) if tick <= 1 + 1e-9]
    y_ticks = y_ticks if len(y_ticks) > 1 else [0.0, 1.0]
    low, high = min(y_ticks[0], *known), max(y_ticks[-1], *known)
    x_ticks = _log_ticks(min(point.x for point in points), max(point.x for point in points), unit)
    first, last = math.log(min(x_ticks[0], *(p.x for p in points))), math.log(max(x_ticks[-1], *(p.x for p in points)))

    def x(value: float) -> float:
        return left + 8 + (width - left - right - 16) * (math.log(value) - first) / (last - first)

    def y(value: float) -> float:
        return top + (height - top - bottom) * (high - value) / (high - low)

    front = pareto_front([(point.x, point.y) for point in points]) if ranked else []
    told = "Not bettered in both, cheapest first: " if front else ""
    spoken = told + "; ".join(
        f"{points[index].label} {percent(points[index].y)} at {_cost(points[index].x, unit)}" for index in front or range(len(points))
    )
    parts = [element("title", title, id=f"{name}-title"), element("desc", spoken, id=f"{name}-desc")]
    for tick in y_ticks:
        parts.append(element("line", class_="grid", x1=left, x2=width - right, y1=y(tick), y2=y(tick)))
        parts.append(element("text", _tick(tick, y_ticks, "percent"), class_="tick", x=left - 8, y=y(tick) + 4, text_anchor="end"))
    for tick in x_ticks:
        parts.append(element("line", class_="grid", x1=x(tick), x2=x(tick), y1=top, y2=height - bottom))
        parts.append(element("text", _cost(tick, unit), class_="tick", x=x(tick), y=height - bottom + 17, text_anchor="middle"))
    parts.append(element("text", axis, class_="tick name", x=width - right, y=height - 6, text_anchor="end"))
    steps = [f"M{x(points[first].x):.1f} {y(points[first].y):.1f}" for first in front[:1]]
    steps += [f"H{x(points[after].x):.1f}V{y(points[after].y):.1f}" for after in front[1:]]
    if steps:
        parts.append(element("path", class_="front", d="".join(steps)))
    for index, point in enumerate(points):
        if index not in front:
            parts.append(_dot(point, x(point.x), y, "", unit))
    parts += [_dot(points[index], x(points[index].x), y, str(order), unit) for order, index in enumerate(front, 1)]
    return _svg(name, parts, "scatter", width, height)


def _dot(point: Point, x: float, y: _Scale, number: str, unit: Literal["seconds", "count"]) -> Markup:
    parts = [element("title", f"{point.label}: {percent(point.y, 2)} at {_cost(point.x, unit)}")]
    if point.interval is not None:
        parts.append(element("line", class_="whisker", x1=x, x2=x, y1=y(point.interval[0]), y2=y(point.interval[1])))
    parts.append(element("circle", class_="cost-dot front-dot" if number else "cost-dot", cx=x, cy=y(point.y), r=8 if number else 4))
    if number:
        parts.append(element("text", number, class_="dot-number", x=x, y=y(point.y) + 4, text_anchor="middle"))
    return element("g", *parts)


def _log_ticks(low: float, high: float, unit: Literal["seconds", "count"]) -> list[float]:
    """Return round values from about ``low`` to about ``high``, at most five: of clocks for seconds, powers of ten for counts."""
    clock = [0.1, 1, 10, 60, 600, 3600, 36_000, 360_000]
    steps = clock if unit == "seconds" else [float(f"1e{power}") for power in range(16)]
    inside = [step for step in steps if low / 1.5 <= step <= high * 1.5]
    if len(inside) < 2:  # all within one decade: its ends and middle
        low, high = (low, high) if high > low * 1.2 else (low / 1.3, high * 1.3)
        inside = [float(f"{low * (high / low) ** part:.2g}") for part in (0, 0.5, 1)]
    return inside[:: -(-len(inside) // 5)]


def _cost(value: float, unit: Literal["seconds", "count"]) -> str:
    if unit == "seconds":
        return duration(value).replace("\u00a00\u202fs", "").replace("\u00a00\u202fmin", "") if value >= 60 else f"{value:.3g}\u202fs"
    for size, word in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}\u202f{word}"
    return f"{value:.3g}"


def _tick(value: float, ticks: Sequence[float], unit: Unit) -> str:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    shares = unit in ("percent", "points")
    digits = max(0, math.ceil(-math.log10(step * 100) - 1e-9)) if shares else 0
    if shares and round(step * 100, digits) != round(step * 100, 9):
        digits += 1  # steps of 2.5
    if unit == "percent":
        return percent(value, digits)
    if unit == "points":
        return f"{value * 100:+.{digits}f}".replace("-", "−") if abs(value) > 1e-12 else "0"
    return f"{value:,.10g}".replace("-", "−")


def _svg(name: str, parts: Sequence[Markup], kind: str, width: float, height: float) -> Markup:
    labels = f"{name}-title {name}-desc"
    return element("svg", *parts, class_=f"chart {kind}", viewBox=f"0 0 {width:g} {height:g}", role="img", aria_labelledby=labels)
