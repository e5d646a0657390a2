"""A study's page: complete, honest about what is missing, self-contained, escaped, small; and in a real browser."""

from __future__ import annotations

import base64
import hashlib
import re
import statistics
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fittingroom.report import study_charts
from fittingroom.report.study_charts import Bundle, Estimate, Point
from fittingroom.report.study_evidence import evidence
from fittingroom.report.study_page import StudyView, render, write_study_report
from fittingroom.report.study_runs import gather, selection_labels
from fittingroom.study.results import Failure
from fittingroom.study.schema import Selection, Shape
from fittingroom.study.verdict import judge
from fittingroom.study.wording import claimed_words
from tests.cli.running import fittingroom
from tests.report.study_demo import DEMOS, FACTORS, factorial, of_study, shallow
from tests.report.test_browser import CHROMIUM, CONTRASTS, PATIENCE, Visit
from tests.report.test_page import Reader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

every_page = pytest.mark.parametrize("name", DEMOS)


@cache
def view_of(name: str) -> StudyView:
    return DEMOS[name]()


@cache
def page_of(name: str) -> str:
    return render(view_of(name))


def inside(page: str, pattern: str) -> list[str]:
    return re.findall(pattern, page, re.DOTALL)


def texts(markup: str) -> str:
    return Reader(markup).text.strip()


@every_page
def test_well_formed_with_unique_ids_and_sound_anchors(name: str) -> None:
    page = Reader(page_of(name))
    assert (page.wrong, page.open) == ([], [])
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids
        for label in (attributes.get("aria-labelledby") or "").split():
            assert label in ids


@every_page
def test_nothing_outside_is_named_and_nothing_foreign_runs(name: str) -> None:
    for tag, attributes in Reader(page_of(name)).elements:
        assert tag not in ("iframe", "object", "embed", "form", "base", "img")
        for key, value in attributes.items():
            assert not key.startswith("on")
            assert key != "style"
            if key in ("src", "href", "xlink:href"):
                assert (value or "").startswith(("#", "data:image/"))
    policy = next(a["content"] for t, a in Reader(page_of(name)).elements if a.get("http-equiv") == "Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none';")
    for tag in ("style", "script"):
        (content,) = inside(page_of(name), f"<{tag}>(.*?)</{tag}>")
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_texts_from_outside_are_written_as_they_stand() -> None:
    page = page_of("hostile")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "{{ 7 * 7 }}" in page
    shown = texts(page)
    # Title, source, what it did, claims, sentences, cautions, findings, assumptions, protocol, omitted, code.
    assert shown.count("<script>alert(1)</script>") > 60


@every_page
def test_every_claim_has_its_verdict_and_the_tape_counts_them(name: str) -> None:
    page, view = page_of(name), view_of(name)
    words = Counter(verdict.verdict for verdict in view.verdicts)
    cells = [texts(cell) for cell in inside(page, r'<td class="verdict-cell">(.*?)</td>')]
    assert cells == [verdict.verdict for verdict in view.verdicts]
    (key,) = inside(page, r'<ul class="verdict-key">(.*?)</ul>')
    assert {texts(item) for item in inside(key, "<li>(.*?)</li>")} == {f"{count} {word}" for word, count in words.items()}
    (tape,) = inside(page, r'(<svg class="verdict-tape".*?</svg>)<?\s*\n')
    lengths = [float(width) for width in inside(tape, r'class="verdict-length \w+" x="[\d.]+%" width="([\d.]+)%"')]
    assert sum(lengths) == pytest.approx(100, abs=0.01)
    assert sorted(lengths) == pytest.approx(sorted(100 * count / len(view.verdicts) for count in words.values()), abs=0.01)


def test_runs_that_failed_are_told_and_are_not_waited_for() -> None:
    view = view_of("shallow")
    lost = next(result for result in view.results if result.run == "deep")
    results = [result for result in view.results if result.run != "deep"]
    failures = [Failure(one.run, one.cell, one.seed, "the loss became nan <in epoch 1>") for one in view.results if one.run == "deep"]
    waiting, failed = (
        render(replace(view, results=results, failures=some, verdicts=judge(view.study, results, some))) for some in ([], failures)
    )
    assert texts(page_of("shallow")).count("not run yet") == texts(failed).count("not run yet") < texts(waiting).count("not run yet")
    assert f"seed {lost.seed}: the loss became nan <in epoch 1>" in texts(failed)
    assert f"Failed, and would again: {len(failures)} run" in texts(failed)
    assert f"{len(failures)} failed" in texts(failed)
    (state,) = inside(failed, r'<p class="state \w+">(.*?)</p>')
    assert state == inside(page_of("shallow"), r'<p class="state \w+">(.*?)</p>')[0]


