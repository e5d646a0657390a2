"""Reading classification reports and confusion matrices as people paste them: from a terminal, a page, a sheet, a scan.

Each figure keeps the digits that were printed, for those say how far it may lie from the true value.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from fittingroom.errors import UsageError

__all__ = [
    "COLUMNS",
    "FLOAT_ERROR",
    "MOST_BYTES",
    "ClassRow",
    "Figure",
    "MatrixTable",
    "ReportTable",
    "Table",
    "decoded",
    "parse_figure",
    "read_tables",
    "read_tables_from",
]

COLUMNS = ("precision", "recall", "f1")
HEADER_COLUMNS = (*COLUMNS, "support")
MOST_BYTES = 2_000_000
MOST_CLASSES = 1_000
MOST_IMAGES = 100_000_000
LONGEST_CAPTION = 100
TOTALS = ("total", "totals", "sum", "all", "σ")  # in small letters
MOST_DIGITS = 17  # as many as a double has; more say nothing

# What a double-precision sum of a thousand terms may lie off; it decides nothing but ties.
FLOAT_ERROR = Fraction(1, 10**12)

NUMBER = re.compile(r"(\d{1,18}(?:[.,]\d+)?|[.,]\d+)(%?)")
MERGED = re.compile(r"\d*[.,]\d+[.,]\d[\d.,]*%?")
GROUPED = re.compile(r"\d{1,12}|[1-9]\d{0,2}(?:[.,_']\d{3})+")
WHOLE = re.compile(rf"\d{{1,12}}[.,]0+|{GROUPED.pattern}")
DECIMAL = re.compile(r"[-+]?\d*[.,]\d+%?|[-+]?\d+%")
# What stands where a number should: a dash, a cross, nothing that a program knew, or a number that was misread.
STAND_IN = re.compile(r"[-–—−?*xX.]+|(?i:nan|n/?a|none|null|inf)|[-+]?[\d.,]*\d[\d.,]*%?")
RULE = re.compile(r"[\s|:+=_—–-]*")
FENCE = re.compile(r"\s*(```|~~~).*")
HEADER_WORDS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "f1score": "f1",
    "fscore": "f1",
    "support": "support",
}
BESIDE_HEADER = {"", "class", "classes", "label", "labels", "name", "category", "index", "unnamed"}
AVERAGES = {
    "accuracy": "accuracy",
    "acc": "accuracy",
    "macroavg": "macro avg",
    "macroaverage": "macro avg",
    "weightedavg": "weighted avg",
    "weightedaverage": "weighted avg",
    "avgtotal": "weighted avg",
    "microavg": "micro avg",
    "microaverage": "micro avg",
    "samplesavg": "samples avg",
}


@dataclass(frozen=True)
class Figure:
    """A rounded share as it was printed.

    Attributes:
        text: as printed.
        value: the share, 0 to 1; a percentage is divided by 100.
        digits: of the share after the point, as printed: ``91.98 %`` has four.
        line: where it stands, from 1.
    """

    text: str
    value: Decimal
    digits: int
    line: int = 0

    @property
    def low(self) -> Fraction:
        """The smallest share that may be printed so, with a tie rounded either way."""
        return Fraction(self.value) - Fraction(1, 2 * 10**self.digits) - FLOAT_ERROR

    @property
    def high(self) -> Fraction:
        """The largest share that may be printed so, with a tie rounded either way."""
        return Fraction(self.value) + Fraction(1, 2 * 10**self.digits) + FLOAT_ERROR


@dataclass(frozen=True)
class ClassRow:
    """One row of a report: a class or an average.

    Attributes:
        name: as printed.
        figures: by column, ``precision``, ``recall``, ``f1``.
        support: number of images; None where an average prints none.
        line: where it stands, from 1.
    """

    name: str
    figures: dict[str, Figure]
    support: int | None
    line: int


@dataclass(frozen=True)
class ReportTable:
    """A classification report.

    Attributes:
        caption: the line of text above it, or ``""``.
        line: of its header, from 1.
        classes: its rows, in order; each has a support.
        averages: ``macro avg``, ``weighted avg``, ``micro avg``, where they are printed.
        accuracy: of all images, where it is printed.
    """

    caption: str
    line: int
    classes: tuple[ClassRow, ...]
    averages: dict[str, ClassRow] = field(default_factory=dict)
    accuracy: Figure | None = None

    @property
    def supports(self) -> tuple[int, ...]:
        """Images of each class."""
        return tuple(row.support or 0 for row in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes."""
        return tuple(row.name for row in self.classes)


