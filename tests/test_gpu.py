"""On a CUDA device: the same results as on the CPU as far as can be, the same bits as itself, and everything held there.

``pytest -m gpu`` on a machine that has one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fittingroom import experiment, models
from fittingroom.data.augment import augment
from fittingroom.data.resident import Resident
from fittingroom.experiment import Setting
from fittingroom.models.layers import seed_dropout
from fittingroom.recipe import Augment, Loaded, Recipe, load
from fittingroom.runs import Run
from fittingroom.train.loop import Seen, fit, predict
from fittingroom.train.losses import loss_function
from fittingroom.train.optim import optimiser, set_rate
from fittingroom.train.precision import Precision, choose_device, choose_precision, settle
from fittingroom.train.step import Graphed, Step, stepping
from tests.conftest import CLASSES, SIDE, made_set_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FP32 = Precision("fp32", "asked for")
SETTING = Setting(device="cuda", threads=1, download=False, checkpoint_seconds=0.0)

# All that has a state, or draws numbers.
EVERYTHING = {
    "augment.rotate": 10,
    "augment.shift": 0.1,
    "augment.erase": 0.3,
    "optim.schedule": "one-cycle",
    "optim.warmup": 0.3,
    "train.average": 0.98,
    "train.stop": {"monitor": "validation.loss", "patience": 20},
}
# Something of each family: dropout and pooling, batch norm, residuals, a flat network.
NETWORKS = ("lenet5", "three-block", "resnet20", "mlp")


def loaded(made_set: Path, model: str = "lenet5", **changes: Any) -> Loaded:
    return load({"model": model}, {"data.name": str(made_set), "train.epochs": 4, **changes})


def resident(device: torch.device, count: int = 200) -> Resident:
    images = made_set_of(count, seed=1)
    return Resident.of(images, np.array([1 / 64], np.float32), np.array([-2.0], np.float32), device)


def built(settings: Recipe, device: torch.device) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    model = models.build(settings.model.name, input_shape=(1, SIDE, SIDE), classes=CLASSES, generator=generator)
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def weights(run: Run) -> bytes:
    return (run.path / "weights.safetensors").read_bytes()


def timeless(run: Run) -> list[dict[str, Any]]:
    """The records of all epochs without what a clock had a part in."""
    clock = ("seconds", "images_per_second")
    return [{**record, "train": {key: value for key, value in record["train"].items() if key not in clock}} for record in run.history]


def test_the_record_says_which_device_and_format(made_set: Path, tmp_path: Path) -> None:
    run = experiment.train(loaded(made_set, **{"train.epochs": 1}), tmp_path / "run", setting=replace(SETTING, device="auto"))
    assert run.environment["device"] == "cuda"
    assert run.environment["gpu"] == torch.cuda.get_device_name()
    fast = torch.cuda.is_bf16_supported(including_emulation=False)
    assert run.environment["precision"]["name"] == ("bf16" if fast else "fp32")
    assert "cuda" in run.environment["precision"]["reason"]
    assert choose_device("auto").type == "cuda"
    assert choose_precision("fp32", GPU) == FP32


def test_the_whole_set_is_held_on_the_device() -> None:
    images = resident(GPU)
    assert images.pixels.is_cuda
    assert images.labels.is_cuda
    assert images.pixels.dtype == torch.uint8
    generator = torch.Generator(GPU).manual_seed(0)
    seen = []
    for batch, labels in images.shuffled(32, Augment(flip=True), generator):
        assert batch.is_cuda
        assert batch.is_contiguous(memory_format=torch.channels_last)
        seen.append(labels)
    assert torch.equal(torch.cat(seen).sort().values, images.labels.sort().values)
    for (ours, _), (theirs, _) in zip(images.in_order(64), resident(CPU).in_order(64), strict=True):
        assert torch.allclose(ours.cpu(), theirs, atol=1e-6)


def test_augmentation_is_drawn_on_the_device() -> None:
    settings = Augment(rotate=15, shift=0.1, zoom=0.1, stretch=0.1, perspective=0.1, flip=True, crop=2, erase=0.5)
    images = torch.rand(64, 3, 28, 20, device=GPU)

    def drawn(seed: int) -> torch.Tensor:
        return augment(images, settings, torch.Generator(GPU).manual_seed(seed))

    assert drawn(1).is_cuda
    assert drawn(1).shape == images.shape
    assert drawn(1).isfinite().all()
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    still = augment(images, Augment(shift=1e-7), torch.Generator(GPU).manual_seed(1))
    assert torch.allclose(still, images, atol=1e-4)
    mirrored = augment(images, Augment(flip=True), torch.Generator(GPU).manual_seed(1))
    turned = torch.tensor([torch.equal(one, other.flip(2)) for one, other in zip(mirrored, images, strict=True)])
    kept = torch.tensor([torch.equal(one, other) for one, other in zip(mirrored, images, strict=True)])
    assert (turned ^ kept).all()
    assert 10 < turned.sum() < 54


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "rmsprop", "muon"])
def test_whole_batches_train_to_the_weights_of_the_cpu(optimiser: str) -> None:
    """One batch an epoch: the order, which the devices draw differently, does not matter."""
    changes = {"optim.name": optimiser, "optim.momentum": 0.9 if optimiser in ("sgd", "muon") else 0.0, "optim.lr": 0.002}
    settings = load("mlp", {**changes, "optim.l2": 1e-3, "optim.clip_norm": 5.0, "train.batch_size": 200, "train.epochs": 5}).recipe
    settle(GPU)
    logits = []
    for device in (CPU, GPU):
        model = built(settings, device)
        records = [epoch.record for epoch in fit(model, resident(device), resident(device, 50), settings, CLASSES, FP32)]
        assert records[-1]["train"]["loss"] < records[0]["train"]["loss"]
        logits.append(predict(model, resident(device, 50), FP32).cpu())
    assert torch.allclose(*logits, atol=5e-3)


@pytest.mark.parametrize("model", NETWORKS)
def test_a_network_maps_as_on_the_cpu(model: str) -> None:
    settings = load(model).recipe
    settle(GPU)
    ours, theirs = (predict(built(settings, device), resident(device, 50), FP32).cpu() for device in (GPU, CPU))
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_what_is_learnt_is_as_good_as_on_the_cpu(tmp_path: Path) -> None:
    digits = load("lenet5", {"data.name": "digits", "data.size": 28, "train.epochs": 8})
    accuracies = []
    for device in ("cpu", "cuda"):
        run = experiment.train(digits, tmp_path / device, setting=replace(SETTING, device=device))
        accuracies.append(run.evaluation["validation"]["accuracy"])
    assert min(accuracies) > 0.9
    assert abs(accuracies[0] - accuracies[1]) < 0.05


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", NETWORKS)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(made_set: Path, tmp_path: Path, model: str, precision: str) -> None:
    what = loaded(made_set, model, **EVERYTHING, **{"train.precision": precision})
    expected = experiment.train(what, tmp_path / "expected", setting=SETTING)

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.train(what, tmp_path / "run", setting=replace(SETTING, epoch_done=stop))
    run = Run(tmp_path / "run")
    assert run.state == "stopped"
    experiment.resume(run, SETTING)
    assert weights(run) == weights(expected)
    assert timeless(run) == timeless(expected)
    assert run.evaluation == expected.evaluation


def test_a_run_goes_on_and_is_evaluated_on_another_device(made_set: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def stop(record: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.train(
            loaded(made_set, **{"train.precision": "fp32"}), tmp_path / "run", setting=replace(SETTING, device="cpu", epoch_done=stop)
        )
    run = experiment.resume(Run(tmp_path / "run"), replace(SETTING, notify=told.append))
    assert run.state == "finished"
    assert any("device cpu → cuda" in line for line in told)
    images = made_set_of(100, seed=2)
    there, here = (experiment.probabilities(run, images, replace(SETTING, device=name)) for name in ("cuda", "cpu"))
    assert np.allclose(there, here, atol=1e-3)
    on_gpu, on_cpu = (experiment.evaluate(run, test=True, setting=replace(SETTING, device=name))["test"] for name in ("cuda", "cpu"))
    assert on_gpu["loss"] == pytest.approx(on_cpu["loss"], abs=1e-3)
    assert on_gpu["accuracy"] == pytest.approx(on_cpu["accuracy"], abs=0.01)


@pytest.mark.parametrize("optimiser_name", ["sgd", "adam", "adamw", "rmsprop", "muon"])
@pytest.mark.parametrize("model", NETWORKS)
def test_a_replayed_step_has_the_bits_of_a_plain_one(
    made_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, optimiser_name: str
) -> None:
    momentum = {"optim.momentum": 0.9} if optimiser_name in ("sgd", "muon") else {}
    changes = {**EVERYTHING, **momentum, "optim.name": optimiser_name, "optim.lr": 0.002, "optim.l2": 1e-4, "optim.clip_norm": 1.0}
    what = loaded(made_set, model, **changes)
    replayed = experiment.train(what, tmp_path / "replayed", setting=SETTING)
    monkeypatch.setenv("FITTINGROOM_GRAPH", "0")
    plain = experiment.train(what, tmp_path / "plain", setting=SETTING)
    assert replayed.environment["graph"]
    assert not plain.environment["graph"]
    assert timeless(replayed) == timeless(plain)
    assert weights(replayed) == weights(plain)


@pytest.mark.parametrize("loss", [{"name": "focal"}, {"class_weights": "balanced", "label_smoothing": 0.1}])
def test_every_loss_can_be_replayed(made_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: dict[str, Any]) -> None:
    what = loaded(made_set, loss=loss)
    replayed = experiment.train(what, tmp_path / "replayed", setting=SETTING)
    monkeypatch.setenv("FITTINGROOM_GRAPH", "0")
    assert weights(replayed) == weights(experiment.train(what, tmp_path / "plain", setting=SETTING))


@pytest.mark.parametrize("model", [name for name in models.names() if models.entry(name).kind == "network"])
def test_every_network_can_be_replayed(model: str) -> None:
    settings = load(model).recipe
    network = models.build(model, input_shape=(1, 64, 64), classes=CLASSES, generator=torch.Generator().manual_seed(0))
    network.to(device=GPU, memory_format=torch.channels_last)  # type: ignore[call-overload]
    seed_dropout(network, 1)
    step = Step(
        network,
        loss_function(settings.loss, torch.arange(CLASSES, device=GPU), CLASSES),
        optimiser(network, settings.optim, "torch"),
        settings.optim,
        FP32,
        GPU,
    )
    graphed = stepping(step, 8)
    images = torch.randn(8, 1, 64, 64, device=GPU).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(8, device=GPU) % CLASSES
    losses = [float(graphed(images, labels)[0]) for _ in range(8)]
    assert isinstance(graphed, Graphed)
    assert graphed.graph is not None
    assert np.isfinite(losses).all()


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
def test_nothing_waits_for_the_device_between_steps() -> None:
    """Batches, rate, step and record of an epoch, after the graph is there: PyTorch raises where the host waits for the device."""
    settings = load("three-block", {"augment.erase": 0.5, "augment.crop": 2, "augment.perspective": 0.1}).recipe
    network = built(settings, GPU)
    seed_dropout(network, 1)
    training = resident(GPU)
    optimizer = optimiser(network, settings.optim, settings.defaults)
    precision = choose_precision("auto", GPU)
    step = Step(network, loss_function(settings.loss, training.labels, CLASSES), optimizer, settings.optim, precision, GPU)
    take_step = stepping(step, 16)

    def epoch() -> None:
        seen = Seen(len(training.sizes(16)), len(training), CLASSES, GPU)
        for images, labels in training.shuffled(16, settings.augment, torch.Generator(GPU).manual_seed(0)):
            set_rate(optimizer, 0.001)
            seen.add(*take_step(images, labels), labels)

    epoch()
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        epoch()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_steps_are_started_by_one_call() -> None:
    settings = load("lenet5", {"train.epochs": 1, "train.batch_size": 20}).recipe
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]) as profile:
        list(fit(built(settings, GPU), resident(GPU), None, settings, CLASSES, FP32))
    starts = [event for event in profile.events() if event.name == "cudaGraphLaunch"]
    assert len(starts) == 10 - Graphed.WARM_UP
