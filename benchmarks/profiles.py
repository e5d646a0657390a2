"""Where the time of a training step goes, into ``records/profiles.json``.

    python -m benchmarks.profiles run [--seconds 6]

Each network of the benchmark is trained by our own loop, twice: without a profiler, for how long a step takes, and with PyTorch's, for the
shares. The profiler makes many small operations dearer than they are, so a step under it is told too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from fittingroom import environment
from fittingroom.files import write_json

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "records" / "profiles.json"
NOT_YET = "*Not measured yet: `python -m benchmarks.profiles run` fills this in.*\n"
NETWORKS, BATCHES = ("lenet5", "standard", "three-block", "resnet20"), (32, 128)

# Parts of a step, and the beginnings of the names of PyTorch's operations that are counted to each; the first that fits.
PARTS = {
    "convolutions": ("aten::mkldnn_convolution", "aten::convolution_backward", "aten::_convolution", "_Convolution", "aten::conv2d"),
    "dense": ("aten::addmm", "aten::mm", "aten::linear", "aten::matmul"),
    "whole network": ("_Run",),
    "after convolutions": ("_Tail", "_Dropout"),
    "casts and copies": ("aten::copy_", "aten::to", "aten::_to_copy", "aten::clone", "aten::contiguous", "aten::index", "aten::fill_"),
    "augmentation": ("aten::grid_sampler", "aten::affine_grid", "aten::uniform_"),
    "optimiser": ("Optimizer", "aten::_fused", "aten::_foreach", "aten::sqrt", "aten::addcdiv"),
    "loss": ("aten::_log_softmax", "aten::log_softmax", "aten::nll_loss", "aten::cross_entropy"),
}
REST = "the rest"


def part_of(name: str) -> str:
    """The part of a step to which an operation belongs."""
    # A step back is named after the step forward.
    plain = name.removeprefix("autograd::engine::evaluate_function: ")
    return next((part for part, beginnings in PARTS.items() if plain.startswith(beginnings)), REST)


def measure(network: str, batch: int, seconds: float) -> dict[str, Any]:
    """Profile one network."""
    import torch

    from fittingroom import experiment, native
    from fittingroom.experiment import Setting
    from fittingroom.recipe import load
    from fittingroom.train.loop import fit

    native.keep_freed_memory()
    recipe = load(network, {"train.batch_size": batch, "train.epochs": 10_000, "train.stop": None, "data.validation": 0.2}).recipe
    machine = experiment.Machine.choose(recipe, Setting())
    prepared = experiment.prepare(recipe, Setting())
    data = prepared.data
    model = experiment.new_model(recipe, data.input_shape, len(data.classes), machine.device)

    def epochs(steps: int) -> Any:
        chosen = prepared.training.take(range(steps * batch))
        return fit(model, prepared.resident(chosen, machine.device), None, recipe, len(data.classes), machine.precision)

    trying = epochs(8)
    next(trying)
    steps = max(8, int(seconds / next(trying).record["train"]["seconds"] * 8 / 4))
    going = epochs(min(steps, len(prepared.training) // batch))
    steps = min(steps, len(prepared.training) // batch)
    next(going)
    plain = [next(going).record["train"]["seconds"] / steps for _ in range(3)]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        began = time.perf_counter()
        next(going)
        profiled = (time.perf_counter() - began) / steps
    parts: dict[str, float] = {}
    for event in profile.key_averages():
        part = part_of(event.key)
        parts[part] = parts.get(part, 0.0) + event.self_cpu_time_total / 1e6 / steps
    # What no operation accounts for is the loop's Python, and the autograd engine between operations.
    parts[REST] = parts.get(REST, 0.0) + max(0.0, profiled - sum(parts.values()))
    return {"network": network, "batch": batch, "steps": steps, "seconds": plain, "profiled_seconds": profiled, "parts": parts}


def run(seconds: float) -> None:
    """Profile all networks, each in a process of its own."""
    import subprocess

    profiles = []
    for network in NETWORKS:
        for batch in BATCHES:
            options = ["--network", network, "--batch", str(batch), "--seconds", str(seconds)]
            command = [sys.executable, "-m", "benchmarks.profiles", "one", *options]
            told = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env={**os.environ, "GOMP_SPINCOUNT": "10000"})
            profiles.append(json.loads(told.stdout.splitlines()[-1]))
            print(f"{network}, {batch}: {1e3 * min(profiles[-1]['seconds']):.2f} ms a step", flush=True)
    write_json(RECORD, {"environment": environment.describe(), "profiles": profiles})


def table() -> str:
    """A row for each network, a column for each part."""
    if not RECORD.exists():
        return NOT_YET
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    columns = [*PARTS, REST]
    rows = []
    for one in record["profiles"]:
        total = sum(one["parts"].values())
        shares = [f"{100 * one['parts'].get(part, 0.0) / total:.0f} %" for part in columns]
        step = f"{1e3 * sorted(one['seconds'])[1]:.2f} ms"
        rows.append([f"`{one['network']}`, {one['batch']}", step, f"{1e3 * one['profiled_seconds']:.2f} ms", *shares])
    head = ["", "a step", "with the profiler", *columns]
    place = record["environment"]
    lines = [f"| {' | '.join(row)} |" for row in ([*head], ["---"] * len(head), *rows)]
    return f"On {place['cores']} cores ({place['processor']}), {place['threads']} threads:\n\n" + "\n".join(lines) + "\n"


TABLES = {"profile": table}


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["run", "one"])
    parser.add_argument("--seconds", type=float, default=6.0, help="for each network and batch size, about")
    parser.add_argument("--network", choices=NETWORKS)
    parser.add_argument("--batch", type=int)
    options = parser.parse_args()
    if options.command == "run":
        run(options.seconds)
    else:
        print(json.dumps(measure(options.network, options.batch, options.seconds)))


if __name__ == "__main__":
    main()