@dataclass(frozen=True)
class MatrixTable:
    """A confusion matrix: row is the true class, column the predicted one.

    Attributes:
        caption: the line of text above it, or ``""``.
        line: of its first row, from 1.
        names: of the classes; their numbers where none are printed.
        counts: ``[classes][classes]``, images.
    """

    caption: str
    line: int
    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def supports(self) -> tuple[int, ...]:
        """Images of each class: the sums of the rows."""
        return tuple(sum(row) for row in self.counts)


Table = ReportTable | MatrixTable


def parse_figure(text: str, line: int = 0) -> Figure:
    """Read one share: ``0.92``, ``0,92``, ``92 %``, ``91.98%``.

    Raises:
        UsageError: it is no number, or not between 0 and 1 (0 and 100 %).
    """
    found = NUMBER.fullmatch(text.strip().replace(" ", ""))
    if not found:
        raise UsageError(f"{_at(line)}'{_short(text)}' is no share; write it as 0.92 or 92%")
    number, percent = found[1].replace(",", "."), bool(found[2])
    whole, _, decimals = number.partition(".")
    if len(decimals) > MOST_DIGITS:
        decimals = decimals[:MOST_DIGITS]
    digits = len(decimals) + (2 if percent else 0)
    value = Decimal((whole or "0") + "." + (decimals or "0")).scaleb(-2 if percent else 0)
    if value > 1:
        remedy = "" if percent else f"; percentages need their sign: {_short(text)}%"
        raise UsageError(f"{_at(line)}{_short(text)} is not between {'0% and 100%' if percent else '0 and 1'}{remedy}")
    return Figure(text.strip(), value, digits, line)


