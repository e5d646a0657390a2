"""Several processes that train one network together, against one process that trains it alone: the same numbers but for rounding."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from fittingroom import models, native
from fittingroom.cluster.parallel import Together, rows_of
from fittingroom.data.resident import Resident
from fittingroom.models.layers import Dropout, Tail, seed_dropout
from fittingroom.recipe import Recipe, load
from fittingroom.seeds import derive
from fittingroom.train.checkpoint import read_newest, write
from fittingroom.train.loop import Diverged, fit, predict
from fittingroom.train.precision import Precision
from tests.cli.running import command, fittingroom, own_environ, process
from tests.cluster.nodes import needs_ray, nodes
from tests.processes import PATIENCE, Child, until

# Of convolutions with one input channel or 1×1 kernels, whose strides can be written in two ways.
pytestmark = pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides")

COUNT, CLASSES, SIDE = 86, 4, 12
FP32 = Precision("fp32", "asked for")
SCALE, OFFSET = 1 / 64, -1.5
# Sums of up to some thousand numbers around 1, rounded in another order, some dozen steps after another.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}

PLAIN = {"model": "mlp", "optim.name": "sgd", "optim.lr": 0.05}
# All that looks across a batch, or has a state: batch norm, dropout, class weights, a norm of the gradient, an average, early stopping.
EVERYTHING = {
    "model": {"name": "compact", "stem": 8, "stages": [16], "dropout": 0.3},
    "augment.shift": 0.1,
    "augment.erase": 0.3,
    "loss.class_weights": "balanced",
    "loss.label_smoothing": 0.1,
    "optim.name": "sgd",
    "optim.momentum": 0.9,
    "optim.lr": 0.02,
    "optim.l2": 0.003,
    "optim.clip_norm": 1.0,
    "optim.schedule": "cosine",
    "train.average": 0.9,
    "train.stop": {"monitor": "validation.loss", "patience": 5},
}


@pytest.fixture(autouse=True)
def plain_path() -> Iterator[None]:
    with native.enabled(False):
        yield


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def resident(count: int = COUNT, seed: int = 0) -> Resident:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return Resident(pixels, labels, np.array([SCALE], np.float32), np.array([OFFSET], np.float32))


def recipe(changes: dict[str, Any]) -> Recipe:
    settings = {"seed": 5, "train.epochs": 3, "train.batch_size": 16, "train.precision": "fp32"}
    return load({"model": changes["model"]}, {**settings, **{key: value for key, value in changes.items() if key != "model"}}).recipe


def built(settings: Recipe) -> nn.Module:
    model = models.build(
        settings.model.name,
        input_shape=(1, SIDE, SIDE),
        classes=CLASSES,
        generator=torch.Generator().manual_seed(3),
        arguments=settings.model.arguments,
    )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def together(size: int, folder: Path, work: Callable[[], object]) -> None:
    """Have ``size`` processes that know of one another do the same ``work``."""

    def member(rank: int) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
        dist.init_process_group(
            "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=size, timeout=timedelta(seconds=PATIENCE)
        )
        work()

    children = [Child(lambda rank=rank: member(rank)) for rank in range(size)]  # type: ignore[misc]
    ended = [(child.wait(PATIENCE), child.errors) for child in children]
    assert [code for code, _ in ended] == [0] * size, ended


def trained(settings: Recipe, folder: Path, name: str, model: nn.Module, training: Resident, validation: Resident | None) -> None:
    """Train, and write down what came of it."""
    epochs = list(fit(model, training, validation, settings, CLASSES, FP32))
    save_file({name: tensor.contiguous() for name, tensor in epochs[-1].checkpoint().tensors.items()}, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps([epoch.record for epoch in epochs]))


def compared(settings: Recipe, size: int, folder: Path, training: Resident, validation: Resident | None) -> None:
    """Train alone and together; every process must come to what one alone comes to."""
    trained(settings, folder, "alone", built(settings), training, validation)
    together(size, folder, lambda: trained(settings, folder, str(dist.get_rank()), Together(built(settings)), training, validation))
    expected, records = load_file(folder / "alone.safetensors"), json.loads((folder / "alone.json").read_text())
    assert any(record["train"]["loss"] != records[0]["train"]["loss"] for record in records[1:]), "nothing was learnt"
    for rank in map(str, range(size)):
        same_tensors(load_file(folder / f"{rank}.safetensors"), expected)
        same_records(json.loads((folder / f"{rank}.json").read_text()), records)


def same_tensors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=lambda text, name=name: f"{name}: {text}", **CLOSE)  # type: ignore[misc]


def same_records(found: list[dict[str, Any]], expected: list[dict[str, Any]], rel: float = 1e-4) -> None:
    """Losses agree, and so do accuracies but for an image whose two best classes are as good as equal."""
    assert [list(record) for record in found] == [list(record) for record in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one["epoch"], one["lr"], one.get("best_epoch")) == (other["epoch"], pytest.approx(other["lr"]), other.get("best_epoch"))
        for part in ("train", "validation"):
            assert (part in one) == (part in other)
            if part in one:
                assert one[part]["loss"] == pytest.approx(other[part]["loss"], rel=rel), (part, one["epoch"])
                assert one[part]["accuracy"] == pytest.approx(other[part]["accuracy"], abs=0.02), (part, one["epoch"])


@given(st.integers(0, 300), st.integers(1, 20))
def test_rows_are_shared_out_in_order_each_once_and_evenly(count: int, size: int) -> None:
    shares = [list(range(count))[rows_of(count, rank, size)] for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("changes", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_processes_together_learn_what_one_alone_learns(changes: dict[str, Any], size: int, tmp_path: Path) -> None:
    """86 images at batch 16: batches of 16 and a last one of 6, for three processes shares of 5, 5, 6 and of 2, 2, 2."""
    compared(recipe(changes), size, tmp_path, resident(), resident(40, seed=8))


def test_a_process_without_rows_keeps_step(tmp_path: Path) -> None:
    """32 images at batch 5, three processes: of the last two images, one has none."""
    assert rows_of(2, 0, 3) == slice(0, 0)
    changes = EVERYTHING | {"train.batch_size": 5, "train.epochs": 2}
    compared(recipe(changes), 3, tmp_path, resident(32), resident(10, seed=8))


def test_weights_equal_those_of_a_naive_loop(tmp_path: Path) -> None:
    """By hand, in one process: whole batches, PyTorch's own layers, the mean gradient."""
    settings = recipe(PLAIN)
    naive = nn.Sequential(*[module for module in built(settings).modules() if isinstance(module, nn.Flatten | nn.Linear | nn.ReLU)])
    optimizer = torch.optim.SGD(naive.parameters(), 0.05)
    images = resident()
    for epoch in range(1, settings.train.epochs + 1):
        order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(derive(settings.seed, "order", epoch)))
        for batch in order.split(settings.train.batch_size):
            optimizer.zero_grad()
            functional.cross_entropy(naive(images.pixels[batch].float() * SCALE + OFFSET), images.labels[batch]).backward()
            optimizer.step()
    together(2, tmp_path, lambda: trained(settings, tmp_path, str(dist.get_rank()), Together(built(settings)), images, None))
    found = [tensor for name, tensor in load_file(tmp_path / "1.safetensors").items() if name.startswith("model.")]
    expected = [tensor.detach() for tensor in naive.state_dict().values()]
    assert sorted(tensor.shape for tensor in found) == sorted(tensor.shape for tensor in expected)
    for tensor in expected:
        assert any(mine.shape == tensor.shape and torch.allclose(mine, tensor, **CLOSE) for mine in found)


