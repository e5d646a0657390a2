"""How predicting is measured, the same for all: from bytes to class probabilities, the model being in memory."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.case import split

__all__ = ["IMAGES", "Predictor"]

IMAGES = 10_000
"""How many validation images are predicted."""


class Predictor:
    """A peer that predicts."""

    def probabilities(self, pixels: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
        """Class probabilities ``[N, 10]`` of ``[N, 28, 28]``, ``batch`` images at a time."""
        raise NotImplementedError

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        return split("validation").pixels[:IMAGES]

    def throughput(self, batch: int, images: int, times: int) -> float:
        """Seconds that ``times`` passes over the first ``images`` take."""
        began = time.perf_counter()
        for _ in range(times):
            self.probabilities(self._pixels[:images], batch)
        return time.perf_counter() - began

    def latency(self, count: int) -> list[float]:
        """Seconds of each of ``count`` single images."""
        seconds = []
        for index in range(count):
            began = time.perf_counter()
            self.probabilities(self._pixels[index : index + 1], 1)
            seconds.append(time.perf_counter() - began)
        return seconds

    def write_outputs(self, path: str, images: int) -> None:
        """Write the probabilities of the first ``images`` to a file of numpy's."""
        np.save(Path(path), self.probabilities(self._pixels[:images], 500))
