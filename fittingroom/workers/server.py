"""The server: a process that has torch, the kernels and the data loaded, and forks a worker for each job.

A fork begins within milliseconds, shares code and data with its siblings (memory is copied on write, and nothing writes to either),
and is gone with its job: no job inherits memory, threads or damage from the one before.

Orders come as JSON lines on stdin, reports go as JSON lines to stdout; `fittingroom.workers.crew` is at the other end. Where stdin ends,
the workers are killed; where the server is gone, they end themselves.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch

from fittingroom import experiment, models, native, recipe
from fittingroom.data.resident import Resident
from fittingroom.environment import describe
from fittingroom.errors import FittingRoomError, out_of_memory
from fittingroom.experiment import Setting
from fittingroom.recipe import Loaded
from fittingroom.runs import Run
from fittingroom.train.loop import Diverged, fit
from fittingroom.train.precision import choose_precision
from fittingroom.workers.work import carry_out, seconds_per_image

__all__ = ["main"]

Report = Callable[..., None]

# A line that is no longer than this is written to a pipe in one piece, whoever else writes.
ONE_PIECE = 4096
LONGEST_REASON = 800
WATCH_SECONDS = 0.2
# How long a worker waits for a run folder whose owner, orphaned, has yet to notice.
PATIENCE_SECONDS = 30.0


def main() -> None:
    """Serve until stdin ends."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever else prints must not come among the reports
    _warm()
    _Server(out).serve()


def _warm() -> None:
    """Have torch load what it loads when it is first used, so that no worker has to: train a network on eight empty images."""
    torch.set_num_threads(1)  # a process with threads of its own must not be forked
    describe()
    models.describe("lenet5")
    native.kernels()
    if torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return  # the first backward pass starts a thread for each GPU
    small = recipe.load("lenet5", {"train.epochs": 1}).recipe
    model = experiment.new_model(small, (1, 28, 28), 10, torch.device("cpu"))
    images = Resident(torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.arange(8), np.ones(1, np.float32), np.zeros(1, np.float32))
    for _ in fit(model, images, images, small, 10, choose_precision(small.train.precision, torch.device("cpu"))):
        pass


class _Server:
    def __init__(self, out: int) -> None:
        self.out = out
        self.selector = selectors.DefaultSelector()
        self.pids: dict[str, int] = {}

    def serve(self) -> None:
        self.selector.register(0, selectors.EVENT_READ)
        orders = _lines(0)
        while True:
            for ready, _ in self.selector.select():
                if ready.fd != 0:
                    self._ended(ready.fd, ready.data)
                elif (received := next(orders, None)) is None:
                    self._give_up()
                    return
                else:
                    for line in received:
                        self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if order["do"] != "stop":
            self._fork(order)
        elif order["key"] in self.pids:
            os.kill(self.pids[order["key"]], signal.SIGKILL)

    def _fork(self, order: dict[str, Any]) -> None:
        loaded = Loaded(recipe.load(order["recipe"]).recipe, order["origins"])
        _share_data(loaded, order)
        parent = os.getpid()
        # Nothing is ever written to this pipe: that its other end is closed tells that the worker has ended.
        alive, held = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or too little memory: this job's trouble, not that of the others
            os.close(alive)
            os.close(held)
            _report(self.out, order["key"], "failed", reason=f"no worker can be started: {error.strerror}", final=False, code=1)
            _report(self.out, order["key"], "ended", status=1)
            return
        if pid == 0:
            _live(order, loaded, self.out, parent)
        os.close(held)
        self.pids[order["key"]] = pid
        self.selector.register(alive, selectors.EVENT_READ, order["key"])

    def _ended(self, alive: int, key: str) -> None:
        self.selector.unregister(alive)
        os.close(alive)
        _, status = os.waitpid(self.pids.pop(key), 0)
        _report(self.out, key, "ended", status=os.waitstatus_to_exitcode(status))

    def _give_up(self) -> None:
        for pid in self.pids.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids.values():
            os.waitpid(pid, 0)


def _lines(descriptor: int) -> Iterator[list[bytes]]:
    """Yield the whole lines that each read completes, without ever waiting for the rest of one."""
    rest = b""
    while received := os.read(descriptor, 1 << 16):
        *lines, rest = (rest + received).split(b"\n")
        yield lines


def _report(out: int, key: str, event: str, **values: Any) -> None:
    line = json.dumps({"key": key, "event": event, **values}, ensure_ascii=False).encode(errors="replace") + b"\n"
    assert len(line) <= ONE_PIECE, f"a report of {len(line)} bytes"
    with suppress(BrokenPipeError):  # nobody listens any more: stdin will end too
        os.write(out, line)


def _share_data(loaded: Loaded, order: dict[str, Any]) -> None:
    """Have the data of a job in memory, split, before the fork. What is wrong with them, or with memory, the worker will find and say."""
    data_dir = Path(order["data_dir"]) if order["data_dir"] else None
    with suppress(Exception):  # an error here would end the workers of all other jobs
        experiment.keep(loaded.recipe, data_dir)


def _live(order: dict[str, Any], loaded: Loaded, out: int, parent: int) -> None:
    """Be a worker: carry out one job, report, and end."""

    def report(event: str, **values: Any) -> None:
        _report(out, order["key"], event, **values)

    code = 1
    try:
        Thread(target=_end_with, args=(parent,), daemon=True).start()
        if order["cores"] and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, order["cores"])
        report("done", **_carried_out(order, loaded, report))
        code = 0
    except FittingRoomError as error:
        report("failed", reason=str(error)[:LONGEST_REASON], final=isinstance(error, Diverged), code=error.exit_code)
        code = error.exit_code
    except Exception as error:
        if not out_of_memory(error):  # that is a death like one by the system's hand: another worker may have more luck
            traceback.print_exc()  # a defect, and nobody else will tell where
            report("failed", reason=f"{type(error).__name__}: {error}"[:LONGEST_REASON], final=False, code=1)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _end_with(parent: int) -> None:
    """End this process when its parent has gone."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def _carried_out(order: dict[str, Any], loaded: Loaded, report: Report) -> dict[str, Any]:
    setting = Setting(
        data_dir=Path(order["data_dir"]) if order["data_dir"] else None,
        device=order["device"],
        threads=order["threads"],
        notify=lambda line: report("note", line=line[:LONGEST_REASON]),
        progress=lambda epoch, step, steps: report("step", epoch=epoch, part=step / steps),
        epoch_done=lambda record: report("epoch", record=record),
    )
    if order["do"] == "time":
        return seconds_per_image(loaded, setting)
    folder = Path(order["folder"])
    _until_free(Run(folder))
    carry_out(loaded, folder, order["test"], setting)
    return {}


def _until_free(run: Run) -> None:
    """Wait for the worker of a crew that was killed a moment ago; who owns the folder longer than that is told by `Run.owned`."""
    end = time.monotonic() + PATIENCE_SECONDS
    while run.locked and time.monotonic() < end:
        time.sleep(0.02)
