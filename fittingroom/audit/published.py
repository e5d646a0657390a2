"""Auditing a published table: against the data set it claims, and against itself."""

from __future__ import annotations

from collections.abc import Sequence

from fittingroom.audit.consistency import COLUMNS, Constraint, decide, smallest_clash
from fittingroom.audit.finding import Audit, Finding
from fittingroom.audit.identity import KnownPart, supports_finding
from fittingroom.audit.matrix import figures_of
from fittingroom.audit.table import ClassRow, Figure, MatrixTable, ReportTable, Table

__all__ = ["accuracy_finding", "audit_table", "constraints_of", "figures_finding"]

LARGEST_WITNESS = 100  # classes; above, the witness's matrix is left out of the evidence


def audit_table(
    table: Table, data: str | None = None, accuracy: Sequence[Figure] = (), own: Sequence[KnownPart] = (), effort: float = 1.0
) -> Audit:
    """Audit one table.

    Args:
        table: as `fittingroom.audit.table.read_tables` returns it.
        data: the data set it is said to be about.
        accuracy: accuracies quoted for the same predictions elsewhere, in the text around the table.
        own: supports of the parts of ``data``, where they were counted.
        effort: for the search, after which a finding may be ``cannot tell``; 1 is up to about two seconds for a table of ten classes.
    """
    findings = [supports_finding(table.supports, data, own)]
    if isinstance(table, ReportTable):
        findings.append(figures_finding(table, effort))
        if table.accuracy is not None:
            findings.append(accuracy_finding(table.accuracy, sum(table.supports)))
    else:
        findings.append(_matrix_finding(table))
    for quoted in accuracy:
        alone = accuracy_finding(quoted, sum(table.supports), "quoted accuracy")
        findings.append(alone)
        if alone.verdict == "holds":
            findings.append(_quoted_finding(table, quoted, findings[1], effort))
    return Audit(table.caption or "table", table.line, tuple(findings))


