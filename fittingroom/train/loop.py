"""The one training loop. It reads from top to bottom and is a generator: it yields after each epoch, and whoever drives it
decides what to write down. It knows no files, no charts and no command line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fittingroom.data.resident import Resident
from fittingroom.errors import RunError
from fittingroom.models.layers import seed_dropout
from fittingroom.recipe import Recipe
from fittingroom.seeds import derive
from fittingroom.train.checkpoint import Checkpoint, flatten, under, unflatten
from fittingroom.train.losses import loss_function, penalised_kernels
from fittingroom.train.optim import optimiser, schedule, set_rate
from fittingroom.train.precision import Precision
from fittingroom.train.step import Step, penalty, stepping
from fittingroom.train.stopping import Stopping, check_monitored

__all__ = ["Diverged", "Epoch", "fit", "kept_weights", "measure", "predict"]

# Losses are looked at this often, so that a GPU is not stopped after every step to be asked.
FINITE_EVERY = 200

Progress = Callable[[int, int, int], None]


class Diverged(RunError):
    """The loss stopped being a finite number; the message names epoch and step."""


@dataclass(frozen=True)
class Epoch:
    """What the loop yields after an epoch.

    Attributes:
        number: counted from 1.
        record: the line of ``metrics.jsonl``.
        final: whether training is over, by its length or by early stopping.
        checkpoint: call it to get the state from which training can go on.
    """

    number: int
    record: dict[str, Any]
    final: bool
    checkpoint: Callable[[], Checkpoint]


def due(step: int, every: int, total: int) -> bool:
    """Whether something done every ``every`` steps, and at the last one, is due at ``step``, counted from 1."""
    return step % every == 0 or step == total


def fit(
    model: nn.Module,
    training: Resident,
    validation: Resident | None,
    recipe: Recipe,
    classes: int,
    precision: Precision,
    resume: Checkpoint | None = None,
    progress: Progress = lambda epoch, step, steps: None,
) -> Iterator[Epoch]:
    """Train ``model`` in place, yielding after each epoch.

    Order, augmentation and dropout of an epoch follow from the recipe's seed and the epoch's number alone, so a run resumed
    from a checkpoint goes through the same numbers as one that was never stopped.

    `train.loss` is the mean of what is minimised, over the epoch's batches as they were trained on; `train.accuracy` likewise;
    `validation.loss` is the plain cross-entropy. Where an L2 penalty is on, both losses contain it, as Keras reports them,
    and `penalty` tells how much of it.

    Args:
        model: on the device of the data, in channels-last memory.
        training: what to learn from.
        validation: what to measure on after each epoch, or None.
        recipe: the rest.
        classes: how many classes there are.
        precision: number format of the multiplications.
        resume: a checkpoint of this same recipe to go on from.
        progress: called now and then with epoch, step and steps of the epoch.

    Raises:
        Diverged: the loss became infinite or not a number.
        UsageError: early stopping watches validation, and there is none.
    """
    settings = recipe.train
    check_monitored(settings.stop, validation is not None)
    device = training.device
    optimizer = optimiser(model, recipe.optim, recipe.defaults)
    once = Step(model, loss_function(recipe.loss, training.labels, classes), optimizer, recipe.optim, precision, device)
    take_step = stepping(once, settings.batch_size)
    sizes = training.sizes(settings.batch_size)
    steps = len(sizes)
    last = settings.last_epoch
    total = max((last - 1) * steps + 1, round(settings.epochs * steps))
    rate = schedule(recipe.optim, total, steps)
    average = deepcopy(model) if settings.average else None
    stopping = Stopping()
    best: dict[str, Tensor] = {}
    start = 0
    if resume is not None:
        start = resume.epoch
        model.load_state_dict(under("model", resume.tensors))
        state = laid_out(unflatten("optimiser", resume.tensors), once.parameters)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        if average is not None:
            average.load_state_dict(under("average", resume.tensors))
        best = under("best", resume.tensors)
        stopping = Stopping(**resume.values["stopping"])
        if settings.stop is not None and stopping.exhausted(settings.stop):
            return

    for epoch in range(start + 1, last + 1):
        began = time.perf_counter()
        seed_dropout(model, derive(recipe.seed, "dropout", epoch))
        generator = torch.Generator(device).manual_seed(derive(recipe.seed, "order", epoch))
        sizes = sizes[: total - (epoch - 1) * steps]
        seen = Seen(len(sizes), sum(sizes), classes, device)
        model.train()
        batches = training.shuffled(settings.batch_size, recipe.augment, generator)
        for step, (images, labels) in enumerate(islice(batches, len(sizes)), 1):
            set_rate(optimizer, rate((epoch - 1) * steps + step - 1))
            loss, logits = take_step(images, labels)
            if average is not None:
                blend(average, model, settings.average, (epoch - 1) * steps + step)
            seen.add(loss, logits, labels)
            if due(step, FINITE_EVERY, len(sizes)):
                check_finite(seen.losses[:step][-FINITE_EVERY:], epoch, step)
                progress(epoch, step, len(sizes))
        record: dict[str, Any] = {"epoch": epoch, "train": seen.summary(sizes, time.perf_counter() - began)}

        judged = model if average is None else average
        # The penalty of the weights that are judged: with an average they are not those that were just trained.
        extra = float(recipe.optim.l2 * penalty(penalised_kernels(judged, recipe.optim.l2_layers)).detach()) if once.kernels else 0.0
        if once.kernels:
            record["train"]["penalty"] = extra
        if validation is not None:
            record["validation"] = measure(judged, validation, precision, extra)
            check_finite(torch.tensor([record["validation"]["loss"]]), epoch, len(sizes))
        record["lr"] = rate(min(epoch * steps, total) - 1)
        final = epoch == last
        if settings.stop is not None:
            if stopping.improved(settings.stop, epoch, record) and settings.stop.restore_best:
                best = {name: tensor.detach().clone() for name, tensor in judged.state_dict().items()}
            final = final or stopping.exhausted(settings.stop)
            record["best_epoch"] = stopping.best_epoch

        yield Epoch(epoch, record, final, partial(snapshot, epoch, model, optimizer, average, best, stopping))
        if final:
            return


def laid_out(state: Mapping[int, Mapping[str, Tensor]], parameters: list[nn.Parameter]) -> dict[int, dict[str, Tensor]]:
    """Return an optimiser's state with each tensor in the memory order of its parameter.

    A file knows no memory order, and PyTorch's fused optimisers go through parameter and state alike without looking at theirs.
    """
    return {
        index: {
            name: torch.empty_like(parameters[index]).copy_(tensor) if tensor.shape == parameters[index].shape else tensor
            for name, tensor in entry.items()
        }
        for index, entry in state.items()
    }


def snapshot(
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    best: Mapping[str, Tensor],
    stopping: Stopping,
) -> Checkpoint:
    """Gather everything that the next epoch depends on."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= flatten("optimiser", optimizer.state_dict()["state"])
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    return Checkpoint(epoch, tensors, {"stopping": stopping.to_json()})


