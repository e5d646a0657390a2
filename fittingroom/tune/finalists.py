"""The finalists: the best trials of a search, trained again on fresh seeds, and what that says about the search's best score.

The best of many scores is partly lucky, and a search picks the lucky ones. Fresh seeds take no part in picking the
finalists: their mean is what a recipe is worth on these validation images, and how far the best trial's mean lies below its score is
the selection optimism (Cawley and Talbot, On over-fitting in model selection, 2010). The winner is the finalist of the highest mean, so
a little luck is left in its mean: that of picking one of a few, over several seeds each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from fittingroom.evaluate import statistics
from fittingroom.experiment import Setting
from fittingroom.files import write_json
from fittingroom.recipe import Loaded
from fittingroom.runs import Run
from fittingroom.train.loop import Diverged
from fittingroom.tune.search import PAUSE_SECONDS, Search, carry_on, claim, rests
from fittingroom.tune.space import Space

__all__ = ["Finalist", "Outcome", "Training", "TrialRow", "outcome", "train_finalists", "trainings"]


@dataclass(frozen=True)
class TrialRow:
    """A trial as it is printed.

    Attributes:
        number: counted from 0.
        params: dotted keys and values.
        value: its score; of a pruned one, that of its last epoch; None where there is none.
        state: `complete`, `pruned`, `fail`, or `running` (in hand, or resting until there is more time).
        run: its run folder.
        seconds: of work on it.
        reason: why it was pruned or failed.
    """

    number: int
    params: Mapping[str, Any]
    value: float | None
    state: str
    run: str
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Finalist:
    """One of the best trials with its fresh trainings.

    Attributes:
        trial: it, as found by the search.
        scores: of the fresh trainings that are finished, by seed.
        mean: of these; None where none is finished.
        interval: 95 % of the mean, by Student's t; None for fewer than two.
        diverged: seeds with which it diverged; such a finalist cannot win.
    """

    trial: TrialRow
    scores: Mapping[int, float]
    mean: float | None
    interval: tuple[float, float] | None
    diverged: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a search.

    Attributes:
        name: of the search.
        space: what was searched.
        trials: all, by number.
        finalists: best of the search first.
        left: why there are no finalists, or no winner yet; ``""`` where there is one.
    """

    name: str
    space: Space
    trials: Sequence[TrialRow]
    finalists: Sequence[Finalist]
    left: str = ""

    @property
    def best(self) -> TrialRow | None:
        """The trial with the best score; of equals, the first."""
        complete = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        return max(complete, key=lambda trial: (self.space.objective.sign * (trial.value or 0.0), -trial.number), default=None)

    @property
    def winner(self) -> Finalist | None:
        """The finalist with the best mean over fresh seeds; None until all of them are trained."""
        sound = [finalist for finalist in self.finalists if not finalist.diverged]
        if self.left or not sound:
            return None
        return max(sound, key=lambda finalist: self.space.objective.sign * (finalist.mean or 0.0))

    @property
    def favourite(self) -> Finalist | None:
        """The best trial with its fresh trainings; None where it was not trained to the end on every seed."""
        known = [finalist for finalist in self.finalists if self.best is not None and finalist.trial.number == self.best.number]
        return None if self.left or not known or known[0].diverged else known[0]

    @property
    def optimism(self) -> float | None:
        """How much better the search's best score looks than the same trial is on fresh seeds, in the metric's units."""
        if self.favourite is None or self.favourite.mean is None or self.favourite.trial.value is None:
            return None
        return self.space.objective.sign * (self.favourite.trial.value - self.favourite.mean)

    @property
    def optimism_interval(self) -> tuple[float, float] | None:
        """95 % of `optimism`, from the spread over fresh seeds; None for a single one."""
        if self.optimism is None or self.favourite is None or self.favourite.interval is None:
            return None
        half = (self.favourite.interval[1] - self.favourite.interval[0]) / 2
        return self.optimism - half, self.optimism + half

    @property
    def lead(self) -> float | None:
        """How much better the winner is than the best trial, both on fresh seeds; 0 where they are one."""
        if self.winner is None or self.winner.mean is None or self.favourite is None or self.favourite.mean is None:
            return None
        return self.space.objective.sign * (self.winner.mean - self.favourite.mean)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        winner = self.winner
        return {
            "name": self.name,
            "metric": self.space.objective.metric,
            "trials": [asdict(trial) for trial in self.trials],
            "best": None if self.best is None else asdict(self.best),
            "finalists": [
                {
                    "number": finalist.trial.number,
                    "value": finalist.trial.value,
                    "scores": {str(seed): score for seed, score in finalist.scores.items()},
                    "mean": finalist.mean,
                    "interval": finalist.interval,
                    "diverged": list(finalist.diverged),
                }
                for finalist in self.finalists
            ],
            "winner": None if winner is None else winner.trial.number,
            "optimism": None if self.optimism is None else {"value": self.optimism, "interval": self.optimism_interval},
            "lead": self.lead,
        }


@dataclass(frozen=True)
class Training:
    """The training of a finalist on a fresh seed.

    Attributes:
        number: of the finalist's trial.
        seed: of the training.
        loaded: its recipe.
        folder: its run folder.
    """

    number: int
    seed: int
    loaded: Loaded
    folder: Path

    @property
    def name(self) -> str:
        """What it is called where it is told of."""
        return f"finalist {self.number}, seed {self.seed}"

    @property
    def settled(self) -> bool:
        """Whether it is finished, or would diverge again."""
        return _finished(self.folder) or _diverged(self.folder)

    def claim(self, search: Search) -> ExitStack | None:
        """Take it, as `fittingroom.tune.search.claim` does."""
        return claim(search.folder / "claims" / self.folder.name)

    def scored(self, search: Search) -> str:
        """Return a line about it when it is finished."""
        return f"{self.name}: {search.space.objective.score(Run(self.folder).history):.4f}"

    def diverged(self, error: Diverged) -> str:
        """Note that it would diverge again: that is what there is to know of this finalist, and the others go on. Return a line."""
        Run(self.folder).set_state("failed", str(error), diverged=True)
        return f"{self.name}: {error}"


