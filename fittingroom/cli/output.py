"""How commands speak: results on stdout, progress and notices on stderr, one JSON value with ``--json``."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fittingroom.evaluate import Evaluation
    from fittingroom.recipe import Recipe

__all__ = [
    "EpochLines",
    "Watch",
    "accuracy_line",
    "download_progress",
    "duration",
    "note",
    "note_missing_kernels",
    "notices",
    "print_json",
    "print_line",
    "print_table",
    "recipe_values",
    "visible",
    "watched",
    "written",
]

# What a pipe or a file is taken to be wide: a row stays one line there, whatever it holds.
UNBOUNDED = 10_000
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def note(line: str) -> None:
    """Write one notice, one line, to stderr."""
    print(visible(line), file=sys.stderr)


def note_missing_kernels(device: str = "auto") -> None:
    """Say why our own kernels cannot be used on a CPU, unless that was asked for: training takes longer, and nobody would know."""
    from fittingroom import native
    from fittingroom.train.precision import choose_device

    if choose_device(device).type != "cpu" or os.environ.get("FITTINGROOM_NATIVE") == "0":
        return
    if (description := native.description()).startswith("none: "):
        note(f"without our own kernels, so slower: {description.removeprefix('none: ')}")


def notices() -> Callable[[str], None]:
    """Give a `note` for the length of a command: what several of its steps have to say about the data, it says once."""
    said: set[str] = set()

    def once(line: str) -> None:
        if line not in said:
            said.add(line)
            note(line)

    return once


def print_line(line: str) -> None:
    """Write one line of a result to stdout."""
    print(visible(line))


def print_json(value: Any) -> None:
    """Write one JSON value to stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stdout.

    Args:
        columns: header and justification (`left` or `right`) of each; without any header text there is no header line.
        rows: the cells.
    """
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = UNBOUNDED
    cells = zip(*([header for header, _ in columns], *rows), strict=True)
    narrow = sum(2 + max(map(len, column)) for column in cells) - 2 > console.width
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(header for header, _ in columns))
    for number, (header, justify) in enumerate(columns):
        # Names stand in the first column, and are copied from there: on a narrow terminal it is the last to be broken.
        words = header.replace("-", "- ") if narrow else header  # a line ends at a space alone
        table.add_column(words, justify="right" if justify == "right" else "left", overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(visible(cell), no_wrap=False) for cell in row))
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def duration(seconds: float) -> str:
    """Say ``32 s``, ``12 min`` or ``2 h 5 min``: a forecast is not exact to the second."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def accuracy_line(split: str, judged: Evaluation) -> str:
    """Say an evaluation's accuracy with its interval in a line."""
    low, high = judged.interval
    return f"{split} accuracy {judged.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"


class EpochLines:
    """One line an epoch: ``epoch  3/20  train 0.9012  validation 0.8940  loss 0.2911  4.1 s``.

    A classical model has no epochs; its one line says ``fitted``.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def __call__(self, record: dict[str, Any]) -> None:
        """Write the line of an epoch's record to stderr."""
        note(self.text(record))

    def text(self, record: dict[str, Any]) -> str:
        """Return the line of an epoch's record."""
        width = len(str(self.epochs))
        train, validation = record.get("train", {}), record.get("validation")
        parts = ["fitted" if "measured_on" in train else f"epoch {record['epoch']:>{width}}/{self.epochs}"]
        parts.append(f"train {_figure(train, 'accuracy', '.4f')}")
        if validation is not None:
            parts.append(f"validation {_figure(validation, 'accuracy', '.4f')}")
            parts.append(f"loss {_figure(validation, 'loss', '.4f')}")
        parts.append(f"{_figure(train, 'seconds', '.1f')} s")
        return "  ".join(parts)


def recipe_values(recipe: Recipe, origins: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    """Return each value of a recipe by its dotted key, with where it comes from."""
    return [(key, value, origins.get(key, "default")) for key, value in _flat(recipe.values).items()]


def written(value: Any) -> str:
    """Return a recipe's value as `--set` takes it, `—` where there is none."""
    return "—" if value is None else value if isinstance(value, str) else json.dumps(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


@dataclass(frozen=True)
class Watch:
    """The callbacks through which a person watches a training run; they do nothing unless told otherwise.

    Attributes:
        progress: takes epoch, step and steps of the epoch.
        epoch_done: takes an epoch's record.
        download: takes the bytes that are there and the bytes expected.
        begun: takes the run's folder.
    """

    progress: Callable[[int, int, int], None] = lambda epoch, step, steps: None
    epoch_done: Callable[[dict[str, Any]], None] = lambda record: None
    download: Callable[[int, int], None] = lambda there, expected: None
    begun: Callable[[Path], None] = lambda path: None


@contextmanager
def watched(recipe: Recipe, quiet: bool = False, then: str = "") -> Iterator[Watch]:
    """Watch a training run; an interrupted one says how to go on, and ``then`` with what, where `RUN` stands for its folder."""
    begun: list[Path] = []
    try:
        with _epoch_progress(recipe, quiet) as watch:
            yield replace(watch, begun=begun.append)
    except KeyboardInterrupt:
        for path in begun:
            note(f"stopped; go on with: fittingroom train --resume {path}")
            if then:
                note(then.replace("RUN", str(path)))
        raise


@contextmanager
def _epoch_progress(recipe: Recipe, quiet: bool) -> Iterator[Watch]:
    """A bar on a terminal, plain lines elsewhere."""
    epochs = recipe.train.last_epoch
    lines = EpochLines(epochs)
    console = Console(stderr=True, highlight=False, emoji=False)
    if quiet:
        yield Watch()
    elif not console.is_terminal:
        yield Watch(epoch_done=lines)
    else:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            # Before the first step, and for a classical model to its end, nobody knows how far it is: the bar pulses.
            task = bar.add_task(f"training {recipe.model.name}", total=None)

            def progress(epoch: int, step: int, steps: int) -> None:
                bar.update(task, total=float(epochs), completed=epoch - 1 + step / steps, description=f"epoch {epoch}/{epochs}")

            def epoch_done(record: dict[str, Any]) -> None:
                bar.console.print(lines.text(record), markup=False)

            def download(there: int, expected: int) -> None:
                bar.update(task, total=expected or None, completed=there, description=f"fetching {recipe.data.name}")
                if there >= expected:
                    bar.reset(task, total=None, description=f"training {recipe.model.name}")

            yield Watch(progress, epoch_done, download)


@contextmanager
def download_progress() -> Iterator[Callable[[int, int], None]]:
    """Give the callback of a download, ``(bytes there, bytes expected)``: a bar on a terminal, nothing elsewhere.

    The bar appears with the first call: where nothing is fetched, nothing is shown.
    """
    console = Console(stderr=True, highlight=False, emoji=False)
    if not console.is_terminal:
        yield lambda there, expected: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    bar = Progress(BarColumn(bar_width=28), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=console, transient=True)
    task = bar.add_task("download", total=None)

    def progress(there: int, expected: int) -> None:
        bar.start()
        bar.update(task, completed=there, total=expected or None)

    try:
        yield progress
    finally:
        bar.stop()


def _figure(part: dict[str, Any], quantity: str, form: str) -> str:
    return format(part[quantity], form) if quantity in part else "—"


def visible(text: str) -> str:
    """Text from outside — names of files and classes — on one line, with control characters spelled out: a terminal obeys those."""
    return CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)
