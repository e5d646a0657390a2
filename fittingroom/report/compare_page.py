"""The page of a comparison: recipes with their intervals, each two against each other, accuracy against cost, ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fittingroom.evaluate.compare import COSTS, METRICS, Pair, Ranking, RecipeComparison, Standing, write_mean, write_p
from fittingroom.files import write_text
from fittingroom.report import text
from fittingroom.report.charts import element
from fittingroom.report.shell import render_page
from fittingroom.report.study_charts import Estimate, Point, Unit, dot_intervals, pareto_front, scatter

__all__ = ["rank_chart", "render", "write_comparison"]

AXES = {"seconds": "training time", "parameters": "parameters", "multiply_adds": "multiply-adds an image"}
KINDS = {"real": "held", "no practical difference": "higher", "undecided": "undecided", "cannot say": "untestable"}


def write_comparison(path: Path, comparison: RecipeComparison) -> Path:
    """Write a comparison as one self-contained page and return its path.

    Raises:
        FittingRoomError: the file cannot be written.
    """
    write_text(path, render(comparison))
    return path


def render(comparison: RecipeComparison) -> str:
    """Return the whole page, from doctype to last newline; write it as UTF-8."""
    recipes = list(dict.fromkeys(one.recipe for one in comparison.standings))
    return render_page(
        "compare.html",
        ["study.css", "compare.css"],
        found=comparison,
        recipes=recipes,
        metric=comparison.metric,
        headline=_headline(comparison),
        standings=[_standing(one, comparison) for one in comparison.standings],
        means=_means(comparison),
        pairs=[_pair(pair) for pair in comparison.pairs],
        differences=_differences(comparison),
        costs=_costs(comparison),
        ranks=None if comparison.ranking is None else rank_chart(comparison.ranking),
        margin=_margin(comparison),
    )


def _headline(found: RecipeComparison) -> str:
    """What came out, in a few words."""
    verdicts = [pair.verdict for pair in found.pairs]
    told = [f"{verdicts.count(word)} {word}" for word in KINDS if word in verdicts]
    return verdicts[0].capitalize() if len(verdicts) == 1 else ", ".join(told)


def _margin(found: RecipeComparison) -> str:
    return f"± {100 * found.margin:g} points" if METRICS[found.metric].unit == "share" else f"± {found.margin:g}"


def _standing(one: Standing, found: RecipeComparison) -> dict[str, Any]:
    seconds = one.costs["seconds"]
    mean, _, around = write_mean(one, found.metric).partition(" (")
    sizes = [one.costs[cost] for cost in ("parameters", "multiply_adds")]
    return {
        "recipe": one.recipe,
        "data": one.data,
        "mean": mean,
        "around": around.removesuffix(")"),
        "runs": ", ".join(one.runs),
        "costs": ["—" if seconds is None else text.duration(seconds), *("—" if size is None else text.compact(size) for size in sizes)],
    }


def _unit(found: RecipeComparison, shares: Unit) -> Unit:
    return shares if METRICS[found.metric].unit == "share" else "plain"


def _means(found: RecipeComparison) -> list[tuple[str, Markup]]:
    charts = []
    for number, data in enumerate(found.images):
        rows = [
            Estimate(one.recipe, one.values, one.mean, None if one.interval is None else (one.interval.low, one.interval.high))
            for one in found.standings
            if one.data == data
        ]
        charts.append((data, dot_intervals(f"means-{number}", rows, title=f"{found.metric} on {data}", unit=_unit(found, "percent"))))
    return charts


def _differences(found: RecipeComparison) -> list[tuple[str, Markup]]:
    """Every pair with its differences by seed; none where no seed is shared."""
    charts = []
    for number, data in enumerate(found.images):
        rows = [_estimate(pair) for pair in found.pairs if pair.data == data and pair.estimate is not None]
        if rows:
            title, unit = f"Differences of {found.metric} on {data}, paired by seed", _unit(found, "points")
            charts.append((data, dot_intervals(f"pairs-{number}", rows, title=title, unit=unit, references=[(0.0, "no difference")])))
    return charts


def _estimate(pair: Pair) -> Estimate:
    label = f"{pair.second} less {pair.first}"
    if pair.paired is None:
        return Estimate(label, [pair.estimate or 0.0], pair.estimate)
    return Estimate(label, pair.paired.differences, pair.estimate, (pair.paired.interval.low, pair.paired.interval.high))


def _pair(pair: Pair) -> dict[str, Any]:
    facts = [("seeds in common", ", ".join(map(str, pair.seeds)) or "none")]
    if pair.paired is not None and pair.p_adjusted is not None and pair.equivalence_p is not None:
        facts += [
            ("paired t test", write_p(pair.paired.p_value)),
            ("after Holm's correction", write_p(pair.p_adjusted)),
            ("signs flipped, exact", write_p(pair.paired.sign_flip_p)),
            ("equivalence, corrected", write_p(pair.equivalence_p)),
        ]
    if pair.over_images is not None:
        ends = [f"{100 * end:+.2f}".replace("-", "−") for end in (pair.over_images.low, pair.over_images.high)]
        facts.append(("over seeds and images", f"{ends[0]} to {ends[1]} points"))
    facts += [
        (f"McNemar, seed {test.seed}", f"{test.only_first} against {test.only_second} images, {write_p(test.p_value)}")
        for test in pair.mcnemar
    ]
    return {"pair": pair, "kind": KINDS[pair.verdict], "facts": facts}


def _costs(found: RecipeComparison) -> list[tuple[str, Markup, list[str]]]:
    """Accuracy against each cost, with the names of the front; only where more is better and all costs are known."""
    charts = []
    for number, data in enumerate(found.images):
        standings = [one for one in found.standings if one.data == data]
        for cost in COSTS:
            known = [one for one in standings if one.costs[cost]]
            if METRICS[found.metric].unit != "share" or len(known) < 2:
                continue
            points = [_point(one, cost) for one in known]
            title = f"{found.metric.capitalize()} against {AXES[cost]}" + (f" on {data}" if len(found.images) > 1 else "")
            drawn = scatter(f"cost-{number}-{cost}", points, title=title, axis=AXES[cost], unit="seconds" if cost == "seconds" else "count")
            charts.append((title, drawn, [points[index].label for index in pareto_front([(point.x, point.y) for point in points])]))
    return charts


def _point(one: Standing, cost: str) -> Point:
    return Point(one.recipe, float(one.costs[cost] or 0), one.mean, None if one.interval is None else (one.interval.low, one.interval.high))


def rank_chart(ranking: Ranking, name: str = "ranks") -> Markup:
    """Draw average ranks on a line, best on the left; a bar joins recipes that are not told apart (Demšar, 2006, figure 1)."""
    width, left, right, line, row = 400, 20, 20, 56, 20
    order = sorted(range(len(ranking.recipes)), key=lambda index: ranking.ranks[index])
    most = len(order)

    def x(rank: float) -> float:
        return left + (width - left - right) * (rank - 1) / (most - 1)

    spoken = "; ".join(f"{ranking.recipes[index]} {ranking.ranks[index]:.2f}" for index in order)
    title = f"Average ranks over {len(ranking.data_sets)} data sets; critical difference {ranking.critical_difference:.2f}"
    parts = [element("title", title, id=f"{name}-title"), element("desc", spoken, id=f"{name}-desc")]
    reach = min(x(1 + ranking.critical_difference), width - right)
    parts.append(element("path", class_="rank-line", d=f"M{left} 14v8M{left} 18H{reach:.1f}m0 -4v8"))
    parts.append(element("text", f"critical difference {ranking.critical_difference:.2f}", class_="tick", x=left, y=9))
    parts.append(element("line", class_="rank-line", x1=left, x2=width - right, y1=line, y2=line))
    for rank in range(1, most + 1):
        parts.append(element("line", class_="rank-line", x1=x(rank), x2=x(rank), y1=line - 5, y2=line))
        parts.append(element("text", str(rank), class_="tick", x=x(rank), y=line - 9, text_anchor="middle"))
    parts += _bars(ranking, x, line)
    below = line + 8 + 7 * len(ranking.groups)
    halves = [[index for index in order if (x(ranking.ranks[index]) < width / 2) == on_left] for on_left in (True, False)]
    # On each side the outermost hangs lowest, so that no line crosses a name, and the right side below the left, so that no names meet.
    for half, first, anchor, shift in ((halves[0][::-1], 1, "start", 5), (halves[1], 1 + len(halves[0]), "end", -5)):
        for place, index in enumerate(half, first):
            at, down = x(ranking.ranks[index]), below + row * place
            parts.append(element("path", class_="rank-lead", d=f"M{at:.1f} {line}V{down}"))
            label = f"{ranking.recipes[index]} {ranking.ranks[index]:.2f}"
            parts.append(element("text", label, class_="row-name", x=at + shift, y=down, text_anchor=anchor))
    height = below + row * most + 8
    labels = f"{name}-title {name}-desc"
    return element("svg", *parts, class_="chart ranks", viewBox=f"0 0 {width} {height}", role="img", aria_labelledby=labels)


def _bars(ranking: Ranking, x: Any, line: int) -> Sequence[Markup]:
    places = dict(zip(ranking.recipes, ranking.ranks, strict=True))
    bars = []
    for number, group in enumerate(ranking.groups):
        ends = [places[name] for name in group]
        down = line + 8 + 7 * number
        bars.append(element("line", class_="rank-group", x1=x(min(ends)) - 3, x2=x(max(ends)) + 3, y1=down, y2=down))
    return bars
