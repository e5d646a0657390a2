"""Naming what is in picture files with a trained run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fittingroom import experiment
from fittingroom.data.arrays import Images
from fittingroom.data.folder import read_image
from fittingroom.errors import RunError, UsageError
from fittingroom.runs import Run

__all__ = ["Named", "predict_files"]


@dataclass(frozen=True)
class Named:
    """A picture and its classes.

    Attributes:
        path: the file.
        classes: names with probabilities in [0, 1], most probable first.
    """

    path: Path
    classes: tuple[tuple[str, float], ...]


def predict_files(
    run: Run, paths: Sequence[Path], top: int = 3, invert: bool = False, setting: experiment.Setting | None = None
) -> list[Named]:
    """Name the classes of picture files.

    Args:
        run: a finished run.
        paths: files that Pillow reads; each is brought to the run's image size and channels.
        top: classes to name for each.
        invert: swap dark and light first.
        setting: device, threads, and where notices go.

    Raises:
        UsageError: a folder stands where a picture is wanted.
        DataMissing: a file does not exist.
        DataError: a file is no picture, or too large.
        RunError: the run has no weights.
    """
    setting = setting or experiment.Setting()
    recorded = run.environment.get("data")
    if not recorded:
        raise RunError(f"{run.path} has no record of its data; train the run again")
    channels, height, width = recorded["input_shape"]
    for path in paths:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name the pictures in it, for example {path / '*.jpg'}")
    pixels = np.stack([read_image(path, size=(height, width), channels=channels) for path in paths])
    if invert:
        pixels = 255 - pixels
    images = Images(pixels, np.zeros(len(pixels), np.int64))
    probabilities = experiment.probabilities(run, images, setting)
    if channels == 1 and not invert and recorded.get("identity") == "fashion-mnist" and float(np.median(pixels)) > 127:
        setting.notify("these pictures are mostly light; Fashion-MNIST shows clothes light on black: try --invert")
    names = recorded["classes"]
    order = np.argsort(-probabilities, axis=1)[:, :top]
    return [
        Named(path, tuple((names[index], float(row[index])) for index in best))
        for path, row, best in zip(paths, probabilities, order, strict=True)
    ]
