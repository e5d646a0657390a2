"""Made-up runs that look like real ones, for the tests and for eyes: ``python -m tests.report.demo FOLDER`` writes their pages."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

from fittingroom import recipe
from fittingroom.evaluate import Evaluation, evaluate_predictions, measure_history
from fittingroom.report.page import Picture, RunView, render

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# How easily one class of clothes is taken for another, beside a little of everything.
CONFUSED = {
    (6, 0): 4.6, (0, 6): 4.2, (6, 2): 4.0, (2, 4): 3.9, (4, 2): 3.8, (6, 4): 3.7, (2, 6): 3.7,
    (4, 6): 3.5, (3, 6): 2.8, (3, 4): 2.2, (9, 7): 3.2, (7, 9): 2.9, (5, 7): 2.2, (5, 9): 1.8,
}  # fmt: skip


def evaluation(count: int, classes: tuple[str, ...], seed: int, sureness: float = 7.9) -> Evaluation:
    """Predictions on balanced classes, right the more often the greater ``sureness``, and a little too sure of themselves."""
    generator = np.random.default_rng(seed)
    size = len(classes)
    labels = np.arange(count) % size
    pull = np.zeros((size, size))
    for (true, other), strength in CONFUSED.items():
        if max(true, other) < size:
            pull[true, other] = strength
    logits = generator.gumbel(0, 1, (count, size)) + pull[labels]
    logits[np.arange(count), labels] += sureness * generator.uniform(0.6, 1.4, count)
    scaled = np.exp(logits * 1.5)
    return evaluate_predictions(scaled / scaled.sum(1, keepdims=True), labels, classes)


def history(epochs: int, seed: int = 0) -> list[dict[str, object]]:
    generator = np.random.default_rng(seed)
    lines: list[dict[str, object]] = []
    for epoch in range(1, epochs + 1):
        way = 1 - np.exp(-epoch / 2.6)
        train, validation = 0.742 + 0.205 * way, 0.79 + 0.131 * way + generator.normal(0, 0.0025)
        lines.append(
            {
                "epoch": epoch,
                "train": {"loss": 0.72 - 0.57 * way, "accuracy": train, "seconds": 8.4, "images_per_second": 5700.0 + 40 * epoch},
                "validation": {"loss": 0.58 - 0.35 * way + generator.normal(0, 0.007) + 0.001 * epoch, "accuracy": validation},
            }
        )
    return lines


def garment(label: int, seed: int, side: int = 28, channels: int = 1) -> np.ndarray:
    """A blurred blob that is different for each class, as uint8 ``[side, side, channels]``."""
    generator = np.random.default_rng(seed)
    down, across = np.mgrid[0:side, 0:side] / side - 0.5
    body = np.exp(-((np.abs(across) / (0.16 + 0.02 * label)) ** 6)) * (np.abs(down) < 0.42)
    sleeves = (np.abs(down + 0.25) < 0.09) * (np.abs(across) < 0.3 + 0.015 * label)
    colour, noise = generator.uniform(120, 240, channels), generator.normal(0, 9, (side, side, channels))
    return np.clip(np.maximum(body, sleeves)[:, :, None] * colour + noise, 0, 255).astype(np.uint8)


def pictures(judged: Evaluation, side: int = 28, channels: int = 1, count: int = 24) -> list[Picture]:
    return [
        Picture(garment(m.true, m.index, side, channels), judged.classes[m.true], judged.classes[m.predicted], m.probability)
        for m in judged.mistakes[:count]
    ]


def finished(**changes: object) -> RunView:
    """A finished run of the quick-start's kind, its test set opened once."""
    chosen = {"train.epochs": 14, "optim.lr": 0.02, "augment.flip": True}
    loaded = recipe.load({"model": "compact", "data": {"name": "fashion-mnist"}}, overrides=chosen)
    test, validation = evaluation(10_000, CLOTHES, 1), evaluation(12_000, CLOTHES, 2)
    lines = history(14)
    view = RunView(
        title="20261120-143012-compact-7f3a",
        model="compact",
        data="fashion-mnist",
        state="finished",
        recipe=loaded.recipe.values,
        origins=loaded.origins,
        environment={
            "python": "3.11.9",
            "packages": {"fittingroom": "0.1.0", "torch": "2.13.0+cpu", "numpy": "2.4.6", "scikit-learn": "1.9.1"},
            "system": "Linux x86_64",
            "processor": "AMD EPYC 9B45 96-Core Processor",
            "cores": 2,
            "threads": 2,
            "commit": "0d1f2c3b4a59+",
            "precision": {"name": "bf16", "reason": "the processor multiplies bf16 in hardware"},
            "data": {"train_sha256": "9c1f0b6a5f1e4d7f8a0b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f", "validation_source": "train"},
        },
        history=lines,
        validation=validation,
        test=test,
        test_openings=[{"time": "2026-11-20T14:32:15+00:00", "reason": "quick-start, at its end"}],
        pictures=pictures(test),
        pictures_from="test",
        samples={"train": [4800] * 10, "validation": [1200] * 10, "test": [1000] * 10},
        parameters=186_634,
        multiply_adds=9_412_000,
        seconds=102.4,
        kept_epoch=measure_history(lines).best_epoch,
        measures=measure_history(lines),
        device="2 CPU threads, bf16",
    )
    return dataclasses.replace(view, **changes)  # type: ignore[arg-type]


