"""The benchmark for GPUs, as far as it can be looked at without one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu, places
from fittingroom.data.arrays import Images
from tests.data.made import npz_bytes


def test_a_way_without_the_graph_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    train = gpu.graphless(lambda images: seen.append((images, os.environ.get(gpu.GRAPH))) or 1.0)  # type: ignore[func-returns-value]
    monkeypatch.delenv(gpu.GRAPH, raising=False)
    assert train(7) == 1.0
    assert gpu.GRAPH not in os.environ
    monkeypatch.setenv(gpu.GRAPH, "1")
    train(8)
    assert os.environ[gpu.GRAPH] == "1"
    assert seen == [(7, "0"), (8, "0")]


@pytest.mark.parametrize("before", [0.0, 0.3])
@pytest.mark.parametrize(("per_second", "whole_epochs"), [(1_000, False), (1_000_000, True)])
def test_as_many_images_as_take_the_seconds(per_second: int, whole_epochs: bool, before: float) -> None:
    """Whatever a call takes before its first image."""
    images = gpu.enough(lambda count: before + count / per_second, 128, 3.0, 48_000)
    assert 0.7 * 3.0 <= before + images / per_second <= 1.1 * 3.0
    assert images % (48_000 if whole_epochs else 128) == 0


def test_one_call_that_takes_longer_is_enough() -> None:
    assert gpu.enough(lambda count: count / 10, 128, 3.0, 48_000) == 16 * 128


def test_of_several_networks_the_mean_decides(tmp_path: Path) -> None:
    labels = np.array([0, 1, 1], np.int64)
    sure, unsure = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]]), np.array([[0.6, 0.4], [0.0, 1.0], [0.7, 0.3]])

    class Told:
        def __init__(self, probabilities: np.ndarray) -> None:
            self.probabilities, self.labels = probabilities, labels

        def read_predictions(self, split: str) -> Told:
            return self

    assert gpu.together([Told(sure), Told(unsure)]) == 2  # type: ignore[list-item]


def test_the_table_tells_each_ratio_of_its_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "RECORDS", tmp_path)
    assert "Not measured yet" in gpu.table()
    speeds = dict(zip(gpu.WAYS, ([200.0, 300.0, 400.0], [100.0, 100.0, 100.0], [20.0, 20.0, 10.0]), strict=True))
    runs = [{"seed": 0, "seconds": 2.0, "count": 100, "correct": 93}, {"seed": 1, "seconds": 3.0, "count": 100, "correct": 95}]
    record = {
        "environment": {"gpu": "a card", "packages": {"torch": "2"}},
        "speed": [{"network": "lenet5", "batch": 128, "precision": "bf16", "images_per_second": speeds}],
        "accuracy": [{"name": "compact", "epochs": 8, "warm_up_seconds": 9.0, "recipe": {}, "runs": runs, "correct_together": 96}],
    }
    (tmp_path / "gpu.json").write_text(json.dumps(record))
    text = gpu.table()
    assert "| `lenet5`, 128 | bf16 | 300 | 3.00 × (2.00 … 4.00) | 15.00 × (10.00 … 40.00) |" in text
    assert "| `compact` | 8 | 2.50 s (2.00 … 3.00) | 94.00 % ± 1.41 | 96.00 % of 2 |" in text


def test_all_ways_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 28, 28, 1), dtype=np.uint8)
    part = Images(pixels, np.arange(300, dtype=np.int64) % 10)
    (tmp_path / "made.npz").write_bytes(npz_bytes(part, part))
    real = gpu.load
    monkeypatch.setattr(gpu, "load", lambda name, changes: real(name, {**changes, "data.name": str(tmp_path / "made.npz")}))
    monkeypatch.setattr(gpu, "BATCHES", (16,))
    monkeypatch.setattr(gpu, "WORKERS", 0)
    (cell,) = gpu.speed("cpu", 2, 0.01, ["lenet5"])
    assert {way: len(values) for way, values in cell["images_per_second"].items()} == dict.fromkeys(gpu.WAYS, 2)
    assert all(value > 0 for values in cell["images_per_second"].values() for value in values)
    (few,) = gpu.accuracy("cpu", 2, [1], {})
    assert [run["count"] for run in few["runs"]] == [300, 300]
    assert all(run["seconds"] > 0 for run in few["runs"])
    assert 0 <= few["correct_together"] <= 300
