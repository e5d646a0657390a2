"""How values are chosen and trials given up: samplers and pruners for Optuna, each a function of seed, number and finished trials.

A sampler is made anew for each trial, its randomness drawn from (seed, number of the trial). Nothing is carried along in memory, so
a search that was killed goes on as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from fittingroom.seeds import derive
from fittingroom.tune.space import Choice, Range, Space, stored

__all__ = ["BestSoFar", "CmaEs", "Grid", "pruner", "sampler", "suggest"]


def sampler(space: Space, number: int) -> BaseSampler:
    """Return what chooses the values of trial ``number``."""
    seed = derive(space.seed, "sampler", number) % 2**32
    if space.sampler == "grid":
        return Grid(space.cells[number])
    if space.sampler == "random":
        return RandomSampler(seed)
    if space.sampler == "tpe":
        return TPESampler(seed=seed)
    return CmaEs({key: _numbers(item) for key, item in space.space.items() if isinstance(item, Range) and not item.when}, seed)


def pruner(space: Space, epochs: int) -> BasePruner:
    """Return what gives up trials of at most ``epochs`` epochs."""
    settings = space.pruner
    made: dict[str, Callable[[], BasePruner]] = {
        "none": NopPruner,
        "best-so-far": partial(BestSoFar, settings.warmup),
        "median": partial(MedianPruner, n_warmup_steps=settings.warmup + 1),  # the first step that may be pruned
        "successive-halving": partial(SuccessiveHalvingPruner, min_resource=1, reduction_factor=3),
        "hyperband": partial(HyperbandPruner, min_resource=1, max_resource=epochs, reduction_factor=3),
    }
    return made[settings.name]()


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """Return the values of a trial; those that it was given before it was interrupted stay."""
    params: dict[str, Any] = {}
    for key in space.order:
        item = space.space[key]
        if not space.active(key, params):
            continue
        if isinstance(item, Choice):
            chosen = trial.suggest_categorical(key, [stored(value) for value in item.choices])
            params |= space.values({key: chosen})
        elif item.whole:
            params[key] = trial.suggest_int(key, int(item.low), int(item.last), step=int(item.step or 1), log=item.log)
        else:
            params[key] = trial.suggest_float(key, item.low, item.last, step=item.step, log=item.log)
    return params


class _Independent(BaseSampler):
    """What the samplers here have in common: a value at a time, whatever else there is."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return no parameters: none are drawn together."""
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Return no values, likewise."""
        return {}


class Grid(_Independent):
    """One cell of a grid. Trial ``n`` has cell ``n``, so that each is tried exactly once, whoever asks."""

    def __init__(self, cell: Mapping[str, Any]) -> None:
        self._cell = cell

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """Return the cell's value."""
        return stored(self._cell[param_name])


class CmaEs(_Independent):
    """Covariance matrix adaptation (Hansen, The CMA Evolution Strategy: A Tutorial, 2016), over ranges scaled to 0–1.

    The strategy's state is rebuilt from the finished trials, a generation being the next so many of them by number. Optuna's own
    sampler keeps it as a pickle in the storage, and nothing is pickled here. Choices are drawn at random.
    """

    def __init__(self, ranges: Mapping[str, IntDistribution | FloatDistribution], seed: int) -> None:
        self._ranges = dict(ranges)
        self._seed = seed
        self._random = RandomSampler(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the ranges, which are drawn together."""
        return dict(self._ranges)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Return a value of each range."""
        from cmaes import CMA

        size = len(self._ranges)
        strategy = CMA(mean=np.full(size, 0.5), sigma=1 / 6, bounds=np.tile([0.0, 1.0], (size, 1)), seed=self._seed)
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        finished = sorted(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), key=lambda known: known.number)
        told = [(self._point(known.params), sign * float(known.values[0])) for known in finished]
        for end in range(strategy.population_size, len(told) + 1, strategy.population_size):
            strategy.tell(told[end - strategy.population_size : end])
        return dict(zip(self._ranges, map(_value, self._ranges.values(), strategy.ask()), strict=True))

    def _point(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        return np.array([_scaled(distribution, params[key]) for key, distribution in self._ranges.items()])

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """Return a value at random: of a choice, or of a conditional range."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def _numbers(item: Range) -> IntDistribution | FloatDistribution:
    if item.whole:
        return IntDistribution(int(item.low), int(item.last), log=item.log, step=int(item.step or 1))
    return FloatDistribution(float(item.low), float(item.last), log=item.log, step=item.step)


def _ends(distribution: IntDistribution | FloatDistribution) -> tuple[float, float]:
    low, high = float(distribution.low), float(distribution.high)
    return (math.log(low), math.log(high)) if distribution.log else (low, high)


def _scaled(distribution: IntDistribution | FloatDistribution, value: float) -> float:
    """Return a value of a range as a number in 0–1."""
    low, high = _ends(distribution)
    return ((math.log(value) if distribution.log else value) - low) / (high - low)


def _value(distribution: IntDistribution | FloatDistribution, scaled: float) -> int | float:
    """Return the value of a range that a number in 0–1 stands for."""
    low, high = _ends(distribution)
    value = low + float(scaled) * (high - low)
    value = math.exp(value) if distribution.log else value
    if distribution.step is not None:
        value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    value = min(max(value, distribution.low), distribution.high)
    return int(value) if isinstance(distribution, IntDistribution) else value


class BestSoFar(BasePruner):
    """The rule of report `custom-cnn`: a trial is dropped once it is behind the best one found yet.

    Behind, epoch by epoch: the best epoch of the trial is compared with the best of the same epochs of the best finished trial. The
    report's words leave open which epochs are compared; a first epoch against a fiftieth would drop nearly every trial at once.
    """

    def __init__(self, warmup: int = 0) -> None:
        self._warmup = warmup

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to drop a trial after the epoch that it has reported last."""
        epoch = trial.last_step
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if epoch is None or epoch <= self._warmup or not finished:
            return False
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        best = max(finished, key=lambda known: (sign * float(known.values[0]), -known.number))
        return _best_until(epoch, sign, trial) < _best_until(epoch, sign, best)


def _best_until(epoch: int, sign: float, trial: FrozenTrial) -> float:
    return max((sign * value for step, value in trial.intermediate_values.items() if step <= epoch), default=-math.inf)
