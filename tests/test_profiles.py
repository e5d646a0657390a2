"""The profile of a step, and what a sweep's record says: figures that can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import places, profiles, sweep


def event(name: str, seconds: int, *children: Any) -> SimpleNamespace:
    made = SimpleNamespace(name=name, self_cpu_time_total=seconds * 1e6, cpu_children=list(children), cpu_parent=None)
    for child in children:
        child.cpu_parent = made
    return made


def tree(*roots: SimpleNamespace) -> list[SimpleNamespace]:
    return [one for root in roots for one in (root, *tree(*root.cpu_children))]


def test_an_operation_belongs_to_what_called_it_but_for_casts_and_sums() -> None:
    cast = event("aten::to", 2, event("aten::copy_", 4))
    forward = event("aten::conv2d", 1, cast, event("aten::convolution", 8, event("aten::copy_", 16)))
    back = event("ConvolutionBackward0", 32, event("aten::convolution_backward", 64))
    engine = event("autograd::engine::evaluate_function: ConvolutionBackward0", 128, back, event("aten::add_", 256))
    alone = [event("aten::add", 512), event("aten::add_", 1024), event("aten::isfinite", 2048, event("aten::mul_", 4096))]
    parts = profiles.by_part(tree(forward, engine, *alone))
    assert {part: seconds for part, seconds in parts.items() if seconds} == {
        "convolutions": 1 + 8 + 16 + 32 + 64,
        "batches, casts, copies": 2 + 4 + 1024,
        "additions and paddings": 256 + 512,
        "loop, autograd, Python": 128 + 2048 + 4096,
    }


def test_what_muon_multiplies_is_the_optimisers() -> None:
    step = event("Optimizer.step#Muon.step", 1, event("aten::addmm", 2, event("aten::copy_", 4)), event("aten::add_", 8))
    adam = event("Optimizer.step#Adam.step", 16, event("aten::_fused_adam_", 32))
    parts = profiles.by_part(tree(step, adam))
    assert {part: seconds for part, seconds in parts.items() if seconds} == {"optimiser": 1 + 2 + 4 + 8 + 32, profiles.LOOP: 16}


def made_round(seconds: float) -> dict[str, Any]:
    """A step of which half are products, and the rest is equal parts of two kinds; the profiler makes it twice as dear."""
    parts = dict.fromkeys(profiles.COLUMNS, 0.0) | {"convolutions": 1.2, "optimiser": 0.4, profiles.LOOP: 0.4}
    parts = {part: share * seconds for part, share in parts.items()}
    return {"load": 0.0, "seconds": seconds, "limit_seconds": 0.004, "profiled_seconds": 2 * seconds, "parts": parts}


def write(path: Path, rounds: list[dict[str, Any]]) -> None:
    made = [{"network": network, "batch": batch, "rounds": rounds} for network, batch in profiles.CASES]
    place = {"cores": 2, "processor": "made up", "threads": 2}
    path.write_text(json.dumps({"environment": place, "profiles": made}))


def test_a_step_is_told_by_its_middle_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "RECORDS", tmp_path)
    write((tmp_path / "profiles.json"), [made_round(seconds) for seconds in (0.030, 0.010, 0.008)])
    assert profiles.sentence("three-block", 32) == (
        "In the profile, a run of its own, a step takes 10.00 ms, "
        "its products alone 4.00; the difference, 6.00, is: convolutions and dense layers, beyond their products "
        "alone 2.00; optimiser 2.00; loop, autograd, Python 2.00; all else 0.00."
    )
    row = next(line for line in profiles.table().splitlines() if line.startswith("| `three-block`, 32 |"))
    assert row.startswith("| `three-block`, 32 | 10.00 | 4.00 | 2.50 × (2.00 … 7.50) | 20.00 | 6.00 |")
    assert profiles.sentence("three-block", 32, "avx2") == "Where its time goes is not measured yet.", "that is another record"


def test_what_our_kernels_save_is_told_of_each_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "RECORDS", tmp_path)
    rounds = [made_round(0.010) | {"plain_seconds": plain} for plain in (0.030, 0.015, 0.025)]
    write(tmp_path / "profiles-avx2.json", rounds)
    row = next(line for line in profiles.table("avx2").splitlines() if line.startswith("| `three-block`, 32 |"))
    assert row.startswith("| `three-block`, 32 | 10.00 | 2.50 × (1.50 … 3.00) | 4.00 |")


def test_a_profile_without_the_products_alone_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "RECORDS", tmp_path)
    for record in (None, {"profiles": [{"network": "lenet5", "batch": 32, "seconds": [0.1], "parts": {}}]}):
        if record:
            (tmp_path / "profiles.json").write_text(json.dumps(record))
        assert profiles.table() == profiles.NOT_YET
        assert profiles.sentence("lenet5", 32) == "Where its time goes is not measured yet."


def test_a_sweeps_figures_are_of_its_rounds() -> None:
    def crew(seconds: float) -> dict[str, Any]:
        starts = {"1": 3.0, "0": 3.1, "2": 0.4, "3": 0.5}
        return {"seconds": seconds, "workers": 2, "first_epoch_begins_after": starts, "trained": 90.0, "not_training": 10.0}

    record = {"runs": 4, "rounds": [{"one after another": {"seconds": 100.0}, "workers": crew(seconds)} for seconds in (50.0, 80.0)]}
    seen = sweep.figures(record)
    assert (seen.gain.low, seen.gain.high) == (1.25, 2.0)
    assert (seen.minutes.low, seen.minutes.high) == (3.0, 4.8)
    assert (seen.start.low, seen.start.high) == (0.4, 0.5)
    assert seen.idle.middle == 0.1
    assert sweep.most(record) is None
    more = record | {"epochs": 10, "limit_images_per_second": 16_000.0, "parts": {"training": 90.0, "the rest": 10.0}}
    assert sweep.most(more) == pytest.approx(2.0)
    assert sweep.shares(more) == {"training": 0.9, "the rest": 0.1}
    timed = sweep.figures(record | {"starts": [0.2, 0.4, 0.3]})
    assert (timed.start.low, timed.start.middle, timed.start.high) == (0.2, 0.3, 0.4)
