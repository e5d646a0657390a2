"""What all peers are given: the networks' names, the constants of training, and the images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AUGMENTED",
    "CLASSES",
    "COMMAND_LINE",
    "DATA",
    "DROPOUT",
    "EPSILON",
    "NETWORKS",
    "RATE",
    "RATE_VARIABLE",
    "ROTATE",
    "SHIFT",
    "THREADS",
    "USUAL_RATE",
    "ZOOM",
    "Split",
    "split",
]

NETWORKS = ("lenet5", "standard", "three-block", "resnet20")
AUGMENTED = ("three-block",)
"""Networks whose images are changed at random: rotated by up to ROTATE degrees, moved by up to SHIFT of the side, scaled by 1 ± ZOOM."""
ROTATE, SHIFT, ZOOM = 10.0, 0.1, 0.1
DROPOUT = (0.2, 0.3, 0.4, 0.5)
"""The rates of `three-block`."""
CLASSES = 10
USUAL_RATE, EPSILON = 1e-3, 1e-7
"""Adam's learning rate and ε, the ones that Keras has; weights start as Keras's do (Glorot-uniform, biases zero)."""
RATE_VARIABLE = "BENCH_RATE"
"""The environment variable with another learning rate."""
RATE = float(os.environ.get(RATE_VARIABLE, USUAL_RATE))
DATA = "BENCH_DATA"
"""The environment variable with the path of the images, an npz file."""
THREADS = "BENCH_THREADS"
"""The environment variable with the number of threads."""
COMMAND_LINE = {"GOMP_SPINCOUNT": "10000"}
"""What `fittingroom` sets in its environment before it loads torch, and the processes with our code get, too."""


@dataclass(frozen=True)
class Split:
    """Images that peers learn from or are measured on.

    Attributes:
        pixels: uint8 ``[N, 28, 28]``.
        labels: int64 ``[N]``.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


def split(name: str) -> Split:
    """Read ``training`` (48,000 images) or ``validation`` (12,000) of Fashion-MNIST's training set; its test set is not used here."""
    with np.load(Path(os.environ[DATA])) as arrays:
        return Split(arrays[f"{name}_pixels"], arrays[f"{name}_labels"])
