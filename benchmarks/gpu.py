"""Measure training on a GPU, into ``records/gpu.json``.

    python -m benchmarks.gpu speed [--rounds 5] [--seconds 3]
    python -m benchmarks.gpu accuracy [--recipe compact] [--seeds 5] [--epochs 8,16,32]
    python -m benchmarks.gpu show

``speed``: images a second that each network trains with our steps recorded as a CUDA graph, with the same steps started one kernel at a
time, and with plain PyTorch as its tutorials have it: float32, a `DataLoader` with workers, batches sent to the device. All are in one
process, in turn, round by round; the tutorials' way has PyTorch's own settings, which allow what is faster and not the same each time.
``accuracy``: a recipe, for some numbers of epochs: seconds of training, those of a first epoch of another network (the warm-up:
libraries are loaded and kernels chosen) told apart, and the accuracy on the test set, opened once for each run when all are trained; and
that of all seeds together, by the mean of their probabilities. ``--device cpu`` tries the script out where there is no GPU, and records
nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.arguments import count, counts
from benchmarks.arguments import seconds as seconds_above_0
from benchmarks.peers.case import AUGMENTED, CLASSES, EPSILON, NETWORKS, RATE, Split
from benchmarks.peers.dataloader import Shuffled, loader
from benchmarks.peers.pages import table as markdown
from benchmarks.peers.pages import times
from benchmarks.peers.summary import spread
from benchmarks.peers.torch_networks import new_network, parameters
from benchmarks.places import read_record, record_of
from fittingroom import environment, experiment
from fittingroom.files import write_json
from fittingroom.native import LEVELS
from fittingroom.recipe import load
from fittingroom.runs import Run
from fittingroom.train.loop import fit

__all__ = ["TABLES"]

BATCHES = (128, 512)
WORKERS = min(8, len(os.sched_getaffinity(0)))
WAYS = ("recorded steps", "single kernels", "DataLoader")
GRAPH = "FITTINGROOM_GRAPH"
Train = Callable[[int], float]
"""Trains on so many images and returns the seconds that it took."""


# Speed


class Ours:
    """Our loop, every default, on one network; the whole set is on the device."""

    def __init__(self, network: str, batch: int, device: str) -> None:
        changes = {"defaults": "keras", "data.normalise": "unit", "optim.lr": RATE, "train.batch_size": batch, "train.stop": None}
        self.recipe = load(network, changes).recipe
        self.setting = experiment.Setting(device=device)
        self.machine = experiment.Machine.choose(self.recipe, self.setting)
        self.prepared = experiment.prepare(self.recipe, self.setting)
        self.model = experiment.new_model(self.recipe, self.prepared.data.input_shape, CLASSES, self.machine.device)
        self.size = 0

    def train(self, images: int) -> float:
        """Whole epochs of at most all images; the call of the loop is timed, recording and all."""
        training = self.prepared.training
        size = min(images, len(training))
        if size != self.size:
            self.resident = self.prepared.resident(training.take(torch.arange(size).numpy()), self.machine.device)
            self.size = size
        once = self.recipe.updated({"train.epochs": round(images / size)})
        began = time.perf_counter()
        for _ in fit(self.model, self.resident, None, once, CLASSES, self.machine.precision):
            pass
        wait(self.machine.device)
        return time.perf_counter() - began


class Tutorial:
    """Plain PyTorch: pictures made and transformed one by one by a `DataLoader`'s workers, a loss asked for after every step."""

    def __init__(self, network: str, batch: int, device: torch.device, part: Split) -> None:
        torch.manual_seed(0)
        self.device = device
        self.model = new_network(network).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE, eps=EPSILON)
        self.order = Shuffled()
        self.loader = loader(part, self.order, batch, network in AUGMENTED, WORKERS)
        self.most = len(part.labels)

    def train(self, images: int) -> float:
        """As `Ours.train`."""
        self.order.count = min(images, self.most)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=True):  # as PyTorch has them
            return self._train(images)

    def _train(self, images: int) -> float:
        loss_function = nn.CrossEntropyLoss()
        began = time.perf_counter()
        self.model.train()
        running = 0.0
        for _ in range(round(images / self.order.count)):
            for pictures, labels in self.loader:
                self.optimizer.zero_grad()
                loss: Tensor = loss_function(self.model(pictures.to(self.device)), labels.to(self.device))
                loss.backward()
                self.optimizer.step()
                running += loss.item()
        return time.perf_counter() - began