def test_of_many_rivals_those_are_shown_that_decide() -> None:
    view = view_of("factorial")
    best = {"activation": "relu", "pooling": "max", "optimiser": "adam", "dropout": 0.0, "augmentation": "with"}
    one, other = Selection(run="factorial", where=best), Selection(run="factorial", each=True)
    best_of_all = view.study.claims[0].model_copy(update={"above": one, "below": [other]})
    half = Shape(
        id="half", text="", source="", kind="shape", metric="seconds", relation="less", times=0.5, of=one, than=[Selection(run="factorial")]
    )
    study = view.study.model_copy(update={"claims": [best_of_all, half]})
    many, halved = judge(study, view.results)
    shown = evidence("many", study, many)
    assert len(many.evidence["comparisons"]) == 71
    (title, columns, rows), (_, pairs, _) = shown.tables
    assert (title, len(rows), len({row[0] for row in rows})) == ("One by one", 71, 71)
    assert columns[4] == "99.93 %: refutes"
    assert rows[0][1] == many.verdict, "the first decides"
    assert shown.facts[0] == ("decided against", rows[0][0]) == ("decided against", pairs[2])
    assert str(shown.charts[0][1]).count('class="row-name"') >= 13, "the twelve that say most are drawn"
    assert evidence("half", study, halved).tables[0][1][2].startswith("0.5 × ")
    assert claimed_words(best_of_all, *selection_labels(study, [one, other])).endswith(" above each of factorial")


def test_the_headline_counts_what_held_of_what_was_decided() -> None:
    verdicts = [verdict.verdict for verdict in view_of("shallow").verdicts]
    held = sum(word in ("reproduced", "supported") for word in verdicts)
    decided = sum(word not in ("undecided", "not testable", "not yet run") for word in verdicts)
    (figure,) = inside(page_of("shallow"), r'<p class="figure">(.*?)</p>')
    assert texts(figure) == f"{held}of {decided}"


def test_a_study_in_part_and_reduced_says_so_at_the_top() -> None:
    page = Reader(page_of("reduced")).text
    assert "6 of 18 runs done" in page
    assert "epochs 2 of 8 in 6 runs" in page
    assert "Claims that held in reduced runs" in page
    assert "Not run at all: svc-rbf, random-forest, logistic-regression" in page
    assert "different states of the code, see the environment: basic." in page
    assert "different processors, kernels, devices or numbers of threads" in page
    assert "Made by an earlier state of the code, which need not change a figure; " in page
    assert "unless told to keep them: 6 of 6 runs." in page
    for words in ("runs done", "Reduced", "different states"):
        assert words not in Reader(page_of("factorial")).text


def test_a_page_without_any_result_draws_nothing_and_says_so() -> None:
    page = page_of("nothing-run")
    assert 'class="chart' not in page
    assert "Not run yet" in page
    assert "No run has been made yet." in page
    for section in ("curves", "cost", "confusion", "factors", "environment"):
        assert f'id="{section}"' not in page
    assert "contradicted by the report itself" in page  # its table needs no run


def test_a_study_without_claims_is_complete() -> None:
    view = shallow()
    page = render(replace(view, study=view.study.model_copy(update={"claims": []}), verdicts=[]))
    assert "makes no claims" in page
    assert 'id="runs"' in page


def test_rendering_is_pure_and_writes_the_same(tmp_path: Path) -> None:
    view = shallow()
    assert render(view) == page_of("shallow")
    path = write_study_report(view.study, view.results, view.verdicts, tmp_path / "some" / "page.html")
    assert path.read_text(encoding="utf-8") == page_of("shallow")
    named = write_study_report(view.study, view.results, view.verdicts, tmp_path / "named.html", name="sixth")
    assert "study sixth" in named.read_text(encoding="utf-8")


def test_rows_of_runs_give_mean_and_deviation_best_first() -> None:
    view = shallow()
    rows = inside(page_of("shallow"), r'<tr id="run-\d+">(.*?)</tr>')
    means = []
    for row in rows:
        cells = inside(row, r"<t[hd][^>]*>(.*?)</t[hd]>")
        name = next(name for name in view.study.runs if texts(cells[0]).startswith(name))
        found = [result.evaluation["test"]["accuracy"] for result in view.results if result.run == name]
        means.append(statistics.fmean(found))
        assert texts(cells[1]).startswith(f"{np.mean(found) * 100:.2f}")
        if len(found) > 1:
            assert texts(cells[1]).endswith(f"± {np.std(found, ddof=1) * 100:.2f}")
        assert len(inside(cells[3], "<circle")) == len(found)
    assert len(rows) == len(view.study.runs)
    assert means == sorted(means, reverse=True)


