"""Charts as inline SVG and tables: pure functions from numbers to markup.

Colours come from classes that the page's style sheet defines, light, dark and on paper; nothing here carries a style of its
own, so that the page can forbid inline styles. What a colour says, a shape, a dash or a figure says too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeGuard

from markupsafe import Markup, escape

from fittingroom.evaluate import CalibrationBin, ClassScores
from fittingroom.report.text import percent, plural

__all__ = [
    "ERROR_STEPS",
    "HIT_STEPS",
    "Series",
    "class_bars",
    "confusion_table",
    "element",
    "legend_steps",
    "line_chart",
    "nice_ticks",
    "reliability_diagram",
    "sparse_confusion",
    "spoken_curve",
    "tape",
]

_Scale = Callable[[float], float]

MOST_POINTS = 300
"""Longer curves are drawn from this many of their points."""
ERROR_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Edges of the colour steps of wrong cells, as fractions of the true class: the same in every report, so that two compare."""
HIT_STEPS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Edges of the colour steps of the diagonal."""


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: what stands at its end.
        values: one value an epoch; None or not finite leaves a gap.
        kind: `train` (dashed, hollow marks) or `validation` (solid, filled marks).
    """

    name: str
    values: Sequence[float | None]
    kind: Literal["train", "validation"]


def _element(name: str, /, *children: Markup | str, **attributes: str | float | int | None) -> Markup:
    """Return one element; ``class_`` is written class, underscores become hyphens, None is left out, all is escaped."""
    # Plain strings, escaped one by one: a study's page has tens of thousands of elements, and `Markup.format` takes five times as long.
    pairs = ((key.rstrip("_").replace("_", "-"), escape(_short(item))) for key, item in attributes.items() if item is not None)
    written = "".join(f' {key}="{item}"' for key, item in pairs)
    return Markup(f"<{name}{written}>{''.join(map(escape, children))}</{name}>")


def _short(item: str | float) -> str:
    return f"{item:.2f}".rstrip("0").rstrip(".") if isinstance(item, float) else str(item)