@pytest.mark.parametrize(
    ("layer", "shape"), [(Dropout(0.4), (7, 5)), (Dropout(0.4), (7, 3, 4, 4)), (Tail(3, activation=None, dropout=0.4), (7, 3, 4, 4))]
)
def test_the_mask_of_dropout_is_that_of_the_whole_batch(layer: nn.Module, shape: tuple[int, ...], tmp_path: Path) -> None:
    """What is dropped of ones tells the mask; the kernels, which know one process' rows, are not asked where they are at hand."""
    ones = torch.ones(shape)
    if len(shape) == 4:
        ones = ones.contiguous(memory_format=torch.channels_last)
    size = ones[0].numel()
    network = nn.Sequential(layer, nn.Flatten(), nn.Linear(size, size, bias=False))
    with torch.no_grad():
        network[2].weight.copy_(torch.eye(size))
    seed_dropout(network, 6)
    expected = network(ones).detach()
    assert 0 < float((expected == 0).double().mean()) < 1

    def masked() -> None:
        shared = Together(network)
        seed_dropout(shared, 6)
        with native.enabled(True):
            save_file({"out": shared(ones).detach()}, tmp_path / f"{dist.get_rank()}.safetensors")

    together(3, tmp_path, masked)
    for rank in range(3):
        assert torch.equal(load_file(tmp_path / f"{rank}.safetensors")["out"], expected)


