"""The search: trials asked for, carried out as ordinary runs, and told; by any number of processes that may die at any moment.

A trial is taken by holding the lock of its folder in ``claims/``, which the operating system lets go of when its holder dies. Until a
trial has been told, it stands as running in the storage; one that nobody holds is taken up by the next who asks, and its run goes on
from its checkpoint. No clock decides who is dead: on another machine, where no lock can be asked, a person does (`take_over`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from fittingroom import experiment
from fittingroom.errors import FittingRoomError, RunError, UsageError
from fittingroom.experiment import Setting, Stopped
from fittingroom.files import write_text
from fittingroom.recipe import Loaded
from fittingroom.runs import Run
from fittingroom.train.loop import Diverged
from fittingroom.tune import choosing
from fittingroom.tune.space import Objective, Space
from fittingroom.tune.storage import close_storage, local_url, open_storage, reason_of, shown

__all__ = [
    "Carry",
    "Hand",
    "Report",
    "Search",
    "carry_on",
    "check_run",
    "claim",
    "in_hand",
    "rests",
    "storage_errors",
    "take",
    "take_over",
    "training",
    "work",
]

Report = Callable[[int, float], None]
"""Takes an epoch, counted from 1, and its value; raises `Stopped` where the trial is not to go on."""
Carry = Callable[[Loaded, Path, Report], float]
"""Carries a trial out: takes recipe, run folder and `Report`, returns the trial's value."""

PRUNED = "pruned: "
RESTING = "resting"
PAUSE_SECONDS = 0.1
"""Between two looks at a trial that another process has in hand."""


