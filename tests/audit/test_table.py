from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fittingroom.audit.table import MatrixTable, ReportTable, Table, parse_figure, read_tables, read_tables_from
from fittingroom.errors import UsageError
from tests.audit.tables import DIGITS, FASHION, printed

MATRIX = [[50, 3, 7], [2, 80, 1], [9, 0, 30]]
NAMES = ["T-shirt/top", "Ankle boot", "Bag 2"]
PLAIN = printed(MATRIX, 2, NAMES)


def one(text: str) -> ReportTable:
    (table,) = read_tables(text)
    assert isinstance(table, ReportTable)
    return table


def content(table: Table) -> object:
    """What a table says, wherever it stands and however its figures are spelled."""
    assert isinstance(table, ReportTable)
    figures = [[(figure.value, figure.digits) for figure in row.figures.values()] for row in (*table.classes, *table.averages.values())]
    return table.names, table.supports, figures, table.accuracy and (table.accuracy.value, table.accuracy.digits)


def rows_of(text: str) -> list[list[str]]:
    """The cells of scikit-learn's print, the name first."""
    found = []
    for line in filter(str.strip, text.splitlines()):
        name, *cells = re.split(r"\s{2,}", line.strip())
        found.append(["", name, *cells] if name == "precision" else [name, *cells])
    return [[row[0], "", "", *row[1:]] if row[0] == "accuracy" else row for row in found]


def test_reads_what_scikit_learn_prints() -> None:
    table = one(PLAIN)
    assert table.names == tuple(NAMES)
    assert table.supports == (60, 83, 39)
    assert set(table.averages) == {"macro avg", "weighted avg"}
    assert table.accuracy is not None
    assert table.accuracy.value == Decimal("0.88")
    assert table.classes[1].figures["precision"].value == Decimal("0.96")
    assert table.classes[1].line == 4


def markdown(rows: list[list[str]]) -> str:
    return "\n".join(["| " + " | ".join(rows[0]) + " |", "|---|---:|---:|---:|---:|", *("| " + " | ".join(row) + " |" for row in rows[1:])])


def separated(by: str) -> str:
    return "\n".join(by.join(row) for row in rows_of(PLAIN))


