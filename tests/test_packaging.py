"""What the package says that it needs is what the lock installs for the tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", one, maxsplit=1)[0].lower().replace("_", "-") for one in requirements}


@pytest.mark.parametrize("extra", ["dev", "tune", "tensorboard"])
def test_what_the_suite_needs_is_locked(extra: str) -> None:
    locked = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8").splitlines()
    assert named(EXTRAS[extra]) <= named(locked)


def test_whoever_runs_the_tests_has_tensorboard() -> None:
    assert named(EXTRAS["tensorboard"]) <= named(EXTRAS["dev"])
