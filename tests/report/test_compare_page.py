"""The page of a comparison: complete, well formed, and quiet."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from fittingroom.evaluate import statistics
from fittingroom.evaluate.compare import McNemar, Pair, Ranking, RecipeComparison, Standing
from fittingroom.report.compare_page import rank_chart, render

RECIPES = ("lenet5", "<basic>", "compact & co")
RANKING = Ranking(RECIPES, ("mnist", "digits"), (1.0, 2.0, 3.0), 0.04, 1.5, (("lenet5", "<basic>"), ("<basic>", "compact & co")))


def comparison(metric: str = "accuracy") -> RecipeComparison:
    values = [(0.90, 0.91, 0.92), (0.88, 0.885, 0.91), (0.87, 0.86, 0.88)]
    standings, pairs = [], []
    for data in ("mnist", "digits"):
        for recipe, figures in zip(RECIPES, values, strict=True):
            interval = statistics.mean_interval(figures)
            costs: dict[str, float | None] = {"seconds": 10.0 * len(recipe), "parameters": 1e4, "multiply_adds": None}
            runs = tuple(f"{recipe}-{seed}" for seed in range(3))
            standings.append(Standing(recipe, data, runs, (0, 1, 2), figures, interval.estimate, interval, costs, ("seconds",)))
        found = statistics.paired([second - first for first, second in zip(values[0], values[1], strict=True)])
        tests = tuple(McNemar(seed, 9, 3, 0.15) for seed in range(3))
        images = statistics.Interval(found.mean, -0.02, 0.001, "bootstrap")
        pairs.append(
            Pair("lenet5", "<basic>", data, (0, 1, 2), found.mean, found, 0.2, 0.9, images, tests, "undecided", 4, "It is <undecided>.")
        )
        pairs.append(Pair("lenet5", "compact & co", data, (), None, None, None, None, None, (), "cannot say", None, "No seed in common."))
    images_of = {"mnist": 100, "digits": 200}
    return RecipeComparison("validation", metric, 0.003, images_of, tuple(standings), tuple(pairs), RANKING, ("One <notice>.",))


def test_the_page_is_complete_and_asks_for_nothing() -> None:
    page = render(comparison())
    for part in ("2 undecided, 2 cannot say", "McNemar, seed 2", "Accuracy against training time on digits", "± 0.3 points", "Friedman"):
        assert part in page
    for part in ("<basic>", "<undecided>", "<notice>"):
        assert part not in page, "names and sentences are escaped"
    assert re.search(r'<td class="main">\d+\.\d\d %<small>\d+\.\d\d to \d+\.\d\d, 3 seeds</small></td>', page)
    assert "multiply-adds an image on" not in page, "a cost that is not known is not drawn"
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    assert 'style="' not in page
    identifiers = re.findall(r' id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(chart)


def test_a_loss_has_no_percentages() -> None:
    page = render(comparison("loss"))
    assert "Loss on mnist" in page
    assert "± 0.003" in page
    assert "against training time" not in page


def test_ranks_are_drawn_to_scale() -> None:
    drawn = ElementTree.fromstring(str(rank_chart(RANKING)))
    groups = [part for part in drawn.iter("line") if part.get("class") == "rank-group"]
    assert [(float(part.get("x1", "")), float(part.get("x2", ""))) for part in groups] == [(17, 203), (197, 383)]
    names = [str(part.text) for part in drawn.iter("text") if part.get("class") == "row-name"]
    assert sorted(names) == ["<basic> 2.00", "compact & co 3.00", "lenet5 1.00"]
