"""What the benchmark times: its peers on a few images, in this process where they can be, and the order in which it asks them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import profiles
from benchmarks.peers import bench, case, dataloader, limit, ours, tensors
from benchmarks.peers.protocol import Remote
from fittingroom import models, recipe
from fittingroom.cli import main
from fittingroom.data.arrays import Images
from fittingroom.models.count import count
from tests.data.made import npz_bytes

IMAGES = 160


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up set of the benchmark's shape."""
    generator = np.random.default_rng(0)
    part = Images(generator.integers(0, 256, (IMAGES, 28, 28, 1), dtype=np.uint8), np.arange(IMAGES, dtype=np.int64) % 10)
    path = tmp_path_factory.mktemp("bench") / "made.npz"
    path.write_bytes(npz_bytes(part, part))
    return path


@pytest.fixture
def given(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the benchmark gives to every peer: images, split as ours splits them, and a number of threads."""
    monkeypatch.setenv(case.DATA, str(tmp_path / "data.npz"))
    monkeypatch.setenv(case.THREADS, "1")
    monkeypatch.setitem(ours.SAME, "data.name", str(images))
    ours.Ours().write_data(str(tmp_path / "data.npz"))


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize("peer", [ours.Ours, tensors.Tensors, dataloader.Loaded])
def test_a_peer_trains_and_is_judged(peer: type[Any]) -> None:
    one = peer()
    variant = one.variants("lenet5")[0]
    assert one.build("lenet5", 32, 0, variant) == 61_706
    before = [parameter.detach().clone() for parameter in one.model.parameters()]
    assert one.train(64, 2) > 0
    assert all(not torch.equal(old, new) for old, new in zip(before, one.model.parameters(), strict=True))
    assert round(one.accuracy() * IMAGES / 5) == pytest.approx(one.accuracy() * IMAGES / 5)


@pytest.mark.usefixtures("given")
def test_ours_stays_on_the_cpu_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    one = ours.Ours()
    one.build("lenet5", 32, 0, "default")
    assert {parameter.device.type for parameter in one.model.parameters()} == {"cpu"}


@pytest.mark.usefixtures("given")
def test_workers_start_once_whatever_the_count_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataloader.Pictures, "__getitem__", lambda self, index: (index, os.getpid()))
    order = dataloader.Shuffled()
    loader = dataloader.loader(case.split("training"), order, 4, False, workers=1)
    workers = set()
    for order.count in (32, 96):
        indices, processes = (torch.cat(parts).tolist() for parts in zip(*loader, strict=True))
        assert sorted(indices) == list(range(order.count)) != indices
        workers |= set(processes)
    assert len(workers) == 1
    assert os.getpid() not in workers


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize("network", case.NETWORKS)
def test_the_limit_multiplies_what_a_step_multiplies(network: str) -> None:
    """Three products a layer, forward and for both gradients; the images need no gradient, so the first layer has two."""
    one = limit.Limit()
    one.build(network, 4, 0, "default")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for product in one.step:
            product()
    settings = recipe.load(network).recipe.model.arguments
    model = models.build(network, input_shape=(1, 28, 28), classes=10, generator=torch.Generator(), defaults="keras", arguments=settings)
    first, shape = limit.layers(model, 1)[0]
    first_adds = first(torch.zeros(shape))[0].numel() * first.weight[0].numel()
    assert counter.get_total_flops() == 2 * 4 * (3 * count(model, (1, 28, 28)).multiply_adds - first_adds)
    assert one.train(8, 1) > 0


@pytest.mark.usefixtures("given")
def test_a_profile_tells_all_of_the_time_of_a_step() -> None:
    measured = profiles.measure("lenet5", 8, rounds=1, seconds=0)
    one = profiles.middle(measured)
    assert sum(one["parts"].values()) == pytest.approx(one["seconds"])
    assert sum(profiles.above(one).values()) == pytest.approx(one["seconds"] - one["limit_seconds"])
    assert {"batches, casts, copies", "optimiser", "loss", profiles.LOOP} <= {part for part, value in one["parts"].items() if value > 0}


def test_ours_is_timed_with_what_the_command_line_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in case.COMMAND_LINE:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    monkeypatch.setattr(main, "app", lambda standalone_mode: 0)
    monkeypatch.setattr(main.signal, "signal", lambda number, handler: None)
    with pytest.raises(SystemExit):
        main.main()
    assert {name: value for name, value in os.environ.items() if before.get(name) != value} == case.COMMAND_LINE
    for peer in ("ours", "plain", "limit"):
        assert case.COMMAND_LINE.items() <= bench.ENVIRONMENTS[peer].items()


@pytest.mark.slow
def test_the_plain_path_is_our_program_without_kernels(tmp_path: Path) -> None:
    described = {}
    for peer in ("ours", "plain"):
        settings = {**os.environ, case.THREADS: "1", **bench.ENVIRONMENTS[peer]}
        with Remote(bench.PEERS[peer], tmp_path / "log", settings) as remote:
            described[peer] = remote.call("describe")["kernels"]
    assert described["plain"] == "none: switched off by FITTINGROOM_NATIVE=0"
    assert described["ours"] != described["plain"]


LEARNERS = {"ours", "keras-fp32", "dataloader", "tensors"}

# The order in which peers are asked, with peers that only pretend


class Pretended:
    """A peer that answers at once, and notes what it was asked."""

    start, peak = 1.0, 1000

    def __init__(self, peer: str, asked: list[tuple[str, str, dict[str, Any]]]) -> None:
        self.peer, self.asked = peer, asked

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def call(self, function: str, **arguments: Any) -> Any:
        self.asked.append((self.peer, function, arguments))
        if function == "write_outputs":
            np.save(arguments["path"], np.full((2, 10), 0.1))
        answers = {
            "describe": lambda: {"packages": {}, "commit": "0123456789ab", "kernels": "none"},
            "variants": lambda: ["slow", "fast"],
            "build": lambda: 7,
            "train": lambda: arguments["images"] * arguments["epochs"] / (2000 if self.peer == "ours" else 1000),
            "accuracy": lambda: 0.9,
            "throughput": lambda: arguments["images"] * arguments["times"] / 5000,
            "latency": lambda: [0.001] * arguments["count"],
        }
        return answers.get(function, lambda: None)()


class Pretence(bench.Bench):
    """The benchmark with such peers."""

    def __init__(self, settings: bench.Settings) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        super().__init__(settings)

    def start(self, peer: str, predicting: bool = False, rate: float = case.USUAL_RATE) -> Pretended:  # type: ignore[override]
        return Pretended(peer, self.asked)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pretence]:
    """A whole benchmark."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "PACKAGES", ())
        patch.setattr(bench, "write_json", lambda path, values: path.write_text(json.dumps(values)))  # without waiting for the disk
        pretence = Pretence(bench.Settings(bench.FEWEST, 2.0, case.NETWORKS, bench.BATCHES, bench.STAGES, 1, folder, 1.0))
        pretence.run()
        yield pretence


def test_a_whole_benchmark_lacks_nothing_and_is_not_measured_again(done: Pretence) -> None:
    assert bench.missing(done.record) == []
    again = Pretence(done.settings)
    again.run()
    assert [function for _, function, _ in again.asked] == ["describe", "write_data"]
    assert again.record == json.loads((done.folder / "bench.json").read_text())


def test_our_plain_path_trains_on_as_many_images_as_ours_in_a_round(done: Pretence) -> None:
    seen = {peer: [what for who, function, what in done.asked if (who, function) == (peer, "train")] for peer in ("ours", "plain")}
    assert seen["plain"][-bench.FEWEST :] == [{"images": 4000 // 128 * 128, "epochs": 1}] * bench.FEWEST
    assert all(what in seen["ours"] for what in seen["plain"])


def test_networks_learn_as_long_and_as_often_as_is_said(done: Pretence) -> None:
    for entry in done.record["learning"]:
        how = bench.LEARNING[entry["network"]]
        assert {peer: len(values) for peer, values in entry["accuracy"].items()} == dict.fromkeys(LEARNERS, how.seeds)
        assert {peer for peer, _, what in done.asked if what == {"images": how.images, "epochs": how.epochs}} >= LEARNERS


def test_seeds_that_a_peer_lacks_are_trained(done: Pretence, tmp_path: Path) -> None:
    record = deepcopy(done.record)
    last = record["learning"][2]["accuracy"]["tensors"].pop()
    assert bench.missing(record) == ["learning of three-block"]
    (tmp_path / "bench.json").write_text(json.dumps(record))
    again = Pretence(replace(done.settings, folder=tmp_path))
    again.run()
    assert [(peer, what["seed"]) for peer, function, what in again.asked if function == "build"] == [("tensors", 2)]
    assert again.record["learning"][2]["accuracy"]["tensors"][-1] == last
    assert bench.missing(again.record) == []


def test_the_load_is_kept_for_every_round(done: Pretence) -> None:
    assert {len(entry["load"]) for entry in (*done.record["cells"], *done.record["inference"])} == {bench.FEWEST}


def test_what_a_record_lacks_is_named(done: Pretence) -> None:
    record = deepcopy(done.record)
    del record["cells"][0]["peers"]["plain"]
    record["learning"][1]["accuracy"].popitem()
    record["inference"][2]["peers"]["keras"]["images_per_second"].pop()
    assert bench.missing(record) == ["lenet5 at batch 32", "learning of standard", "predicting with three-block"]


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize("peer", [ours.Ours, tensors.Tensors])
def test_judged_by_the_statistics_of_batches_or_by_running_averages(peer: type[Any]) -> None:
    one = peer()
    one.build("resnet20", 32, 0, one.variants("resnet20")[0])
    seen: list[bool] = []
    for layer in one.model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_pre_hook(lambda layer, inputs: seen.append(layer.training))
    for by_batch in (True, False):
        seen.clear()
        one.accuracy(by_batch=by_batch)
        assert set(seen) == {by_batch}
