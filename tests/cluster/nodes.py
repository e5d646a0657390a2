"""A real cluster of several nodes on this machine, reachable from nowhere else, whose nodes can be killed.

It is a process of its own, so that the tests' process never loads Ray: ``python -m tests.cluster.nodes CPUS…``. It prints the address,
and obeys a line each: ``kill N`` ends node N as a power cut would, ``add`` adds one of one core; it ends with its standard input.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

__all__ = ["Nodes", "needs_ray", "nodes"]

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'")


class Nodes:
    """The cluster, as the tests see it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._answer()

    def kill(self, number: int) -> None:
        """Kill all processes of a node; 0 is the head."""
        self._order(f"kill {number}")

    def add(self) -> None:
        self._order("add")

    def _order(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def nodes(*cpus: int, cwd: Path) -> Iterator[Nodes]:
    """Start a cluster with so many cores on each node; ``cwd`` is its processes' current folder."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.cluster.nodes", *map(str, cpus)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd, env=environ) as process:
        try:
            yield Nodes(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def main(cpus: Sequence[str]) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Ray says this and that
    os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    with TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path("/tmp/ray").mkdir(exist_ok=True)  # where Ray notes the address for whoever wants it
        cluster = Cluster()
        there = [cluster.add_node(num_cpus=int(cpus[0]), temp_dir=folder, include_dashboard=False)]
        there += [cluster.add_node(num_cpus=int(number)) for number in cpus[1:]]
        print(cluster.address, file=answers)
        for line in sys.stdin:
            what, *number = line.split()
            if what == "kill":
                cluster.remove_node(there[int(number[0])], allow_graceful=False)
            else:
                there.append(cluster.add_node(num_cpus=1))
            print("done", file=answers)
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
