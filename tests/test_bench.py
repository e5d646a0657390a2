"""The benchmark: its page is made from its record, its ratios are right, and the peers' networks are ours."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import math
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import places, profiles
from benchmarks.peers import bench, pages, summary, torch_networks
from benchmarks.peers.case import AUGMENTED, NETWORKS, ROTATE, SHIFT, ZOOM
from benchmarks.peers.drawing import drawing
from benchmarks.peers.targets import Target, accurate
from benchmarks.places import read_record
from fittingroom import models, recipe

KERAS = importlib.util.find_spec("keras") is not None and importlib.util.find_spec("tensorflow") is not None
RECORD = read_record("bench")
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


def measured_with_the_plain_path() -> bool:
    """Whether the record is one in which comparisons that tell nothing are not allowed."""
    return RECORD is not None and "plain" in RECORD["cells"][0]["peers"]


def made_record() -> dict[str, Any]:
    """A record whose ratios are known: round by round all speeds grow, and the ratios stay."""
    factors = {"ours": 1.0, "plain": 0.8, "limit": 1.25, "keras-fp32": 0.5, "keras-bf16": 0.25}
    factors |= {"dataloader": 0.1, "tensors": 0.4, "lightning": 0.05}
    peers = {
        peer: {
            "images_per_second": [factor * 1000 * (1 + number) for number in range(5)],
            "variant": "",
            "tried": {},
            "parameters": 7,
            "seconds_to_start": 2.0,
            "seconds_to_first_steps": 1.0,
            "peak_bytes": 400_000_000 if peer == "plain" else 500_000_000,
        }
        for peer, factor in factors.items()
    }
    packages = dict.fromkeys(("torch", "keras", "tensorflow-cpu", "lightning", "onnxruntime"), "1.0")
    accuracies = {"ours": [0.88, 0.882], "keras-fp32": [0.881, 0.879], "dataloader": [0.88, 0.88], "tensors": [0.8, 0.802]}
    predicting = {"images_per_second": [5.0, 6.0], "latency_seconds": [0.001, 0.002], "batch": 500, "single": "predict_on_batch"}
    agreement = {"largest_difference": 1e-3, "same_class": 0.999}
    return {
        "environment": {"cores": 2, "processor": "made up", "packages": packages, "kernels": "none", "commit": "0123456789ab"},
        "settings": {"threads": 2, "seconds": 2.0, "share": 1.0},
        "cells": [
            {"network": network, "batch": batch, "load": [2.0] * 5, "peers": peers}
            for network, batch in itertools.product(NETWORKS, (32, 128))
        ],
        "learning": [{"network": "lenet5", "batch": 32, "images": 48_000, "epochs": 2, "seeds": [0, 1], "accuracy": accuracies}],
        "inference": [
            {
                "network": "lenet5",
                "load": [2.0, 2.0],
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
    assert summary.ratios(cell, "plain") == pytest.approx([1.25] * 5)
    assert summary.memory_over_plain(cell) == pytest.approx(1.25)
    assert summary.geometric_mean([1, 10, 100]) == pytest.approx(10)


def test_a_difference_in_learning_is_held_against_the_spread_between_seeds() -> None:
    found = summary.learnt(made_record()["learning"][0])
    # By hand: squares about the means 2e-6, 2e-6, 0, 2e-6 over 4 degrees of freedom; t(0.995, 4) = 4.604.
    assert found["keras-fp32"].noise == pytest.approx(4.604 * math.sqrt(1.5e-6), rel=1e-3)
    assert found["keras-fp32"].alike
    assert not found["tensors"].alike
    assert found["tensors"].difference == pytest.approx(0.08)
    assert found["tensors"].verdict == "ours better"
    assert found["keras-fp32"].verdict == "within"
    worse = {"accuracy": {"ours": [0.80, 0.81], "tensors": [0.90, 0.91]}}
    assert summary.learnt(worse)["tensors"].verdict == "**ours worse**"


def test_every_table_can_be_made() -> None:
    record = made_record()
    for make in (pages.caption, pages.aims, pages.short, pages.training, pages.waiting, pages.learning, pages.inference):
        assert make(record).endswith("\n")
    assert "| `lenet5`, 32 | 3,000 | 2.00 × (2.00 … 2.00) fp32 | 10.00 × (10.00 … 10.00) |" in pages.training(record)
    assert "| 1.25 × (1.25 … 1.25) | 1.25 × |" in pages.training(record)
    for row in ("2.0 × | 3.0 × | **2.00 ×** | held", "4.0 × | 10.0 × | **10.00 ×** | aim reached", "1.4 × | 1.15 × | **1.25 ×** | held"):
        assert f"| {row} |" in pages.aims(record)
    assert "less is better | 1.2 × | 1.0 × | **1.25 ×** | missed |" in pages.aims(record)
    assert pages.aims(record) in pages.report(record)


def test_every_aim_that_is_not_reached_has_its_reason() -> None:
    told = pages.short(made_record())
    assert "geometric mean of all: 2.00 ×, held.** Steps of nothing but their products would have 2.50 ×" in told
    assert "1.25 ×, missed.** Decided by `lenet5` at batch 32. 0.50 GB against 0.40 GB" in told
    assert "DataLoader" not in told


def test_a_record_from_before_the_plain_path_was_timed_makes_its_tables() -> None:
    record = made_record()
    for cell in record["cells"]:
        cell["peers"] = {peer: seen for peer, seen in cell["peers"].items() if peer != "plain"}
        del cell["load"]
    assert "| 1.2 × | 1.0 × | not measured yet |  |" in pages.aims(record)
    assert "plain" not in pages.training(record) + pages.waiting(record)
    assert pages.caption(record).endswith("\n")


def test_a_look_at_one_network_is_reported() -> None:
    record = made_record()
    record["cells"] = record["cells"][:1]
    assert "`three-block`, lower of both | 2.5 × | 3.0 × | not measured yet |" in pages.report(record)


def test_aims_are_judged_in_their_direction() -> None:
    verdicts = {value: Target("", 1.4, 1.15, value).verdict for value in (1.1, 1.15, 1.2, 1.4, 1.5)}
    assert verdicts == {1.1: "aim reached", 1.15: "aim reached", 1.2: "held", 1.4: "held", 1.5: "missed"}
    assert [Target("", 93.0, 93.9, value).verdict for value in (92.9, 93.0, 93.9, None)] == ["missed", "held", "aim reached", ""]


def test_the_caption_says_what_was_not_as_it_should_be() -> None:
    record = made_record()
    assert "not committed" not in pages.caption(record)
    assert "other work" not in pages.caption(record)
    record["environment"]["commit"] += "+"
    record["cells"][0]["load"][1] = 3.5
    assert "The program was 0123456789ab with changes that were not committed." in pages.caption(record)
    assert "its load was up to 3.5, and too high in 1 of 42 rounds" in pages.caption(record)


def test_a_record_keeps_what_was_not_measured_anew() -> None:
    before, now = made_record(), made_record()
    before["environment"]["commit"] = "ba9876543210+"
    before["cells"][2]["commit"] = "older"
    now["cells"], now["learning"], now["inference"] = [now["cells"][5], now["cells"][0]], [], []
    whole = summary.completed(now, before)
    assert [(cell["network"], cell["batch"]) for cell in whole["cells"]] == [(cell["network"], cell["batch"]) for cell in before["cells"]]
    commits = [cell.get("commit") for cell in whole["cells"]]
    assert commits == [None, "ba9876543210+", "older", *["ba9876543210+"] * 2, None, *["ba9876543210+"] * 2]
    assert whole["environment"] == now["environment"]
    said = pages.caption(whole)
    assert "Measured with an earlier program (older): the training of `standard` at batch 32." in said
    assert "(ba9876543210, with changes that were not committed): the training of `lenet5` at batch 128 and " in said
    assert "and `standard` at batch 128 and `three-block` at batch 32 and `resnet20`, the check of learning of `lenet5`, " in said
    assert "an earlier program" not in pages.caption(now)
    now["cells"], now["environment"]["commit"] = [], "ba9876543210+"
    before["cells"][2].pop("commit")
    assert "an earlier program" not in pages.caption(summary.completed(now, before))
    before["environment"]["processor"] = "another"
    with pytest.raises(ValueError, match="another processor"):
        summary.completed(now, before)


def test_comparisons_that_tell_nothing_are_named() -> None:
    record = made_record()
    assert "Nothing is told" not in pages.learning(record)
    record["learning"][0]["accuracy"]["dataloader"] = [0.5, 0.9]
    assert "Nothing is told of `lenet5` (± 65 points)" in pages.learning(record)
    assert "Not compared yet: `resnet20`, `standard`, `three-block`." in pages.learning(record)
    record["cells"] = [cell for cell in record["cells"] if cell["network"] == "lenet5"]
    assert "Not compared yet" not in pages.learning(record)


def test_keras_ways_of_predicting_stand_beside_what_they_took() -> None:
    assert "| `lenet5` | keras | 6 (`predict`) | 1.00 × (1.00 … 1.00) | 1.50 ms (`predict_on_batch`) |" in pages.inference(made_record())


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


@pytest.mark.skipif(RECORD is None, reason="not measured yet")
def test_the_record_is_whole() -> None:
    record = RECORD
    assert record is not None
    assert {(cell["network"], cell["batch"]) for cell in record["cells"]} == set(itertools.product(NETWORKS, (32, 128)))
    for cell in record["cells"]:
        assert {len(peer["images_per_second"]) >= 5 for peer in cell["peers"].values()} == {True}
        assert {peer["parameters"] for peer in cell["peers"].values()} == {our_parameters(cell["network"])}
    assert [entry["network"] for entry in record["learning"]] == list(NETWORKS)
    for entry in record["learning"]:
        assert len(entry["accuracy"]) == bench.LEARNERS
        assert {len(values) for values in entry["accuracy"].values()} == {len(entry["seeds"])}
        assert all(peer.alike or peer.difference > 0 for peer in summary.learnt(entry).values()), "speed bought with accuracy"
    assert [entry["network"] for entry in record["inference"]] == list(NETWORKS)
    for entry in record["inference"]:
        assert bench.rounds(entry) >= bench.FEWEST
        assert all(summary.agrees(peer, agreement) for peer, agreement in entry["agreement"].items())


@pytest.mark.skipif(read_record("bench", "avx2") is None, reason="not measured yet")
def test_the_record_without_bfloat16_is_whole_but_for_what_it_says() -> None:
    record = read_record("bench", "avx2")
    assert record is not None
    assert {(cell["network"], cell["batch"]) for cell in record["cells"]} == set(itertools.product(NETWORKS, (32, 128)))
    assert all(set(cell["peers"]) == set(bench.PEERS) and bench.rounds(cell) >= bench.FEWEST for cell in record["cells"])
    assert all(len(entry["accuracy"]) == bench.LEARNERS for entry in record["learning"])
    assert all(bench.rounds(entry) >= bench.FEWEST for entry in record["inference"])
    lacking = [f"learning of {network}" for network in NETWORKS if f"`{network}`" in pages.untold(record).partition("Not compared yet")[2]]
    assert bench.missing(record) == lacking


@pytest.mark.skipif(not measured_with_the_plain_path(), reason="the record is older: make bench")
def test_the_record_tells_who_learns_equally_well() -> None:
    record = RECORD
    assert record is not None
    for entry in record["learning"]:
        how = bench.LEARNING[entry["network"]]
        assert (entry["images"], entry["epochs"], len(entry["seeds"]), entry["rate"]) == (how.images, how.epochs, how.seeds, how.rate)
        assert summary.noise(entry) < summary.TELLING
    for cell in record["cells"]:
        assert set(cell["peers"]) == set(bench.PEERS)
        assert len(cell["load"]) == bench.rounds(cell)


def test_a_seed_that_took_longer_than_its_minutes_does_not_count_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = ((290, 9300), (299, 9320), (315, 9500))
    runs = [{"seconds": seconds, "epochs": 7, "correct": correct, "count": 10_000} for seconds, correct in seen]
    recipe = {"train": {"batch_size": 100}, "data": {"validation": 0.1}}
    one = {"minutes": 5, "name": "compact", "recipe": recipe, "runs": runs}
    other = {"minutes": 5, "name": "another", "runs": [{"seconds": 100, "correct": 9900, "count": 10_000}]}
    (tmp_path / "accuracy.json").write_text(json.dumps({"recipes": [one, other]}), encoding="utf-8")
    monkeypatch.setattr(places, "RECORDS", tmp_path)
    two, five, ten = accurate(places.HIGHEST)
    assert five.value == pytest.approx(93.1)
    assert five.verdict == "missed"
    assert "2 seeds" in five.why
    assert "1 more took longer, up to 315 s" in five.why
    assert "held 7 epochs; where the time of a step goes is not measured yet" in five.why
    step = {"seconds": 0.06, "limit_seconds": 0.05, "parts": dict.fromkeys(profiles.COLUMNS, 0.0) | {"ours": 0.06}}
    profile = {"network": "compact", "batch": 100, "rounds": [step]}
    (tmp_path / "profiles.json").write_text(json.dumps({"profiles": [profile]}), encoding="utf-8")
    why = accurate(places.HIGHEST)[1].why
    # 540 steps an epoch.
    assert "held 7 epochs, whose steps alone take 227 s at the pace of the profile (227 to 227 in its rounds)" in why
    assert "Of nothing but their products they would hold 11.1. In the profile, a run of its own, a step takes 60.00 ms" in why
    assert two.value is None
    assert ten.value is None


def test_what_the_waiting_was_for_and_what_more_epochs_bring_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {"seed": 0, "model": {"name": "compact"}, "train": {"batch_size": 100, "epochs": 3}, "data": {"validation": 0.1}}
    judged = {"correct_on_validation": 920, "validation_count": 1000}
    run = {"seconds": 100, "epochs": 3, "correct": 9300, "count": 10_000, **judged}
    one = {"minutes": 2, "name": "compact", "recipe": recipe, "runs": [run]}
    more = {"recipe": recipe | {"train": {"batch_size": 100, "epochs": 8}}, "epochs": 8, **judged, "correct_on_validation": 940}
    other = more | {"recipe": recipe | {"model": {"name": "mlp"}}, "correct_on_validation": 1000}
    record = {"recipes": [one], "where": {"2": {"training": 90.0, "start": 20.4}}, "longer": [more, other]}
    (tmp_path / "accuracy.json").write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setattr(places, "RECORDS", tmp_path)
    why = accurate(places.HIGHEST)[0].why
    assert "In a run of its own, at the pace of its minutes: training 90 s; start 20 s." in why
    assert why.endswith("On validation these runs have 92.00 % in the mean; the same recipe has 94.00 % in 8 epochs, one seed.")
    record["longer"] = [more | {"epochs": 3}]
    (tmp_path / "accuracy.json").write_text(json.dumps(record), encoding="utf-8")
    assert "On validation" not in accurate(places.HIGHEST)[0].why, "as many epochs are no more"


@pytest.mark.parametrize(
    ("module", "line", "words"),
    [
        ("profiles", ["run", "--rounds", "2"], "5 rounds or more are recorded"),
        ("profiles", ["run", "--seconds", "nan"], "argument --seconds: 'nan' is no number above 0"),
        ("sweep", ["run", "--rounds", "0"], "argument --rounds: '0' is no whole number from 1"),
        ("sweep", ["run", "--epochs", "-1"], "argument --epochs: '-1' is no whole number from 1"),
        ("accuracy", ["--seeds", "1"], "a spread needs two seeds or more"),
        ("accuracy", ["--where", "3"], "minutes are 2, 5, 10, not 3"),
        ("accuracy", ["--minutes", "x"], "minutes are 2, 5, 10, not x"),
    ],
)
def test_a_benchmark_refuses_what_it_cannot_measure(
    module: str, line: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [module, *line])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"benchmarks.{module}").main()
    assert end.value.code == 2
    assert words in capsys.readouterr().err