def test_going_on_from_a_checkpoint_of_either_kind(tmp_path: Path) -> None:
    """Begun together and ended alone, or the other way round: the state is the network's own."""
    settings, training, validation = recipe(EVERYTHING), resident(), resident(40, seed=8)
    whole = [epoch.record for epoch in fit(built(settings), training, validation, settings, CLASSES, FP32)]
    write(tmp_path / "alone", next(iter(fit(built(settings), training, validation, settings, CLASSES, FP32))).checkpoint())

    def both() -> None:
        rank = dist.get_rank()
        epochs = fit(Together(built(settings)), training, validation, settings, CLASSES, FP32)
        write(tmp_path / f"together-{rank}", next(epochs).checkpoint())
        newest = read_newest(tmp_path / "alone", print)
        rest = fit(Together(built(settings)), training, validation, settings, CLASSES, FP32, resume=newest)
        (tmp_path / f"{rank}.json").write_text(json.dumps([epoch.record for epoch in rest]))

    together(2, tmp_path, both)
    for rank in range(2):
        same_records(json.loads((tmp_path / f"{rank}.json").read_text()), whole[1:])
        newest = read_newest(tmp_path / f"together-{rank}", print)
        rest = fit(built(settings), training, validation, settings, CLASSES, FP32, resume=newest)
        same_records([epoch.record for epoch in rest], whole[1:])


def test_evaluation_is_shared_out_and_put_together(tmp_path: Path) -> None:
    settings, images = recipe(EVERYTHING), resident(41)
    expected = predict(built(settings), images, FP32, batch_size=16)
    together(
        2,
        tmp_path,
        lambda: save_file(
            {"logits": predict(Together(built(settings)), images, FP32, batch_size=16)}, tmp_path / f"{dist.get_rank()}.safetensors"
        ),
    )
    for rank in range(2):
        torch.testing.assert_close(load_file(tmp_path / f"{rank}.safetensors")["logits"], expected, **CLOSE)


def test_all_processes_find_that_a_loss_is_no_number(tmp_path: Path) -> None:
    settings = recipe(PLAIN | {"optim.lr": 1e30})

    def diverges() -> None:
        with pytest.raises(Diverged, match=r"epoch 1, step [23]"):
            list(fit(Together(built(settings)), resident(), None, settings, CLASSES, FP32))

    together(2, tmp_path, diverges)


# The command.


@needs_ray
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["svc-linear", "--workers", 2], ["svc-linear is a classical model", "leave out --workers"]),
        (["mlp", "--workers", 3, "--set", "train.batch_size=2"], ["3 workers cannot share batches of 2", "train.batch_size"]),
        (["mlp", "--address", "127.0.0.1:6379"], ["--workers 2 or more"]),
        (["mlp", "--workers", 2, "--address", "nowhere"], ["HOST:PORT", "'nowhere'"]),
        (["mlp", "--workers", 2, "--device", "cuda"], ["device 'cuda' is not available here"]),
    ],
)
def test_what_cannot_be_shared_out_is_refused_and_leaves_nothing(arguments: list[object], words: list[str], empty_folder: Path) -> None:
    fittingroom("train", *arguments, "--data", "digits").refused(2, *words)
    assert list(empty_folder.iterdir()) == []


def test_fewer_workers_than_one_are_a_mistake_of_the_command_line(empty_folder: Path) -> None:
    done = fittingroom("train", "mlp", "--workers", 0)
    assert (done.code, done.out) == (2, "")
    assert "--workers" in done.err


