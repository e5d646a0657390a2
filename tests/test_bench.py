"""The benchmark: its page is made from its record, its ratios are right, and the peers' networks are ours."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
import torch

from benchmarks.peers import pages, summary, torch_networks
from benchmarks.peers.case import AUGMENTED, NETWORKS, ROTATE, SHIFT, ZOOM
from benchmarks.peers.drawing import drawing
from fittingroom import models, recipe

KERAS = importlib.util.find_spec("keras") is not None and importlib.util.find_spec("tensorflow") is not None
every_network = pytest.mark.parametrize("network", NETWORKS)


def our_parameters(network: str) -> int:
    loaded = recipe.load(network).recipe
    built = models.build(
        network,
        input_shape=(1, 28, 28),
        classes=10,
        generator=torch.Generator(),
        defaults="keras",
        arguments=loaded.model.arguments,
    )
    return sum(parameter.numel() for parameter in built.parameters())


def made_record() -> dict[str, Any]:
    """A record whose ratios are known: round by round all speeds grow, and the ratios stay."""
    factors = {"ours": 1.0, "limit": 1.25, "keras-fp32": 0.5, "keras-bf16": 0.25, "dataloader": 0.1, "tensors": 0.4, "lightning": 0.05}
    peers = {
        peer: {
            "images_per_second": [factor * 1000 * (1 + number) for number in range(5)],
            "variant": "",
            "tried": {},
            "parameters": 7,
            "seconds_to_start": 2.0,
            "seconds_to_first_steps": 1.0,
            "peak_bytes": 500_000_000,
        }
        for peer, factor in factors.items()
    }
    packages = dict.fromkeys(("torch", "keras", "tensorflow-cpu", "lightning", "onnxruntime"), "1.0")
    accuracies = {"ours": [0.88, 0.882], "keras-fp32": [0.881, 0.879], "dataloader": [0.88, 0.88], "tensors": [0.8, 0.802]}
    predicting = {"images_per_second": [5.0, 6.0], "latency_seconds": [0.001, 0.002], "batch": 500, "single": "predict"}
    agreement = {"largest_difference": 1e-3, "same_class": 0.999}
    return {
        "environment": {"cores": 2, "processor": "made up", "packages": packages, "kernels": "none"},
        "settings": {"threads": 2, "seconds": 2.0, "share": 1.0},
        "cells": [{"network": network, "batch": batch, "peers": peers} for network, batch in itertools.product(NETWORKS, (32, 128))],
        "learning": [{"network": "lenet5", "batch": 32, "images": 48_000, "epochs": 2, "seeds": [0, 1], "accuracy": accuracies}],
        "inference": [
            {
                "network": "lenet5",
                "agreement": dict.fromkeys(("ours", "keras", "onnx-runtime"), agreement),
                "peers": dict.fromkeys(("ours", "keras", "onnx-runtime"), predicting),
            }
        ],
    }


def test_the_drawing_is_made_from_the_record() -> None:
    for path, text in pages.drawings().items():
        assert path.read_text(encoding="utf-8") == text, "make pages"


def test_ratios_are_taken_within_rounds_and_over_the_fastest_peer() -> None:
    cell = made_record()["cells"][0]
    assert summary.faster_keras(cell) == "keras-fp32"
    assert summary.rivals(cell) == ["keras-fp32", "dataloader", "tensors", "lightning"]
    assert summary.fastest(cell) == "keras-fp32"
    assert summary.ratios(cell, "tensors") == pytest.approx([2.5] * 5)
    assert summary.over_limit(cell) == pytest.approx([1.25] * 5)
    assert summary.geometric_mean([1, 10, 100]) == pytest.approx(10)


def test_a_difference_in_learning_is_held_against_the_spread_between_seeds() -> None:
    found = summary.learnt(made_record()["learning"][0])
    # By hand: squares about the means 2e-6, 2e-6, 0, 2e-6 over 4 degrees of freedom; t(0.995, 4) = 4.604.
    assert found["keras-fp32"].noise == pytest.approx(4.604 * math.sqrt(1.5e-6), rel=1e-3)
    assert found["keras-fp32"].alike
    assert not found["tensors"].alike
    assert found["tensors"].difference == pytest.approx(0.08)


def test_every_table_can_be_made() -> None:
    record = made_record()
    for make in (pages.caption, pages.targets, pages.training, pages.waiting, pages.learning, pages.inference):
        assert make(record).endswith("\n")
    assert "| `lenet5`, 32 | 3,000 | 2.00 × (2.00 … 2.00) fp32 | 10.00 × (10.00 … 10.00) |" in pages.training(record)
    assert "| 2.0 × | 3.0 × | **2.00 ×** | held |" in pages.targets(record)
    assert "| 4.0 × | 10.0 × | **10.00 ×** | aim reached |" in pages.targets(record)
    assert "| 1.4 × | 1.15 × | **1.25 ×** | held |" in pages.targets(record)
    assert pages.reached(1.5, 1.4, 1.15) == "missed"


def test_the_drawing_is_sound_and_shows_every_peer_of_every_cell() -> None:
    tree = ElementTree.fromstring(drawing(made_record()))
    groups = tree.findall("{http://www.w3.org/2000/svg}g")
    assert len(groups) == 8 * 4


@every_network
def test_the_torch_peers_have_our_parameters(network: str) -> None:
    torch.manual_seed(0)
    assert torch_networks.parameters(torch_networks.new_network(network)) == our_parameters(network)


@every_network
@pytest.mark.skipif(not KERAS, reason="Keras and TensorFlow are not in this environment; the benchmark itself checks this too")
def test_the_keras_peer_has_our_parameters(network: str) -> None:
    from benchmarks.peers import keras_networks

    weights = keras_networks.network(network).trainable_weights
    assert sum(math.prod(weight.shape) for weight in weights) == our_parameters(network)


@every_network
def test_the_torch_peers_compute_what_we_compute(network: str) -> None:
    """With our weights, in evaluation, both give the same logits: the layers are the same, in the same order."""
    theirs = torch_networks.new_network(network).eval()
    loaded = recipe.load(network).recipe
    generator = torch.Generator().manual_seed(1)
    ours = models.build(
        network, input_shape=(1, 28, 28), classes=10, generator=generator, defaults="keras", arguments=loaded.model.arguments
    ).eval()
    with torch.no_grad():
        for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            other.copy_(mine)
        images = torch.rand(3, 1, 28, 28, generator=generator)
        torch.testing.assert_close(theirs(images), ours(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", AUGMENTED)
def test_the_peers_are_augmented_as_the_recipe_says(network: str) -> None:
    settings = recipe.load(network).recipe.augment
    assert (settings.rotate, settings.shift, settings.zoom) == (ROTATE, SHIFT, ZOOM)
    assert settings == type(settings)(rotate=ROTATE, shift=SHIFT, zoom=ZOOM)
    assert [name for name in NETWORKS if recipe.load(name).recipe.augment.active] == list(AUGMENTED)


@pytest.mark.skipif(not pages.RECORD.exists(), reason="not measured yet")
def test_the_record_is_whole() -> None:
    record = json.loads(pages.RECORD.read_text(encoding="utf-8"))
    assert {(cell["network"], cell["batch"]) for cell in record["cells"]} == set(itertools.product(NETWORKS, (32, 128)))
    for cell in record["cells"]:
        assert {len(peer["images_per_second"]) >= 5 for peer in cell["peers"].values()} == {True}
        assert {peer["parameters"] for peer in cell["peers"].values()} == {our_parameters(cell["network"])}
    assert [entry["network"] for entry in record["learning"]] == list(NETWORKS)
