"""How the benchmark talks with a peer: a JSON object a line, each way; a peer that is not asked waits on its input and costs nothing.

    → {"call": "build", "with": {"network": "lenet5", "batch": 32, "seed": 0, "variant": "fp32"}}
    ← {"result": 61706, "peak": 412000256}

The functions of a peer that trains are those of `Peer`; ``peak`` is the largest memory the process has held so far, in bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

__all__ = ["Peer", "Remote", "serve"]


class Peer(Protocol):
    """What the process of a peer offers."""

    def variants(self, network: str) -> list[str]:
        """Ways to train ``network`` that this peer's users choose from; the fastest is timed."""

    def build(self, network: str, batch: int, seed: int, variant: str) -> int:
        """Make a new network and all it needs to be trained; return its number of trainable parameters."""

    def train(self, images: int, epochs: int) -> float:
        """Train on the first ``images`` of the training images, in random order; return the seconds that the epochs took."""

    def accuracy(self, by_batch: bool = False) -> float:
        """The share of the validation images that are classified right; ``by_batch`` normalises by the statistics of each 500 of them."""


def serve(peer: object) -> None:
    """Answer requests from standard input until it is closed."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log, not between the answers
    print(json.dumps({"result": None, "peak": _peak()}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        result = getattr(peer, request["call"])(**request["with"])
        print(json.dumps({"result": result, "peak": _peak()}), file=answers, flush=True)


def _peak() -> int:
    """VmHWM: unlike what `resource` tells, it does not begin with the memory of the process that started this one."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class Remote:
    """The process of a peer, seen from the benchmark.

    Args:
        command: module of `benchmarks.peers` and its arguments.
        log: the file to which what it prints is appended.
        environment: its environment variables.

    Attributes:
        start: seconds from nothing to the first answer.
        peak: bytes, as of the last answer.
    """

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self.command = command
        self.log = log
        self.peak = 0
        began = time.perf_counter()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.peers.{command[0]}", *command[1:]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        self._answer()
        self.start = time.perf_counter() - began

    def call(self, function: str, **arguments: Any) -> Any:
        """Call a function of the peer; return what it returns.

        Raises:
            SystemExit: the peer has died.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # said below
            print(json.dumps({"call": function, "with": arguments}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            told = self.log.read_text(errors="replace").strip().splitlines()
            raise SystemExit(f"{' '.join(self.command)} ended with code {self._process.wait()}: {told[-1] if told else 'it said nothing'}")
        answer = json.loads(line)
        self.peak = answer["peak"]
        return answer["result"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
