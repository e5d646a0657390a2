"""How fast a recipe trains on this machine, measured in a few seconds, and how many of its epochs some minutes hold."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path

import torch
from torch import nn

from fittingroom import native
from fittingroom.data.arrays import Images
from fittingroom.data.split import stratified_subset
from fittingroom.errors import UsageError
from fittingroom.experiment import Machine, Prepared, Setting, new_model, prepare
from fittingroom.recipe import Recipe
from fittingroom.train.loop import fit, measure

__all__ = ["LEAST_EPOCHS", "Pace", "pace"]

# A look at the training takes so many seconds at least; a shorter one, of so many images, tells of how many it has to be.
LOOK_SECONDS = 1.5
FIRST_LOOK, MARGIN = 512, 1.2
WARM_UP_STEPS, JUDGED = 5, 1000
# Of the time there is, so much is planned for: machines slow down, and files have to be written.
PLANNED = 0.95
WRITING_SECONDS = 2.0
MOST_EPOCHS = 100_000  # of a recipe
# Less of an epoch is not worth the name; after so many, a part of another one changes nothing.
LEAST_EPOCHS, WHOLE_FROM = 0.1, 10
# Others keep the cores busy from this share on; one thread is taken where an epoch then takes no more than that share of its time.
BUSY, WORTH_IT = 0.25, 0.8


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

    def epochs(self, seconds: float) -> int | float:
        """How many epochs can be trained, judged and written down in so many seconds: where they are few, to a hundredth, or 0."""
        whole, rest = divmod(max(0.0, PLANNED * seconds - self.validation - WRITING_SECONDS), self.epoch)
        # What was computed from so many hundredths must not lose one by rounding.
        hundredths = min(99, max(0, floor(100 * (rest - self.validation) / self.training + 1e-6)))
        if whole >= WHOLE_FROM or not hundredths:
            return min(MOST_EPOCHS, int(whole))
        found = round(whole + hundredths / 100, 2)
        return found if found >= LEAST_EPOCHS else 0

    def least(self) -> float:
        """The seconds that the least part of an epoch needs."""
        return (LEAST_EPOCHS * self.training + 2 * self.validation + WRITING_SECONDS) / PLANNED


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
    began, worked, own = time.perf_counter(), _worked(), time.process_time()
    found = _measured(recipe, prepared, machine)
    others = (_worked() - worked - (time.process_time() - own)) / (time.perf_counter() - began)
    if setting.threads is not None or machine.device.type != "cpu" or usual == 1 or others < BUSY * usual:
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


def _worked() -> float:
    """Seconds that the cores of this process have worked so far, for whomever; 0 on systems that do not tell."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    counts = [[int(count) for count in line.split()[1:]] for line in lines if line.split()[0] in cores]
    # User, nice, system; then idle and waiting for a disk; then interrupts.
    return sum(sum(of[:3]) + sum(of[5:7]) for of in counts) / os.sysconf("SC_CLK_TCK")


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
        count = ceil(count * max(MARGIN, MARGIN * LOOK_SECONDS / seconds))
    training = seconds * len(prepared.training) / len(images)
    return Pace(training, 0.0 if prepared.validation is None else _judging_seconds(model, prepared, prepared.validation, machine))


def _some(images: Images, count: int) -> Images:
    return images if count >= len(images) else images.take(stratified_subset(images.labels, count, seed=0))


def _epoch_seconds(model: nn.Module, once: Recipe, prepared: Prepared, images: Images, machine: Machine) -> float:
    resident = prepared.resident(images, machine.device)
    (epoch,) = fit(model, resident, None, once, len(prepared.data.classes), machine.precision)
    return float(epoch.record["train"]["seconds"])


def _judging_seconds(model: nn.Module, prepared: Prepared, validation: Images, machine: Machine) -> float:
    some = _some(validation, JUDGED)
    resident = prepared.resident(some, machine.device)
    seconds = []
    for _ in range(2):  # the first warms up
        began = time.perf_counter()
        measure(model, resident, machine.precision)
        if machine.device.type == "cuda":
            torch.cuda.synchronize(machine.device)
        seconds.append(time.perf_counter() - began)
    return min(seconds) * len(validation) / len(some)
