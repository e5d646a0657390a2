"""Charts: well formed, to scale, and with a text for those who cannot see them."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fittingroom.evaluate import CalibrationBin
from fittingroom.report import charts
from fittingroom.report.charts import Series
from tests.report.demo import CLOTHES, evaluation, named

Points = list[tuple[float, float]]


def lines_of(*curves: list[float | None], unit: str = "plain", kept: int | None = None) -> ET.Element:
    names = ("training", "validation")
    series = [Series(name, values, kind) for name, values, kind in zip(names, curves, ("train", "validation"), strict=False)]
    return ET.fromstring(charts.line_chart("c", series, title="t", description="d", unit=unit, kept=kept))


def points_of(chart: ET.Element, kind: str) -> list[Points]:
    path = next(p for p in chart.iter("path") if p.get("class") == f"line {kind}")
    pieces = path.get("d", "").split("M")[1:]
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.-]+) ([\d.-]+)", piece)] for piece in pieces]


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_cover_the_range_in_equal_round_steps(low: float, width: float) -> None:
    ticks = charts.nice_ticks(low, low + width)
    slack = 1e-6 * max(1.0, abs(low), width)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + width - slack
    assert 2 <= len(ticks) <= 12
    steps = [b - a for a, b in pairwise(ticks)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_a_curve_is_drawn_to_scale(values: list[float]) -> None:
    (points,) = points_of(lines_of(values), "train")
    assert len(points) == len(values)
    xs = [x for x, _ in points]
    assert xs == sorted(xs)
    for ((_, first), (_, second)), (a, b) in zip(pairwise(points), pairwise(values), strict=True):
        if abs(a - b) > 0.02 * (max(values) - min(values)):
            assert (first > second) == (a < b)  # the page's y goes down


def test_gaps_stay_gaps() -> None:
    chart = lines_of([0.1, 0.2, None, math.nan, 0.5, 0.6])
    assert [len(piece) for piece in points_of(chart, "train")] == [2, 2]


def test_long_curves_are_thinned_to_their_ends() -> None:
    chart = lines_of([epoch / 5000 for epoch in range(5000)])
    (points,) = points_of(chart, "train")
    assert len(points) <= charts.MOST_POINTS
    assert chart.get("data-series") is None
    assert (points[0][0], points[-1][0]) == (44.0, 322.0)


@pytest.mark.parametrize(
    "values",
    [[0.5], [None, 0.5], [0.0, 0.0], [1.0, 1.0, 1.0], [0.9231, 0.9231], [1e-9, 2e-9], [1e-20, 3e-20], [0.0, 5e-324], [5e4, 1e5]],
)
@pytest.mark.parametrize("unit", ["percent", "plain"])
def test_odd_curves_are_drawn(values: list[float | None], unit: str) -> None:
    scaled = [value if value is None or value <= 1 or unit == "plain" else 1.0 for value in values]
    chart = lines_of(scaled, unit=unit)
    numbers = [float(mark.get("y", "0")) for mark in chart.iter("rect")]
    assert numbers
    assert all(math.isfinite(number) for number in numbers)


def test_nothing_recorded_is_said() -> None:
    drawn = charts.line_chart("c", [Series("training", [None, None], "train")], title="t", description="d", unit="plain")
    assert "Nothing recorded" in drawn


def test_names_at_the_ends_do_not_overlap() -> None:
    chart = lines_of([0.1, 0.5], [0.1, 0.5001])
    first, second = (float(label.get("y", "0")) for label in chart.iter("text") if "end" in (label.get("class") or "").split())
    assert abs(first - second) >= 14.9


def test_the_kept_epoch_is_marked() -> None:
    assert any(line.get("class") == "kept" for line in lines_of([0.1, 0.2, 0.3], kept=2).iter("line"))
    assert not any(line.get("class") == "kept" for line in lines_of([0.1, 0.2, 0.3]).iter("line"))


def test_curves_are_described_in_words() -> None:
    words = charts.spoken_curve([Series("training", [0.5, None, 0.9], "train"), Series("validation", [None], "validation")], "percent")
    assert words == "training from 50.0\u202f% to 90.0\u202f% over 2 epochs"


def test_confusion_table_has_every_count_under_its_names() -> None:
    judged = evaluation(1000, CLOTHES, 1)
    table = ET.fromstring(charts.confusion_table(judged.classes, judged.confusion))
    assert ["".join(cell.itertext()) for cell in table.findall("thead/tr/th")] == list(CLOTHES)
    for name, counts, row in zip(CLOTHES, judged.confusion, table.findall("tbody/tr"), strict=True):
        assert row.findtext("th") == name
        assert [cell.text if cell.get("class") != "none" else "0" for cell in row.findall("td")] == [str(count) for count in counts]
    assert len([cell for cell in table.iter("td") if cell.get("tabindex") == "0"]) == 1


def test_confusion_shades_mean_the_same_in_every_report() -> None:
    table = ET.fromstring(charts.confusion_table(("a", "b"), ((96, 4), (30, 70))))
    assert [cell.get("class") for cell in table.findall("tbody/tr/td")] == ["hit6", "miss3", "miss6", "hit3"]
    assert len(charts.legend_steps(charts.ERROR_STEPS)) == 7
    assert charts.legend_steps((0.5, 0.6)) == ["under 50", "50–60", "60 or more"]


def test_a_class_without_images_is_drawn() -> None:
    assert "none" in charts.confusion_table(("a", "b"), ((3, 1), (0, 0)))


def test_large_matrices_draw_their_full_cells_alone() -> None:
    judged = evaluation(400, named(100), 2)
    drawn = ET.fromstring(charts.sparse_confusion(judged.classes, judged.confusion))
    assert len(list(drawn.iter("rect"))) - 1 == sum(count > 0 for row in judged.confusion for count in row)


def test_class_bars_are_as_long_as_f1_and_begin_with_the_weakest() -> None:
    judged = evaluation(1000, CLOTHES, 1)
    table = ET.fromstring(charts.class_bars(judged.classes, judged.scores))
    rows = table.findall("tbody/tr")
    scores = dict(zip(judged.classes, judged.scores, strict=True))
    assert [row.findtext("th") for row in rows] == sorted(CLOTHES, key=lambda name: scores[name].f1)
    for row in rows:
        bar = next(rect for rect in row.iter("rect") if rect.get("class") == "bar")
        assert float(bar.get("width", "")[:-1]) == pytest.approx(100 * scores[row.findtext("th", "")].f1, abs=0.01)


def test_reliability_bars_stand_where_their_bins_are() -> None:
    bins = (CalibrationBin(0.0, 0.5, 0, 0.0, 0.0), CalibrationBin(0.5, 0.75, 50, 0.7, 0.4), CalibrationBin(0.75, 1.0, 5, 0.8, 1.0))
    chart = ET.fromstring(charts.reliability_diagram(bins))
    kinds = {rect.get("class"): rect for rect in chart.iter("rect")}
    assert float(kinds["kept-promise"].get("height", "0")) == pytest.approx(300 * 0.4)
    assert float(kinds["over"].get("height", "0")) == pytest.approx(300 * 0.3, abs=0.01)
    assert float(kinds["under few"].get("height", "0")) == pytest.approx(300 * 0.2, abs=0.01)
    assert "70\u202f% confidence 40\u202f% right" in (chart.findtext("desc") or "")


@pytest.mark.parametrize("accuracy", [0.0, 0.1, 0.53, 0.7, 0.8, 0.87, 0.924, 0.99, 1.0])
def test_the_tape_holds_every_accuracy_and_its_interval(accuracy: float) -> None:
    low, high = max(0.0, accuracy - 0.02), min(1.0, accuracy + 0.02)
    tape = ET.fromstring(charts.tape([("Test", accuracy, (low, high)), ("Validation", accuracy, (low, high))]))
    places = [float(pin.get("x1", "")[:-1]) for pin in tape.iter("line")]
    assert all(3 <= place <= 97 for place in places)
    numbers = [float(label.text or "nan") for label in tape.iter("text") if label.get("class") == "tape-number"]
    assert numbers[0] <= 100 * low
    assert numbers[-1] == 100


@pytest.mark.parametrize("name", ["<script>", "a\"b", "a&b", "]]>", "'"])
def test_names_are_escaped(name: str) -> None:
    judged = evaluation(60, (name, "plain"), 1)
    for drawn in (charts.confusion_table(judged.classes, judged.confusion), charts.class_bars(judged.classes, judged.scores)):
        assert name in {"".join(cell.itertext()) for cell in ET.fromstring(drawn).iter("th")}


def test_ticks_are_written_with_the_digits_they_need() -> None:
    for values, expected in (([0.71, 0.83], "72.5 %"), ([0.5, 0.9], "60 %"), ([0.9001, 0.9019], "90.05 %")):
        chart = charts.line_chart("c", [Series("validation", values, "validation")], title="t", description="d", unit="percent")
        texts = re.findall(r'class="tick"[^>]*>([^<]+)<', chart)
        assert expected.replace(" ", "\u202f") in texts, texts
        assert len(set(texts)) == len(texts), "two ticks read the same"