def chart(markup: str) -> ET.Element:
    return ET.fromstring(markup)


def of_class(drawn: ET.Element, kind: str) -> list[ET.Element]:
    return [part for part in drawn.iter() if kind in (part.get("class") or "").split()]


def test_evidence_is_drawn_to_scale() -> None:
    rows = [Estimate("a run", [0.90, 0.91, 0.94], 0.9166, (0.89, 0.95))]
    drawn = chart(study_charts.dot_intervals("x", rows, title="t", unit="percent", references=[(0.92, "claimed 92 %")]))
    grid = zip(of_class(drawn, "tick"), of_class(drawn, "grid"), strict=True)
    ticks = {float((tick.text or "").split("\u202f")[0]): float(line.get("x1") or 0) for tick, line in grid}
    (least, left), (most, right) = min(ticks.items()), max(ticks.items())

    def x(value: float) -> float:
        return left + (right - left) * (100 * value - least) / (most - least)

    assert [float(dot.get("cx") or 0) for dot in of_class(drawn, "seed-dot")] == pytest.approx([x(0.90), x(0.91), x(0.94)], abs=0.1)
    assert float(of_class(drawn, "reference")[0].get("x1") or 0) == pytest.approx(x(0.92), abs=0.1)
    (bar,) = of_class(drawn, "interval-bar")
    assert (float(bar.get("x") or 0), float(bar.get("x") or 0) + float(bar.get("width") or 0)) == pytest.approx((x(0.89), x(0.95)), abs=0.1)
    assert "mean 91.66" in (drawn.find("desc").text or "")  # type: ignore[union-attr]


def test_evidence_below_a_claim_shows_every_seed_and_the_claimed_figure() -> None:
    (below,) = inside(page_of("shallow"), r'<tbody id="claim-0">(.*?)</tbody>')
    assert below.count('class="seed-dot"') == 3
    assert "claimed 90.69 %" in below
    assert 'href="#run-' in below
    assert "32, the default of the framework" in below  # the assumption's text
    order = next(i for i, verdict in enumerate(view_of("shallow").verdicts) if verdict.claim.kind == "order")
    (below,) = inside(page_of("shallow"), rf'<tbody id="claim-{order}">(.*?)</tbody>\n(?:<tbody id|</table>)')
    assert below.count('class="seed-dot"') == 9  # three of each group, three differences
    assert "no difference" in below
    audited = next(i for i, verdict in enumerate(view_of("shallow").verdicts) if verdict.claim.kind == "consistency")
    (below,) = inside(page_of("shallow"), rf'<tbody id="claim-{audited}">(.*?)</tbody>')
    assert "MNIST" in texts(below)
    assert "fails" in texts(below)


def test_curves_have_a_line_a_seed_a_mean_and_the_claimed_end() -> None:
    bundle = Bundle([[0.5, 0.7, 0.9], [0.6, 0.8]], "validation")
    assert bundle.mean() == [pytest.approx(0.55), pytest.approx(0.75)]
    claimed = [study_charts.Claimed(0.85, "validation")]
    drawn = chart(study_charts.bundle_chart("c", [bundle], title="t", unit="percent", y_limits=(0.5, 0.9), epochs=3, claimed=claimed))
    (thin,) = of_class(drawn, "seed-line")
    assert (thin.get("d") or "").count("M") == 2
    assert len(of_class(drawn, "line")) == 1
    (mark,) = of_class(drawn, "claimed")
    across, down = map(float, re.findall(r"[\d.]+", mark.get("d") or "")[:2])
    assert across == 190  # the right edge: the last epoch
    assert down + 6 == pytest.approx(8 + 120 * (0.9 - 0.85) / 0.4, abs=0.1)
    assert len(inside(page_of("shallow"), r'<figure id="curves-')) == 5  # those with more than one epoch
    assert "single pass" in page_of("shallow")


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_front_holds_just_what_nothing_betters(points: list[tuple[int, int]]) -> None:
    front = study_charts.pareto_front(points)
    bettered = {(x, y) for x, y in points if any((a <= x and b >= y) and (a, b) != (x, y) for a, b in points)}
    assert sorted({points[index] for index in front}) == sorted(set(points) - bettered)
    assert len({points[index] for index in front}) == len(front)