def speed(device: str, rounds: int, seconds: float, networks: list[str]) -> list[dict[str, Any]]:
    """Time all ways of all networks, in turn."""
    cells = []
    for network in networks:
        for batch in BATCHES:
            ours = Ours(network, batch, device)
            part = Split(ours.prepared.training.pixels[..., 0], ours.prepared.training.labels)
            tutorial = Tutorial(network, batch, ours.machine.device, part)
            assert parameters(ours.model) == parameters(tutorial.model)
            ways: dict[str, Train] = {WAYS[0]: ours.train, WAYS[1]: graphless(ours.train), WAYS[2]: tutorial.train}
            whole = len(ours.prepared.training)
            counts = {way: enough(train, batch, seconds, whole) for way, train in ways.items()}
            seen: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(rounds):
                for way in WAYS if number % 2 == 0 else WAYS[::-1]:
                    seen[way].append(counts[way] / ways[way](counts[way]))
            cells.append({"network": network, "batch": batch, "precision": ours.machine.precision.name, "images_per_second": seen})
            told = "  ".join(f"{way} {statistics.median(values):,.0f}" for way, values in seen.items())
            print(f"{network}, batch {batch}, images a second: {told}", flush=True)
    return cells


def enough(train: Train, batch: int, seconds: float, whole: int) -> int:
    """Images on which a warm ``train`` takes about ``seconds``: whole batches, or, of more than ``whole``, whole epochs.

    They are approached in steps, since what a call takes before its first image, as recording does, would pass for slowness.
    """
    images = 16 * batch
    train(images)
    while (took := train(images)) < 0.7 * seconds:
        wanted = images * min(8.0, seconds / took)
        more = round(wanted / whole) * whole if wanted > whole else round(wanted / batch) * batch
        if more <= images:
            break
        images = more
    return images


def graphless(train: Train) -> Train:
    """The same with steps that are not recorded."""

    def trained(images: int) -> float:
        with patch.dict(os.environ, {GRAPH: "0"}):
            return train(images)

    return trained


def wait(device: torch.device) -> None:
    """Until a GPU has done all it was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# Accuracy


def accuracy(device: str, seeds: int, epochs: list[int], changes: dict[str, Any], recipe: str = "compact") -> list[dict[str, Any]]:
    """Train a recipe for each number of epochs with each seed, then open the test set for each."""
    setting = experiment.Setting(device=device)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        experiment.train(load(recipe, {**changes, "train.epochs": 1}), Path(folder) / "warm-up", setting=setting)
        warm_up = time.perf_counter() - began
        trained = {
            count: [one(Path(folder), recipe, {**changes, "train.epochs": count, "seed": seed}, setting) for seed in range(seeds)]
            for count in epochs
        }
        found = []
        for count, runs in trained.items():
            entries = [entry | tested(run, setting) for run, entry in runs]
            about = {"name": recipe, "epochs": count, "recipe": runs[0][0].recipe.values, "warm_up_seconds": warm_up}
            found.append({**about, "runs": entries, "correct_together": together([run for run, _ in runs])})
            shown = ", ".join(f"{100 * entry['correct'] / entry['count']:.2f} % in {entry['seconds']:.2f} s" for entry in entries)
            print(f"{recipe}, {count} epochs: {shown}", flush=True)
    return found


def one(folder: Path, recipe: str, changes: dict[str, Any], setting: experiment.Setting) -> tuple[Run, dict[str, Any]]:
    """A run, and the seconds that its epochs trained."""
    epochs, seed = changes["train.epochs"], changes["seed"]
    run = experiment.train(load(recipe, changes), folder / f"{epochs}-{seed}", setting=setting)
    return run, {"seed": seed, "seconds": sum(record["train"]["seconds"] for record in run.history)}


def tested(run: Run, setting: experiment.Setting) -> dict[str, Any]:
    """What a run got right, of the test set."""
    test = experiment.evaluate(run, test=True, reason="benchmarks.gpu", setting=setting)["test"]
    return {"count": test["count"], "correct": test["correct"]}


def together(runs: list[Run]) -> int:
    """What the mean of all runs' probabilities gets right."""
    predicted = [run.read_predictions("test") for run in runs]
    probabilities = np.mean([one.probabilities for one in predicted], axis=0)
    return int((probabilities.argmax(1) == predicted[0].labels).sum())