@pytest.mark.parametrize("package", ["ray", "pyarrow"])
def test_without_ray_train_a_line_names_the_extra(package: str, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    fittingroom("train", "mlp", "--data", "digits", "--workers", 2).refused(5, "pip install '.[ray]'")


@needs_ray
def test_nobody_at_the_address_is_said_in_a_line(empty_folder: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"  # bound, and nobody listens
        done = fittingroom("train", "mlp", "--data", "digits", "--workers", 2, "--address", address)
    done.refused(1, f"no Ray cluster answers at {address}")
    assert list(empty_folder.iterdir()) == []


TRAIN = ["train", "compact", "--data", "digits", "--seed", 3, "--threads", 1, "--set", "train.precision=fp32", "--set", "optim.lr=0.0005"]


def losses(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_workers_of_ray_train_agree_with_one_process(tmp_path: Path) -> None:
    for name, more in (("alone", []), ("shared", ["--workers", 2])):
        done = process(*TRAIN, "--epochs", 3, "--run-dir", name, "--json", *more, cwd=tmp_path, timeout=2 * PATIENCE)
        assert done.code == 0, done.err
        assert done.json["state"] == "finished"
    same_records(losses(tmp_path / "shared"), losses(tmp_path / "alone"), rel=1e-3)
    environment = json.loads((tmp_path / "shared" / "environment.json").read_text())
    assert environment["workers"]["count"] == 2
    assert "workers" not in json.loads((tmp_path / "alone" / "environment.json").read_text())


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_worker_costs_an_epoch_at_most_and_a_killed_caller_resumes(tmp_path: Path) -> None:
    whole = process(*TRAIN, "--epochs", 12, "--run-dir", "whole", cwd=tmp_path, timeout=2 * PATIENCE)
    assert whole.code == 0, whole.err
    run = tmp_path / "disturbed"
    arguments = command(*TRAIN, "--epochs", 12, "--run-dir", run, "--workers", 2)
    with (tmp_path / "said").open("w") as said:
        caller = subprocess.Popen(arguments, env=own_environ({}, tmp_path), cwd=tmp_path, stdout=said, stderr=said)
    try:
        until(lambda: lines_of(run) >= 2, 2 * PATIENCE)
        victims = train_workers(caller.pid)
        assert len(victims) == 2
        os.kill(victims[-1], signal.SIGKILL)
        until(lambda: re.search(r"a worker was lost \(worker \d died\); going on after epoch \d+ with 2", (tmp_path / "said").read_text()))
        until(lambda: lines_of(run) >= 5, 2 * PATIENCE)
    finally:
        caller.kill()
        caller.wait()
    assert not (run / "weights.safetensors").exists(), "it was killed before its end"
    done = process("train", "--resume", run, "--workers", 2, cwd=tmp_path, timeout=2 * PATIENCE)
    assert done.code == 0, done.err
    assert [record["epoch"] for record in losses(run)] == list(range(1, 13))
    same_records(losses(run), losses(tmp_path / "whole"), rel=1e-3)


def lines_of(run: Path) -> int:
    return len(losses(run)) if (run / "metrics.jsonl").exists() else 0


def train_workers(ancestor: int) -> list[int]:
    """The processes of Ray Train's workers that descend from a process."""
    parents, found = {}, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if b"RayTrainWorker" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it has ended
                continue

    def descends(pid: int) -> bool:
        return pid == ancestor or (pid in parents and descends(parents[pid]))

    return sorted(pid for pid in found if descends(pid))


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_lost_machine_is_done_without(tmp_path: Path) -> None:
    """Two machines of one core each; one of them is gone in the middle, and the other goes on with all of every batch."""
    whole = process(*TRAIN, "--epochs", 12, "--run-dir", "whole", cwd=tmp_path, timeout=2 * PATIENCE)
    assert whole.code == 0, whole.err
    run = tmp_path / "disturbed"
    with nodes(1, 1, cwd=tmp_path) as cluster, (tmp_path / "said").open("w") as said:
        refused = process(*TRAIN, "--run-dir", "refused", "--workers", 3, "--address", cluster.address, cwd=tmp_path)
        refused.refused(1, "3 workers need 1 CPU each, and there is room for 2")
        arguments = command(*TRAIN, "--epochs", 12, "--run-dir", run, "--workers", 2, "--address", cluster.address)
        caller = subprocess.Popen(arguments, env=own_environ({}, tmp_path), cwd=tmp_path, stdout=said, stderr=said)
        try:
            until(lambda: lines_of(run) >= 2, 2 * PATIENCE)
            cluster.kill(1)
            assert caller.wait(2 * PATIENCE) == 0, (tmp_path / "said").read_text()
        finally:
            caller.kill()
            caller.wait()
    assert "going on after epoch" in (tmp_path / "said").read_text()
    assert [record["epoch"] for record in losses(run)] == list(range(1, 13))
    same_records(losses(run), losses(tmp_path / "whole"), rel=1e-3)
