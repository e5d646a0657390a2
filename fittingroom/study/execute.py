"""Carrying out a plan on local workers or on a cluster: what is done is skipped, what was begun goes on, and no run is lost or made twice.

    FOLDER/KEY-DIGITS/     run folders; the digits stand for recipe and code, so that nothing goes on under another meaning
    FOLDER/timings.json    how fast the models were found to be
    RECORDS/               what is kept of a finished run, and why others failed

Whatever is killed at whatever moment, the same plan carried out again goes on where it was.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fittingroom.cluster import AnyCrew
from fittingroom.errors import RunError
from fittingroom.files import explain
from fittingroom.models import entry
from fittingroom.runs import Run
from fittingroom.study.code import fingerprint
from fittingroom.study.plan import Planned
from fittingroom.study.results import Record, failure_of, read_records, write_failure, write_record
from fittingroom.study.timing import Timings
from fittingroom.workers import Event, Job

__all__ = ["OPENING", "Progress", "Standing", "execute", "owned", "standing"]

OPENING = "end of the study's protocol"
"""Why the test set of a run is opened: once, at its end."""


@dataclass(frozen=True)
class Standing:
    """What of a plan is done.

    Attributes:
        records: what is recorded, of this plan or not.
        done: keys of what is recorded, by the present code.
        earlier: keys of what is recorded, by an earlier state of the code.
        failed: by key, why a run failed that would fail again.
        todo: what is to be trained.
    """

    records: tuple[Record, ...]
    done: tuple[str, ...]
    earlier: tuple[str, ...]
    failed: Mapping[str, str]
    todo: tuple[Planned, ...]


def standing(
    planned: Sequence[Planned], records: Path, keep_earlier: bool = False, notify: Callable[[str], None] = lambda line: None
) -> Standing:
    """Find out what of a plan is done: the same recipe, the same seed, the same code.

    Args:
        planned: the plan.
        records: their folder; it need not exist.
        keep_earlier: take what an earlier state of the code made, or failed to make, for done too.
        notify: called with a line for each damaged record.
    """
    known = read_records(records, notify)
    made_by: dict[tuple[str, str], set[str]] = {}
    for record in known:
        made_by.setdefault((record.recipe.hash, record.full.hash), set()).add(record.code)
    found = {one.key: made_by.get((one.loaded.recipe.hash, one.full.hash), set()) for one in planned}
    done = tuple(one.key for one in planned if _code(one) in found[one.key])
    earlier = tuple(one.key for one in planned if found[one.key] and one.key not in done)
    there = {*done, *(earlier if keep_earlier else ())}
    failed = {one.key: reason for one in planned if one.key not in there and (reason := _failure(one, records, keep_earlier))}
    settled = there | failed.keys()
    return Standing(tuple(known), done, earlier, failed, tuple(one for one in planned if one.key not in settled))


@dataclass
class Progress:
    """How far a plan has come, for whoever watches it.

    Attributes:
        total: number of trainings.
        finished, failed: how many of them are.
        work: what is done of each training, in [0, 1], by key.
        before: what an earlier command had done of it: that says nothing of the pace of this one.
        expected: how long each is expected to take, in seconds, by key.
        began: when the work began, by `time.monotonic`.
    """

    total: int
    expected: Mapping[str, float]
    began: float = field(default_factory=time.monotonic)
    finished: int = 0
    failed: int = 0
    work: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Part of the expected work that is done, in [0, 1]."""
        return self._of(self.work)

    @property
    def left(self) -> float | None:
        """Seconds until the end, at the pace so far; None while there is none."""
        done = self.share - self._of(self.before)
        return (time.monotonic() - self.began) * (1 - self.share) / done if done > 0 else None

    def note(self, key: str, before: float, work: float) -> None:
        """Note what is done of a training, and what of it was done when it was first heard of."""
        self.before.setdefault(key, before)
        self.work[key] = work

    def _of(self, parts: Mapping[str, float]) -> float:
        everything = sum(self.expected.values()) or 1.0
        return sum(self.expected[key] * part for key, part in parts.items()) / everything


