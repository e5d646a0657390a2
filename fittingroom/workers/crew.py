"""The crew: jobs in, events out. It hands jobs to workers, tries again where one dies or fails, and pickles nothing.

The processes: this one; a server (`fittingroom.workers.server`) that has torch and the data loaded; and a fork of the server for each
job. They speak JSON lines over pipes. When this process ends, however it ends, the others do too; a job that was under way is
resumed from its checkpoint when it is added again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from fittingroom.environment import cores
from fittingroom.errors import RunError
from fittingroom.recipe import Loaded

__all__ = ["Crew", "Event", "Job"]

RETRIES = 3
"""How often a job whose worker died, or that failed for a reason that may pass, is given to another without having come further."""

MAY_PASS = 1
"""The code of failures that another attempt may not meet: full disks, too many processes, defects; others name what a person must mend."""

GRACE_SECONDS = 5.0
"""In which the server ends its workers and itself, when it is asked to; then it is killed."""

# Set before the server imports anything. A worker asks for the threads of its job itself; and a process that has spoken with a GPU
# cannot be forked, so torch is to find out by other means whether there is one.
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1") | {
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1"
}


@dataclass(frozen=True)
class Job:
    """A run to be carried out.

    Attributes:
        key: names it among the jobs of a crew.
        loaded: its recipe.
        folder: its run folder: made, or gone on with where there is a run.
        threads: of the worker; it takes as many of the crew's places.
        test: why the test set is opened at its end, once; empty leaves it sealed.
        do: `train` it, or only `time` a few steps: nothing is written then.
    """

    key: str
    loaded: Loaded
    folder: Path
    threads: int = 1
    test: str = ""
    do: Literal["train", "time"] = "train"


@dataclass(frozen=True)
class Event:
    """Something that happened to a job.

    Attributes:
        job: the job.
        kind: `started`; `step` (values `epoch`, `part`: how much of it is done); `epoch` (`record`); `note` (`line`); `died`
            (`reason`): its worker is gone, or gave up, and the job waits for another. One of these is the last: `done` (for a timing:
            `seconds_per_image`, None for a classical model, `images`, those of a training pass, and `device`); `failed`
            (`reason`, whether it is `final`, so that it would fail again, and the `code` with which a command would exit); `stopped`, by
            `Crew.stop`.
        values: as said.
    """

    job: Job
    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Begun:
    """What the crew remembers of a job: the places it takes, how far it came, how often its workers died or failed on the way there."""

    job: Job
    places: list[int] = field(default_factory=list)
    epoch: int = 0
    deaths: int = 0
    stopping: bool = False
    last: dict[str, Any] | None = None


class Crew:
    """Workers on this machine, to be used as a context.

    Args:
        workers: how many jobs of one thread are under way at once; None takes the number of cores.
        data_dir: where to look for data first.
        device: `auto`, `cpu`, `cuda`.

    Raises:
        RunError: this system's processes cannot fork.
    """

    def __init__(self, workers: int | None = None, data_dir: Path | None = None, device: str = "auto") -> None:
        if not hasattr(os, "fork"):
            raise RunError("workers need a system whose processes can fork, such as Linux or macOS; train the runs one by one")
        self._all_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.workers = workers or cores()
        self._options = {"data_dir": str(data_dir) if data_dir else None, "device": device}
        self._server: subprocess.Popen[bytes] | None = None
        self._waiting: deque[_Begun] = deque()
        self._running: dict[str, _Begun] = {}

    @property
    def workers(self) -> int:
        """How many jobs of one thread are under way at once; it can be changed while none is."""
        return self._workers

    @workers.setter
    def workers(self, workers: int) -> None:
        assert not getattr(self, "_running", None), "jobs are under way"
        self._workers = workers
        self._free = list(range(workers))
        # One core each, where there are enough; a single worker is left to the system, which may know a quieter core.
        self._cores = self._all_cores if 1 < workers <= len(self._all_cores) else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def add(self, job: Job) -> None:
        """Let a job wait for its turn; also while `events` is being read.

        Raises:
            ValueError: a job of this key is waiting or running.
        """
        if job.key in self._running or any(begun.job.key == job.key for begun in self._waiting):
            raise ValueError(f"there is a job '{job.key}' already")
        self._waiting.append(_Begun(job))

    def stop(self, key: str) -> None:
        """End a job before its time; its run folder stays as of the last checkpoint. What is not there any more is let be."""
        if (begun := self._running.get(key)) is not None:
            begun.stopping = True
            self._send({"do": "stop", "key": key})
        for begun in self._waiting:
            begun.stopping = begun.stopping or begun.job.key == key

    def events(self) -> Iterator[Event]:
        """Yield what happens, until no job is waiting or running."""
        while self._waiting or self._running:
            yield from self._hand_out()
            if not self._running:
                continue
            line = self._started().stdout.readline()  # type: ignore[union-attr]
            yield from self._heard(json.loads(line)) if line.endswith(b"\n") else self._server_died()

    def close(self) -> None:
        """End all workers; what was under way can be gone on with."""
        if self._server is not None:
            for pipe in (self._server.stdin, self._server.stdout):
                with suppress(BrokenPipeError):  # it is dead, and what was written to it was never read
                    pipe.close()  # type: ignore[union-attr]
            try:
                self._server.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:  # it loads or downloads, and does not listen; its workers end without it
                self._server.kill()
                self._server.wait()
            self._server = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "fittingroom.workers"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,  # Ctrl-C is for this process, which ends the others
            )
        return self._server

    def _send(self, order: Mapping[str, Any]) -> None:
        stdin = self._started().stdin
        assert stdin is not None
        with suppress(BrokenPipeError):  # the server is dead: reading will tell
            stdin.write(json.dumps(order).encode() + b"\n")
            stdin.flush()

    def _hand_out(self) -> Iterator[Event]:
        """Give jobs to free workers, in the order in which they were added."""
        while self._waiting:
            begun = self._waiting[0]
            places = min(begun.job.threads, self.workers)
            if not begun.stopping and len(self._free) < places:
                return
            self._waiting.popleft()
            if begun.stopping:
                yield Event(begun.job, "stopped")
                continue
            begun.places, self._free = self._free[:places], self._free[places:]
            self._running[begun.job.key] = begun
            self._send(self._order(begun))
            yield Event(begun.job, "started")

    def _order(self, begun: _Begun) -> dict[str, Any]:
        job = begun.job
        return {
            "do": job.do,
            "key": job.key,
            "recipe": job.loaded.recipe.values,
            "origins": job.loaded.origins,
            "folder": str(job.folder),
            "threads": job.threads,
            "test": job.test,
            "cores": [self._cores[place] for place in begun.places] if self._cores else [],
            **self._options,
        }

    def _heard(self, message: dict[str, Any]) -> Iterator[Event]:
        begun = self._running[message.pop("key")]
        kind = message.pop("event")
        if kind == "ended":
            yield from self._ended(begun, message["status"])
        elif kind in ("done", "failed"):
            begun.last = {"kind": kind, **message}  # told when the worker has gone and its place is free
        else:
            if kind == "epoch" and (epoch := message["record"]["epoch"]) > begun.epoch:
                begun.epoch, begun.deaths = epoch, 0
            yield Event(begun.job, kind, message)

    def _ended(self, begun: _Begun, status: int) -> Iterator[Event]:
        del self._running[begun.job.key]
        self._free = sorted(self._free + begun.places)
        last, begun.last = begun.last, None
        if last is not None and (last["kind"] == "done" or last["final"] or last["code"] != MAY_PASS):
            yield Event(begun.job, last.pop("kind"), last)
        elif begun.stopping:
            yield Event(begun.job, "stopped")
        elif last is not None:
            yield self._again(begun, f"it failed: {last['reason']}", last["reason"])
        else:
            how = _ending(status)
            yield self._again(begun, f"its worker died, {how}", f"its worker died {begun.deaths + 1} times, the last time {how}")

    def _again(self, begun: _Begun, now: str, at_last: str) -> Event:
        """Let a job wait for another worker, or give it up after too many."""
        begun.deaths += 1
        if begun.deaths > RETRIES:
            return Event(begun.job, "failed", {"reason": at_last, "final": False, "code": MAY_PASS})
        self._waiting.appendleft(begun)
        return Event(begun.job, "died", {"reason": f"{now}; it goes on from its last checkpoint"})

    def _server_died(self) -> Iterator[Event]:
        assert self._server is not None
        status = self._server.wait()
        self.close()
        for begun in list(self._running.values()):
            yield from self._ended(begun, status)


def _ending(status: int) -> str:
    """Say how a process ended: an exit code, or a signal as its negative number."""
    if status >= 0:
        return f"with exit code {status}" + (" (memory?)" if status else "")
    name = signal.Signals(-status).name if -status in list(signal.Signals) else str(-status)
    return f"by {name}" + (" (memory?)" if name == "SIGKILL" else "")
