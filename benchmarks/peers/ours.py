"""Fitting Room, all defaults, through the loop that its users get."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.case import CLASSES, NETWORKS, RATE, THREADS
from benchmarks.peers.inference import Predictor
from benchmarks.peers.protocol import serve
from benchmarks.peers.torch_networks import normalise_by_batch, parameters
from fittingroom import environment, experiment, native, recipe, runs
from fittingroom.data.arrays import Images
from fittingroom.data.resident import Resident
from fittingroom.train.loop import fit, measure, predict
from fittingroom.train.precision import Precision

__all__ = ["Ours", "setting", "settings"]

SAME = {"defaults": "keras", "data.normalise": "unit", "data.validation": 0.2, "optim.lr": RATE}
"""What a recipe is told so that all peers do the same; number format, memory order and kernels are Fitting Room's own choice."""


def setting() -> experiment.Setting:
    """All defaults, on the benchmark's threads; on the CPU, as the peers are, wherever there is a GPU."""
    return experiment.Setting(device="cpu", threads=int(os.environ[THREADS]))


def settings(network: str, batch: int, seed: int, epochs: int = 1, **changes: Any) -> recipe.Loaded:
    """The recipe of a network, without early stopping; one of our own that no peer trains keeps its values."""
    same = SAME if network in NETWORKS else {}
    loaded = recipe.load(network, {**same, "train.batch_size": batch, "train.epochs": epochs, "seed": seed, **changes})
    whole = loaded.recipe
    return recipe.Loaded(whole.model_copy(update={"train": whole.train.model_copy(update={"stop": None})}), loaded.origins)


class Ours(Predictor):
    """Training and predicting."""

    def __init__(self) -> None:
        native.keep_freed_memory()  # as `experiment.train` does

    def describe(self) -> dict[str, Any]:
        """Machine and software."""
        experiment.Machine.choose(settings("lenet5", 32, 0).recipe, setting())
        return {**environment.describe(), "kernels": native.description()}

    def write_data(self, path: str) -> None:
        """Write the images for all peers, split as a run splits them."""
        prepared = experiment.prepare(settings("lenet5", 32, 0).recipe, setting())
        assert prepared.validation is not None
        parts = {"training": prepared.training, "validation": prepared.validation}
        pixels = {f"{name}_pixels": part.pixels[..., 0] for name, part in parts.items()}
        np.savez(path, **pixels, **{f"{name}_labels": part.labels for name, part in parts.items()})  # type: ignore[arg-type]

    def variants(self, network: str) -> list[str]:
        """The default."""
        return ["default"]

    def build(self, network: str, batch: int, seed: int, variant: str) -> int:
        """As `Peer` has it."""
        self.recipe = settings(network, batch, seed).recipe
        self.machine = experiment.Machine.choose(self.recipe, setting())
        self.prepared = experiment.prepare(self.recipe, setting())
        self.model = experiment.new_model(self.recipe, self.prepared.data.input_shape, CLASSES, self.machine.device)
        self.resident: Resident | None = None
        return parameters(self.model)

    def train(self, images: int, epochs: int) -> float:
        """As `Peer` has it; the whole call of the loop is timed, making of the optimiser and all."""
        if self.resident is None or len(self.resident) != images:
            self.resident = None  # a run holds one set, so two at a time must not count as its memory
            self.resident = self.prepared.resident(self.prepared.training.take(np.arange(images)), self.machine.device)
        lengthened = self.recipe.model_copy(update={"train": self.recipe.train.model_copy(update={"epochs": epochs})})
        began = time.perf_counter()
        for _ in fit(self.model, self.resident, None, lengthened, CLASSES, self.machine.precision):
            pass
        return time.perf_counter() - began

    @torch.no_grad()
    def accuracy(self, by_batch: bool = False) -> float:
        """As `Peer` has it."""
        assert self.prepared.validation is not None
        validation = self.prepared.resident(self.prepared.validation, self.machine.device)
        self.model.eval()
        if not by_batch:
            return measure(self.model, validation, self.machine.precision)["accuracy"]
        normalise_by_batch(self.model)
        with self.machine.precision.autocast(self.machine.device):
            found = torch.cat([self.model(batch).argmax(1) for batch, _ in validation.in_order()])
        return float((found == validation.labels).float().mean())

    def export(self, network: str, images: int, folder: str) -> None:
        """Train a run in ``folder``, and write its network there: ``model.onnx``, and ``weights.npz`` for Keras, layer by layer."""
        changes: dict[str, Any] = {"data.limit": images, "data.validation": 0.01}  # judging takes time
        run = experiment.train(settings(network, 32, 0, **changes), Path(folder) / "run", setting=setting())
        model = experiment.load_model(run, torch.device("cpu"))
        arrays = {f"{index:03}": array for index, array in enumerate(_layer_arrays(model))}
        np.savez(Path(folder) / "weights.npz", **arrays)  # type: ignore[arg-type]
        with native.enabled(False):
            program = torch.onnx.export(
                model.to(memory_format=torch.contiguous_format),
                (torch.zeros(2, 1, 28, 28),),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        program.save(Path(folder) / "model.onnx")

    def load(self, network: str, folder: str, variant: str) -> None:
        """Read the run back; ``variant`` is `default`, or `fp32` to compare with others in full precision, without our kernels."""
        run = runs.Run(Path(folder) / "run")
        self.machine = experiment.Machine.choose(run.recipe, setting())
        self.plain = variant == "fp32"
        if self.plain:
            self.machine = experiment.Machine(self.machine.device, Precision("fp32", "to compare"))
        self.model = experiment.load_model(run, self.machine.device)
        data = run.environment["data"]
        self.scale, self.offset = np.array(data["scale"], np.float32), np.array(data["offset"], np.float32)

    def probabilities(self, pixels: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
        """What `experiment.probabilities` does once it has read the run."""
        images = Resident.of(Images(pixels[..., None], np.zeros(len(pixels), np.int64)), self.scale, self.offset, self.machine.device)
        with native.enabled(not self.plain):
            found: NDArray[np.float32] = predict(self.model, images, self.machine.precision, batch).softmax(1).numpy()
        return found


def _layer_arrays(model: torch.nn.Module) -> Iterator[NDArray[np.float32]]:
    """The arrays of all layers with weights, in order, as Keras lays them out.

    A dense layer that follows features ``[C, H, W]`` is turned to follow ``[H, W, C]``.
    """
    channels = 0
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            channels = layer.out_channels
            yield layer.weight.detach().permute(2, 3, 1, 0).numpy()
        elif isinstance(layer, torch.nn.Linear):
            weight = layer.weight.detach()
            if channels and weight.shape[1] > channels:
                side = int((weight.shape[1] // channels) ** 0.5)
                weight = weight.view(-1, channels, side, side).permute(0, 2, 3, 1).flatten(1)
            channels = 0
            yield weight.T.numpy()
        elif isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            yield from (layer.state_dict()[name].numpy() for name in ("weight", "bias", "running_mean", "running_var"))
            continue
        else:
            continue
        if layer.bias is not None:
            yield layer.bias.detach().numpy()


if __name__ == "__main__":
    serve(Ours())