def read_tables_from(path: Path) -> tuple[Table, ...]:
    """`read_tables` of a text file.

    Raises:
        UsageError: there is no such file, it is no text, too long, or what `read_tables` raises, with the file's name.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}; name a text file that holds a table") from None
    return read_tables(decoded(content, str(path)), str(path))


def decoded(content: bytes, source: str) -> str:
    """Bytes as text.

    Raises:
        UsageError: there are too many, or they are no text.
    """
    if len(content) > MOST_BYTES:
        raise UsageError(f"{source}: longer than {MOST_BYTES:,} bytes; keep the part that holds the tables")
    if b"\0" in content:
        raise UsageError(f"{source}: not a text file; paste the table as text")
    return content.decode("utf-8-sig", errors="replace")


def read_tables(text: str, source: str = "the text") -> tuple[Table, ...]:
    """Read every classification report and confusion matrix of a text, in order.

    Args:
        text: any text with tables in it: scikit-learn's print, Markdown, CSV, columns split by blanks or tabs.
        source: what to call it in errors.

    Raises:
        UsageError: there is no table, or one cannot be read whole; says in which line.
    """
    try:
        return _Reader(text).tables()
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None


def _at(line: int) -> str:
    return f"line {line}: " if line else ""


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


class _Reader:
    """Lines to tables; `position` is the index of the next line."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.position = 0
        self.ended = 0
        self.delimiter: str | None = None

    def tables(self) -> tuple[Table, ...]:
        found: list[Table] = []
        while self.position < len(self.lines):
            columns = self._header()
            table = self._report(columns) if columns else self._matrix()
            if table is not None:
                found.append(table)
                self.ended = self.position
            else:
                self.position += 1
        if not found:
            raise UsageError(
                "no table found; a report needs a line that names precision, recall, f1-score and support above its rows, "
                "a confusion matrix as many whole numbers in each row as it has rows"
            )
        return tuple(found)

    # --- the report

    def _header(self) -> list[str] | None:
        """The columns that the line at `position` names, or None where it is no header. A header may be broken in two."""
        line = self.lines[self.position]
        if not re.search(r"precision", line, re.IGNORECASE):
            return None
        columns: list[str] = []
        for count in (1, 2, 3):
            text = " ".join(self.lines[self.position : self.position + count])
            words = [HEADER_WORDS.get(_key(word), _key(word)) for word in re.split(r"[\s|,;]+", re.sub(r"(?i)f1[ _]score", "f1", text))]
            known = {*HEADER_WORDS.values(), *BESIDE_HEADER}
            if words[0] not in known and sorted(words[1:]) == sorted(HEADER_COLUMNS) and self._row_follows(self.position + count):
                words[0] = ""  # the first column, named in another language
            if any(word not in known for word in words):
                if len(columns) < 3:
                    return None  # a sentence, or a heading, that speaks of precision
                break
            columns = [word for word in words if word in HEADER_WORDS.values()]
            if sorted(columns) == sorted(HEADER_COLUMNS):
                self.delimiter = _delimiter(line)
                self.first = self.position
                self.position += count
                return columns
            if len(columns) != len(set(columns)):
                break
        if len(set(columns)) < 3:
            return None
        missing = [name for name in HEADER_COLUMNS if name not in columns]
        what = f"names no {' and no '.join(missing)}" if missing else "names a column twice"
        raise UsageError(f"line {self.position + 1}: the header {what}; precision, recall, f1-score and support are needed, once each")

    def _report(self, columns: list[str]) -> ReportTable:
        start = self.first
        classes: list[ClassRow] = []
        averages: dict[str, ClassRow] = {}
        accuracy: Figure | None = None
        totals: list[tuple[int, int]] = []
        while (row := self._row(columns, ended=bool(averages or accuracy))) is not None:
            name, cells, line = row
            kind = AVERAGES.get(_key(name))
            if kind == "accuracy":
                accuracy, support = _accuracy(cells, line)
                totals += [(support, line)] if support is not None else []
            elif kind:
                averages[kind] = _class_row(kind, cells, columns, line)
                totals += [(averages[kind].support or 0, line)]
            elif averages or accuracy:
                self.position = line - 1  # a row of something else
                break
            else:
                classes.append(_class_row(name, cells, columns, line))
            if len(classes) > MOST_CLASSES:
                raise UsageError(f"line {line}: more than {MOST_CLASSES:,} classes; is this one table?")
        _check_rows(classes, totals, start + 1)
        return ReportTable(self._caption(start), start + 1, tuple(classes), averages, accuracy)

    def _row(self, columns: list[str], ended: bool) -> tuple[str, list[str], int] | None:
        """The next row as name, numbers and line; None where the table ends. A row may be broken over lines."""
        while self.position < len(self.lines):
            line = self.lines[self.position]
            if not RULE.fullmatch(line) and not (FENCE.fullmatch(line) and self._row_follows(self.position + 1)):
                break
            self.position += 1
        if self.position >= len(self.lines):
            return None
        start = self.position
        name, cells = self._split(start)
        for end in range(start + 1, start + 5):
            if self._is_whole(name, cells):
                self.position = end
                return name, cells, start + 1
            if end >= len(self.lines) or (not cells and not name) or ended:
                break
            more_name, more = self._split(end)
            if more_name and not RULE.fullmatch(self.lines[end]):
                if not more_name.isdecimal() or len(cells) + 1 + len(more) > 4:
                    break
                more = [more_name, *more]
            if name == "" and len(cells) == 1:
                name, cells = cells[0], []
            cells = cells + more
        name, cells = self._split(start)
        between = self._row_follows(start + 1)
        if ended or (AVERAGES.get(_key(name)) is None and not cells and not between and not self._is_row_like(start, between)):
            return None
        if not cells and not self._is_row_like(start, between):
            self.position += 1  # a line of text between two rows
            return self._row(columns, ended)
        what = "has too few numbers" if cells else "has something else where its numbers should be"
        raise UsageError(
            f"line {start + 1}: '{_short(self.lines[start].strip())}' {what}; precision, recall, f1-score and support "
            "are needed: are columns merged, or is a cell missing or misread?"
        )

    def _is_row_like(self, index: int, between: bool) -> bool:
        """Whether a line that ends in no number is a row that was misread rather than text; between two rows that is believed sooner."""
        line = self.lines[index]
        if self.delimiter and self.delimiter in line:
            return line.strip().strip("|").count(self.delimiter) >= 3
        words = line.split()
        return sum(bool(STAND_IN.fullmatch(word)) for word in words) >= 3 or (between and any(map(DECIMAL.fullmatch, words)))

    def _is_whole(self, name: str, cells: list[str]) -> bool:
        kind = AVERAGES.get(_key(name))
        return bool(name) and (len(cells) == 4 or (kind is not None and len(cells) >= (1 if kind == "accuracy" else 3)))

    def _row_follows(self, position: int) -> bool:
        for index in range(position, min(position + 4, len(self.lines))):
            if RULE.fullmatch(self.lines[index]) or FENCE.fullmatch(self.lines[index]):
                continue
            name, cells = self._split(index)
            return len(cells) == 4 or (AVERAGES.get(_key(name)) is not None and len(cells) > 0)
        return False

    def _split(self, index: int) -> tuple[str, list[str]]:
        """A line as the words of its name and the numbers behind them."""
        words = _words(self.lines[index], self.delimiter)
        for word in words:
            if MERGED.fullmatch(word) and not WHOLE.fullmatch(word):
                raise UsageError(f"line {index + 1}: '{_short(word)}' looks like columns that were merged; put a blank between them")
        count = 0
        while count < len(words) and (NUMBER.fullmatch(words[-1 - count]) or WHOLE.fullmatch(words[-1 - count])):
            count += 1
        names, numbers = words[: len(words) - count], words[len(words) - count :]
        if len(numbers) > 4:
            surplus, numbers = numbers[:-4], numbers[-4:]
            if self.delimiter == "," and len(surplus) >= 3:
                raise UsageError(f"line {index + 1}: commas in numbers and between them; write 0.84, or put semicolons between the columns")
            if (names or len(surplus) > 1) and any(map(DECIMAL.fullmatch, surplus)):
                row = _short(self.lines[index].strip())
                raise UsageError(f"line {index + 1}: '{row}' has more numbers than columns; write thousands without a blank")
            names += surplus
        return " ".join(names), numbers

    # --- the matrix

    def _matrix(self) -> MatrixTable | None:
        start = self.position
        printed = list(self._matrix_rows(start))
        rows = self._without_totals(start, printed)
        if len(rows) < 2:
            return None
        classes = len(rows)
        widths = {len(numbers) for _, numbers, _ in rows}
        if widths == {classes + 1} and [numbers[0] for _, numbers, _ in rows] == list(range(classes)):
            rows = [(str(numbers[0]), numbers[1:], line) for _, numbers, line in rows]
        wrong = next((row for row in rows if len(row[1]) != classes), None)
        named = all(name and name in self._above(start) for name, _, _ in rows)
        bare = classes > 3 and not any(name for name, _, _ in rows) and abs(classes - max(widths)) == 1
        if wrong and len(widths) == 1 and (named or bare):
            raise UsageError(f"line {start + 1}: the confusion matrix has {classes} rows and {max(widths)} columns; are rows missing?")
        if wrong and not any("[" in self.lines[line] for _, _, line in rows):
            return None  # lines that end in numbers for some other reason
        if wrong:
            raise UsageError(
                f"line {wrong[2] + 1}: a confusion matrix of {classes} rows needs {classes} numbers in each, not {len(wrong[1])}"
            )
        self.position = rows[-1][2] + 1
        counts = tuple(tuple(numbers) for _, numbers, _ in rows)
        if sum(map(sum, counts)) == 0:
            return None
        if classes == 2 and rows == printed and any(name for name, _, _ in rows) and not self._is_table(start, rows):
            return None  # two lines of prose may end in two numbers each
        names = tuple(name or str(index) for index, (name, _, _) in enumerate(rows))
        return MatrixTable(self._caption(start), start + 1, names, counts)

    def _without_totals(self, start: int, rows: list[tuple[str, list[int], int]]) -> list[tuple[str, list[int], int]]:
        """The rows of a matrix without a last row or a last column of sums, which must be the sums of the others."""
        width = len(rows[0][1]) if rows else 0
        if len(rows) < 2 or any(len(numbers) != width for _, numbers, _ in rows):
            return rows
        summed = all(numbers[-1] == sum(numbers[:-1]) for _, numbers, _ in rows)
        row = rows[-1][0].lower() in TOTALS or (summed and len(rows) == width > 2 and _is_sum(rows))
        # Without a column more than there are classes, a line above that ends in "of all" is a caption.
        column = width - len(rows) + row == 1 and (summed or self._above(start).lower().rpartition(" ")[2] in TOTALS)
        for _, (*numbers, total), line in rows if column else ():
            if total != sum(numbers):
                raise UsageError(f"line {line + 1}: the total says {total:,}, but the numbers before it add up to {sum(numbers):,}")
        if row and not _is_sum(rows):
            last = rows[-1][2] + 1
            raise UsageError(f"line {last}: the totals are not the sums of the rows above; is a row missing or a number misread?")
        return [(name, numbers[:-1] if column else numbers, line) for name, numbers, line in (rows[:-1] if row else rows)]

    def _matrix_rows(self, position: int) -> Iterator[tuple[str, list[int], int]]:
        # `[[1, 2], [3, 4]]` has both rows in one line.
        parts = ((part, index) for index in range(position, len(self.lines)) for part in re.split(r"\](?=[\s,]*\[)", self.lines[index]))
        for part, index in parts:
            line = _plain(part)
            if index > position and RULE.fullmatch(line) and line.strip():
                continue
            words = _words(line, None)
            count = 0
            while count < len(words) and re.fullmatch(r"\d{1,9}", words[-1 - count]):
                count += 1
            if count < 2:
                return
            name = " ".join(words[: len(words) - count])
            yield name, [int(word) for word in words[len(words) - count :]], index

    def _is_table(self, start: int, rows: Sequence[tuple[str, list[int], int]]) -> bool:
        """Whether two named rows are a table: drawn as one, or with their names as columns in the line above."""
        if all("|" in self.lines[line] for _, _, line in rows):
            return True
        return self._above(start).endswith(_plain(" ".join(name for name, _, _ in rows)))

    def _above(self, start: int) -> str:
        """The line above, but for a rule between."""
        return _plain(next((line for line in reversed(self.lines[max(0, start - 2) : start]) if not RULE.fullmatch(line)), ""))

    def _caption(self, position: int) -> str:
        """The nearest line of text above, unless that is a long sentence."""
        for line in reversed(self.lines[max(self.ended, position - 6) : position]):
            text = line.strip().strip("#*|").strip()
            if text and not FENCE.fullmatch(line) and re.search(r"[^\W\d]{3}", text):
                return text if len(text) <= LONGEST_CAPTION else ""
        return ""