element = _element
"""The builder of elements, for the other files of charts."""


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers, by 1, 2, 2.5 or 5, from at most ``low`` to at least ``high``."""
    largest = max(abs(low), abs(high))
    if largest < 1e-290:  # zero, to all intents; below, logarithms fail
        low, high = -0.05, 0.05
    elif high - low <= 1e-9 * largest:  # too narrow to be told apart in the labels
        low, high = low - 0.05 * largest, high + 0.05 * largest
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def line_chart(
    name: str,
    series: Sequence[Series],
    *,
    title: str,
    description: str,
    unit: Literal["percent", "plain"],
    kept: int | None = None,
) -> Markup:
    """Draw curves over epochs, each with its name at its end.

    Args:
        name: a word, unique on the page, for the ids inside.
        series: the curves, equally long.
        title: what the chart shows; for those who cannot see it.
        description: what is to be seen in it; likewise.
        unit: whether 0.9 is written 90 % or 0.9.
        kept: epoch whose weights were kept, marked by a line.
    """
    width, height, left, right, top, bottom = 400, 270, 44, 78, 16, 34
    epochs = max((len(line.values) for line in series), default=0)
    known = [value for line in series for value in line.values if _is_number(value)]
    if not known:
        return Markup('<p class="quiet">Nothing recorded.</p>')
    ticks = nice_ticks(min(known), max(known))
    if unit == "percent":
        ticks = [tick for tick in ticks if -1e-9 <= tick <= 1 + 1e-9]
        ticks = ticks if len(ticks) > 1 else [0.0, 1.0]
    low, high = min(ticks[0], *known), max(ticks[-1], *known)
    digits = next((count for count in range(4) if all(abs(100 * tick - round(100 * tick, count)) < 1e-6 for tick in ticks)), 4)

    def x(epoch: float) -> float:
        return left + (width - left - right) * ((epoch - 1) / (epochs - 1) if epochs > 1 else 0.5)

    def y(value: float) -> float:
        return top + (height - top - bottom) * (high - value) / (high - low)

    def label(value: float) -> str:
        return percent(value, digits) if unit == "percent" else f"{value:.10g}"

    parts = [_element("title", title, id=f"{name}-title"), _element("desc", description, id=f"{name}-desc")]
    for tick in ticks:
        parts.append(_element("line", class_="grid", x1=left, x2=width - right, y1=y(tick), y2=y(tick)))
        parts.append(_element("text", label(tick), class_="tick", x=left - 8, y=y(tick) + 4, text_anchor="end"))
    for epoch in _epoch_ticks(epochs):
        parts.append(_element("text", str(epoch), class_="tick", x=x(epoch), y=height - bottom + 18, text_anchor="middle"))
    parts.append(_element("text", "epoch", class_="tick", x=width, y=height - bottom + 18, text_anchor="end"))
    if kept is not None and 1 <= kept <= epochs and epochs > 1:
        parts.append(_element("line", class_="kept", x1=x(kept), x2=x(kept), y1=top, y2=height - bottom))
        anchor = "end" if kept > epochs * 0.6 else "start"
        shift = -5 if anchor == "end" else 5
        place = height - bottom - 7 if unit == "percent" else top + 10
        parts.append(_element("text", "kept", class_="kept-label", x=x(kept) + shift, y=place, text_anchor=anchor))
    for line in series:
        parts += _curve(line, epochs, x, y)
    parts += _end_labels(series, width - right + 10, y, top + 4, height - bottom)
    parts.append(_element("line", class_="cursor", x1=-9, x2=-9, y1=top, y2=height - bottom))
    data = ";".join(f"{line.name}={_written(line.values)}" for line in series)
    return _element(
        "svg",
        *parts,
        class_="chart lines",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        data_series=data if epochs <= MOST_POINTS else None,
        data_unit=unit,
        data_from=left,
        data_to=width - right,
    )


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _written(values: Sequence[float | None]) -> str:
    return ",".join(format(value, ".5g") if _is_number(value) else "" for value in values)


def _epoch_ticks(epochs: int) -> list[int]:
    if epochs <= 6:
        return list(range(1, epochs + 1))
    step = next(size for power in range(6) for size in (2 * 10**power, 5 * 10**power, 10 * 10**power) if epochs / size <= 6)
    return [1, *(epoch for epoch in range(step, epochs + 1, step) if epoch > 1)]


def _thinned(count: int) -> list[int]:
    """Return at most `MOST_POINTS` positions, evenly spread, first and last included."""
    if count <= MOST_POINTS:
        return list(range(count))
    return sorted({round(index * (count - 1) / (MOST_POINTS - 1)) for index in range(MOST_POINTS)})


def _curve(line: Series, epochs: int, x: _Scale, y: _Scale) -> list[Markup]:
    pieces: list[list[str]] = [[]]
    marks: list[Markup] = []
    for index in _thinned(len(line.values)):
        value = line.values[index]
        if not _is_number(value):
            pieces.append([])
            continue
        across, down = x(index + 1), y(value)
        pieces[-1].append(f"{across:.1f} {down:.1f}")
        if epochs <= 25 and line.kind == "train":
            marks.append(_element("rect", class_="mark train", x=across - 2.5, y=down - 2.5, width=5, height=5))
        elif epochs <= 25:
            marks.append(_element("circle", class_="mark validation", cx=across, cy=down, r=3))
    path = " ".join("M" + " L".join(piece) for piece in pieces if len(piece) > 1)
    return ([_element("path", class_=f"line {line.kind}", d=path)] if path else []) + marks


def _end_labels(series: Sequence[Series], x: float, y: _Scale, top: float, bottom: float) -> list[Markup]:
    """Place the names beside the ends of their lines, at least a line of text apart."""
    ends = [(y(known[-1]), line) for line in series if (known := list(filter(_is_number, line.values)))]
    ends.sort(key=lambda end: end[0])
    places: list[float] = []
    for place, _ in ends:
        places.append(max(place, places[-1] + 15 if places else top))
    overflow = max(0.0, places[-1] - bottom) if places else 0.0
    return [
        _element("text", line.name, class_=f"end {line.kind}", x=x, y=place - overflow + 4)
        for place, (_, line) in zip(places, ends, strict=True)
    ]


def tape(marks: Sequence[tuple[str, float, tuple[float, float]]], digits: int = 1) -> Markup:
    """Draw accuracies on a tailor's tape measure: the signature of the page.

    Args:
        marks: name, accuracy and interval of one or two splits, the headline first; all in [0, 1].
        digits: decimals of the percentages.
    """
    lowest = min(low for _, _, (low, _) in marks)
    start = 0 if lowest < 0.55 else 50 if lowest < 0.72 else 70 if lowest < 0.83 else 80 if lowest < 0.905 else 90
    span = 100 - start
    minor = 2.5 if span > 50 else 1 if span > 30 else 0.5 if span > 10 else 0.25
    major = 10 if span > 30 else 5 if span > 10 else 2.5

    def x(share: float) -> str:
        return f"{(max(share * 100, start) - start) / span * 92 + 4:.3f}%"

    def write(share: float) -> str:
        return percent(share, digits)

    spoken = "; ".join(f"{name} {write(value)}, 95 % interval {write(low)} to {write(high)}" for name, value, (low, high) in marks)
    parts = [
        _element("title", f"Accuracy on a scale from {start} to 100 %: {spoken}", id="tape-title"),
        _element("rect", class_="tape-band", x=0, y=34, width="100%", height=40, rx=3),
    ]
    for index in range(round(span / minor) + 1):
        at = start + index * minor
        length = 17 if index % round(major / minor) == 0 else 11 if index % 2 == 0 else 6
        parts.append(_element("line", class_="tape-tick", x1=x(at / 100), x2=x(at / 100), y1=34, y2=34 + length))
        if length == 17:
            parts.append(_element("text", f"{at:g}", class_="tape-number", x=x(at / 100), y=67, text_anchor="middle"))
    for index, (name, value, (low, high)) in enumerate(marks[:2]):
        above = index == 0
        edge, far = (34, 14) if above else (74, 94)
        anchor = "end" if (value * 100 - start) / span > 0.55 else "start"
        shift = -10 if anchor == "end" else 10
        left, right = float(x(low)[:-1]), float(x(high)[:-1])
        kind, place, top = ("headline" if above else "other"), x(value), (28 if above else 74)
        parts += [
            _element("rect", class_=f"tape-interval {kind}", x=f"{left:.3f}%", width=f"{right - left:.3f}%", y=top, height=6),
            _element("line", class_=f"tape-pin {kind}", x1=place, x2=place, y1=edge, y2=far),
            _element("circle", class_=f"tape-head {kind}", cx=place, cy=far, r=4.5),
            _element("text", f"{name} {write(value)}", class_=f"tape-name {kind}", x=place, dx=shift, y=far + 4, text_anchor=anchor),
        ]
    height = 104 if len(marks) > 1 else 76
    return _element("svg", *parts, class_="tape", width="100%", height=height, role="img", aria_labelledby="tape-title")


def _shade(share: float, steps: Sequence[float]) -> int:
    return sum(share >= edge for edge in steps)


def confusion_table(classes: Sequence[str], confusion: Sequence[Sequence[int]], *, walkable: bool = True) -> Markup:
    """Draw a confusion matrix as a table whose cells are shaded: rows true, columns predicted.

    A table, because it can be read aloud, copied into a spreadsheet and walked through with the arrow keys. Each cell has its
    count and, in smaller matrices, the percentage of its row. ``walkable`` makes it a stop of the Tab key, for pages whose script
    goes on from there with the arrow keys.
    """
    small = len(classes) <= 12
    head = [_element("td", _element("span", "true ↓ predicted →", class_="corner"))]
    head += [_element("th", _element("span", name), scope="col") for name in classes]
    rows = []
    for label, (name, row) in enumerate(zip(classes, confusion, strict=True)):
        total = sum(row)
        cells = [_element("th", name, scope="row")]
        for other, count in enumerate(row):
            cells.append(_cell(label, other, count, total, small, walkable and label == other == 0))
        rows.append(_element("tr", *cells))
    spoken = f"Confusion matrix of {plural(len(classes), 'class', 'classes')}: rows are the true class, columns the predicted one"
    return _element(
        "table",
        _element("caption", spoken, class_="unseen"),
        _element("thead", _element("tr", *head)),
        _element("tbody", *rows),
        class_="matrix" if small else "matrix dense" if max(map(len, classes)) > 2 else "matrix dense upright",
    )


def _cell(label: int, other: int, count: int, total: int, small: bool, focusable: bool) -> Markup:
    share = count / total if total else 0.0
    focus = 0 if focusable else None
    if not count:
        return _element("td", Markup('<span class="zero">·</span>'), class_="none", tabindex=focus)
    kind = f"hit{_shade(share, HIT_STEPS)}" if label == other else f"miss{_shade(share, ERROR_STEPS)}"
    inner = [Markup(f"{count:,}")]
    if small:
        inner.append(_element("small", f"{share * 100:.1f}%" if share < 0.9995 else "100%"))
    return _element("td", *inner, class_=kind, tabindex=focus)


def sparse_confusion(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> Markup:
    """Draw a large confusion matrix as a picture of its cells that are not empty: for many classes, where figures have no room."""
    size = len(classes)
    unit = max(4, 600 // size)
    side = unit * size
    parts = [
        _element("title", f"Confusion matrix of {size} classes; the table beside it lists the most frequent confusions", id="sparse-title"),
        _element("rect", class_="field", x=0, y=0, width=side, height=side),
    ]
    for label, row in enumerate(confusion):
        total = sum(row)
        for other, count in enumerate(row):
            if count:
                share = count / total
                kind = f"hit{_shade(share, HIT_STEPS)}" if label == other else f"miss{_shade(share, ERROR_STEPS)}"
                parts.append(_element("rect", class_=kind, x=other * unit, y=label * unit, width=unit, height=unit))
    return _element("svg", *parts, class_="chart sparse", viewBox=f"0 0 {side} {side}", role="img", aria_labelledby="sparse-title")


def class_bars(classes: Sequence[str], scores: Sequence[ClassScores]) -> Markup:
    """Draw one bar a class for F1, with marks for precision and recall, in a table that also gives the figures; worst first."""
    order = sorted(range(len(classes)), key=lambda label: (scores[label].f1, label))
    head = ("class", "", "F1", "precision", "recall", "images")
    rows = []
    for label in order:
        score = scores[label]
        bar = _element(
            "svg",
            _element("rect", class_="bar-rest", x=0, y=5, width="100%", height=12, rx=2),
            _element("rect", class_="bar", x=0, y=5, width=f"{score.f1 * 100:.2f}%", height=12, rx=2),
            _element("line", class_="recall", x1=f"{score.recall * 100:.2f}%", x2=f"{score.recall * 100:.2f}%", y1=1, y2=21),
            _element("circle", class_="precision", cx=f"{score.precision * 100:.2f}%", cy=11, r=4),
            class_="bars",
            height=22,
            aria_hidden="true",
        )
        figures = [f"{score.f1:.3f}", f"{score.precision:.3f}", f"{score.recall:.3f}", f"{score.support:,}"]
        cells = [_element("th", classes[label], scope="row"), _element("td", bar, class_="bar-cell")]
        cells += [_element("td", figure, class_="number" if index else "number main") for index, figure in enumerate(figures)]
        rows.append(_element("tr", *cells))
    return _element(
        "table",
        _element("caption", "F1, precision and recall per class, the weakest class first", class_="unseen"),
        _element("thead", _element("tr", *(_element("th", text, scope="col") if text else Markup("<td></td>") for text in head))),
        _element("tbody", *rows),
        class_="scores",
    )


def reliability_diagram(bins: Sequence[CalibrationBin], *, name: str = "reliability", few: int = 20) -> Markup:
    """Draw accuracy against confidence, with the number of examples of each bin below.

    Bars are accuracies; a hatched piece is the part by which the model promises more than it keeps, an empty outlined one
    the part by which it keeps more. Bins of fewer than ``few`` examples are drawn pale.
    """
    left, top, side, gap, counts_height = 46, 12, 300, 14, 54
    width, height = left + side + 14, top + side + gap + counts_height + 40
    filled = [part for part in bins if part.count]
    most = max((part.count for part in filled), default=1)

    def x(share: float) -> float:
        return left + side * share

    def y(share: float) -> float:
        return top + side * (1 - share)

    spoken = ", ".join(f"at {percent(part.confidence, 0)} confidence {percent(part.accuracy, 0)} right" for part in filled)
    parts = [
        _element("title", "Reliability diagram: accuracy against confidence", id=f"{name}-title"),
        _element("desc", spoken or "no examples", id=f"{name}-desc"),
        Markup(
            '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
            '<rect class="hatch-back" width="6" height="6"></rect><line class="hatch-line" x1="0" x2="0" y1="0" y2="6"></line></pattern>'
        ),
    ]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_element("line", class_="grid", x1=left, x2=left + side, y1=y(tick), y2=y(tick)))
        parts.append(_element("text", percent(tick, 0), class_="tick", x=left - 7, y=y(tick) + 4, text_anchor="end"))
        anchor = "end" if tick == 1 else "start" if tick == 0 else "middle"
        parts.append(_element("text", percent(tick, 0), class_="tick", x=x(tick), y=height - 22, text_anchor=anchor))
    base = top + side + gap + counts_height
    for part in filled:
        across, wide = x(part.lower) + 1, side * (part.upper - part.lower) - 2
        pale = " few" if part.count < few else ""
        spoken = f"{percent(part.lower, 0)} to {percent(part.upper, 0)}: {plural(part.count, 'image')}, {percent(part.accuracy)} right"
        parts.append(
            _element(
                "g",
                _element("title", spoken),
                _element("rect", class_=f"kept-promise{pale}", x=across, width=wide, y=y(part.accuracy), height=y(0) - y(part.accuracy)),
                _promise(part, across, wide, y, pale),
                _element(
                    "rect",
                    class_=f"count{pale}",
                    x=across,
                    width=wide,
                    y=base - max(1.0, counts_height * part.count / most),
                    height=max(1.0, counts_height * part.count / most),
                ),
            )
        )
    parts += [
        _element("line", class_="ideal", x1=x(0), x2=x(1), y1=y(0), y2=y(1)),
        _element("text", "confidence", class_="tick", x=left + side / 2, y=height - 5, text_anchor="middle"),
        _element("text", "right", class_="tick name", x=left + 5, y=top + 10),
        _element("text", "images", class_="tick name", x=left + 5, y=top + side + gap + 10),
    ]
    return _element(
        "svg", *parts, class_="chart reliability", viewBox=f"0 0 {width} {height}", role="img", aria_labelledby=f"{name}-title {name}-desc"
    )


def _promise(part: CalibrationBin, x: float, width: float, y: _Scale, pale: str) -> Markup:
    """Draw the piece between what a bin promises and what it keeps."""
    over = part.confidence > part.accuracy
    high, low = max(part.confidence, part.accuracy), min(part.confidence, part.accuracy)
    kind = f"{'over' if over else 'under'}{pale}"
    return _element("rect", class_=kind, x=x, width=width, y=y(high), height=y(low) - y(high), fill="url(#hatch)" if over else "none")


def legend_steps(steps: Sequence[float]) -> list[str]:
    """Return the texts of a legend with one step more than there are edges."""
    edges = [f"{step * 100:g}" for step in steps]
    return [f"under {edges[0]}", *(f"{low}–{high}" for low, high in pairwise(edges)), f"{edges[-1]} or more"]


def spoken_curve(series: Sequence[Series], unit: Literal["percent", "plain"]) -> str:
    """Return in words where the curves begin and end."""

    def write(value: float) -> str:
        return percent(value) if unit == "percent" else f"{value:.3f}"

    parts = []
    for line in series:
        if known := list(filter(_is_number, line.values)):
            parts.append(f"{line.name} from {write(known[0])} to {write(known[-1])} over {plural(len(known), 'epoch')}")
    return "; ".join(parts)
