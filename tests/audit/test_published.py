from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest

from fittingroom.audit import Audit, audit_table, read_tables
from fittingroom.audit.finding import Finding
from fittingroom.audit.published import accuracy_finding
from fittingroom.audit.table import Table, parse_figure
from tests.audit.tables import DIGITS, FASHION, printed


def table_of(text: str) -> Table:
    (table,) = read_tables(text)
    return table


def verdicts(audit: Audit) -> dict[str, str]:
    assert json.loads(json.dumps(audit.to_json()))["verdict"] == audit.verdict
    return {finding.check: finding.verdict for finding in audit.findings}


@pytest.mark.parametrize("name", FASHION)
def test_the_four_tables_of_one_report_hold(name: str) -> None:
    audit = audit_table(table_of(FASHION[name]), "fashion-mnist")
    assert verdicts(audit) == {"supports": "holds", "figures": "holds", "accuracy": "holds"}


def test_the_table_of_another_report_is_of_the_digits_and_not_of_the_quoted_accuracy() -> None:
    audit = audit_table(table_of(DIGITS), "fashion-mnist", [parse_figure("99.43%")])
    assert verdicts(audit) == {
        "supports": "fails",
        "figures": "holds",
        "accuracy": "holds",
        "quoted accuracy": "holds",
        "quoted accuracy against table": "fails",
    }
    last = audit.findings[-1]
    assert last.evidence["clash"] == ["accuracy 1.00", "quoted accuracy 99.43%"]
    assert last.evidence["smallest"] == "minimum"
    assert "these are the supports of MNIST's test set" in audit.text()


def test_averages_that_are_one_value_and_are_printed_differently() -> None:
    audit = audit_table(table_of(FASHION["custom"].replace("macro avg\t0.90", "macro avg\t0.91")), "fashion-mnist")
    figures = audit.findings[1]
    assert figures.verdict == "fails"
    assert figures.evidence["clash"] == ["precision 0.91 of macro avg", "precision 0.90 of weighted avg"]
    assert figures.evidence["but_for_a_tie"]
    assert "exact tie" in figures.sentence


@pytest.mark.parametrize(
    ("text", "images", "verdict", "least", "most"),
    [
        ("91.98%", 10_000, "holds", 9198, 9198),
        ("99.43%", 10_000, "holds", 9943, 9943),
        ("0.90", 10_000, "holds", 8950, 9050),
        ("91.985%", 10_000, "fails", 9199, 9198),
        ("0.34", 3, "fails", 2, 1),
        ("0.33", 3, "holds", 1, 1),
        ("100%", 7, "holds", 7, 7),
        ("0.5", 1, "fails", 1, 0),
    ],
)
def test_an_accuracy_needs_a_whole_number_of_images(text: str, images: int, verdict: str, least: int, most: int) -> None:
    finding = accuracy_finding(parse_figure(text), images)
    assert (finding.verdict, finding.evidence["least_correct"], finding.evidence["most_correct"]) == (verdict, least, most)
    digits = parse_figure(text).digits
    value = float(parse_figure(text).value)
    possible = any(abs(right / images - value) <= 0.5 * 10**-digits + 1e-12 for right in range(images + 1))
    assert possible == (verdict == "holds")


def test_an_impossible_quoted_accuracy_is_not_searched_for() -> None:
    audit = audit_table(table_of(DIGITS), "mnist", [parse_figure("99.435%")])
    assert [finding.check for finding in audit.findings][-1] == "quoted accuracy"
    assert audit.verdict == "fails"


def test_a_confusion_matrix() -> None:
    matrix = table_of("[[5 0 1]\n [2 3 0]\n [0 0 9]]")
    audit = audit_table(matrix, accuracy=[parse_figure("85%"), parse_figure("95%")])
    assert audit.findings[1].sentence == "17 of 20 images are correct, 85.00%"
    assert [finding.verdict for finding in audit.findings[2:]] == ["holds", "holds", "holds", "fails"]
    assert audit.findings[1].evidence["predicted"] == [7, 3, 10]


def test_a_table_with_a_micro_average_is_judged_class_by_class() -> None:
    header = "  precision recall f1-score support\n"
    end = "micro avg 0.50 0.60 0.55 20\nmacro avg 0.50 0.60 0.55 20\n"
    fair = audit_table(table_of(header + "1 0.50 0.60 0.55 10\n2 0.50 0.60 0.55 10\n" + end))
    assert fair.findings[1].verdict == "cannot tell"
    foul = audit_table(table_of(header + "1 0.50 0.65 0.57 10\n2 0.50 0.60 0.55 10\n" + end))
    assert foul.findings[1].verdict == "fails"


def test_an_audit_fails_where_a_finding_does() -> None:
    holds, fails, unknown = (Finding("a", verdict, "") for verdict in ("holds", "fails", "cannot tell"))
    assert Audit("", 0, [holds]).verdict == "holds"
    assert Audit("", 0, [holds, unknown]).verdict == "cannot tell"
    assert Audit("", 0, [unknown, fails]).verdict == "fails"


REFUTED = FASHION["custom"].replace("6\t0.72\t0.74\t0.73", "6\t0.22\t0.74\t0.34")


@pytest.mark.slow
@pytest.mark.parametrize("text", [*FASHION.values(), DIGITS, REFUTED], ids=[*FASHION, "digits", "refuted"])
def test_a_table_of_ten_classes_is_audited_in_two_seconds(text: str) -> None:
    table = table_of(text)
    began = time.process_time()
    audit = audit_table(table, "fashion-mnist", [parse_figure("0.90")])
    assert time.process_time() - began < 2
    figures = next(finding for finding in audit.findings if finding.check == "figures")
    assert figures.verdict == ("fails" if text is REFUTED else "holds")


@pytest.mark.slow
@pytest.mark.parametrize("digits", [2, 3, 4])
@pytest.mark.parametrize("even", [True, False])
def test_so_is_one_of_which_a_single_figure_is_wrong(digits: int, even: bool) -> None:
    """The figures of made-up matrices, one of them altered by a few of its last digits: the search has the most to do then."""
    for seed in range(8):
        draw = np.random.default_rng([seed, digits, even])
        supports = [1000] * 10 if even else draw.integers(600, 1400, 10).tolist()
        right = draw.uniform(0.6, 0.98, 10)
        others = draw.dirichlet(np.ones(9) / 2, 10) * (1 - right)[:, None]
        shares = [np.insert(row, own, right[own]) for own, row in enumerate(others)]
        text = printed([draw.multinomial(count, row).tolist() for count, row in zip(supports, shares, strict=True)], digits)
        figures = [found for found in re.finditer(r"0\.\d+", text) if float(found[0]) < 0.97]
        chosen = figures[draw.integers(len(figures))]
        wrong = f"{min(1.0, float(chosen[0]) + draw.choice([1, 2, 5, 20]) * 10.0**-digits):.{digits}f}"
        table = table_of(text[: chosen.start()] + wrong + text[chosen.end() :])
        began = time.process_time()
        audit_table(table)
        assert time.process_time() - began < 2, f"seed {seed}, {chosen[0]} printed as {wrong}"