def test_the_scatter_names_every_run_and_numbers_the_front() -> None:
    points = [Point("slow <b>", 1000, 0.9, (0.89, 0.91)), Point("fast", 1, 0.8), Point("worse", 2000, 0.85)]
    drawn = chart(study_charts.scatter("s", points, title="t", axis="time", unit="seconds"))
    assert [mark.text for mark in of_class(drawn, "dot-number")] == ["1", "2"]
    assert {(part.text or "").split(":")[0] for part in drawn.iter("title")} == {"t", "slow <b>", "fast", "worse"}


def test_the_names_of_lines_have_room_however_long_they_are() -> None:
    names = ["max", "augmentation without"]
    lines = [study_charts.LevelLine(name, [(0.8, None), (0.9, None)]) for name in names]
    drawn = chart(study_charts.level_chart("l", ["relu", "tanh"], lines, title="t", unit="percent"))
    width = float((drawn.get("viewBox") or "").split()[2])
    ends = [part for part in drawn.iter("text") if part.text in names]
    assert len(ends) == 2
    for part in ends:
        assert float(part.get("x") or 0) + 7.5 * len(part.text or "") < width, "13 pixels of a bold face, 7.5 a letter"


def test_the_factorial_tells_effects_that_a_plain_loop_finds_too() -> None:
    view = view_of("factorial")
    accuracy: dict[str, list[float]] = {}
    for result in view.results:
        accuracy.setdefault(str(result.cell["optimiser"]), []).append(result.evaluation["test"]["accuracy"])
    apart = 100 * (max(map(statistics.fmean, accuracy.values())) - min(map(statistics.fmean, accuracy.values())))
    page = Reader(page_of("factorial")).text
    told = re.search(r"optimiser: (adam|rmsprop) is ([\d.]+) points better than sgd \(95 % interval ([\d.]+) to ([\d.]+)\)", page)
    assert told is not None
    assert float(told[2]) == pytest.approx(apart, abs=0.051)
    assert float(told[3]) <= float(told[2]) <= float(told[4])
    (section,) = inside(page_of("factorial"), r'<section id="factors".*?</section>')
    captions = [texts(caption) for caption in inside(section, "<figcaption>(.*?)</figcaption>")]
    assert {caption.split(" ")[0] for caption in captions if "(" in caption} == set(FACTORS)
    assert captions[5:] == ["activation and optimiser"]  # the one interaction that was put in
    assert "No effect beyond noise, as one of several that are looked at: augmentation." in texts(section)


def test_an_incomplete_factorial_tells_no_effects() -> None:
    view = factorial(seeds=1, epochs=3)
    page = Reader(render(replace(view, results=view.results[1:]))).text
    assert "71 of 72 combinations have been run" in page
    assert "points better than" not in page


def test_a_large_study_stays_below_three_megabytes() -> None:
    assert len(render(factorial(seeds=3, epochs=50)).encode()) < 3_000_000


@pytest.mark.parametrize("name", ["shallow-vs-deep", "three-block-cnn"])
def test_shipped_studies_have_a_page(name: str) -> None:
    view = of_study(name)
    page = render(view)
    bodies = inside(page, r'<tbody id="claim-\d+"( class="continued")?>')
    assert len(bodies) == len(view.verdicts)
    claims = [(verdict.claim.text, verdict.claim.source, getattr(verdict.claim, "metric", "")) for verdict in view.verdicts]
    assert [bool(body) for body in bodies] == [
        bool(verdict.claim.reading) and index > 0 and claims[index] == claims[index - 1] for index, verdict in enumerate(view.verdicts)
    ]
    assert len(page.encode()) < 3_000_000
    assert [v.planned for v in gather(view.study, [])] == [len(v.results) for v in gather(view.study, view.results)]
    # Accuracies on clothes and on digits stand in no one ranking.
    costs = re.findall(r"<figcaption>([^<]*against training time)", page)
    several = ["Accuracy on fashion-mnist against training time", "Accuracy on mnist against training time"]
    assert costs == (several if name == "three-block-cnn" else ["Accuracy against training time"])
    assert ("Best test accuracy on fashion-mnist" in page) == (name == "three-block-cnn")


SIXTH = """
title = "A sixth report"
source = "sixth.txt"
base = "gaussian-nb"
[runs.bayes]
about = "naive Bayes"
[[claims]]
kind = "number"
id = "accuracy"
text = "It reaches 0.58."
source = "table 1"
of = { run = "bayes" }
metric = "test.accuracy"
claimed = "0.58"
"""