# Telling


def keep(part: str, values: list[dict[str, Any]]) -> None:
    """Write one part of the record beside the other, if that is of the same machine."""
    described = environment.describe() | {"gpu": torch.cuda.get_device_name(), "workers": WORKERS}
    before = read_record("gpu") or {}
    kept = before if before.get("environment", {}).get("gpu") == described["gpu"] else {}
    if part == "accuracy":  # other recipes and epochs stay
        new = [(one["name"], one["epochs"]) for one in values]
        values = [one for one in kept.get(part, []) if (one["name"], one["epochs"]) not in new] + values
    write_json(record_of("gpu", LEVELS[-1]), {**kept, "environment": described, part: values})


def table() -> str:
    """What is recorded."""
    record = read_record("gpu")
    if record is None:
        return "*Not measured yet: no GPU was at hand. `python -m benchmarks.gpu speed` and `accuracy` fill this in.*\n"
    told = [f"On one {record['environment']['gpu']}, torch {record['environment']['packages']['torch']}:\n"]
    if "speed" in record:
        rows = []
        for cell in record["speed"]:
            seen = cell["images_per_second"]
            over = [[mine / theirs for mine, theirs in zip(seen[WAYS[0]], seen[way], strict=True)] for way in WAYS[1:]]
            middle = f"{statistics.median(seen[WAYS[0]]):,.0f}"
            rows.append([f"`{cell['network']}`, {cell['batch']}", cell["precision"], middle, *(times(spread(values)) for values in over)])
        told.append(markdown(["network, batch", "format", "images/s", f"over {WAYS[1]}", f"over the {WAYS[2]}"], rows))
    if "accuracy" in record:
        rows = []
        for entry in record["accuracy"]:
            seconds = spread([run["seconds"] for run in entry["runs"]])
            right = [100 * run["correct"] / run["count"] for run in entry["runs"]]
            took = f"{seconds.middle:.2f} s ({seconds.low:.2f} … {seconds.high:.2f})"
            mean = f"{statistics.mean(right):.2f} % ± {statistics.stdev(right):.2f}"
            all_of_them = f"{100 * entry['correct_together'] / entry['runs'][0]['count']:.2f} %"
            rows.append([f"`{entry['name']}`", f"{entry['epochs']}", took, mean, f"{all_of_them} of {len(right)}"])
        warm_up = max(entry["warm_up_seconds"] for entry in record["accuracy"])
        told.append(markdown(["recipe", "epochs", "training", "test accuracy", "of all seeds together"], rows))
        told.append(f"Before that {warm_up:.1f} s went by until a first epoch of another network was over, at most.\n")
    return "\n".join(told)


TABLES = {"gpu": table}


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["speed", "accuracy", "show"])
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--seconds", type=seconds_above_0, default=3.0)
    parser.add_argument("--seeds", type=count, default=5)
    parser.add_argument("--epochs", type=counts, default="8,16,32")
    parser.add_argument("--recipe", default="compact")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--limit", type=count, help="training images, for trying out")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    given = parser.parse_args()
    if given.command == "show":
        print(table())
        return
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu tries the script out")
    if given.command == "speed":
        values = speed(given.device, given.rounds, given.seconds, given.networks.split(","))
    else:
        changes = {} if given.limit is None else {"data.limit": given.limit}
        values = accuracy(given.device, given.seeds, given.epochs, changes, given.recipe)
    if given.device == "cuda" and given.limit is None:
        keep(given.command, values)


if __name__ == "__main__":
    main()
