"""A run on a node: trained in a folder for the while, by the same functions as anywhere else."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from fittingroom import recipe
from fittingroom.cluster import data
from fittingroom.cluster.scratch import scratch
from fittingroom.cluster.transfer import Followed, Parcel, write_into
from fittingroom.errors import FittingRoomError, out_of_memory
from fittingroom.experiment import Setting
from fittingroom.recipe import Loaded
from fittingroom.train.loop import Diverged
from fittingroom.workers import work

__all__ = ["carry_out"]

LONGEST_REASON = 800
STEP_SECONDS = 1.0
"""Between two reports of how far an epoch is."""
WITH_FILES = ("epoch", "done", "failed")

Report = Callable[..., None]


def carry_out(sent: Parcel, fetch: Callable[[], bytes]) -> Iterator[Parcel]:
    """Carry out a job; yield what happens: the events of `fittingroom.workers.Event` from `step` to `done` or `failed`.

    Args:
        sent: the order, and the files of a run to go on with.
        fetch: gives the caller's data.
    """
    _forget_memory_peak()
    told: SimpleQueue[Parcel | None] = SimpleQueue()
    with scratch("node") as place:
        folder = place / "run"
        write_into(folder, sent.files)
        # Training calls back and this yields; so they are two threads.
        worker = Thread(target=_live, args=(sent.message, folder, fetch, told.put), daemon=True)
        worker.start()
        while (one := told.get()) is not None:
            yield one
        worker.join()


def _live(order: Mapping[str, Any], folder: Path, fetch: Callable[[], bytes], say: Callable[[Parcel | None], None]) -> None:
    followed = Followed(folder)

    def report(event: str, **values: Any) -> None:
        # What is said of a path is said to someone who knows it under the caller's name.
        plain = {key: value.replace(str(folder), order["folder"])[:LONGEST_REASON] if isinstance(value, str) else value
                 for key, value in values.items()}  # fmt: skip
        say(Parcel({"event": event, **plain}, *(followed.changes() if event in WITH_FILES else ())))

    try:
        report("done", **_carried_out(order, folder, fetch, report))
    except FittingRoomError as error:
        report("failed", reason=str(error), final=isinstance(error, Diverged), code=error.exit_code)
    except Exception as error:
        traceback.print_exc()  # a defect, or too little memory: the node's log has it
        sys.stderr.flush()
        if out_of_memory(error):  # that is a death like one by the system's hand: another worker may have more luck
            os._exit(1)
        report("failed", reason=f"{type(error).__name__}: {error}", final=False, code=1)
    finally:
        say(None)


def _carried_out(order: Mapping[str, Any], folder: Path, fetch: Callable[[], bytes], report: Report) -> dict[str, Any]:
    loaded = Loaded(recipe.load(order["recipe"]).recipe, order["origins"])
    # A folder that all machines see, or none.
    data_dir = Path(order["data_dir"]) if order["data_dir"] and Path(order["data_dir"]).is_dir() else None
    data.hand_out(loaded.recipe.data, order["data"], data_dir, fetch)
    setting = Setting(
        data_dir=data_dir,
        device=order["device"],
        threads=order["threads"],
        download=False,
        notify=lambda line: report("note", line=line),
        progress=_now_and_then(lambda epoch, step, steps: report("step", epoch=epoch, part=step / steps)),
        epoch_done=lambda record: report("epoch", record=record),
    )
    if order["do"] == "time":
        return work.seconds_per_image(loaded, setting)
    work.carry_out(loaded, folder, order["test"], setting)
    return {}


def _now_and_then(report: Callable[[int, int, int], None]) -> Callable[[int, int, int], None]:
    """Report steps, but not every one."""
    last = 0.0

    def progress(epoch: int, step: int, steps: int) -> None:
        nonlocal last
        if time.monotonic() - last >= STEP_SECONDS:
            last = time.monotonic()
            report(epoch, step, steps)

    return progress


def _forget_memory_peak() -> None:
    """Have the peak of a process that carries out one run after another be that of the run at hand (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
