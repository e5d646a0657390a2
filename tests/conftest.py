"""What the tests share: one thread, patience on a busy machine, and a small made-up set."""

from __future__ import annotations

import os

# Before torch is imported, here or in a process that a test starts: small steps shared among threads take many times longer, and a
# fork of a process with threads can wait for ever.
os.environ["OMP_NUM_THREADS"] = "1"

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fittingroom.data.arrays import Images
from tests.data.made import npz_bytes

# What is printed is what a plain terminal of 80 columns gets, wherever the tests run; read when the commands are imported.
for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "GITHUB_ACTIONS"):
    os.environ.pop(name, None)

# The same examples every time, so that the gate never fails by chance; `pytest --hypothesis-profile=search` looks for new ones.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("patient", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("patient")

CLASSES, SIDE = 4, 12


def pytest_configure(config: pytest.Config) -> None:
    """Leave a GPU to the tests that are about it: the others train on the CPU, wherever they run, and fork."""
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def made_set_of(count: int, seed: int) -> Images:
    """Gray images of four classes that a network can learn and mistake: a pattern a class, under noise."""
    patterns = np.random.default_rng(0).integers(0, 256, (CLASSES, SIDE, SIDE, 1))
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count, dtype=np.int64) % CLASSES)
    noise = generator.integers(0, 256, (count, SIDE, SIDE, 1))
    return Images((0.3 * patterns[labels] + 0.7 * noise).astype(np.uint8), labels)


@pytest.fixture(scope="session")
def made_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of an npz file with 500 training and 100 test images, gray, 12×12, of four classes."""
    path = tmp_path_factory.mktemp("data") / "made.npz"
    path.write_bytes(npz_bytes(made_set_of(500, seed=1), made_set_of(100, seed=2)))
    return path
