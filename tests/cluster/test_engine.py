"""``--engine`` and ``--address`` as they can be wrong: one line each, and soon."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fittingroom.cluster import connection
from tests.cli.running import fittingroom
from tests.cluster.nodes import needs_ray

COMMANDS = [
    ["study", "run", "shallow-vs-deep"],
    ["tune", "custom-cnn-search"],
    ["compare", "lenet5", "mlp", "--seeds", "1"],
]
every_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In an empty folder, which is as empty afterwards."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


@every_command
def test_an_unknown_engine(command: list[str]) -> None:
    fittingroom(*command, "--engine", "rai").refused(2, "unknown engine 'rai'", "did you mean 'ray'?", "local, ray")


@every_command
def test_an_address_without_a_cluster(command: list[str]) -> None:
    fittingroom(*command, "--address", "head:6379").refused(2, "--engine ray")


@every_command
def test_ray_is_not_installed(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    fittingroom(*command, "--engine", "ray").refused(5, "pip install '.[ray]'")


@needs_ray
@pytest.mark.parametrize("address", ["head", "head:", ":6379", "ray://head:10001", "head:port", "http://head/x:1"])
def test_no_address(address: str) -> None:
    fittingroom("study", "run", "shallow-vs-deep", "--engine", "ray", "--address", address).refused(2, "HOST:PORT", address)


@pytest.fixture
def port() -> Iterator[int]:
    """A port at which somebody listens who never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@needs_ray
@every_command
def test_nobody_there(command: list[str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        free = server.getsockname()[1]
    began = time.monotonic()
    fittingroom(*command, "--engine", "ray", "--address", f"127.0.0.1:{free}").refused(1, "no Ray cluster answers", f"127.0.0.1:{free}")
    assert time.monotonic() - began < 10


@needs_ray
def test_somebody_else_there(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 1.0)
    done = fittingroom("study", "run", "shallow-vs-deep", "--engine", "ray", "--address", f"127.0.0.1:{port}")
    done.refused(1, "no Ray cluster answers", "something listens there")


def test_it_is_given_up_in_time() -> None:
    """Ten seconds are promised, the start of Python included."""
    assert connection.ANSWER_SECONDS <= 8


@needs_ray
@pytest.mark.parametrize("address", ["localhost:99999", "no.such.host.invalid:6379"])
def test_no_such_place(address: str) -> None:
    fittingroom("study", "run", "shallow-vs-deep", "--engine", "ray", "--address", address).refused(1, "no Ray cluster answers", address)