def _is_sum(rows: Sequence[tuple[str, list[int], int]]) -> bool:
    """Whether the last of some rows is the sum of the others."""
    *others, last = (numbers for _, numbers, _ in rows)
    return [sum(column) for column in zip(*others, strict=True)] == last


def _plain(line: str) -> str:
    """A line of a matrix, with single blanks between its cells."""
    return " ".join(re.sub(r"(?:np\.)?array\((?=\[)|\]\].*|[\[\],;|]", " ", line).split())


def _delimiter(line: str) -> str | None:
    """What splits cells, judged by one line; None for blanks."""
    if "|" in line:
        return "|"
    for delimiter in (";", ","):
        if line.count(delimiter) >= 3 or (delimiter == "," and line.count(",") >= 1 and "\t" not in line and not re.search(r"\d,\d", line)):
            return delimiter
    return None


def _words(line: str, delimiter: str | None) -> list[str]:
    """The cells of a line, empty ones left out, `%` drawn to its number."""
    line = re.sub(r"(?<=\d)\s+%", "%", line.replace("\u00a0", " ").replace("\u202f", " "))
    if delimiter and delimiter in line:
        cells = next(csv.reader([line], delimiter=delimiter), []) if delimiter != "|" else line.split("|")
    else:
        cells = line.split()
    cleaned = (cell.strip().strip("*`").strip() for cell in cells)
    return [cell for cell in cleaned if cell and not RULE.fullmatch(cell)]


