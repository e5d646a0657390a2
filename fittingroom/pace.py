"""How fast a recipe trains on this machine, measured in a few seconds, and how many of its epochs some minutes hold."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from math import floor

import torch
from torch import nn

from fittingroom import native
from fittingroom.data.arrays import Images
from fittingroom.data.split import stratified_subset
from fittingroom.errors import UsageError
from fittingroom.experiment import Machine, Prepared, Setting, new_model, prepare
from fittingroom.recipe import Recipe
from fittingroom.train.loop import fit, measure

__all__ = ["Pace", "pace"]

# A look at the training takes so many seconds at least; shorter ones tell how long it has to be.
LOOK_SECONDS = 1.5
FIRST_LOOK, GROWTH = 256, 4
WARM_UP_STEPS = 5
# Of the time there is, so much is planned for: machines slow down, and files have to be written.
PLANNED = 0.95
WRITING_SECONDS = 2.0
MOST_EPOCHS = 100_000  # of a recipe
# Others are taken to keep the cores busy from this load on, a core; one thread is taken where an epoch then takes no more than this share.
BUSY, WORTH_IT = 0.5, 0.8


@dataclass(frozen=True)
class Pace:
    """How fast a recipe trains.

    Attributes:
        training: seconds of an epoch's training.
        validation: seconds of measuring on the validation images, which comes after each epoch and once at the end.
        threads: with which this was measured, and the training should go on; None for the usual number.
    """

    training: float
    validation: float
    threads: int | None = None

    @property
    def epoch(self) -> float:
        """Seconds of an epoch with all that belongs to it."""
        return self.training + self.validation

    def epochs(self, seconds: float) -> int:
        """How many epochs can be trained, judged and written down in so many seconds."""
        return min(MOST_EPOCHS, max(0, floor((PLANNED * seconds - self.validation - WRITING_SECONDS) / self.epoch)))

    def least(self) -> float:
        """The seconds that one epoch needs."""
        return (self.epoch + self.validation + WRITING_SECONDS) / PLANNED


def pace(recipe: Recipe, setting: Setting) -> Pace:
    """Train ``recipe`` for a few seconds, on a network that is thrown away, and see how long an epoch takes.

    Threads wait for each other at every step; where other programs keep the cores busy, one alone can be several times as fast. So there,
    unless a number was asked for, one thread is tried too.

    Raises:
        UsageError: a classical model.
    """
    prepared = prepare(recipe, setting)
    machine = Machine.choose(recipe, setting)
    usual = torch.get_num_threads()
    found = _measured(recipe, prepared, machine)
    if setting.threads is not None or machine.device.type != "cpu" or usual == 1 or not _busy():
        return replace(found, threads=setting.threads)
    try:
        torch.set_num_threads(1)
        alone = replace(_measured(recipe, prepared, machine), threads=1)
    finally:
        torch.set_num_threads(usual)
    if alone.epoch > WORTH_IT * found.epoch:
        return found
    setting.notify(f"other programs keep the cores busy, and one thread is faster than {usual}: it is taken (otherwise: --threads {usual})")
    return alone


def _busy() -> bool:
    """Whether others have used more than half of the cores in the last minute."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY * (os.cpu_count() or 1)


def _measured(recipe: Recipe, prepared: Prepared, machine: Machine) -> Pace:
    model = new_model(recipe, prepared.data.input_shape, len(prepared.data.classes), machine.device)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{recipe.model.name} is fitted in one go and has no epochs, so there is nothing to plan")
    native.keep_freed_memory()
    once = recipe.updated({"train.epochs": 1, "train.stop": None})
    # The first steps load libraries, choose kernels and, on a GPU, record: what they take says nothing of an epoch.
    _epoch_seconds(model, once, prepared, _some(prepared.training, max(FIRST_LOOK, WARM_UP_STEPS * recipe.train.batch_size)), machine)
    count = FIRST_LOOK
    while True:
        images = _some(prepared.training, count)
        seconds = _epoch_seconds(model, once, prepared, images, machine)
        if len(images) == len(prepared.training) or seconds >= LOOK_SECONDS:
            break
        count *= GROWTH
    training = seconds * len(prepared.training) / len(images)
    return Pace(training, 0.0 if prepared.validation is None else _judging_seconds(model, prepared, prepared.validation, machine))


def _some(images: Images, count: int) -> Images:
    return images if count >= len(images) else images.take(stratified_subset(images.labels, count, seed=0))


def _epoch_seconds(model: nn.Module, once: Recipe, prepared: Prepared, images: Images, machine: Machine) -> float:
    resident = prepared.resident(images, machine.device)
    (epoch,) = fit(model, resident, None, once, len(prepared.data.classes), machine.precision)
    return float(epoch.record["train"]["seconds"])


def _judging_seconds(model: nn.Module, prepared: Prepared, validation: Images, machine: Machine) -> float:
    some = _some(validation, FIRST_LOOK * GROWTH)
    resident = prepared.resident(some, machine.device)
    seconds = []
    for _ in range(2):  # the first warms up
        began = time.perf_counter()
        measure(model, resident, machine.precision)
        if machine.device.type == "cuda":
            torch.cuda.synchronize(machine.device)
        seconds.append(time.perf_counter() - began)
    return min(seconds) * len(validation) / len(some)
