"""Several processes at one search: each asks, trains and tells by itself; the one that started them only listens.

A worker gets its order as JSON on stdin and answers in lines of JSON. When the process that started it is gone, it stops after the
epoch in hand, and its trial rests until the same command is given again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

from pydantic import BaseModel, ConfigDict

from fittingroom.errors import FittingRoomError
from fittingroom.experiment import Setting
from fittingroom.tune.finalists import train_finalists
from fittingroom.tune.search import Search, training, work
from fittingroom.tune.space import Space

__all__ = ["Order", "carry_out", "main", "start"]

INTERRUPTED = 130
"""Exit code of a worker that was asked to end."""


class Order(BaseModel):
    """What a worker is to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    space: Space
    url: str | None = None
    deadline: float | None = None
    data_dir: Path | None = None
    device: str = "auto"
    threads: int | None = None
    places: int = 1


def carry_out(order: Order, alive: Callable[[], None] = lambda: None, notify: Callable[[str], None] = lambda line: None) -> None:
    """Do a worker's work in this process: trials until the budget is used up, then the finalists.

    Raises:
        FittingRoomError: something that a person must mend.
    """
    setting = Setting(data_dir=order.data_dir, device=order.device, threads=order.threads)
    with Search.at(order.folder, order.space, order.url, order.places) as search:
        work(search, training(order.space.objective, setting), order.deadline, alive, notify)
        train_finalists(search, setting, alive, notify)


def start(order: Order, workers: int, notify: Callable[[str], None]) -> None:
    """Do the work in several processes, and return when all is done.

    A process that is killed loses its trial to the others.

    Raises:
        FittingRoomError: what a worker met that a person must mend, or no worker came to its end.
    """
    order = order.model_copy(update={"places": workers})
    children: list[_Child] = []
    try:
        for _ in range(workers):
            children.append(_Child(order, notify))
        codes = [child.wait() for child in children]
    except BaseException:
        for child in children:
            child.process.terminate()
        for child in children:
            child.wait()
        raise
    for child in children:
        if child.error:
            error = FittingRoomError(child.error)
            error.exit_code = child.process.returncode
            raise error
    if not any(code == 0 for code in codes):
        raise FittingRoomError(_all_dead(codes))


def _all_dead(codes: Sequence[int]) -> str:
    """Say how the workers ended where none came to the end of its work: by what others did to them, or by a defect of their own."""
    ended = ", ".join(f"exit code {code}" if code >= 0 else f"signal {-code}" for code in codes)
    if all(code < 0 or code == INTERRUPTED for code in codes):
        return f"all workers were killed ({ended}); the same command goes on"
    return f"no worker came to its end ({ended}); what they wrote above says why, and the same command goes on"


class _Child:
    """A worker as a process of its own."""

    def __init__(self, order: Order, notify: Callable[[str], None]) -> None:
        self.error = ""
        self._notify = notify
        command = [sys.executable, "-m", "fittingroom.tune.worker", str(os.getpid())]
        environ = {**os.environ, "OMP_NUM_THREADS": "1"} if order.threads == 1 else None
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died at its start: its exit code says so
            self.process.stdin.write(order.model_dump_json())
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            self.error = said.get("error", self.error)
            if "note" in said:
                self._notify(said["note"])

    def wait(self) -> int:
        """Return the exit code when the process has ended and all that it said was heard."""
        code = self.process.wait()
        self._listener.join()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def main() -> None:
    """Be a worker: ``python -m fittingroom.tune.worker PARENT`` with an `Order` on stdin."""
    parent = int(sys.argv[1])
    signal.signal(signal.SIGTERM, _interrupted)

    def alive() -> None:
        if os.getppid() != parent:
            raise KeyboardInterrupt

    try:
        carry_out(Order.model_validate_json(sys.stdin.read()), alive, lambda line: _say({"note": line}))
    except FittingRoomError as error:
        _say({"error": str(error)})
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(value: dict[str, Any]) -> None:
    try:
        print(json.dumps(value), flush=True)
    except BrokenPipeError:  # nobody listens any more; `alive` will find out
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


if __name__ == "__main__":
    main()