@contextmanager
def owned(folder: Path, name: str) -> Iterator[None]:
    """Own the folder of a study for the length of a ``with`` block.

    Raises:
        RunError: another process is running the study there.
        FittingRoomError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, folder) from error
    with ExitStack() as stack:
        try:
            stack.enter_context(Run(folder).owned())
        except RunError as error:
            owner = str(error).partition(" is in use by ")[2].partition(";")[0]
            raise RunError(f"study {name} is being run in {folder} by {owner}; wait for it, or choose another --runs-dir") from None
        yield


def execute(
    todo: Sequence[Planned],
    folder: Path,
    records: Path,
    crew: AnyCrew,
    timings: Timings,
    watch: Callable[[Planned, Event, Progress], None] = lambda planned, event, progress: None,
) -> dict[str, str]:
    """Train what is to do and write its records; return why runs failed, by key.

    Args:
        todo: of the plan; the caller owns the folder.
        folder: of the study's run folders.
        records: folder of the records.
        crew: the workers, here or on a cluster.
        timings: how long runs are expected to take, and their threads.
        watch: called with everything that happens, after it has been written down.

    Raises:
        FittingRoomError: a record cannot be written.
    """
    expected = {one.key: timings.seconds(one.loaded.recipe) or 0.0 for one in todo}
    some = sum(expected.values()) / len(todo) if todo else 0.0
    expected = {key: seconds or some or 1.0 for key, seconds in expected.items()}
    progress = Progress(len(todo), expected)
    by_key = {one.key: one for one in todo}
    # The longest first: no core is left waiting for one of them at the end.
    for one in sorted(todo, key=lambda one: -expected[one.key]):
        crew.add(Job(one.key, one.loaded, _folder(folder, one), timings.threads(one.loaded.recipe), OPENING))
    failed: dict[str, str] = {}
    for heard in crew.events():
        one = by_key[heard.job.key]
        event = _kept(one, heard, records) if heard.kind == "done" else heard
        if event.kind == "done":
            progress.finished += 1
        elif event.kind == "failed":
            failed[one.key] = str(event.values["reason"])
            if event.values["final"]:
                write_failure(records, one.key, one.loaded.recipe, _code(one), one.full, failed[one.key])
            progress.failed += 1
        _note_work(one, event, progress)
        watch(one, event, progress)
    return failed


def _note_work(one: Planned, event: Event, progress: Progress) -> None:
    epochs = one.loaded.recipe.train.last_epoch
    if event.kind in ("done", "failed"):
        # A network that ends without a step was finished before; a classical model is fitted in one go, of which no step is told.
        progress.note(one.key, 0.0 if entry(one.loaded.recipe.model.name).kind == "classical" else 1.0, 1.0)
    elif event.kind == "step":
        begun = event.values["epoch"] - 1
        progress.note(one.key, begun / epochs, (begun + event.values["part"]) / epochs)


def _kept(one: Planned, event: Event, records: Path) -> Event:
    """Keep a finished run; one whose folder turns out to be damaged has failed, and the others go on."""
    try:
        _keep(one, Run(event.job.folder), records)
    except RunError as error:
        return Event(event.job, "failed", {"reason": str(error), "final": False})
    return event


def _keep(one: Planned, run: Run, records: Path) -> None:
    """Write the record of a finished run; its checkpoints, several times the size of its weights, have served their purpose."""
    write_record(records, one.key, run, _code(one), one.full, one.reduced)
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def _failure(one: Planned, records: Path, keep_earlier: bool) -> str | None:
    return failure_of(records, one.key, one.loaded.recipe, None if keep_earlier else _code(one))


def _code(one: Planned) -> str:
    return fingerprint(one.loaded.recipe.model.name)


def _folder(folder: Path, one: Planned) -> Path:
    meaning: Any = (one.loaded.recipe.hash, _code(one))
    return folder / f"{one.key}-{hashlib.sha256(repr(meaning).encode()).hexdigest()[:8]}"
