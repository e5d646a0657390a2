"""Our loop against the loop that anyone would write in PyTorch: equal weights, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fittingroom import models, native
from fittingroom.data.resident import Resident
from fittingroom.errors import UsageError
from fittingroom.models.layers import Dropout, seed_dropout
from fittingroom.recipe import Recipe, load
from fittingroom.seeds import derive
from fittingroom.train.checkpoint import read_newest, write
from fittingroom.train.loop import Diverged, blend, fit, kept_weights, measure, predict
from fittingroom.train.precision import Precision

COUNT, CLASSES, SIDE = 150, 4, 12
FP32 = Precision("fp32", "asked for")
SCALE, OFFSET = 1 / 64, -1.5


@pytest.fixture(autouse=True)
def plain_path() -> Iterator[None]:
    with native.enabled(False):
        yield


def made(count: int = COUNT, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return pixels, torch.randint(0, CLASSES, (count,), generator=generator)


def resident(count: int = COUNT, seed: int = 0) -> Resident:
    return Resident(*made(count, seed), np.array([SCALE], np.float32), np.array([OFFSET], np.float32))


def recipe(**changes: Any) -> Recipe:
    settings = {"seed": 5, "train.epochs": 3, "train.batch_size": 32, "optim.name": "sgd", "optim.lr": 0.05, "train.precision": "fp32"}
    return load("mlp" if "model" not in changes else changes.pop("model"), {**settings, **changes}).recipe


def built(settings: Recipe, seed: int = 3) -> nn.Module:
    model = models.build(
        settings.model.name,
        input_shape=(1, SIDE, SIDE),
        classes=CLASSES,
        generator=torch.Generator().manual_seed(seed),
        arguments=settings.model.arguments,
    )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class NaiveDropout(nn.Module):
    """Dropout with a mask from a generator that the loop puts here."""

    generator: torch.Generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.empty_like(x).bernoulli_(0.7, generator=self.generator) * (1 / 0.7)


def naive_lenet(dropout: bool) -> nn.Sequential:
    """LeNet-5 for 12×12 pixels as a tutorial has it."""
    drop: Callable[[], nn.Module] = NaiveDropout if dropout else nn.Identity
    features = [nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()]
    head = [nn.Linear(16, 120), nn.Tanh(), drop(), nn.Linear(120, 84), nn.Tanh(), drop(), nn.Linear(84, CLASSES)]
    return nn.Sequential(*features, *head).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def naive_training(
    network: nn.Module, optimizer: torch.optim.Optimizer, settings: Recipe, rate: Callable[[int], float], count: int = COUNT
) -> list[float]:
    """Train as one would by hand; return the mean loss of each epoch."""
    pixels, labels = made(count)
    losses = []
    step = 0
    steps = round(settings.train.epochs * math.ceil(count / settings.train.batch_size))
    for epoch in range(1, math.ceil(settings.train.epochs) + 1):
        for place, layer in enumerate(layer for layer in network.modules() if isinstance(layer, NaiveDropout)):
            layer.generator = torch.Generator().manual_seed((derive(settings.seed, "dropout", epoch) + place) % 2**63)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(derive(settings.seed, "order", epoch)))
        network.train()
        total = seen = 0.0
        for batch in order.split(settings.train.batch_size):
            images = (pixels[batch].float() * SCALE + OFFSET).contiguous(memory_format=torch.channels_last)
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            loss = functional.cross_entropy(network(images), labels[batch], label_smoothing=settings.loss.label_smoothing)
            for layer in network.modules():
                if settings.optim.l2 and isinstance(layer, nn.Conv2d | nn.Linear):
                    loss = loss + settings.optim.l2 * (layer.weight**2).sum()
            optimizer.zero_grad()
            loss.backward()
            if settings.optim.clip_value:
                nn.utils.clip_grad_value_(network.parameters(), settings.optim.clip_value)
            if settings.optim.clip_norm:
                nn.utils.clip_grad_norm_(network.parameters(), settings.optim.clip_norm)
            optimizer.step()
            total += loss.item() * len(batch)
            seen += len(batch)
            step += 1
            if step == steps:
                break
        losses.append(total / seen)
    return losses


Parameters = Iterator[nn.Parameter]
TOTAL = 3 * math.ceil(COUNT / 32)


def constant(step: int) -> float:
    return 0.05


def cosine(step: int) -> float:
    return 0.05 * (1 + math.cos(math.pi * step / TOTAL)) / 2


def triangle(step: int, total: int = TOTAL) -> float:
    rising = 0.25 * total
    return 0.05 * (step + 1) / rising if step + 1 < rising else 0.05 * (1 - max(0, step - rising) / (total - rising))


def small(step: int) -> float:
    return 0.001


CASES: dict[str, tuple[dict[str, Any], Callable[[Parameters], torch.optim.Optimizer], Callable[[int], float]]] = {
    "sgd": ({}, lambda parameters: torch.optim.SGD(parameters, 0.05, fused=True), constant),
    "momentum": (
        {"optim.momentum": 0.9, "optim.nesterov": True, "optim.weight_decay": 0.01},
        lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, nesterov=True, weight_decay=0.01, fused=True),
        constant,
    ),
    "adam": (
        {"optim.name": "adam", "optim.lr": 0.001},
        lambda parameters: torch.optim.Adam(parameters, 0.001, fused=True),
        small,
    ),
    "adam with keras's constants": (
        {"optim.name": "adam", "optim.lr": 0.001, "defaults": "keras"},
        lambda parameters: torch.optim.Adam(parameters, 0.001, eps=1e-7, fused=True),
        small,
    ),
    "adamw": (
        {"optim.name": "adamw", "optim.lr": 0.001, "optim.weight_decay": 0.1, "optim.beta1": 0.8},
        lambda parameters: torch.optim.AdamW(parameters, 0.001, betas=(0.8, 0.999), weight_decay=0.1, fused=True),
        small,
    ),
    "rmsprop": (
        {"optim.name": "rmsprop", "optim.lr": 0.001, "optim.momentum": 0.5},
        lambda parameters: torch.optim.RMSprop(parameters, 0.001, momentum=0.5),
        small,
    ),
    "l2": ({"optim.l2": 0.003}, lambda parameters: torch.optim.SGD(parameters, 0.05, fused=True), constant),
    "clipped by norm": ({"optim.clip_norm": 0.3}, lambda parameters: torch.optim.SGD(parameters, 0.05, fused=True), constant),
    "clipped by value": ({"optim.clip_value": 0.01}, lambda parameters: torch.optim.SGD(parameters, 0.05, fused=True), constant),
    "smoothed": ({"loss.label_smoothing": 0.1}, lambda parameters: torch.optim.SGD(parameters, 0.05, fused=True), constant),
    "cosine": ({"optim.schedule": "cosine"}, lambda parameters: torch.optim.SGD(parameters, 0.05, fused=True), cosine),
    "one-cycle": (
        {"optim.schedule": "one-cycle", "optim.warmup": 0.25},
        lambda parameters: torch.optim.SGD(parameters, 0.05, fused=True),
        triangle,
    ),
    "a last epoch cut short": (
        {"optim.schedule": "one-cycle", "optim.warmup": 0.25, "train.epochs": 2.4},
        lambda parameters: torch.optim.SGD(parameters, 0.05, fused=True),
        lambda step: triangle(step, total=12),
    ),
    "dropout": ({"model.dropout": 0.3}, lambda parameters: torch.optim.SGD(parameters, 0.05, fused=True), constant),
}


@pytest.mark.parametrize("case", CASES)
def test_weights_equal_those_of_a_naive_loop(case: str) -> None:
    changes, optimizer, rate = CASES[case]
    settings = recipe(model="lenet5", **changes)
    ours = built(settings)
    naive = naive_lenet(dropout=case == "dropout")
    with torch.no_grad():
        for theirs, mine in zip(naive.parameters(), ours.parameters(), strict=True):
            theirs.copy_(mine)
    epochs = list(fit(ours, resident(), None, settings, CLASSES, FP32))
    losses = naive_training(naive, optimizer(naive.parameters()), settings, rate)
    for theirs, mine in zip(naive.parameters(), ours.parameters(), strict=True):
        assert torch.equal(theirs, mine)
    assert [epoch.record["train"]["loss"] for epoch in epochs] == pytest.approx(losses, rel=1e-6)
    assert [epoch.final for epoch in epochs] == [False, False, True]
    # Nothing of the above holds of a loop that does nothing.
    assert not torch.equal(next(ours.parameters()), next(built(settings).parameters()))


def test_a_last_image_alone_joins_the_batch_before_it() -> None:
    """33 images at batch 32 are one step; by hand that is a batch of 33."""
    settings = recipe()
    ours, naive = built(settings), built(settings)
    list(fit(ours, resident(33), None, settings, CLASSES, FP32))
    naive_training(naive, torch.optim.SGD(naive.parameters(), 0.05, fused=True), recipe(**{"train.batch_size": 33}), constant, 33)
    assert all(map(torch.equal, ours.parameters(), naive.parameters()))


def test_the_fast_path_learns_what_the_plain_path_learns() -> None:
    settings = recipe(model="compact", **{"model.stem": 8, "model.stages": [16], "optim.lr": 0.01})
    plain, fast = built(settings), built(settings)
    list(fit(plain, resident(), None, settings, CLASSES, FP32))
    with native.enabled(True):
        if not native.available():
            pytest.skip("no native kernels on this machine")
        list(fit(fast, resident(), None, settings, CLASSES, FP32))
    images = resident(50, seed=9)
    assert torch.allclose(predict(plain, images, FP32), predict(fast, images, FP32), atol=2e-3)


def test_the_record_of_an_epoch() -> None:
    settings = recipe(**{"optim.l2": 0.01, "train.epochs": 1})
    model = built(settings)
    training, validation = resident(), resident(40, seed=8)
    (epoch,) = fit(model, training, validation, settings, CLASSES, FP32)
    record = epoch.record
    assert list(record) == ["epoch", "train", "validation", "lr"]
    assert record["epoch"] == epoch.number == 1
    assert record["lr"] == 0.05
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    penalty = 0.01 * sum(float((kernel.detach().double() ** 2).sum()) for kernel in kernels)
    assert record["train"]["penalty"] == pytest.approx(penalty, rel=1e-6)
    pixels, labels = made(40, seed=8)
    with torch.no_grad():
        logits = model(pixels.float() * SCALE + OFFSET)
    assert record["validation"]["loss"] == pytest.approx(float(functional.cross_entropy(logits, labels)) + penalty, rel=1e-6)
    assert record["validation"]["accuracy"] == float((logits.argmax(1) == labels).double().mean())
    assert record["train"]["images_per_second"] == pytest.approx(COUNT / record["train"]["seconds"])
    assert 0 <= record["train"]["accuracy"] <= 1


def test_the_penalty_of_averaged_weights_is_that_of_the_weights_that_are_judged() -> None:
    settings = recipe(**{"optim.l2": 0.01, "train.average": 0.9, "train.epochs": 2})
    model = built(settings)
    *_, last = fit(model, resident(), resident(40, seed=8), settings, CLASSES, FP32)
    trained = deepcopy(model)
    model.load_state_dict(kept_weights(last.checkpoint()))

    def penalty(network: nn.Module) -> float:
        return 0.01 * sum(float((kernel.detach().double() ** 2).sum()) for kernel in network.parameters() if kernel.ndim > 1)

    assert last.record["train"]["penalty"] == pytest.approx(penalty(model), rel=1e-6)
    assert penalty(model) != pytest.approx(penalty(trained), rel=1e-4)
    plain = measure(model, resident(40, seed=8), FP32)
    assert last.record["validation"]["loss"] == pytest.approx(plain["loss"] + penalty(model), rel=1e-6)
    assert last.record["validation"]["accuracy"] == plain["accuracy"]


def test_training_accuracy_and_loss_count_every_image_once() -> None:
    """With a rate too small to move anything, they are those of the model itself, the last partial batch counted as what it is."""
    settings = recipe(**{"optim.lr": 1e-30, "train.epochs": 1})
    model = built(settings)
    (epoch,) = fit(model, resident(), None, settings, CLASSES, FP32)
    measured = measure(model, resident(), FP32)
    assert epoch.record["train"]["accuracy"] == measured["accuracy"]
    assert epoch.record["train"]["loss"] == pytest.approx(measured["loss"], rel=1e-6)


def test_randomness_of_the_process_is_left_alone() -> None:
    settings = recipe(**{"model.dropout": 0.5, "augment.rotate": 10, "augment.erase": 0.5})
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state()
    list(fit(built(settings), resident(), None, settings, CLASSES, FP32))
    assert torch.equal(torch.get_rng_state(), before)


def everything(**more: Any) -> Recipe:
    """A recipe with all that has a state: dropout, augmentation, Adam, an average, early stopping, a schedule."""
    return recipe(
        **{
            "model.dropout": 0.3,
            "augment.shift": 0.1,
            "augment.erase": 0.3,
            "optim.name": "adam",
            "optim.lr": 0.003,
            "optim.schedule": "cosine",
            "train.average": 0.9,
            "train.epochs": 5,
            "train.stop": {"monitor": "validation.loss", "patience": 5},
            **more,
        }
    )


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "rmsprop", "muon"])
@pytest.mark.parametrize(("stopped_after", "epochs"), [(1, 5), (4, 5), (4, 4.4)])
def test_going_on_from_a_checkpoint_gives_the_same_bits(tmp_path: Path, optimiser: str, stopped_after: int, epochs: float) -> None:
    """By way of the file, which knows no memory order, and with convolutions, whose kernels have one of their own."""
    settings = everything(model="lenet5", **{"optim.name": optimiser, "optim.momentum": 0.9, "train.epochs": epochs})
    validation = resident(40, seed=8)
    whole = [(epoch.record, epoch.checkpoint()) for epoch in fit(built(settings), resident(), validation, settings, CLASSES, FP32)]
    for epoch in fit(built(settings), resident(), validation, settings, CLASSES, FP32):
        if epoch.number == stopped_after:
            write(tmp_path, epoch.checkpoint())
            break
    first = read_newest(tmp_path, print)
    again = list(fit(built(settings, seed=99), resident(), validation, settings, CLASSES, FP32, resume=first))
    assert [epoch.number for epoch in again] == list(range(stopped_after + 1, 6))
    last, expected = again[-1].checkpoint(), whole[-1][1]
    assert last.values == expected.values
    assert last.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert torch.equal(last.tensors[name], tensor), name


def test_nothing_is_left_to_do_after_the_last_checkpoint() -> None:
    settings = everything(**{"train.stop.patience": 1, "train.stop.monitor": "train.loss", "train.stop.min_delta": 100.0})
    epochs = list(fit(built(settings), resident(), resident(40), settings, CLASSES, FP32))
    assert [epoch.number for epoch in epochs] == [1, 2]
    assert epochs[-1].final
    assert list(fit(built(settings), resident(), resident(40), settings, CLASSES, FP32, resume=epochs[-1].checkpoint())) == []


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_best_weights_are_restored(average: float) -> None:
    changes = {
        "optim.lr": 0.3,
        "train.epochs": 8,
        "train.average": average,
        "train.stop": {"monitor": "validation.accuracy", "patience": 3},
    }
    settings = recipe(**changes)
    validation = resident(40, seed=8)
    states = []
    part = "average" if average else "model"
    for epoch in fit(built(settings), resident(), validation, settings, CLASSES, FP32):
        checkpoint = deepcopy(epoch.checkpoint())
        states.append((epoch.record, {k.removeprefix(f"{part}."): v for k, v in checkpoint.tensors.items() if k.startswith(part)}))
        accuracies = [record["validation"]["accuracy"] for record, _ in states]
        best = accuracies.index(max(accuracies))
        assert epoch.record["best_epoch"] == best + 1
        kept = kept_weights(checkpoint)
        assert kept.keys() == states[best][1].keys()
        assert all(torch.equal(kept[name], tensor) for name, tensor in states[best][1].items())
        assert epoch.final == (len(states) == 8 or len(states) - 1 - best >= 3)


def test_without_stopping_the_average_is_kept_and_else_the_last() -> None:
    for average in (0.0, 0.9):
        settings = recipe(**{"train.average": average})
        model = built(settings)
        *_, last = fit(model, resident(), None, settings, CLASSES, FP32)
        same = [torch.equal(tensor, model.state_dict()[name]) for name, tensor in kept_weights(last.checkpoint()).items()]
        assert all(same) if average == 0 else not any(same)


def test_average_of_weights_against_its_formula() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = deepcopy(model)
    expected = {name: tensor.double() for name, tensor in model.state_dict().items()}
    for step in range(1, 30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))
        blend(average, model, 0.8, step)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = {name: decay * value + (1 - decay) * model.state_dict()[name] for name, value in expected.items()}
    for name, tensor in average.state_dict().items():
        assert torch.allclose(tensor.double(), expected[name], atol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "muon"])
def test_a_loss_that_is_no_number_names_epoch_and_step(name: str) -> None:
    settings = recipe(**{"optim.name": name, "optim.lr": 1e30})
    with pytest.raises(Diverged, match=r"epoch 1, step [23]; try a lower optim\.lr"):
        list(fit(built(settings), resident(), resident(40), settings, CLASSES, FP32))


def test_a_validation_loss_that_is_no_number_ends_training_too() -> None:
    """One step an epoch: its loss is that of the first weights, and fine; what comes of it is seen in validation alone."""
    settings = recipe(**{"optim.lr": 1e38, "train.batch_size": 1000})
    with pytest.raises(Diverged, match="epoch 1, step 1"):
        list(fit(built(settings), resident(), resident(40), settings, CLASSES, FP32))


def test_what_is_watched_must_be_recorded() -> None:
    settings = recipe(**{"train.stop": {}})
    with pytest.raises(UsageError, match=r"train\.stop watches validation\.loss, but there are no validation images"):
        next(fit(built(settings), resident(), None, settings, CLASSES, FP32))


def test_progress_is_told() -> None:
    told: list[tuple[int, int, int]] = []
    settings = recipe(**{"train.batch_size": 1, "train.epochs": 2})
    list(fit(built(settings), resident(250), None, settings, CLASSES, FP32, progress=lambda *numbers: told.append(numbers)))
    assert told == [(1, 200, 250), (1, 250, 250), (2, 200, 250), (2, 250, 250)]


@pytest.mark.parametrize(
    ("epochs", "steps"), [(1, [10]), (0.3, [3]), (0.1 + 0.2, [3]), (0.001, [1]), (2.0, [10, 10]), (2.001, [10, 10, 1]), (1.96, [10, 10])]
)
def test_part_of_an_epoch_is_part_of_its_steps(epochs: float, steps: list[int]) -> None:
    told: list[tuple[int, int, int]] = []
    settings = recipe(**{"train.batch_size": 4, "train.epochs": epochs, "optim.schedule": "one-cycle", "optim.final": 0.1})
    found = list(fit(built(settings), resident(40), None, settings, CLASSES, FP32, progress=lambda *numbers: told.append(numbers)))
    assert told == [(number, count, count) for number, count in enumerate(steps, 1)]
    assert [epoch.final for epoch in found] == [False] * (len(steps) - 1) + [True]
    total = sum(steps)  # with the last step the rate is one step from where it falls to
    assert found[-1].record["lr"] == pytest.approx(0.05 * (1 - 0.9 * (total - 1) / total))



def test_bf16_learns_too() -> None:
    settings = recipe(model="lenet5", **{"train.epochs": 1})
    exact, rounded = built(settings), built(settings)
    list(fit(exact, resident(), None, settings, CLASSES, FP32))
    list(fit(rounded, resident(), None, settings, CLASSES, Precision("bf16", "asked for")))
    assert all(parameter.dtype == torch.float32 for parameter in rounded.parameters())
    difference = max(float((a - b).detach().abs().max()) for a, b in zip(exact.parameters(), rounded.parameters(), strict=True))
    assert 0 < difference < 0.01


def test_dropout_of_an_epoch_follows_from_seed_and_epoch() -> None:
    """Layers are seeded in their order, each with a seed of its own."""
    model = built(recipe(model="lenet5", **{"model.dropout": 0.3}))
    seed_dropout(model, 17)
    seeds = [layer.generator.initial_seed() for layer in model.modules() if isinstance(layer, Dropout) and layer.generator]
    assert seeds == [17, 18]