def _class_row(name: str, cells: Sequence[str], columns: list[str], line: int) -> ClassRow:
    if len(cells) == 3:  # an average that prints no support
        columns = [column for column in columns if column != "support"]
    by_column = dict(zip(columns, cells, strict=True))
    figures = {column: parse_figure(by_column[column], line) for column in COLUMNS}
    support = _support(by_column["support"], [*figures.values()], line) if "support" in by_column else None
    return ClassRow(name, figures, support, line)


def _support(text: str, beside: Sequence[Figure], line: int) -> int:
    """A number of images. Whether a mark splits thousands or decimals, the figures beside it tell: ``1.000`` beside ``0,90`` is 1,000."""
    mark = "," if any("," in figure.text for figure in beside) else "."
    whole, _, zeros = text.partition(mark)
    if zeros == "000" and re.fullmatch(r"[1-9]\d{0,2}", whole) and all(figure.digits != 3 for figure in beside):
        raise UsageError(f"line {line}: the support '{text}' may be {int(whole)} or {int(whole)},000; write it without '{mark}'")
    if zeros.strip("0") or not GROUPED.fullmatch(whole):
        raise UsageError(f"line {line}: the support '{_short(text)}' is no whole number; are columns merged or in another order?")
    support = int(re.sub(r"[.,_']", "", whole))
    if support > MOST_IMAGES:
        raise UsageError(f"line {line}: a support of {support:,} is more than {MOST_IMAGES:,}")
    return support


