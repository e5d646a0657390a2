"""A connection to a Ray cluster: one that is there, or one on this machine alone for as long as it is needed."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fittingroom.cluster.scratch import scratch
from fittingroom.environment import cores
from fittingroom.errors import ExtraMissing, RunError, UsageError

__all__ = ["connected"]

ANSWER_SECONDS = 8.0
"""In which somebody must answer at an address. Ray itself takes 40 seconds to give up, and says a good deal meanwhile."""

# Read when Ray is imported: no reports to its makers, and no hints about GPUs that nobody asked for.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

STORE_BYTES = 512 * 1024**2
"""For data and files on their way, on this machine alone; what is more goes to the disk."""

# Asks in a process that can be ended, for Ray cannot: is this machine a node of a cluster there, and does that reach beyond it?
ASK = """
import json, sys
from ray._private.services import find_node_ids
from ray._raylet import GcsClient
nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5)
here = any(node.hex() in find_node_ids() for node in nodes)
print(json.dumps([here, all(info.node_manager_address.startswith("127.") for info in nodes.values())]))
"""


@contextmanager
def connected(address: str | None, cpus: int | None = None) -> Iterator[None]:
    """Be connected to a cluster for the length of a ``with`` block.

    Args:
        address: ``HOST:PORT`` of its head; None starts Ray on this machine alone, reachable from nowhere else, and ends it afterwards.
        cpus: how many it is to have there; None takes the cores that this process may use.

    Raises:
        ExtraMissing: Ray is not installed.
        UsageError: this is no address.
        RunError: nobody answers, or it is no cluster of which this machine is a node.
    """
    if find_spec("ray") is None:
        raise ExtraMissing("Ray is not installed", "ray", "leave out --engine ray")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    alone = address is None or _ask(address)
    with _loopback() if alone else nullcontext(), nullcontext({"address": address}) if address is not None else _started(cpus) as where:
        import ray
        from ray._private import worker

        worker.print_to_stdstream = _say_nothing
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**where, logging_level=logging.ERROR, log_to_driver=False)
        except (OSError, RuntimeError, ValueError) as error:
            what = f"join the cluster at {address}" if address else "start Ray on this machine"
            raise RunError(f"cannot {what}: {' '.join(str(error).split())}") from None
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray puts one of its own there
        try:
            yield
        finally:
            ray.shutdown()


def _say_nothing(*data: Any, **options: Any) -> None:
    """In place of what prints to this process's stdout whatever goes wrong on a node, a page at a time; the node's logs have it too."""


@contextmanager
def _started(cpus: int | None) -> Iterator[dict[str, Any]]:
    """Give what makes Ray start on this machine, and leave nothing of it."""
    # The path of a socket must be short.
    with scratch("ray", Path("/tmp") if Path("/tmp").is_dir() else None) as folder:
        yield {
            "address": "local",
            "num_cpus": cpus or cores(),
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(folder),
        }


@contextmanager
def _loopback() -> Iterator[None]:
    """Have Ray take the loopback address for its own: otherwise, whatever it is told, it takes another one and listens on all."""
    os.environ[ONE_MACHINE] = "0"
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False  # where Ray had been imported before
    try:
        yield
    finally:
        del os.environ[ONE_MACHINE]
        ray_constants.ENABLE_RAY_CLUSTER = True


def _ask(address: str) -> bool:
    """Raise unless there is a cluster at the address, with this machine in it; return whether it is of this machine alone."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UsageError(f"--address is HOST:PORT of the cluster's head, as ray start prints it, not '{address}'")
    nobody = f"no Ray cluster answers at {address}"
    end = time.monotonic() + ANSWER_SECONDS
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:  # a ValueError: no name of a host
        raise RunError(f"{nobody} ({error}); start one with ray start, or correct --address") from None
    try:
        command = [sys.executable, "-c", ASK, address]
        asked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=max(end - time.monotonic(), 1))
        member, alone = json.loads(asked.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise RunError(f"{nobody}, though something listens there; correct --address") from None
    if not member:
        raise RunError(f"this machine is no node of the cluster at {address}; join it with ray start, or give the command on its head")
    return bool(alone)
