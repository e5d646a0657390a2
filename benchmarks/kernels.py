"""Plain against native: tails, convolutions and dense layers alone, and whole training steps.

    python -m benchmarks.kernels [--threads 2] [--rounds 7]

Both paths run in turn, round by round, so that whatever else the machine does meets both. Printed are milliseconds, minimum and
median over the rounds, and the ratio of the minima with the smallest and largest ratio of a round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.arguments import count
from fittingroom import native
from fittingroom.models.layers import Conv2d, Linear, Tail, seed_dropout

BLOCKS = ((64, 28, 0.2), (128, 14, 0.3), (256, 7, 0.4))
# Input channels, output channels, kernel, padding, side: those of LeNet-5, then first convolutions.
CONVOLUTIONS = ((1, 6, 5, 2, 28), (6, 16, 5, 0, 14), (1, 32, 3, 0, 28), (1, 64, 3, 1, 28), (3, 16, 3, 1, 32), (3, 48, 5, 0, 32))
DENSE = ((400, 120), (120, 84), (84, 10))


def three_block() -> nn.Module:
    """The network of report `three-block-cnn`."""
    layers: list[nn.Module] = []
    channels = 1
    for width, _, rate in BLOCKS:
        layers += [Conv2d(channels, width, 3, padding=1), Tail(width, norm="after", pool="max", dropout=rate)]
        channels = width
    layers += [nn.Flatten(), Linear(256 * 9, 128), nn.ReLU(), nn.BatchNorm1d(128), Linear(128, 10)]
    return nn.Sequential(*layers)


def lenet(activation: str = "tanh", pool: str = "average") -> nn.Module:
    """LeNet-5 with the same tails without a norm."""
    return nn.Sequential(
        Conv2d(1, 6, 5, padding=2),
        Tail(6, activation=activation, pool=pool),  # type: ignore[arg-type]
        Conv2d(6, 16, 5),
        Tail(16, activation=activation, pool=pool),  # type: ignore[arg-type]
        nn.Flatten(),
        *(Linear(400, 120), nn.Tanh(), Linear(120, 84), nn.Tanh(), Linear(84, 10)),
    )


def tail_step(channels: int, side: int, rate: float, batch: int) -> Callable[[], None]:
    """Forward and backward of one tail."""
    tail = Tail(channels, norm="after", pool="max", dropout=rate)
    seed_dropout(tail, 0)
    x = torch.randn(batch, channels, side, side).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn(batch, channels, side // 2, side // 2).bfloat16().to(memory_format=torch.channels_last)
    wanted = [x, *tail.parameters()]
    return lambda: [*map(id, torch.autograd.grad(tail(x), wanted, gradient))].clear()


def layer_step(layer: nn.Module, x: torch.Tensor, wanted: list[torch.Tensor]) -> Callable[[], None]:
    """Forward and backward of one layer under bfloat16 autocast."""
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)  # type: ignore[no-any-return]

    gradient = torch.randn_like(forward())
    return lambda: [*map(id, torch.autograd.grad(forward(), wanted, gradient))].clear()


def convolution_step(inputs: int, outputs: int, kernel: int, padding: int, side: int, batch: int) -> Callable[[], None]:
    """A convolution; the gradient of a batch of images, of 1 or 3 channels, is not taken."""
    layer = Conv2d(inputs, outputs, kernel, padding=padding)
    x = torch.randn(batch, inputs, side, side).to(memory_format=torch.channels_last)
    if inputs in (1, 3):
        return layer_step(layer, x, [*layer.parameters()])
    x = x.bfloat16().requires_grad_()
    return layer_step(layer, x, [x, *layer.parameters()])


def dense_step(inputs: int, outputs: int, batch: int) -> Callable[[], None]:
    """A dense layer."""
    layer, x = Linear(inputs, outputs), torch.randn(batch, inputs).bfloat16().requires_grad_()
    return layer_step(layer, x, [x, *layer.parameters()])


def training_step(model: nn.Module, batch: int) -> Callable[[], None]:
    """A step of training with Adam under bfloat16 autocast in channels-last memory."""
    model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    seed_dropout(model, 0)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    x, labels = torch.randn(batch, 1, 28, 28).to(memory_format=torch.channels_last), torch.randint(10, (batch,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def milliseconds(step: Callable[[], None], repeats: int) -> float:
    """The fastest of ``repeats``."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return min(times) * 1e3


def compare(name: str, step: Callable[[], None], rounds: int, repeats: int) -> None:
    """Time ``step`` on both paths in turn and print a line."""
    times: dict[bool, list[float]] = {False: [], True: []}
    for path in times:
        with native.enabled(path):
            milliseconds(step, 2)
    for _ in range(rounds):
        for path, results in times.items():
            with native.enabled(path):
                results.append(milliseconds(step, repeats))
    ratios = [plain / fast for plain, fast in zip(times[False], times[True], strict=True)]
    shown = "   ".join(f"{min(t):8.3f} {statistics.median(t):8.3f}" for t in times.values())
    print(f"{name:28} {shown}   {min(times[False]) / min(times[True]):6.2f} ({min(ratios):.2f} – {max(ratios):.2f})", flush=True)


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--threads", type=count, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=count, default=7)
    parser.add_argument("--only", default="", help="run the lines whose name contains this")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    native.keep_freed_memory()
    print(f"kernels: {native.description()}, {arguments.threads} threads, {arguments.rounds} rounds")
    print(f"{'':28} {'plain: min   median':>17}   {'native: min   median':>17}    ratio")
    for batch in (32, 128):
        for channels, side, rate in BLOCKS:
            name = f"tail {channels}×{side}×{side}, batch {batch}"
            if arguments.only in name:
                compare(name, tail_step(channels, side, rate, batch), arguments.rounds, 6)
        for shape in CONVOLUTIONS:
            name = f"{shape[0]} → {shape[1]}, {shape[2]}×{shape[2]}, batch {batch}"
            if arguments.only in name:
                compare(name, convolution_step(*shape, batch), arguments.rounds, 20)
        for inputs, outputs in DENSE:
            name = f"dense {inputs} → {outputs}, batch {batch}"
            if arguments.only in name:
                compare(name, dense_step(inputs, outputs, batch), arguments.rounds, 20)
        for title, model in (("three-block", three_block()), ("LeNet-5", lenet()), ("LeNet-5 ReLU max", lenet("relu", "max"))):
            name = f"{title} step, batch {batch}"
            if arguments.only in name:
                compare(name, training_step(model, batch), arguments.rounds, 4 if title == "three-block" else 20)


if __name__ == "__main__":
    main()