def accuracy_finding(figure: Figure, images: int, check: str = "accuracy") -> Finding:
    """Whether an accuracy can occur at all with so many images: whether a whole number of them rounds to it."""
    low, high = figure.low * images, figure.high * images
    least, most = max(0, -((-low.numerator) // low.denominator)), min(images, high.numerator // high.denominator)
    evidence = {"accuracy": figure.text, "images": images, "least_correct": least, "most_correct": most}
    if least > most:
        return Finding(check, "fails", f"no whole number of {images:,} images rounds to an accuracy of {figure.text}", evidence)
    which = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return Finding(check, "holds", f"{figure.text} is {which} of {images:,} images", evidence)


def figures_finding(table: ReportTable, effort: float = 1.0) -> Finding:
    """Whether there is a confusion matrix with the supports whose figures, rounded, are all those of the table."""
    if "micro avg" in table.averages or "samples avg" in table.averages:
        return _open_finding(table)
    return _consistency(table, constraints_of(table), {}, "figures", effort)


def _quoted_finding(table: Table, quoted: Figure, figures: Finding, effort: float) -> Finding:
    """Whether a quoted accuracy and the table can be about the same predictions."""
    check = "quoted accuracy against table"
    extra = Constraint(("accuracy", "accuracy"), quoted.low, quoted.high)
    if isinstance(table, MatrixTable):
        right = figures_of(table.counts)[extra.key]
        verdict = extra.low <= right <= extra.high
        sentence = f"the matrix has an accuracy of {float(right):.4%}" + ("" if verdict else f", not {quoted.text}")
        return Finding(check, "holds" if verdict else "fails", sentence, {"accuracy": float(right), "quoted": quoted.text})
    if figures.verdict != "holds":
        return Finding(check, "cannot tell", "the table's own figures are not known to be consistent", {"quoted": quoted.text})
    names = {id(extra): f"quoted accuracy {quoted.text}"}
    return _consistency(table, [*constraints_of(table), extra], names, check, effort)


def _consistency(table: ReportTable, constraints: list[Constraint], names: dict[int, str], check: str, effort: float) -> Finding:
    decision = decide(table.supports, constraints, effort)
    evidence: dict[str, object] = {"figures": len(constraints)}
    if decision.answer == "unknown":
        return Finding(check, "cannot tell", f"neither a matrix nor a clash was found with an effort of {effort:g}; allow more", evidence)
    if decision.witness is not None:
        evidence["witness"] = decision.witness if len(table.classes) <= LARGEST_WITNESS else None
        correct = sum(row[index] for index, row in enumerate(decision.witness))
        sentence = (
            f"all {len(constraints)} figures agree: a confusion matrix has them, with {correct:,} of {sum(table.supports):,} images correct"
        )
        return Finding(check, "holds", sentence, evidence)
    clash, known = smallest_clash(table.supports, constraints, max(1.0, effort))
    evidence["clash"] = [names.get(id(one)) or _described(table, one) for one in clash]
    evidence["smallest"] = known
    evidence["but_for_a_tie"] = decision.but_for_a_tie
    listed = ", ".join(str(item) for item in evidence["clash"])  # type: ignore[attr-defined]
    what = {"minimum": "no fewer clash", "minimal": "without any one of them the rest agree", "small": "perhaps fewer clash"}[known]
    many = "cannot occur with these supports" if len(clash) == 1 else "cannot all be true of one confusion matrix"
    sentence = f"{listed} {many}" + (f" ({what})" if len(clash) > 1 else "")
    if decision.but_for_a_tie:
        sentence += "; with equal supports both averages are one value, which only an exact tie could print in two ways"
    return Finding(check, "fails", sentence, evidence)


def _open_finding(table: ReportTable) -> Finding:
    """A table of some of the labels, or of several labels an image: no confusion matrix joins its classes; each is judged alone."""
    for index, row in enumerate(table.classes):
        of_class = [_constraint((str(index), column), row.figures[column]) for column in COLUMNS]
        rest = 1_000 * sum(table.supports)  # images of other labels, of which the table says nothing
        if decide([row.support or 0, rest], [Constraint(("0", one.key[1]), one.low, one.high) for one in of_class]).answer == "clash":
            clash = [f"{_column(column)} {row.figures[column].text} of {row.name}" for column in COLUMNS]
            return Finding("figures", "fails", f"{', '.join(clash)} cannot all be true of {row.support:,} images", {"clash": clash})
    sentence = "the figures of each class agree; a table with a micro average may leave labels out, so its averages are not judged"
    return Finding("figures", "cannot tell", sentence)


def _matrix_finding(table: MatrixTable) -> Finding:
    figures = figures_of(table.counts)
    evidence = {
        "accuracy": float(figures["accuracy", "accuracy"]),
        "classes": {name: {column: float(figures[str(index), column]) for column in COLUMNS} for index, name in enumerate(table.names)},
        "predicted": [sum(row[index] for row in table.counts) for index in range(len(table.counts))],
    }
    right = sum(row[index] for index, row in enumerate(table.counts))
    return Finding("figures", "holds", f"{right:,} of {sum(table.supports):,} images are correct, {evidence['accuracy']:.2%}", evidence)


def constraints_of(table: ReportTable) -> list[Constraint]:
    """Every figure of a table with the interval that its rounding leaves."""
    found = [_constraint((str(index), column), row.figures[column]) for index, row in enumerate(table.classes) for column in COLUMNS]
    if table.accuracy is not None:
        found.append(_constraint(("accuracy", "accuracy"), table.accuracy))
    for name, average in table.averages.items():
        found += [_constraint((name, column), average.figures[column]) for column in COLUMNS]
    return found


def _constraint(key: tuple[str, str], figure: Figure) -> Constraint:
    return Constraint(key, figure.low, figure.high)


def _described(table: ReportTable, constraint: Constraint) -> str:
    row, column = constraint.key
    if row == "accuracy":
        return f"accuracy {table.accuracy.text if table.accuracy else ''}"
    owner: ClassRow = table.classes[int(row)] if row.isdecimal() else table.averages[row]
    name = f"class {owner.name}" if row.isdecimal() else row
    return f"{_column(column)} {owner.figures[column].text} of {name}"


def _column(name: str) -> str:
    return "F1" if name == "f1" else name
