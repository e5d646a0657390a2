"""Time Fitting Room against its peers, in turn, in one go: ``make bench``, or ``make bench ROUNDS=1 NETWORKS=lenet5 SECONDS=0.5``.

For each network and batch size all peers are started and warmed up; then, round by round, each trains for some seconds while the others
wait, in an order that changes with the round, so that whatever else the machine does meets all of them. What is seen is kept after every
round in ``build/bench/``, and a benchmark that was stopped goes on from there. When all is there, in at least FEWEST rounds, it is
written to ``records/bench.json``, or ``bench-KERNELS.json`` with lesser kernels than the highest, and drawn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import count
from benchmarks.arguments import seconds as seconds_above_0
from benchmarks.peers import pages, summary
from benchmarks.peers.case import COMMAND_LINE, DATA, NETWORKS, RATE_VARIABLE, THREADS, USUAL_RATE
from benchmarks.peers.inference import IMAGES as PREDICTED
from benchmarks.peers.protocol import Remote
from benchmarks.places import record_of
from fittingroom.files import write_json

ROOT = Path(__file__).parent.parent.parent
FEWEST = 5
"""Rounds of a benchmark that is recorded."""
BATCHES = (32, 128)
STAGES = ("timing", "learning", "inference")
PEERS = {
    "ours": ["ours"],
    "plain": ["ours"],
    "limit": ["limit"],
    "keras-fp32": ["keras_peer", "fp32"],
    "keras-bf16": ["keras_peer", "bf16"],
    "dataloader": ["dataloader"],
    "tensors": ["tensors"],
    "lightning": ["lightning_module"],
}
ENVIRONMENTS = {"ours": COMMAND_LINE, "plain": {**COMMAND_LINE, "FITTINGROOM_NATIVE": "0"}, "limit": COMMAND_LINE}
"""Environment variables of single peers; `plain` is our own program without its kernels."""
PREDICTORS = {"ours": ["ours"], "keras": ["keras_peer", "fp32"], "onnx-runtime": ["onnx_runtime"]}
WAYS = {"ours": ["default"], "keras": ["predict", "predict_on_batch"], "onnx-runtime": ["default"]}
PREDICT_BATCHES = {"ours": [500], "keras": [32, 500], "onnx-runtime": [32, 500]}
PACKAGES = ("keras", "tensorflow-cpu", "lightning", "onnxruntime", "onnx", "onnxscript")
LEARNING_BATCH = 32
LEARNERS = 4
ONLY_WAY = {"ours": "default", "plain": "default", "limit": "default", "tensors": ""}
"""Peers that train in one way, which need not be asked for others."""
LOOKING = ("drawing", "pages", "summary", "targets")
"""The files here that only look at what was measured."""
MOST = 48_000
LATENCIES = 100


@dataclass(frozen=True)
class Learning:
    """After how much training the accuracies of the peers are compared.

    Attributes:
        images, epochs, seeds: of the training.
        minutes: that it takes all peers together, about.
        rate: Adam's learning rate.
        by_batch: whether networks are judged by the statistics of batches instead of running averages.
    """

    images: int
    epochs: int
    seeds: int
    minutes: float
    rate: float = USUAL_RATE
    by_batch: bool = False


LEARNING = {
    "lenet5": Learning(48_000, 2, 2, 1.7),
    "standard": Learning(24_000, 2, 2, 1.7),
    "three-block": Learning(6_400, 4, 3, 10.2, 2e-4),
    "resnet20": Learning(6_400, 2, 3, 6.5, 2e-4, by_batch=True),
}
"""How each network learns, at batch LEARNING_BATCH.

Networks with batch norm take more steps, and smaller ones: Keras's running averages move by a hundredth a step, and lie far off after
400; and at the usual rate these networks leap from epoch to epoch (`resnet20` from 48 to 85 %), so that nothing could be told. With
running averages `resnet20` leaps at the lower rate too, from 66 to 83 %.
"""


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
        rounds: of everything that is timed.
        seconds: that a peer trains in a round, about.
        networks, batches: what is trained.
        stages: which of `timing`, `learning` and `inference`.
        threads: of each peer.
        folder: where unfinished work is kept.
        share: of the images of LEARNING that are used; 1 for a benchmark that is recorded.
        onto_record: whether the committed record is to keep what is not measured now.
    """

    rounds: int
    seconds: float
    networks: tuple[str, ...]
    batches: tuple[int, ...]
    stages: tuple[str, ...]
    threads: int
    folder: Path
    share: float
    onto_record: bool = False

    @property
    def complete(self) -> bool:
        """Whether what comes out may be recorded."""
        return self.rounds >= FEWEST and self.share == 1

    @property
    def minutes(self) -> float:
        """About how long all of it takes on two free cores."""
        cells = len(self.networks) * len(self.batches)
        timing = cells * (90 + (len(PEERS) + 1.5) * self.rounds * (self.seconds * 1.1 + 0.1)) / 60
        learning = sum(0.4 + LEARNING[network].minutes * self.share for network in self.networks)
        inference = len(self.networks) * (30 + 8 * self.rounds) / 60
        stages = {"timing": timing, "learning": learning, "inference": inference}
        return sum(minutes for stage, minutes in stages.items() if stage in self.stages)