def test_the_command_writes_a_study_s_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = fittingroom("report", "shallow-vs-deep")
    assert (done.code, done.out) == (0, "runs/studies/shallow-vs-deep/report.html\n")
    assert "no records of shallow-vs-deep" in done.err
    Path("sixth.toml").write_text(SIXTH, encoding="utf-8")
    Path("kept").mkdir()
    written = fittingroom("report", "sixth.toml", "--records", "kept", "--output", "out/page.html", "--json").json
    assert written == {"study": "sixth", "records": "kept", "report": "out/page.html"}
    assert "A sixth report" in Path("out/page.html").read_text(encoding="utf-8")
    fittingroom("report", "sixth.toml", "--records", "elsewhere").refused(2, "no folder elsewhere")
    fittingroom("report", "missing.toml").refused(2, "no such study file")
    fittingroom("report", "missing", "--records", "kept").refused(2, "--records is for studies")
    fittingroom("report", "missing").refused(1, "no run 'missing'")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as engine:
        launched = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("studies")
    for name in DEMOS:
        (folder / f"{name}.html").write_text(page_of(name), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in DEMOS}


OPEN = "document.querySelectorAll('details').forEach((box) => { box.open = true; })"


@pytest.mark.browser
@every_page
def test_quiet_and_as_narrow_as_a_phone_with_everything_open(browser: Browser, files: dict[str, Path], name: str) -> None:
    with Visit(browser, files[name], width=360) as visit:
        visit.page.evaluate(OPEN)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert [address for address in visit.asked if not address.startswith(("data:", files[name].as_uri()))] == []
        assert visit.said == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["shallow", "factorial", "reduced", "nothing-run"])
def test_all_text_meets_wcag_aa(browser: Browser, files: dict[str, Path], name: str) -> None:
    # Numbers of the front stand on dots of the text's colour.
    script = CONTRASTS.replace("tape : behind(element)", "tape : element.classList.contains('dot-number') ? ink : behind(element)")
    script = script.replace("const behind", "const ink = getComputedStyle(document.body).color;\n  const behind")
    assert script.count("ink") == 2
    with Visit(browser, files[name]) as visit:
        visit.page.evaluate(OPEN)
        for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
            visit.page.emulate_media(media=media, color_scheme=scheme)  # type: ignore[arg-type]
            assert visit.page.evaluate(script) == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["shallow", "factorial", "hostile"])
def test_paper_is_wide_enough(browser: Browser, files: dict[str, Path], name: str) -> None:
    with Visit(browser, files[name], width=688) as visit:  # A4 less its margins, at 96 pixels an inch
        visit.page.emulate_media(media="print")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 688
        assert visit.page.locator(".claims > thead").is_visible()
        assert visit.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


@pytest.mark.browser
def test_evidence_opens_by_key_and_links_unfold_what_they_lead_to(browser: Browser, files: dict[str, Path]) -> None:
    with Visit(browser, files["factorial"]) as visit:
        page = visit.page
        summary = page.locator("#claim-0 summary")
        summary.focus()
        page.keyboard.press("Enter")
        assert page.locator("#claim-0 .dots").first.is_visible()
        link = page.locator("#claim-1 a[href^='#run-']")
        page.locator("#claim-1 summary").press("Enter")
        target = link.get_attribute("href")
        assert page.locator(f"tr{target}").is_hidden()
        link.press("Enter")
        page.wait_for_function("(id) => document.querySelector(id).checkVisibility()", arg=f"tr{target}")


@pytest.mark.browser
def test_the_page_is_whole_without_its_script(browser: Browser, files: dict[str, Path]) -> None:
    with Visit(browser, files["shallow"], java_script_enabled=False) as visit:
        assert visit.page.locator("#light").is_hidden()
        assert visit.page.locator(".verdict-cell").count() == len(view_of("shallow").verdicts)
        visit.page.locator("#claim-0 summary").click()
        assert visit.page.locator("#claim-0 .dots").is_visible()


@pytest.mark.browser
def test_the_light_switch_turns_and_is_remembered(browser: Browser, files: dict[str, Path]) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with Visit(browser, files["shallow"], color_scheme="light") as visit:
        before = visit.page.evaluate(background)
        visit.page.get_by_role("button", name="Switch between light and dark").click()
        after = visit.page.evaluate(background)
        assert after != before
        visit.reload()
        assert visit.page.evaluate(background) == after
