"""A search whose runs are carried out by a crew: this process asks and tells, the crew's workers or nodes train.

What holds of a search by processes holds here too: a trial is taken by its claim, stands as running until it has been told, and is
taken up by whoever comes next where this process died. Its run is a job of the crew, which goes on from what is in the run folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from fittingroom.cluster import AnyCrew
from fittingroom.errors import FittingRoomError, RunError, UsageError
from fittingroom.experiment import Stopped
from fittingroom.runs import Run
from fittingroom.train.loop import Diverged
from fittingroom.tune.finalists import trainings
from fittingroom.tune.search import PAUSE_SECONDS, Hand, Search, check_run, in_hand, storage_errors, take
from fittingroom.workers import Event, Job

__all__ = ["carry_out_with", "places"]


def places(crew: AnyCrew, threads: int) -> int:
    """How many runs of so many threads a crew carries out side by side."""
    return max(1, crew.workers // threads)


def carry_out_with(
    search: Search,
    crew: AnyCrew,
    threads: int = 1,
    deadline: float | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> None:
    """Carry out trials until the budget is used up and none is in hand, then the finalists.

    Args:
        search: what to search.
        crew: who trains; as many trials are in hand as it has places.
        threads: of each run.
        deadline: as `fittingroom.tune.search.work` has it.
        notify: takes a line for each trial or finalist told.

    Raises:
        FittingRoomError: something that every trial would meet: no data, a full disk, a storage that went away.
    """
    with storage_errors(), _Trials(search, crew, threads, deadline, notify) as trials:
        while trials.work():
            time.sleep(PAUSE_SECONDS)
    _train_finalists(search, crew, threads, notify)


class _Trials:
    """The trials in hand, by the key of their job; let go at the end of a ``with`` block, however it ends."""

    def __init__(self, search: Search, crew: AnyCrew, threads: int, deadline: float | None, notify: Callable[[str], None]) -> None:
        self.search, self.crew, self.threads, self.deadline, self.notify = search, crew, threads, deadline, notify
        self.hands: dict[str, Hand] = {}
        self.stops: dict[str, Stopped] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ending: object) -> None:
        for hand in self.hands.values():
            hand.let_go()

    def work(self) -> bool:
        """Have the crew carry out trials until there is none left to take; return whether to ask again in a while."""
        self._fill()
        for event in self.crew.events():
            self._heard(event)
        return in_hand(self.search, self.deadline)

    def _fill(self) -> None:
        """Take a trial for each free place."""
        while len(self.hands) < places(self.crew, self.threads) and (hand := take(self.search, self.deadline)) is not None:
            try:
                loaded = hand.recipe()
                check_run(hand.folder, loaded)
            except (Stopped, UsageError) as error:
                self._give_up(hand, error)
            except BaseException:
                hand.let_go()
                raise
            else:
                self.hands[str(hand.number)] = hand
                self.crew.add(Job(str(hand.number), loaded, hand.folder, self.threads))

    def _heard(self, event: Event) -> None:
        key = event.job.key
        if event.kind == "epoch" and key not in self.stops:
            record = event.values["record"]
            try:
                self.hands[key].report(int(record["epoch"]), self.search.space.objective.of(record))
            except Stopped as stop:
                self.stops[key] = stop
                self.crew.stop(key)
        elif event.kind == "died":
            self.notify(f"trial {key}: {event.values['reason']}")
        elif event.kind in ("done", "stopped", "failed"):
            self._ended(self.hands.pop(key), event, self.stops.pop(key, None))
            self._fill()

    def _ended(self, hand: Hand, event: Event, stop: Stopped | None) -> None:
        with hand:
            line = self._told(hand, event, stop)
        if line:
            self.notify(line)

    def _told(self, hand: Hand, event: Event, stop: Stopped | None) -> str:
        if stop is not None:
            Run(hand.folder).set_state("stopped", str(stop))
            return hand.give_up(stop)
        if event.kind == "done":
            return hand.tell(self.search.space.objective.score(Run(hand.folder).history))
        error = _error(event)
        if not isinstance(error, Diverged | UsageError):
            raise error
        return hand.give_up(error)

    def _give_up(self, hand: Hand, error: Stopped | Diverged | UsageError) -> None:
        with hand:
            line = hand.give_up(error)
        if line:
            self.notify(line)


def _train_finalists(search: Search, crew: AnyCrew, threads: int, notify: Callable[[str], None]) -> None:
    """Train the finalists on fresh seeds, together with whoever else does; return when all are trained."""
    pending = trainings(search)
    while pending:
        taken = {}
        with ExitStack() as claims:
            for one in pending:
                if (held := one.claim(search)) is not None:
                    claims.enter_context(held)
                    taken[one.folder.name] = one
            for key, one in taken.items():
                if not one.settled:
                    check_run(one.folder, one.loaded)
                    crew.add(Job(key, one.loaded, one.folder, threads))
            for event in crew.events():
                one = taken[event.job.key]
                if event.kind == "done":
                    notify(one.scored(search))
                elif event.kind == "died":
                    notify(f"{one.name}: {event.values['reason']}")
                elif event.kind == "failed":
                    error = _error(event)
                    if not isinstance(error, Diverged):
                        raise error
                    notify(one.diverged(error))
        pending = [one for one in pending if one.folder.name not in taken]
        if pending:
            time.sleep(PAUSE_SECONDS)


def _error(event: Event) -> FittingRoomError:
    """What ended a job, as it would have been raised here."""
    reason = str(event.values["reason"])
    if event.values["final"]:
        return Diverged(reason)
    code = int(event.values["code"])
    error = UsageError(reason) if code == UsageError.exit_code else RunError(reason)
    error.exit_code = code
    return error
