"""What a worker does with a job, on this machine or on a node of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fittingroom import experiment, native
from fittingroom.experiment import Machine, Setting
from fittingroom.recipe import Loaded
from fittingroom.runs import Run
from fittingroom.train.loop import fit

__all__ = ["carry_out", "seconds_per_image"]

TIMED_IMAGES, TIMED_SECONDS = 512, 0.5


def carry_out(loaded: Loaded, folder: Path, test: str, setting: Setting) -> None:
    """Begin a run or go on with it, and open the test set once at its end where ``test`` gives a reason to."""
    run = Run(folder)
    if not (folder / "recipe.toml").exists():
        experiment.train(loaded, folder, setting=setting)
    elif run.state != "finished":
        experiment.resume(run, setting)
    if test and "test" not in run.evaluation:
        experiment.evaluate(run, test=True, reason=test, setting=setting)


def seconds_per_image(loaded: Loaded, setting: Setting) -> dict[str, Any]:
    """Time a few steps of a recipe: seconds of training per image (None for a classical model), images of a training pass, and device.

    The first pass over `TIMED_IMAGES` images, in which everything is set up, does not count; of those that follow, within
    `TIMED_SECONDS`, the fastest does.
    """
    machine = Machine.choose(loaded.recipe, setting)
    prepared = experiment.prepare(loaded.recipe, setting)
    images = {"images": len(prepared.training), "device": machine.device.type}
    model = experiment.new_model(loaded.recipe, prepared.data.input_shape, len(prepared.data.classes), machine.device)
    if not isinstance(model, nn.Module):
        return {"seconds_per_image": None, **images}
    native.keep_freed_memory()
    short = loaded.recipe.updated({"train.epochs": 1000, "train.stop": None})
    count = min(len(prepared.training), max(TIMED_IMAGES, 2 * short.train.batch_size))
    training = prepared.resident(prepared.training.take(np.arange(count)), machine.device)
    seconds: list[float] = []
    for epoch in fit(model, training, None, short, len(prepared.data.classes), machine.precision):
        seconds.append(epoch.record["train"]["seconds"])
        if len(seconds) > 1 and sum(seconds) > TIMED_SECONDS:
            break
    return {"seconds_per_image": min(seconds[1:]) / count, **images}