VARIANTS = {
    "markdown": markdown(rows_of(PLAIN)),
    "markdown, bold": markdown([[f"**{cell}**" if cell else "" for cell in row] for row in rows_of(PLAIN)]),
    "csv": separated(","),
    "csv, semicolons and comma decimals": separated(";").replace(".", ","),
    "csv, quoted comma decimals": "\n".join(",".join(f'"{cell}"' for cell in row) for row in rows_of(PLAIN.replace("0.", "0,"))),
    "tabs": separated("\t"),
    "comma decimals": PLAIN.replace("0.", "0,"),
    "many blanks": re.sub(r" {2,}", " " * 23, PLAIN),
    "one blank": re.sub(r" +", " ", PLAIN),
    "in a fence": f"The report:\n\n```\n{PLAIN}```\n",
    "text around": f"The precision and recall are high, as the table shows.\n\n{PLAIN}\nAfter 20 epochs: accuracy: 0.9943\n",
    "text in between": PLAIN.replace("\n  Ankle", "\n  (page 2)\n  Ankle", 1),
    "rows broken": PLAIN.replace("0.96      0.96      0.96        83", "0.96\n      0.96      0.96\n     83"),
    "name on a line of its own": PLAIN.replace("Ankle boot  ", "Ankle boot\n"),
    "header broken": PLAIN.replace("recall  f1-score", "recall\nf1-score"),
    "no-break spaces": PLAIN.replace(" ", "\u00a0"),
    "line ends of Windows": PLAIN.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_table_in_other_clothes(name: str) -> None:
    assert VARIANTS[name] != PLAIN
    assert content(one(VARIANTS[name])) == content(one(PLAIN))


def test_percentages() -> None:
    table = one(re.sub(r"(\d)\.(\d\d)", lambda found: f"{int(found[1] + found[2])} %", PLAIN))
    assert content(table) == content(one(PLAIN))


def test_columns_in_another_order() -> None:
    table = one("class support f1 recall precision\na 10 0.40 0.30 0.60\nb 10 0.73 0.80 0.67\n")
    assert table.supports == (10, 10)
    assert {column: str(figure.value) for column, figure in table.classes[0].figures.items()} == {
        "precision": "0.60", "recall": "0.30", "f1": "0.40",
    }  # fmt: skip


def test_a_sheet_that_repeats_the_accuracy_and_writes_supports_as_decimals() -> None:
    text = ",precision,recall,f1-score,support\na,0.6,0.75,0.666666,4.0\nb,0.75,0.6,0.666666,5.0\n"
    table = one(text + "accuracy,0.666666,0.666666,0.666666,0.666666\nmacro avg,0.675,0.675,0.666666,9.0\n")
    assert table.supports == (4, 5)
    assert table.accuracy is not None
    assert table.accuracy.digits == 6


def test_thousands_in_supports() -> None:
    text = "  precision recall f1-score support\na 0.50 0.50 0.50 1,000\nb 0.50 0.50 0.50 1,000\naccuracy 0.50 2,000\n"
    assert one(text).supports == (1000, 1000)


@pytest.mark.parametrize("support", ["1.000", "1000", "1'000", "1000,0"])
def test_thousands_beside_decimal_commas(support: str) -> None:
    rows = "".join(f"{name};0,50;0,50;0,50;{support}\n" for name in "ab")
    assert one(f";precision;recall;f1-score;support\n{rows}accuracy;0,50;2.000\n").supports == (1000, 1000)


def test_three_digits_everywhere_are_decimals() -> None:
    rows = "a 0.500 0.500 0.500 7.000\nb 0.500 0.500 0.500 7.000\n"
    assert one("precision recall f1-score support\n" + rows).supports == (7, 7)


def test_a_header_whose_first_column_has_a_name_of_its_own() -> None:
    assert one("Klasse precision recall f1-score support\n" + ROWS).names == ("0", "1", "2")
    with pytest.raises(UsageError, match="no table found"):
        read_tables("The precision recall f1-score support\nis what it prints.\n")


def test_every_table_of_a_text_with_its_caption() -> None:
    tables = read_tables("\n\nSome text.\n\n".join([*FASHION.values(), DIGITS]))
    assert [table.caption for table in tables] == ["Custom CNN:", "AlexNet:", "LeNet-5:", "ResNet:", "Three blocks:"]
    assert [len(table.supports) for table in tables] == [10] * 5
    assert tables[4].supports[:2] == (980, 1135)
    assert [table.caption for table in read_tables(f"First:\n{PLAIN}\n{PLAIN}")] == ["First:", ""]


@pytest.mark.parametrize(
    "text",
    [
        "[[50  3  7]\n [ 2 80  1]\n [ 9  0 30]]",
        "array([[50, 3, 7],\n       [2, 80, 1],\n       [9, 0, 30]])",
        "np.array([[50, 3, 7], [2, 80, 1], [9, 0, 30]], dtype=int64)",
        "[[50 3 7] [2 80 1] [9 0 30]]",
        "50 3 7\n2 80 1\n9 0 30",
        "50,3,7\n2,80,1\n9,0,30",
        "|   | a | b | c |\n|---|---|---|---|\n| a | 50 | 3 | 7 |\n| b | 2 | 80 | 1 |\n| c | 9 | 0 | 30 |",
        "0 50 3 7\n1 2 80 1\n2 9 0 30",
        "50 3 7 60\n2 80 1 83\n9 0 30 39\n61 83 38 182",
        "Predicted  a  b  c  All\nActual\na 50 3 7 60\nb 2 80 1 83\nc 9 0 30 39\nAll 61 83 38 182",
        "|   | a | b | c | total |\n|---|---|---|---|---|\n| a | 50 | 3 | 7 | 60 |\n| b | 2 | 80 | 1 | 83 |\n| c | 9 | 0 | 30 | 39 |",
        ",a,b,c\na,50,3,7\nb,2,80,1\nc,9,0,30\nTotal,61,83,38",
        ",a,b,c,Σ\na,50,3,7,60\nb,2,80,1,83\nc,9,0,30,39\nΣ,61,83,38,182",
        "These are all\n50 3 7\n2 80 1\n9 0 30",
    ],
)
def test_confusion_matrices(text: str) -> None:
    (table,) = read_tables(f"The matrix of the test:\n{text}\nIt is good.")
    assert isinstance(table, MatrixTable)
    assert table.counts == tuple(map(tuple, MATRIX))
    assert table.supports == (60, 83, 39)
    assert table.names in (("a", "b", "c"), ("0", "1", "2"))


@pytest.mark.parametrize(
    "text",
    [
        "      cat  dog\ncat    50    3\ndog     2   80",
        "true\\predicted cat dog\ncat 50 3\ndog 2 80",
        "|   | cat | dog |\n|---|---|---|\n| cat | 50 | 3 |\n| dog | 2 | 80 |",
        "|   | cat? | dog? |\n|---|---|---|\n| cat | 50 | 3 |\n| dog | 2 | 80 |",
        ",cat,dog\ncat,50,3\ndog,2,80",
        "cat\tdog\n-------\ncat\t50\t3\ndog\t2\t80",
        "Predicted  cat  dog  All\nActual\ncat  50   3   53\ndog   2  80   82\nAll  52  83  135",
    ],
)
def test_a_confusion_matrix_of_two_named_classes(text: str) -> None:
    (table,) = read_tables(f"The matrix of the test:\n{text}\nIt is good.")
    assert isinstance(table, MatrixTable)
    assert (table.counts, table.names) == (((50, 3), (2, 80)), ("cat", "dog"))


@pytest.mark.parametrize("text", ["It has layers: 32 64\nand units: 128 10", "cat or dog\nThe first scored 50 3\nthe second scored 2 80"])
def test_two_lines_of_prose_are_no_matrix(text: str) -> None:
    with pytest.raises(UsageError, match="no table found"):
        read_tables(text)


def test_prose_with_numbers_is_no_table() -> None:
    with pytest.raises(UsageError, match="no table found"):
        read_tables("Precision, recall and F1 were high.\nIn 2017 we had 3\nand later 8, 9\nof them 7, 8\n")


HEADER = "  precision recall f1-score support\n"
SHEET = ",precision,recall,f1-score,support\na,0.5,0.5,0.5,9\nb,0.5,0.5,0.5,9\nc,0.5,0.5,0.5,9\n"
MISREAD = (
    "hat 0.50 0.50 0.50 1O",
    "hat 0.50 0.50 0.50 -10",
    f"hat 0.50 0.50 0.50 {'9' * 23}",
    "hat x x x x",
    "hat - - - -",
    "hat nan nan nan nan",
    "hat 0.50 ?",
)
ROWS = "0 0.50 0.50 0.50 10\n1 0.50 0.50 0.50 10\n2 0.50 0.50 0.50 10\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "no table found"),
        ("precision recall support\n" + ROWS, 1, "names no f1"),
        ("precision recall recall f1-score support\n" + ROWS, 1, "twice"),
        (HEADER, 1, "at least two classes"),
        (HEADER + "0 0.50 0.50 0.50 10\n", 1, "at least two classes"),
        (HEADER + ROWS.replace("1 0.50 0.50 0.50 10", "1 0.50 0.50 10"), 3, "too few numbers"),
        (HEADER + ROWS.replace("1 0.50 0.50 0.50 10", "1 0.500.50 0.50 10"), 3, "merged"),
        (HEADER + ROWS.replace("1 0.50 0.50 0.50 10", "1 0.50 0.50 0.5010"), 3, "too few numbers"),
        (HEADER + ROWS.replace("1 0.50 0.50 0.50 10\n", ""), 3, "class 1 is missing"),
        (HEADER + ROWS + "accuracy 0.50 40\n", 5, "add up to 30"),
        (HEADER + ROWS + "macro avg 0.50 0.50 0.50 40\n", 5, "add up to 30"),
        (HEADER + ROWS + "accuracy 0.50 31\nmacro avg 0.50 0.50 0.50 30\n", 5, "add up to 30, but the table says 31"),
        ("x a b all\na 9 1 10\nb 1 8 8\n", 3, "the total says 8, but the numbers before it add up to 9"),
        (" a b\na 9 1\nb 1 8\nAll 10 8\n", 4, "the totals are not the sums of the rows above"),
        ("   T-shirt/top  Ankle boot  Bag\nT-shirt/top 9 1 0\nAnkle boot 1 8 0\n", 2, "2 rows and 3 columns; are rows missing?"),
        ("9 1 0 0 0\n1 8 0 0 0\n0 0 7 1 0\n0 0 0 9 1\n", 1, "4 rows and 5 columns; are rows missing?"),
        (HEADER + ROWS.replace("1 0.50", "1 50"), 3, "percentages need their sign"),
        (HEADER + ROWS.replace("1 0.50 0.50 0.50 10", "1 0.50 0.50 0.50 10.5"), 3, "no whole number"),
        (HEADER + ROWS.replace("1 0.50", "0 0.50"), 3, "second row"),
        (HEADER + ROWS.replace(" 10", " 0"), 1, "supports are 0"),
        (HEADER + ROWS.replace("0.50 10", "0.50 999999999999"), 2, "more than"),
        *((HEADER + ROWS.replace("1 0.50 0.50 0.50 10", row), 3, "something else where") for row in MISREAD),
        (HEADER + ROWS.replace("2 0.50 0.50 0.50 10", "2 0.50 0.50 0.50 1O"), 4, "something else where"),
        *((SHEET.replace("b,0.5,0.5,0.5,9", "b" + row), 3, "something else where") for row in (",nan" * 4, "," * 4)),
        (markdown(rows_of(PLAIN)).replace("0.96 | 0.96 | 0.96 | 83", " |  |  | "), 4, "something else where"),
        (HEADER + ROWS.replace("0.50 10", "0.50 1 200"), 2, "thousands without a blank"),
        (HEADER + ROWS + "accuracy 0.50 1 200\n", 5, "thousands without a blank"),
        (HEADER + ROWS + "macro avg 0.50 0.50 0.50 1 200\n", 5, "thousands without a blank"),
        (HEADER + ROWS.replace("0.50 10", "0.50 1.000"), 2, "may be 1 or 1,000"),
        (HEADER + ROWS.replace("0.50 10", "0,50 1,000"), 2, "may be 1 or 1,000"),
        (HEADER + ROWS.replace("0.50 10", "0,50 4.0"), 2, "no whole number"),
        ("[[1 2 3]\n [4 5 6]]", 1, "confusion matrix of 2 rows needs 2 numbers"),
        ("  a b c\na 9 1 0\nb 1 8 0\n", 2, "2 rows and 3 columns; are rows missing?"),
        (SHEET.replace("0.5", "0,5"), 2, "commas in numbers and between them"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_tables(text, "pasted.txt")
    message = str(caught.value)
    assert message.startswith("pasted.txt: " + (f"line {line}: " if line else ""))
    assert words in message
    assert "\n" not in message


def test_files_that_hold_no_text(tmp_path: Path) -> None:
    for name, data, words in (
        ("zeros", b"\0\1", "not a text file"),
        ("long", b"a" * 2_000_001, "longer"),
        (".", None, "directory"),
        ("none", None, "no such"),
    ):
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(UsageError, match=words):
            read_tables_from(path)


def test_a_byte_order_mark_is_no_part_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbf" + separated(",").encode())
    assert len(read_tables_from(path)) == 1


@given(st.text(alphabet="precisonalf1-ut .,%|\n\t0123456789;[]", max_size=300))
@example(HEADER + "1\n2\n3\n4\n5\n6")
@example(HEADER + "0.5\n" * 9)
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, HEADER + text):
        try:
            tables = read_tables(candidate)
        except UsageError:
            continue
        assert all(sum(table.supports) > 0 for table in tables)


@pytest.mark.parametrize(
    ("text", "value", "digits"),
    [
        ("0.92", "0.92", 2),
        ("0,92", "0.92", 2),
        ("91.98 %", "0.9198", 4),
        ("92%", "0.92", 2),
        (".5", "0.5", 1),
        ("1", "1", 0),
        ("100%", "1", 2),
    ],
)
def test_figures(text: str, value: str, digits: int) -> None:
    figure = parse_figure(text)
    assert (figure.value, figure.digits) == (Decimal(value), digits)
    assert figure.high - figure.low == Fraction(1, 10**digits) + Fraction(2, 10**12)


@pytest.mark.parametrize("text", ["", "high", "1.2", "-0.5", "120%", "0.5.1", "nan", "1e3", "9" * 40])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(UsageError):
        parse_figure(text)
