"""What the tests share: one thread, patience on a busy machine, and a small made-up set."""

from __future__ import annotations

import os

# Before torch is imported, here or in a process that a test starts: small steps shared among threads take many times longer.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fittingroom.data.arrays import Images
from tests.data.made import npz_bytes

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

CLASSES, SIDE = 4, 12


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