@dataclass(frozen=True, eq=False)
class Search:
    """A search: its folder, its space and its storage, whose connections are closed at the end of a ``with`` block.

    Attributes:
        folder: holds ``search.db``, the runs in ``trials/`` and ``finalists/``, the page.
        space: what is searched.
        storage: where the trials are kept.
        place: names this folder in a storage that several machines share.
        places: how many trials are carried out side by side here.
    """

    folder: Path
    space: Space
    storage: BaseStorage
    place: str
    places: int = 1

    @classmethod
    def at(cls, folder: Path, space: Space, url: str | None = None, places: int = 1) -> Search:
        """Begin a search, or go on with the one in ``folder``.

        Args:
            folder: its name is the search's name in the storage.
            space: must be the space that the search began with, but for budget and finalists.
            url: of the storage; None keeps it in the folder.
            places: how many trials are carried out side by side here, by which their seconds count as minutes of the budget.

        Raises:
            UsageError: the search is one of another space.
            FittingRoomError: the storage cannot be used.
        """
        with _alone(folder), storage_errors():
            storage = open_storage(url or local_url(folder))
            direction = StudyDirection.MAXIMIZE if space.objective.sign > 0 else StudyDirection.MINIMIZE
            study = optuna.create_study(study_name=folder.name, storage=storage, direction=direction, load_if_exists=True)
            before = study.user_attrs.get("space")
            if before is None:
                study.set_user_attr("space", space.fixed)
            elif before != space.fixed:
                close_storage(storage)
                where = f"{folder}" if url is None else f"{folder.name} in {shown(url)}"
                raise UsageError(f"{where} is a search of another space ({_difference(before, space.fixed)}); choose another --name")
            place = _place(folder)  # last: where the storage cannot be used, nothing is written
        return cls(folder, space, storage, place, places)

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *ending: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the storage."""
        close_storage(self.storage)

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials, by number; without those that another machine asked for at the same moment and that were too many: they wait."""
        return [trial for trial in self.known if trial.state != TrialState.WAITING]

    @property
    def known(self) -> list[FrozenTrial]:
        """All trials in the storage, by number."""
        with storage_errors():
            return self.study().get_trials(deepcopy=False)

    @property
    def spent(self) -> float:
        """Seconds of the budget's minutes that trials have taken here, those that were carried out side by side counted once."""
        here = [trial for trial in self.trials if trial.user_attrs.get("place") == self.place]
        return sum(self.seconds_of(trial) / int(trial.user_attrs.get("places", 1)) for trial in here)

    def deadline(self) -> float | None:
        """The time from which no trial is to be worked on, if work goes on now; work before an interruption counts."""
        minutes = self.space.budget.minutes
        return None if minutes is None else time.time() + 60 * minutes - self.spent

    def seconds_of(self, trial: FrozenTrial) -> float:
        """Return the seconds of work on a trial, its interruptions left out; of one begun here and not told yet, those of its epochs."""
        whole = trial.datetime_complete - trial.datetime_start if trial.datetime_complete and trial.datetime_start else timedelta()
        told = float(trial.user_attrs.get("seconds", whole.total_seconds()))
        if trial.state.is_finished() or trial.user_attrs.get("place") != self.place:
            return told
        return max(told, sum(float(record["train"]["seconds"]) for record in Run(self.run_folder(trial.number)).history))

    def study(self, number: int | None = None) -> Study:
        """Return the Optuna study, with the sampler and the pruner of a trial where one is named."""
        if number is None:
            return Study(self.folder.name, self.storage, RandomSampler(0), NopPruner())
        epochs = self.space.recipe({}).recipe.train.last_epoch
        return Study(self.folder.name, self.storage, choosing.sampler(self.space, number), choosing.pruner(self.space, epochs))

    def run_folder(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"


class Hand:
    """A trial in hand, from its recipe to what is told of it; to be used as a context, which lets it go at the end.

    Args:
        search: whose trial it is.
        taken: it, as the storage has it.
        held: its claim.
        again: whether somebody has had it in hand before.
        out_of_time: whether trials are to rest.
    """

    def __init__(self, search: Search, taken: FrozenTrial, held: ExitStack, again: bool, out_of_time: Callable[[], bool]) -> None:
        self.search = search
        self.folder = search.run_folder(taken.number)
        self._taken, self._held, self._again, self._out_of_time = taken, held, again, out_of_time
        self._began = time.monotonic()
        self._study = search.study(taken.number)
        self._trial = Trial(self._study, taken._trial_id)
        self._spent = search.seconds_of(taken)
        self._epochs = 0
        self._reported = set(taken.intermediate_values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ending: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Give up the claim: whoever comes next takes the trial up, unless it has been told."""
        self._held.close()

    @property
    def number(self) -> int:
        """Of the trial."""
        return self._taken.number

    def recipe(self) -> Loaded:
        """Ask for the trial's values and return its recipe.

        Raises:
            UsageError: there is no such recipe.
        """
        loaded = self.search.space.recipe(choosing.suggest(self._trial, self.search.space))
        self._epochs = loaded.recipe.train.last_epoch
        return loaded

    def report(self, epoch: int, value: float) -> None:
        """Tell the storage what an epoch was worth.

        Raises:
            Stopped: the trial is not to go on.
        """
        if self._taken_over():
            raise Stopped("another machine took the trial over")
        if epoch not in self._reported:  # one that is trained again has been
            self._trial.report(value, epoch)
            self._reported.add(epoch)
        if epoch == self._epochs:
            return  # nothing is left to spare
        if self._trial.should_prune():
            raise Stopped(f"{PRUNED}{self.search.space.pruner.name}, after epoch {epoch}")
        if self._out_of_time():
            raise Stopped("the time for the search was up")

    def tell(self, value: float) -> str:
        """Tell the storage the trial's score; return a line about it."""
        return self._tell(TrialState.COMPLETE, value, "")

    def give_up(self, error: Stopped | Diverged | UsageError) -> str:
        """Tell the storage why the trial has no score; return a line about it, or ``""`` where it rests, to go on another time."""
        if not isinstance(error, Stopped):  # it is the fault of these values, not of the search
            return self._tell(TrialState.FAIL, None, str(error))
        return self._tell(TrialState.PRUNED if str(error).startswith(PRUNED) else TrialState.RUNNING, None, str(error))

    def _taken_over(self) -> bool:
        return bool(self.search.storage.get_trial(self._taken._trial_id).user_attrs["place"] != self.search.place)

    def _tell(self, state: TrialState, value: float | None, reason: str) -> str:
        if self._taken_over():
            return ""
        seconds = self._spent + time.monotonic() - self._began
        if self._again or state == TrialState.RUNNING:  # otherwise the storage's own times say it
            self._trial.set_user_attr("seconds", seconds)
        if state == TrialState.RUNNING:
            self._trial.set_user_attr(RESTING, True)
            return ""
        if reason:
            self._trial.set_user_attr("reason", reason)
        return _line(self._study.tell(self._trial, value, state=state), seconds, reason)


def work(
    search: Search,
    carry: Carry,
    deadline: float | None = None,
    alive: Callable[[], None] = lambda: None,
    notify: Callable[[str], None] = lambda line: None,
) -> None:
    """Carry out trials until the budget is used up and none is in hand, here or in another process.

    Args:
        search: what to search.
        carry: how a trial is carried out, `training` for real ones.
        deadline: time (as `time.time` has it) from which trials rest: none is begun, and those in hand end with their epoch, to go on
            when there is more time.
        alive: called now and then; raises what ends the work.
        notify: takes a line for each trial told.

    Raises:
        FittingRoomError: something that every trial would meet: no data, a full disk, a storage that went away.
    """

    with storage_errors():
        while True:
            hand = take(search, deadline)
            if hand is not None:
                with hand:
                    line = _carried_out(hand, carry, alive)
                if line:
                    notify(line)
            elif not in_hand(search, deadline):
                return
            else:
                time.sleep(PAUSE_SECONDS)
            alive()


def take(search: Search, deadline: float | None) -> Hand | None:
    """Take a trial in hand; None where there is none left, or the time is up."""

    def out_of_time() -> bool:
        return deadline is not None and time.time() >= deadline

    with _alone(search.folder):
        taken = None if out_of_time() else _take(search)
    return None if taken is None else Hand(search, *taken, out_of_time)


def training(objective: Objective, setting: Setting) -> Carry:
    """Return what carries out a trial as an ordinary run, begun or gone on with, and judges it by ``objective``."""

    def carry(loaded: Loaded, folder: Path, report: Report) -> float:
        told = replace(setting, epoch_done=lambda record: report(int(record["epoch"]), objective.of(record)))
        return objective.score(carry_on(loaded, folder, told).history)

    return carry


def carry_on(loaded: Loaded, folder: Path, setting: Setting) -> Run:
    """Train a recipe in ``folder``, or go on with the run that is there, to its end.

    Raises:
        Stopped: it was pruned before.
        RunError: the folder holds a run of another recipe.
    """
    check_run(folder, loaded)
    if not (folder / "recipe.toml").exists():
        return experiment.train(loaded, folder, setting=setting)
    return experiment.resume(Run(folder), setting)


def check_run(folder: Path, loaded: Loaded) -> None:
    """Find out whether the run in ``folder``, if there is one, may go on.

    Raises:
        Stopped: it was pruned before.
        RunError: it is one of another recipe.
    """
    run = Run(folder)
    if not (folder / "recipe.toml").exists():
        return
    if run.recipe != loaded.recipe:
        raise RunError(f"{folder} holds a run of another recipe than the storage says; choose another --name")
    if run.state == "stopped" and run.reason.startswith(PRUNED):
        raise Stopped(run.reason)


def claim(folder: Path) -> ExitStack | None:
    """Take what ``folder`` stands for, until the stack is closed or this process dies; None where another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    held = ExitStack()
    try:
        held.enter_context(Run(folder).owned())  # the lock of a run folder serves any folder
    except RunError:
        return None
    return held


def rests(trial: FrozenTrial) -> bool:
    """Whether a trial waits, unfinished, until there is more time."""
    return trial.state == TrialState.RUNNING and bool(trial.user_attrs.get(RESTING))


def take_over(search: Search, number: int) -> None:
    """Make a trial that another machine has begun one of this folder, where it is trained from its first epoch.

    For a machine that is gone for good. One that is not finds out when its epoch is over, and lets the trial be.

    Raises:
        UsageError: there is no such trial.
    """
    with storage_errors():
        trial = next((trial for trial in search.trials if trial.number == number), None)
        if trial is None:
            raise UsageError(f"{search.folder.name} has no trial {number} to take over")
        if trial.state == TrialState.RUNNING and trial.user_attrs.get("place") != search.place:
            # The place comes last: killed before it, the same command does it again.
            for key, value in {"seconds": 0.0, "places": search.places, RESTING: True, "place": search.place}.items():
                search.storage.set_trial_user_attr(trial._trial_id, key, value)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is at this point, for the length of a ``with`` block."""
    while (held := claim(folder)) is None:
        time.sleep(0.005)
    with held:
        yield


def _place(folder: Path) -> str:
    path = folder / "place"
    if not path.exists():
        write_text(path, f"{uuid.uuid4().hex}\n")
    return path.read_text(encoding="utf-8").strip()


def _claim_of(search: Search, number: int) -> ExitStack | None:
    return claim(search.folder / "claims" / f"{number:04d}")


def _unfinished(search: Search, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those of ``trials`` that were begun in this folder and not told by then."""
    return [trial for trial in trials if trial.state == TrialState.RUNNING and trial.user_attrs.get("place") == search.place]


def _claimed(search: Search, trial: FrozenTrial) -> tuple[FrozenTrial, ExitStack] | None:
    """Claim a trial and return it as it is now, when nobody else can tell it any more; None where another process has it."""
    held = _claim_of(search, trial.number)
    return None if held is None else (search.storage.get_trial(trial._trial_id), held)


def _take(search: Search) -> tuple[FrozenTrial, ExitStack, bool] | None:
    """Take a trial that a dead process left behind, or else a new one, and say which; None where there is neither. To be called alone."""
    known = search.known
    for trial in _unfinished(search, known):
        claimed = _claimed(search, trial)
        if claimed is None:
            continue
        now, held = claimed
        if now.state == TrialState.RUNNING:
            if rests(now):
                search.storage.set_trial_user_attr(now._trial_id, RESTING, False)
            return now, held, True
        held.close()
    asked = _ask(search, known)
    return None if asked is None else (*asked, False)


def _ask(search: Search, known: Sequence[FrozenTrial]) -> tuple[FrozenTrial, ExitStack] | None:
    """Take a trial that was once too many, or add one to the storage and take it; None where there are enough."""
    limit = search.space.trials
    waiting = [trial for trial in known if trial.state == TrialState.WAITING]
    if limit is not None and len(known) - len(waiting) >= limit:
        return None
    trial = _awoken(search, waiting) or _added(search, len(known))
    if limit is not None and trial.number >= limit:  # another machine was quicker
        search.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)  # nobody's, until there are to be more
        return None
    held = _claim_of(search, trial.number)
    if held is None:
        raise RunError(f"{search.folder} is of another search: it has a trial {trial.number} in hand; choose another --name")
    return trial, held


def _awoken(search: Search, waiting: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Take one of the trials that wait, before another machine does, and make it one of this folder; None where there is none to take."""
    limit = search.space.trials
    for trial in waiting:
        if limit is not None and trial.number >= limit:
            continue
        with suppress(optuna.exceptions.UpdateFinishedTrialError):  # so quick another machine can be
            if search.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                for key, value in _belonging(search, trial.number).items():
                    search.storage.set_trial_user_attr(trial._trial_id, key, value)
                return search.storage.get_trial(trial._trial_id)
    return None


def _added(search: Search, number: int) -> FrozenTrial:
    """Add a trial to the storage, which should be number ``number``: it is another where another machine asked at the same moment.

    It is written with its place in one transaction, which `Study.ask` cannot: a process that dies here leaves a whole trial or none.
    """
    told = {**_belonging(search, number), "token": uuid.uuid4().hex}
    study = search.study()
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=told))
    trial = next(trial for trial in reversed(study.get_trials(deepcopy=False)) if trial.user_attrs.get("token") == told["token"])
    if trial.number != number:
        search.storage.set_trial_user_attr(trial._trial_id, "run", _name(search.run_folder(trial.number)))
    return trial


def _belonging(search: Search, number: int) -> dict[str, Any]:
    """What the storage is told of where a trial belongs."""
    return {"place": search.place, "places": search.places, "run": _name(search.run_folder(number))}


def in_hand(search: Search, deadline: float | None) -> bool:
    """Whether there is a trial to wait for: one in another process's hand, or, unless trials rest, one that its process let go."""
    unfinished = _unfinished(search, search.trials)
    if deadline is None or time.time() < deadline:
        return bool(unfinished)
    return not all(_laid_to_rest(search, trial) for trial in unfinished)


def _laid_to_rest(search: Search, trial: FrozenTrial) -> bool:
    """Note that a trial rests, if its process died before it could; return whether nobody has it in hand."""
    claimed = _claimed(search, trial)
    if claimed is None:
        return False
    now, held = claimed
    with held:
        if now.state == TrialState.RUNNING and not rests(now):
            search.storage.set_trial_user_attr(now._trial_id, RESTING, True)
    return True


def _carried_out(hand: Hand, carry: Carry, alive: Callable[[], None]) -> str:
    """Carry a trial out and tell what came of it; return a line about it, or ``""``."""

    def report(epoch: int, value: float) -> None:
        hand.report(epoch, value)
        alive()

    try:
        value = carry(hand.recipe(), hand.folder, report)
    except (Stopped, Diverged, UsageError) as error:
        return hand.give_up(error)
    return hand.tell(value)


def _name(run_folder: Path) -> str:
    return str(Path(*run_folder.parts[-2:]))


def _line(trial: FrozenTrial, seconds: float, reason: str) -> str:
    outcome = reason if trial.state == TrialState.FAIL else f"{trial.value:.4f}" if trial.value is not None else "—"
    values = " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in trial.params.items())
    return f"trial {trial.number}  {trial.state.name.lower()}  {outcome}  {seconds:.1f} s  {values}"


@contextmanager
def storage_errors() -> Iterator[None]:
    """Say in one line that the storage went away."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        raise FittingRoomError(f"the search's storage failed ({reason_of(error)}); when it is back, the same command goes on") from None


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the first table that differs."""
    return f"its {next(key for key in (*now, *before) if before.get(key) != now.get(key))} differs"
