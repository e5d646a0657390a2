"""``fittingroom audit``: a published table, or a data set, against itself and against what it claims to be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fittingroom.cli.options import DataDir, Json
from fittingroom.cli.output import download_progress, note, print_json, print_line

if TYPE_CHECKING:
    from fittingroom.audit import Audit, Table
    from fittingroom.audit.identity import KnownPart
    from fittingroom.data.arrays import DataSet

__all__ = ["app"]

app = typer.Typer(help="Audit a published table or a data set.", no_args_is_help=True)

OpenTest = Annotated[bool, typer.Option("--test", help="Open the sealed test set for this audit.")]


@app.command("table")
def table(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A text with classification reports or confusion matrices; - for stdin.")],
    data: Annotated[str | None, typer.Option("--data", help="The data set that it is said to be about.", show_default=False)] = None,
    accuracy: Annotated[
        list[str] | None, typer.Option("--accuracy", help="An accuracy quoted beside the table, such as 99.43%.", show_default=False)
    ] = None,
    effort: Annotated[float, typer.Option("--effort", help="How long to search; 1 is up to 2 seconds as a rule.", min=0.1, max=1000)] = 1.0,
    test: OpenTest = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Audit every table of a text: its supports, its figures among each other, its accuracy. Exits 3 where a check fails."""
    from fittingroom.audit import audit_table
    from fittingroom.audit.table import parse_figure

    quoted = [parse_figure(text) for text in accuracy or []]
    tables = _read(file)
    own = _own_parts(data, test, data_dir) if data is not None else []
    audits = [audit_table(found, data, quoted, own, effort) for found in tables]
    _finish(audits, {"file": file, "data": data, "tables": [audit.to_json() for audit in audits]}, as_json)


@app.command("data")
def data(
    name: Annotated[str, typer.Argument(help="A named set, or the path of an image folder, a CSV or an npz file.")],
    test: OpenTest = False,
    size: Annotated[int | None, typer.Option(help="Side to which images of a folder are brought.", min=1, max=1024)] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Audit a set: balance, copies, one image under two labels, empty images. Exits 3 where a check fails."""
    from fittingroom.audit import audit_data

    audit = audit_data(_load(name, test, data_dir, size))
    _finish([audit], {"name": name, "test_opened": test, **audit.to_json()}, as_json)


def _read(file: str) -> tuple[Table, ...]:
    from fittingroom.audit import read_tables, read_tables_from
    from fittingroom.audit.table import MOST_BYTES, decoded

    return read_tables(decoded(sys.stdin.buffer.read(MOST_BYTES + 1), "stdin"), "stdin") if file == "-" else read_tables_from(Path(file))


def _load(name: str, test: bool, data_dir: Path | None, size: int | None = None) -> DataSet:
    from fittingroom.data import catalog

    if test:
        note(f"the sealed test set of {name} is opened for this audit; choose nothing by what it shows")
    with download_progress() as downloaded:
        return catalog.load(name, data_dir=data_dir, size=(size, size) if size else None, with_test=test, notify=note, progress=downloaded)


def _own_parts(name: str, test: bool, data_dir: Path | None) -> list[KnownPart]:
    """Count the labels of a set whose supports are not published; the test set's only where it may be opened."""
    import numpy as np

    from fittingroom.audit.identity import KNOWN, KnownPart

    if any(part.name == name for part in KNOWN):
        return []
    loaded = _load(name, test, data_dir)
    parts = {"test": loaded.test, "train": loaded.train, "validation": loaded.validation}
    return [
        KnownPart(name, name, part, tuple(np.bincount(images.labels, minlength=len(loaded.classes)).tolist()), loaded.source)
        for part, images in parts.items()
        if images is not None
    ]


def _finish(audits: list[Audit], value: dict[str, object], as_json: bool) -> None:
    """Print the audits and exit 3 where a check failed."""
    failed = [audit for audit in audits if audit.verdict == "fails"]
    if as_json:
        print_json(value)
    else:
        for index, audit in enumerate(audits):
            if index:
                print_line("")
            for line in audit.text().splitlines():
                print_line(line)
    if failed:
        count = sum(finding.verdict == "fails" for audit in failed for finding in audit.findings)
        note(f"{count} {'check does' if count == 1 else 'checks do'} not hold")
        raise typer.Exit(3)