def _accuracy(cells: Sequence[str], line: int) -> tuple[Figure, int | None]:
    """The accuracy and the number of images, where it is printed; a sheet may repeat the accuracy in every column."""
    figure = parse_figure(cells[0], line)
    last = cells[-1]
    if any(cell != cells[0] for cell in cells[:-1]):
        raise UsageError(f"line {line}: the accuracy has more numbers than columns; write thousands without a blank")
    return figure, _support(last, [figure], line) if len(cells) > 1 and last != cells[0] else None


def _check_rows(classes: list[ClassRow], totals: list[tuple[int, int]], header: int) -> None:
    if len(classes) < 2:
        raise UsageError(f"line {header}: a table needs at least two classes below its header, here are {len(classes)}; are rows missing?")
    names = [row.name for row in classes]
    if len(set(names)) != len(names):
        twice = next(row for index, row in enumerate(classes) if row.name in names[:index])
        raise UsageError(f"line {twice.line}: class '{_short(twice.name)}' has a second row; keep one")
    numbers = [int(row.name) for row in classes if row.name.isdecimal()]
    if len(numbers) == len(classes):
        for before, after, row in zip(numbers, numbers[1:], classes[1:], strict=False):
            if after == before + 2:
                raise UsageError(f"line {row.line}: the row of class {before + 1} is missing before class {after}")
    found = sum(row.support or 0 for row in classes)
    if found == 0:
        raise UsageError(f"line {header}: all supports are 0; a table without images says nothing")
    for total, line in totals:
        if total != found:
            raise UsageError(
                f"line {line}: the supports of the {len(classes)} classes add up to {found:,}, but the table says {total:,}; "
                "is a row missing or a number misread?"
            )
