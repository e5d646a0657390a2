"""A home of its own for every command, and two trained runs that tests copy."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from fittingroom.data.catalog import Surroundings
from tests.cli.running import fittingroom


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with nothing of the user's data in reach."""
    for name in ("FITTINGROOM_DATA", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    # Not by $HOME, below which the compiled kernels lie too.
    surroundings = Surroundings(os.environ, tmp_path / "home", tmp_path, tmp_path / "cache")
    monkeypatch.setattr(Surroundings, "of_this_process", lambda: surroundings)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained(made_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: `network`, with its test set opened once, and `classical`."""
    runs = tmp_path_factory.mktemp("runs")
    for model, name in (("mlp", "network"), ("gaussian-nb", "classical")):
        done = fittingroom("train", model, "--data", made_set, "--epochs", 2, "--threads", 1, "--run-dir", runs / name, "-q")
        assert done.code == 0, done.err
    assert fittingroom("evaluate", runs / "network", "--test").code == 0
    return runs


@pytest.fixture
def runs(trained: Path, own_home: Path) -> Path:
    """A copy of `trained` that a test may change."""
    return Path(shutil.copytree(trained, own_home / "runs"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name can be looked up."""

    def unknown(*arguments: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