def kept_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the weights and buffers that a run ends with: the best, else the averaged, else the last."""
    return next(filter(None, (under(part, checkpoint.tensors) for part in ("best", "average", "model"))))


@torch.no_grad()
def blend(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move ``average`` towards ``model``; early steps move it further, so that the first weights leave no trace."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    ours = [tensor for tensor in average.state_dict().values() if tensor.is_floating_point()]
    theirs = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    torch._foreach_lerp_(ours, theirs, weight)


def check_finite(latest: Tensor, epoch: int, step: int) -> None:
    """Raise `Diverged` if one of the latest losses, the last of them that of ``step``, is not finite."""
    wrong = (~latest.isfinite()).nonzero()
    if len(wrong):
        first = step - len(latest) + int(wrong[0]) + 1
        raise Diverged(
            f"the loss became {float(latest[int(wrong[0])])} in epoch {epoch}, step {first}; try a lower optim.lr, or optim.clip_norm=1"
        )


class Seen:
    """Losses, logits and labels of an epoch's steps, in memory that is there before the first: pieces kept from each step would lie
    between what the next one needs, and its larger parts would have to go elsewhere, until the process had several times the memory.

    Args:
        steps: of the epoch; images: in all of them.
        classes: of the logits.
        device: of all.
    """

    def __init__(self, steps: int, images: int, classes: int, device: torch.device) -> None:
        self.losses = torch.empty(steps, device=device)
        self.logits = torch.empty(images, classes, device=device)
        self.labels = torch.empty(images, dtype=torch.int64, device=device)
        self.steps = self.images = 0

    @torch.no_grad()
    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Keep what was seen in a step."""
        end = self.images + len(labels)
        self.losses[self.steps] = loss
        self.logits[self.images : end] = logits
        self.labels[self.images : end] = labels
        self.steps, self.images = self.steps + 1, end

    def summary(self, sizes: list[int], seconds: float) -> dict[str, Any]:
        """The training half of the epoch's record; every image counts once, those of the last partial batch too."""
        correct = int((self.logits[: self.images].argmax(1) == self.labels[: self.images]).sum())
        mean = float((self.losses.double().cpu() * torch.tensor(sizes, dtype=torch.float64)).sum() / self.images)
        return {"loss": mean, "accuracy": correct / self.images, "seconds": seconds, "images_per_second": self.images / seconds}


@torch.inference_mode()
def predict(model: nn.Module, images: Resident, precision: Precision, batch_size: int = 500) -> Tensor:
    """Return float32 logits ``[N, classes]`` on the images' device, in their order."""
    if model.training:  # telling every layer anew takes a fifth of the time of a single image
        model.eval()
    with precision.autocast(images.device):
        return torch.cat([model(batch).float() for batch, _ in images.in_order(batch_size)])


def measure(model: nn.Module, images: Resident, precision: Precision, extra: float = 0.0) -> Mapping[str, float]:
    """Return loss (plain cross-entropy plus ``extra``) and accuracy of ``model`` on ``images``."""
    logits = predict(model, images, precision)
    loss = float(functional.cross_entropy(logits, images.labels)) + extra
    return {"loss": loss, "accuracy": int((logits.argmax(1) == images.labels).sum()) / len(images)}