def named(count: int) -> tuple[str, ...]:
    return tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]) if count <= 26 else tuple(f"product group {number:03d}" for number in range(count))


def with_classes(count: int) -> RunView:
    """A run with ``count`` classes, its test set sealed."""
    names = ("cat", "dog") if count == 2 else named(count)
    judged = evaluation(max(2000, 40 * count), names, 5, 6.5)
    samples = {"train": [37 + label for label in range(count)]}
    return finished(test=None, validation=judged, test_openings=(), pictures=pictures(judged), pictures_from="validation", samples=samples)


def demos() -> dict[str, RunView]:
    hostile = ("<script>alert(1)</script>", "\"><img src=x onerror=alert(2)>", "{{ 7 * 7 }}", "' onfocus='alert(3)")
    judged = evaluation(400, hostile, 3, 5.0)
    every_epoch = [{"time": "2026-11-20T14:32:15+00:00", "reason": "measured after every epoch"}]
    photos = evaluation(600, ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt"), 4, 5.5)
    return {
        "finished": finished(),
        "sealed": finished(test=None, test_openings=(), pictures=pictures(evaluation(12_000, CLOTHES, 2)), pictures_from="validation"),
        "two": with_classes(2),
        "letters": with_classes(26),
        "hundred": with_classes(100),
        "one-epoch": finished(history=history(1), measures=measure_history(history(1)), kept_epoch=1),
        "long": finished(history=history(1200), measures=measure_history(history(1200)), kept_epoch=1100),
        "failed": finished(
            state="failed",
            reason="the loss is not finite at epoch 3, step 412; try a lower learning rate",
            test=None,
            validation=None,
            test_openings=(),
            pictures=(),
            history=history(2),
            measures=measure_history(history(2)),
            kept_epoch=None,
        ),
        "created": RunView("20261120-1430", "svc", "digits", "created", {}, {}),
        "on-test": finished(test=None, validation_is_test=True, test_openings=every_epoch),
        "hostile": finished(
            title="<script>alert(0)</script>",
            model="<b>bold</b>",
            test=judged,
            validation=None,
            pictures=pictures(judged),
            notices=["this set calls itself fashion-mnist, but its <content> is that of MNIST digits"],
            test_openings=[{"time": "<i>now</i>", "reason": "<u>why</u>"}] * 3,
        ),
        "photos": finished(data="clothing-photos", test=photos, validation=None, pictures=pictures(photos, 64, 3), samples={}),
        "perfect": finished(test=evaluation(300, CLOTHES, 6, 60.0), pictures=()),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, view in demos().items():
        page = render(view)
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        print(f"{name:12} {len(page.encode()) / 1000:8.1f} kB")
