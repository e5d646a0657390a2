"""From a run folder to its page: reads what the run wrote, measures nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fittingroom import experiment
from fittingroom.data import catalog
from fittingroom.data.arrays import DataSet, Images
from fittingroom.errors import FittingRoomError
from fittingroom.evaluate.curves import measure_history
from fittingroom.evaluate.metrics import top_mistakes
from fittingroom.files import write_text
from fittingroom.report.page import Picture, RunView, render
from fittingroom.runs import Predictions, Run

__all__ = ["view", "write_report"]

PICTURES = 24


def write_report(run: Run, data_dir: Path | None = None, notify: Callable[[str], None] = lambda line: None) -> Path:
    """Write the run's ``report.html`` and return its path.

    The pictures of mistakes need the images. Where they are not to be had, the page says so and is complete otherwise.

    Raises:
        FittingRoomError: the run is damaged, or its folder cannot be written.
    """
    path = run.path / "report.html"
    write_text(path, render(view(run, data_dir, notify)))
    return path


def view(run: Run, data_dir: Path | None = None, notify: Callable[[str], None] = lambda line: None) -> RunView:
    """Gather what a page shows of a run."""
    environment, evaluation, history, recipe = run.environment, run.evaluation, run.history, run.recipe
    judged = experiment.judged(run)
    data: dict[str, Any] = environment.get("data", {})
    pictures, samples, notices = _from_images(run, "test" if "test" in judged else "validation", data_dir)
    for line in notices:
        notify(line)
    size: dict[str, Any] = environment.get("model", {})
    return RunView(
        title=run.name,
        model=recipe.model.name,
        data=recipe.data.name,
        state=run.state,
        recipe=recipe.values,
        origins=run.origins,
        reason=run.reason,
        environment={key: value for key, value in environment.items() if key != "model"},
        history=history,
        validation=judged.get("validation"),
        test=judged.get("test"),
        test_openings=evaluation.get("openings", []),
        validation_is_test=data.get("validation_source") == "test",
        pictures=pictures,
        pictures_from="test" if "test" in judged else "validation",
        samples=samples,
        parameters=size.get("parameters"),
        multiply_adds=size.get("multiply_adds"),
        seconds=sum(record.get("train", {}).get("seconds", 0.0) for record in history) if history else None,
        kept_epoch=history[-1].get("best_epoch", history[-1]["epoch"]) if history else None,
        measures=measure_history(history) if history else None,
        notices=[*data.get("notices", []), *(f"Assumption: {line}" for line in size.get("assumptions", [])), *notices],
        training_images=data.get("training_images"),
        device=_device(environment),
    )


def _device(environment: dict[str, Any]) -> str:
    device = str(environment.get("device", ""))
    threads = environment.get("threads", "?")
    where = f"{threads} CPU thread{'' if threads == 1 else 's'}" if device == "cpu" else str(environment.get("gpu", device))
    return f"{where}, {environment.get('precision', {}).get('name', '')}".strip(", ")


def _from_images(run: Run, split: str, data_dir: Path | None) -> tuple[list[Picture], dict[str, list[int]], list[str]]:
    """The surest mistakes as pictures, and images per class; a notice where the images are not to be had."""
    recorded: dict[str, Any] = run.environment.get("data", {})
    recipe = run.recipe
    try:
        part = run.read_predictions(split)
    except FittingRoomError:
        return [], {}, []  # not evaluated yet: the page says that itself
    try:
        # The test images are read again only where they have been opened already.
        needs_test = split == "test" or recorded.get("validation_source") == "test"
        data = catalog.load(
            recipe.data.name, data_dir=data_dir, size=recipe.data.size, channels=recipe.data.channels, with_test=needs_test, download=False
        )
        if data.train.checksum != recorded.get("train_sha256"):
            return [], {}, ["The images here are not those of the run, so its mistakes are not pictured."]
    except FittingRoomError as error:
        return [], {}, [f"The images are not here, so the run's mistakes are not pictured: {error}"]
    source = _source(data, split, recorded)
    if source is None:
        return [], {}, []
    counts = {split: np.bincount(part.labels, minlength=len(data.classes)).tolist()}
    return _pictures(part, source, data), counts, []


def _source(data: DataSet, split: str, recorded: dict[str, Any]) -> Images | None:
    where = "test" if split == "test" else recorded.get("validation_source", "train")
    return {"train": data.train, "validation": data.validation, "test": data.test}[str(where)]


def _pictures(part: Predictions, source: Images, data: DataSet) -> list[Picture]:
    shown = []
    for mistake in top_mistakes(part.probabilities, part.labels, PICTURES):
        pixels = source.pixels[part.indices[mistake.index]]
        shown.append(Picture(pixels, data.classes[mistake.true], data.classes[mistake.predicted], mistake.probability))
    return shown