def trainings(search: Search) -> list[Training]:
    """Return the trainings of the finalists; none while another machine has a trial in hand: who is a finalist is not known yet."""
    if _elsewhere(search):
        return []
    return [
        Training(trial.number, seed, search.space.recipe(search.space.values(trial.params), seed), _folder(search, trial.number, seed))
        for trial in _best(search)
        for seed in _seeds(search)
    ]


def train_finalists(
    search: Search, setting: Setting, alive: Callable[[], None] = lambda: None, notify: Callable[[str], None] = lambda line: None
) -> None:
    """Train the finalists on fresh seeds, together with whoever else does; return when all are trained."""
    setting = replace(setting, epoch_done=lambda record: alive())
    pending = trainings(search)
    while pending:
        for one in list(pending):
            held = one.claim(search)
            if held is None:
                continue
            with held:
                if not one.settled:
                    notify(_trained(search, one, setting))
            pending.remove(one)
            alive()
        if pending:
            time.sleep(PAUSE_SECONDS)


def _trained(search: Search, one: Training, setting: Setting) -> str:
    """Carry a training out; return a line about it."""
    try:
        carry_on(one.loaded, one.folder, setting)
    except Diverged as error:
        return one.diverged(error)
    return one.scored(search)


def outcome(search: Search) -> Outcome:
    """Return what came of a search so far, and write it to ``result.json``."""
    trials = [_trial_row(search, trial) for trial in search.trials]
    best = [] if _elsewhere(search) else _best(search)
    finalists = [_finalist(search, _trial_row(search, trial)) for trial in best]
    found = Outcome(search.folder.name, search.space, trials, finalists, _left(search, finalists))
    write_json(search.folder / "result.json", found.to_json())
    return found


def _best(search: Search) -> list[FrozenTrial]:
    """The best trials, best first; of equals, the first, and each recipe once, whatever its seed."""
    sign = search.space.objective.sign
    complete = [trial for trial in search.trials if trial.state == TrialState.COMPLETE]
    best: dict[str, FrozenTrial] = {}
    for trial in sorted(complete, key=lambda trial: (-sign * float(trial.values[0]), trial.number)):
        if len(best) == search.space.finalists:
            break
        best.setdefault(search.space.recipe(search.space.values(trial.params)).recipe.family, trial)
    return list(best.values())


def _seeds(search: Search) -> list[int]:
    """The next seeds after the recipe's with which no trial was trained."""
    own = search.space.recipe({}).recipe.seed
    used = {int(trial.params["seed"]) for trial in search.trials if "seed" in trial.params}
    after = chain(range(own + 1, 2**63), range(own))
    return list(islice((seed for seed in after if seed not in used), search.space.fresh_seeds))


def _elsewhere(search: Search) -> list[int]:
    """The numbers of the trials that another machine has in hand, as far as can be known here."""
    running = [trial for trial in search.trials if trial.state == TrialState.RUNNING and not rests(trial)]
    return [trial.number for trial in running if trial.user_attrs.get("place") != search.place]


def _folder(search: Search, number: int, seed: int) -> Path:
    return search.folder / "finalists" / f"{number:04d}-seed-{seed}"


def _finished(folder: Path) -> bool:
    return (folder / "recipe.toml").exists() and Run(folder).state == "finished"


def _diverged(folder: Path) -> bool:
    return bool(Run(folder).read("state.json", {}).get("diverged"))


def _finalist(search: Search, trial: TrialRow) -> Finalist:
    folders = {seed: _folder(search, trial.number, seed) for seed in _seeds(search)}
    scores = {seed: search.space.objective.score(Run(folder).history) for seed, folder in folders.items() if _finished(folder)}
    diverged = tuple(seed for seed, folder in folders.items() if _diverged(folder))
    values = list(scores.values())
    found = statistics.mean_interval(values) if len(values) > 1 else None
    return Finalist(trial, scores, fmean(values) if values else None, (found.low, found.high) if found else None, diverged)


def _left(search: Search, finalists: Sequence[Finalist]) -> str:
    """Say why there is no winner, or nothing."""
    if search.space.finalists == 0:
        return "no finalists were asked for, so no winner is named"
    if elsewhere := _elsewhere(search):
        numbers = ", ".join(map(str, elsewhere))
        return (
            f"another machine has trials in hand ({numbers}); when they are told, the same command trains the finalists; "
            f"if it is gone for good, --take-over {elsewhere[0]} has trial {elsewhere[0]} trained here"
        )
    if not finalists:
        return "no trial came to its end, so there is no winner"
    if any(len(finalist.scores) + len(finalist.diverged) < search.space.fresh_seeds for finalist in finalists):
        return "the finalists are not trained yet; the same command goes on"
    if all(finalist.diverged for finalist in finalists):
        return "every finalist diverged on a fresh seed, so there is no winner"
    return ""


def _trial_row(search: Search, trial: FrozenTrial) -> TrialRow:
    told = trial.user_attrs
    value = float(trial.values[0]) if trial.values else None
    run = str(search.folder / str(told["run"]))
    params, seconds = search.space.values(trial.params), search.seconds_of(trial)
    return TrialRow(trial.number, params, value, trial.state.name.lower(), run, seconds, str(told.get("reason", "")))
