"""How far a search is: read from its storage and its run folders, so that it does not matter who carries its trials out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState

from fittingroom.runs import Run
from fittingroom.tune.finalists import Training, trainings
from fittingroom.tune.search import Search

__all__ = ["Progress", "progress"]


@dataclass(frozen=True)
class Progress:
    """How far a search is.

    Attributes:
        phase: `trials` or `finalists`.
        done: trials told, or trainings of finalists that are finished.
        of: how many there will be; None where time alone decides.
        best: the best score so far; None where there is none.
        in_hand: those being trained or resting: what each is called, and its last epoch.
        left: seconds to the end of the whole search; None where that cannot be told yet.
        share: of the phase that is done, from 0 to 1.
    """

    phase: str
    done: int
    of: int | None
    best: float | None
    in_hand: Sequence[tuple[str, int]]
    left: float | None
    share: float


def progress(search: Search, places: int, deadline: float | None) -> Progress:
    """Find out how far a search is.

    Args:
        search: whose storage and folders are read.
        places: how many trials are carried out side by side.
        deadline: as `fittingroom.tune.search.work` has it.

    Raises:
        FittingRoomError: the storage went away, or a finalist's run is damaged.
    """
    trials = search.trials
    told = [trial for trial in trials if trial.state.is_finished()]
    running = [trial for trial in trials if not trial.state.is_finished()]
    values = [trial.values[0] for trial in trials if trial.state == TrialState.COMPLETE]
    best = max(values, key=lambda value: search.space.objective.sign * value, default=None)
    limit, now = search.space.trials, time.time()
    if (limit is not None and len(told) >= limit) or (deadline is not None and now >= deadline):
        pending = trainings(search)
        if not running or any(_begun(one) for one in pending):  # a trial that rests stands as running too
            return _of_finalists(pending, best, _mean_complete(search, told), places)
    epochs = search.space.recipe({}).recipe.train.last_epoch
    begun = sum(_epoch(trial) for trial in running) / epochs
    left = _left([search.seconds_of(trial) for trial in told], begun, limit, places, None if deadline is None else max(0.0, deadline - now))
    share = 0.0 if limit is None else (len(told) + begun) / limit
    if deadline is not None and search.space.budget.minutes:
        share = max(share, 1 - (deadline - now) / (60 * search.space.budget.minutes))
    finals = search.space.finalists * search.space.fresh_seeds
    if left is not None and finals:
        mean = _mean_complete(search, told)
        left = None if mean is None else left + finals * mean / places
    in_hand = [(f"trial {trial.number}", _epoch(trial)) for trial in running]
    return Progress("trials", len(told), limit, best, in_hand, left, min(max(share, 0.0), 1.0))


def _left(told: Sequence[float], begun: float, limit: int | None, places: int, time_left: float | None) -> float | None:
    """Seconds until the last trial is told, by the mean of those told so far, and no longer than there is time."""
    mean = fmean(told) if told else None
    by_trials = None if limit is None or mean is None else max(0.0, limit - len(told) - begun) * mean / places
    return min((one for one in (by_trials, time_left) if one is not None), default=None)


def _of_finalists(pending: Sequence[Training], best: float | None, mean: float | None, places: int) -> Progress:
    settled = [one for one in pending if one.settled]
    in_hand = [(one.name, _last_epoch(one)) for one in pending if one not in settled and _begun(one)]
    left = None if mean is None else (len(pending) - len(settled)) * mean / places
    return Progress("finalists", len(settled), len(pending), best, in_hand, left, len(settled) / max(1, len(pending)))


def _begun(one: Training) -> bool:
    return (one.folder / "recipe.toml").exists()


def _mean_complete(search: Search, told: Sequence[FrozenTrial]) -> float | None:
    seconds = [search.seconds_of(trial) for trial in told if trial.state == TrialState.COMPLETE]
    return fmean(seconds) if seconds else None


def _epoch(trial: FrozenTrial) -> int:
    return max(trial.intermediate_values, default=0)


def _last_epoch(one: Training) -> int:
    history = Run(one.folder).history
    return int(history[-1]["epoch"]) if history else 0