class Bench:
    """The benchmark as it goes on."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.partial = self.folder / "bench.json"
        self.log = self.folder / "peers.log"
        self.log.write_bytes(b"")
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            DATA: str(self.folder / "data.npz"),
            THREADS: str(settings.threads),
            "OMP_NUM_THREADS": str(settings.threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self.predicted = int(PREDICTED * settings.share)
        self.record = self._begun()

    def _begun(self) -> dict[str, Any]:
        """What there is to go on from, or an empty record."""
        with self.start("ours") as ours:
            described = ours.call("describe")
            ours.call("write_data", path=self.environment[DATA])
        described["packages"] |= {name: metadata.version(name) for name in PACKAGES}
        fixed = {
            "threads": self.settings.threads,
            "seconds": self.settings.seconds,
            "share": self.settings.share,
            "sources": sources(),
        }
        empty: dict[str, Any] = {"environment": described, "settings": fixed, "cells": [], "learning": [], "inference": []}
        if self.partial.exists():
            before: dict[str, Any] = json.loads(self.partial.read_text(encoding="utf-8"))
            before["environment"]["commit"] = described["commit"]  # others may have committed what does not matter here
            if all(before[key] == empty[key] for key in ("environment", "settings")):
                print(f"going on with what is in {self.partial}", flush=True)
                return before
            print("the machine, the program or the settings are others than last time: starting anew", flush=True)
        return empty

    def keep(self) -> None:
        """Write down all that is known so far."""
        write_json(self.partial, self.record)

    def start(self, peer: str, predicting: bool = False, rate: float = USUAL_RATE) -> Remote:
        """Start the process of a peer."""
        environment = self.environment | ENVIRONMENTS.get(peer, {}) | {RATE_VARIABLE: str(rate)}
        return Remote((PREDICTORS if predicting else PEERS)[peer], self.log, environment)

    def run(self) -> None:
        """Do all that is left to do."""
        for network in self.settings.networks:
            for batch in self.settings.batches if "timing" in self.settings.stages else ():
                self.time_cell(network, batch)
            if "learning" in self.settings.stages:
                self.learn(network)
            if "inference" in self.settings.stages:
                self.infer(network)

    # Timing

    def time_cell(self, network: str, batch: int) -> None:
        """Time one network at one batch size, for the rounds that are missing."""
        cell = found(self.record["cells"], network=network, batch=batch) or {"network": network, "batch": batch, "load": [], "peers": {}}
        peers = cell["peers"]
        done = rounds(cell)
        if done >= self.settings.rounds:
            return
        print(f"{network}, batch {batch}: warming up", flush=True)
        for peer in PEERS:
            entry = peers.setdefault(peer, {"images_per_second": []})
            if "variant" not in entry:
                entry |= self.choose(peer, network, batch)
        with ExitStack() as stack:
            remotes = {peer: stack.enter_context(self.start(peer)) for peer in PEERS}
            plans = {}
            for peer, remote in remotes.items():
                peers[peer] |= self.warm_up(remote, network, batch, peers[peer]["variant"])
                # As many images as ours, though it takes longer: their memory is compared.
                plans[peer] = plans["ours"] if peer == "plain" else self.plan(remote, batch, self.settings.seconds)
            if len({entry["parameters"] for entry in peers.values()}) > 1:
                raise SystemExit(f"{network} is not the same network in all peers: see the parameters in {cell}")
            if cell not in self.record["cells"]:
                self.record["cells"].append(cell)
            for number in range(done, self.settings.rounds):
                self.round(number, cell, remotes, plans)

    def round(self, number: int, cell: dict[str, Any], remotes: dict[str, Remote], plans: dict[str, tuple[int, int]]) -> None:
        """Time all peers once and keep what was seen."""
        order = list(remotes)
        random.Random(number).shuffle(order)
        cell["load"].append(os.getloadavg()[0])
        speeds = {}
        for peer in order:
            images, epochs = plans[peer]
            speeds[peer] = images * epochs / remotes[peer].call("train", images=images, epochs=epochs)
        for peer, remote in remotes.items():
            cell["peers"][peer]["images_per_second"].append(speeds[peer])
            cell["peers"][peer]["peak_bytes"] = remote.peak
        self.keep()
        told = "  ".join(f"{peer} {speed:,.0f}" for peer, speed in speeds.items())
        print(f"{cell['network']}, batch {cell['batch']}, round {number + 1}: images a second: {told}", flush=True)

    def choose(self, peer: str, network: str, batch: int) -> dict[str, Any]:
        """Try all ways in which a peer can train, in a process of its own; return the fastest and what was seen."""
        if peer in ONLY_WAY:
            return {"variant": ONLY_WAY[peer], "tried": {}}
        with self.start(peer) as remote:
            variants: list[str] = remote.call("variants", network=network)
            if len(variants) == 1:
                return {"variant": variants[0], "tried": {}}
            speeds = {}
            for variant in variants:
                self.warm_up(remote, network, batch, variant)
                images, epochs = self.plan(remote, batch, self.settings.seconds / 4)
                speeds[variant] = images * epochs / remote.call("train", images=images, epochs=epochs)
        return {"variant": max(speeds, key=lambda name: speeds[name]), "tried": speeds}

    def warm_up(self, remote: Remote, network: str, batch: int, variant: str, seed: int = 0) -> dict[str, Any]:
        """Build a network and train its first two steps; return what a user waits for until then."""
        began = time.perf_counter()
        count = remote.call("build", network=network, batch=batch, seed=seed, variant=variant)
        remote.call("train", images=2 * batch, epochs=1)
        return {"parameters": count, "seconds_to_start": remote.start, "seconds_to_first_steps": time.perf_counter() - began}

    def plan(self, remote: Remote, batch: int, seconds: float) -> tuple[int, int]:
        """Return images and epochs that take about ``seconds``."""
        images = 4 * batch
        while (took := remote.call("train", images=images, epochs=1)) < seconds / 4 and images < MOST:
            images = min(MOST, 4 * images)
        wanted = max(1, int(images / took * seconds))
        if wanted >= MOST:
            return MOST, round(wanted / MOST)
        return max(1, wanted // batch) * batch, 1

    # Learning

    def learn(self, network: str) -> None:
        """Train a fixed number of epochs with each peer and seed, and keep the accuracies on validation."""
        how = LEARNING[network]
        images = max(LEARNING_BATCH, int(how.images * self.settings.share) // LEARNING_BATCH * LEARNING_BATCH)
        entry = found(self.record["learning"], network=network)
        if entry is None:
            trained = {"batch": LEARNING_BATCH, "images": images, "epochs": how.epochs, "rate": how.rate, "by_batch": how.by_batch}
            entry = {"network": network, **trained, "accuracy": {}}
            self.record["learning"].append(entry)
        entry["seeds"] = [*range(how.seeds)]
        for peer, variant in self.learners(network).items():
            accuracies = entry["accuracy"].setdefault(peer, [])
            if len(accuracies) >= how.seeds:
                continue
            with self.start(peer, rate=how.rate) as remote:
                for seed in entry["seeds"][len(accuracies) :]:
                    remote.call("build", network=network, batch=LEARNING_BATCH, seed=seed, variant=variant)
                    remote.call("train", images=images, epochs=how.epochs)
                    accuracies.append(remote.call("accuracy", by_batch=how.by_batch))
                    self.keep()
            told = ", ".join(f"{100 * accuracy:.2f} %" for accuracy in accuracies)
            print(f"{network} after {how.epochs} epochs of {images:,} images: {peer} {told}", flush=True)
        if (noise := summary.noise(entry)) >= summary.TELLING:
            print(f"{network}: this tells nothing of who learns better: means {100 * noise:.1f} points apart can be chance", flush=True)

    def learners(self, network: str) -> dict[str, str]:
        """The peers that learn, with the way that was fastest; of Keras's two number formats the faster.

        Lightning is left out: it is the network, the loader and the optimiser of `dataloader` in another loop.
        """
        cell = found(self.record["cells"], network=network, batch=LEARNING_BATCH)
        if cell is None:
            ways = {"ours": "default", "keras-fp32": "no XLA", "dataloader": "no workers", "tensors": ""}
            return ways | ({"keras-fp32": "changed in the model"} if network == "three-block" else {})
        left_out = {"plain", "limit", "lightning", *summary.KERAS} - {summary.faster_keras(cell)}
        return {peer: entry["variant"] for peer, entry in cell["peers"].items() if peer not in left_out}

    # Inference

    def infer(self, network: str) -> None:
        """Time predicting with one trained network in all peers, after a look at whether they predict the same."""
        entry = found(self.record["inference"], network=network)
        if entry is not None and rounds(entry) >= self.settings.rounds:
            return
        folder = self.folder / "models" / network
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        print(f"{network}: training a network to predict with", flush=True)
        with ExitStack() as stack:
            remotes = {peer: stack.enter_context(self.start(peer, predicting=True)) for peer in PREDICTORS}
            remotes["ours"].call("export", network=network, images=int(9_600 * self.settings.share), folder=str(folder))
            if entry is None:
                entry = {"network": network, "agreement": self.agreement(remotes, network, folder), "load": [], "peers": {}}
                for peer, remote in remotes.items():
                    entry["peers"][peer] = {"images_per_second": [], "latency_seconds": []} | self.ways(peer, remote, network, folder)
                self.record["inference"].append(entry)
            for peer, remote in remotes.items():
                remote.call("load", network=network, folder=str(folder), variant=WAYS[peer][0])
            for number in range(rounds(entry), self.settings.rounds):
                self.infer_round(number, entry, remotes, network, folder)

    def agreement(self, remotes: dict[str, Remote], network: str, folder: Path) -> dict[str, dict[str, float]]:
        """How far each peer's class probabilities are from those of our plain float32 path, and how often the classes agree."""
        outputs = {}
        for name in ("fp32", *PREDICTORS):
            peer = "ours" if name == "fp32" else name
            remotes[peer].call("load", network=network, folder=str(folder), variant=name if name == "fp32" else WAYS[peer][0])
            remotes[peer].call("write_outputs", path=str(folder / f"{name}.npy"), images=self.predicted // 5)
            outputs[name] = np.load(folder / f"{name}.npy")
        right = outputs.pop("fp32")
        return {
            name: {
                "largest_difference": float(np.abs(found - right).max()),
                "same_class": float((found.argmax(1) == right.argmax(1)).mean()),
            }
            for name, found in outputs.items()
        }

    def ways(self, peer: str, remote: Remote, network: str, folder: Path) -> dict[str, Any]:
        """The batch size with which a peer is fastest, how many passes take a second, and its quickest way with one image."""
        remote.call("load", network=network, folder=str(folder), variant=WAYS[peer][0])
        batches = {batch: self.throughput(remote, batch, self.predicted // 10) for batch in PREDICT_BATCHES[peer]}
        latencies = {}
        for way in WAYS[peer]:
            remote.call("load", network=network, folder=str(folder), variant=way)
            remote.call("latency", count=5)
            latencies[way] = float(np.median(remote.call("latency", count=20)))
        batch = max(batches, key=lambda size: batches[size])
        return {
            "batch": batch,
            "times": max(1, round(batches[batch] / self.predicted)),
            "single": min(latencies, key=lambda name: latencies[name]),
        }

    def throughput(self, remote: Remote, batch: int, images: int, times: int = 1) -> float:
        """Images a second, after a few that are not counted."""
        remote.call("throughput", batch=batch, images=batch, times=2)
        return images * times / float(remote.call("throughput", batch=batch, images=images, times=times))

    def infer_round(self, number: int, entry: dict[str, Any], remotes: dict[str, Remote], network: str, folder: Path) -> None:
        """Time all peers once, many images and one."""
        order = list(remotes)
        random.Random(number).shuffle(order)
        entry["load"].append(os.getloadavg()[0])
        seen = {}
        for peer in order:
            known, remote = entry["peers"][peer], remotes[peer]
            remote.call("load", network=network, folder=str(folder), variant=WAYS[peer][0])
            speed = self.throughput(remote, known["batch"], self.predicted, known["times"])
            remote.call("load", network=network, folder=str(folder), variant=known["single"])
            remote.call("latency", count=5)
            seen[peer] = (speed, float(np.median(remote.call("latency", count=LATENCIES))))
        for peer, (speed, latency) in seen.items():
            entry["peers"][peer]["images_per_second"].append(speed)
            entry["peers"][peer]["latency_seconds"].append(latency)
        self.keep()
        told = "  ".join(f"{peer} {speed:,.0f}/s, {1e3 * latency:.2f} ms" for peer, (speed, latency) in seen.items())
        print(f"{network}, predicting, round {number + 1}: {told}", flush=True)


def missing(record: dict[str, Any]) -> list[str]:
    """What is not there for the whole benchmark to be recorded."""
    lacking = []
    for network in NETWORKS:
        for batch in BATCHES:
            cell = found(record["cells"], network=network, batch=batch)
            if cell is None or set(cell["peers"]) != set(PEERS) or rounds(cell) < FEWEST:
                lacking.append(f"{network} at batch {batch}")
        learnt = found(record["learning"], network=network)
        if learnt is None or [len(values) for values in learnt["accuracy"].values()] != LEARNERS * [len(learnt["seeds"])]:
            lacking.append(f"learning of {network}")
        predicting = found(record["inference"], network=network)
        if predicting is None or rounds(predicting) < FEWEST:
            lacking.append(f"predicting with {network}")
    return lacking


def sources() -> str:
    """Twelve hexadecimal digits that stand for the code that is measured: rounds of different code are not mixed."""
    package = ROOT / "fittingroom"
    rooms = [package / "experiment.py", package / "recipe.py"]
    for room in ("data", "models", "native", "recipes", "train"):
        rooms += [path for path in sorted((package / room).iterdir()) if path.suffix in (".py", ".c", ".h", ".toml")]
    rooms += [path for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem not in LOOKING]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in rooms)).hexdigest()[:12]


def rounds(entry: dict[str, Any]) -> int:
    """How many rounds there are of every peer."""
    return min((len(peer["images_per_second"]) for peer in entry["peers"].values()), default=0)


def found(entries: list[dict[str, Any]], **wanted: Any) -> dict[str, Any] | None:
    """The entry with these values."""
    return next((entry for entry in entries if all(entry[key] == value for key, value in wanted.items())), None)


def arguments() -> Settings:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=count, default=FEWEST)
    parser.add_argument("--seconds", type=seconds_above_0, default=2.2, help="that each peer trains in a round, about")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--threads", type=count, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench")
    of_images = "of the images of the check that all learn equally well; for trying out"
    parser.add_argument("--share", type=seconds_above_0, default=1.0, help=of_images)
    kept = "the record keeps what is not measured now, and says of which program that is"
    parser.add_argument("--onto-record", action="store_true", help=kept)
    given = parser.parse_args()
    networks = tuple(given.networks.replace(",", " ").split())
    if unknown := set(networks) - set(NETWORKS):
        parser.error(f"unknown network {', '.join(sorted(unknown))}; known: {', '.join(NETWORKS)}")
    try:
        batches = tuple(map(count, given.batches.replace(",", " ").split()))
    except argparse.ArgumentTypeError as error:
        parser.error(f"batch sizes: {error}")
    stages = tuple(given.stages.replace(",", " ").split())
    if unknown := set(stages) - set(STAGES):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}; known: {', '.join(STAGES)}")
    folder = given.folder.resolve()
    return Settings(given.rounds, given.seconds, networks, batches, stages, given.threads, folder, given.share, given.onto_record)


def main() -> None:
    """Measure, print, and record what is complete."""
    settings = arguments()
    print(f"about {settings.minutes:.0f} minutes on {settings.threads} free cores; it can be stopped and started again", flush=True)
    began = time.monotonic()
    bench = Bench(settings)
    path = record_of("bench", bench.record["environment"]["kernels"])
    before = json.loads(path.read_text(encoding="utf-8")) if settings.onto_record and path.exists() else None
    try:
        if before is not None:
            summary.check_alike(bench.record, before)
    except ValueError as error:
        sys.exit(f"{path.relative_to(ROOT)}: {error}")
    bench.run()
    print(f"\ntook {(time.monotonic() - began) / 60:.1f} minutes\n")
    record = bench.record if before is None else summary.completed(bench.record, before)
    if record["cells"]:
        print(pages.report(record))
    lacking = missing(record)
    if lacking or not settings.complete:
        print(f"not recorded: {'; '.join(lacking) or f'{FEWEST} rounds and all images are needed'}")
        return
    write_json(path, record)
    print(f"recorded in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
