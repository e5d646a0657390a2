"""Folders for the while: gone with their process, and where that was killed, with the next one that makes such a folder."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fittingroom.runs import Run

__all__ = ["scratch"]

LAST_WORDS_SECONDS = 3.0


@contextmanager
def scratch(kind: str, base: Path | None = None) -> Iterator[Path]:
    """Give an empty folder, ``fittingroom-KIND-…``, for the length of a ``with`` block; what killed processes left goes first.

    Args:
        kind: what it is for.
        base: the folder that it is in; None takes the system's folder for such things.
    """
    base = base or Path(tempfile.gettempdir())
    prefix = f"fittingroom-{kind}-"
    for left in base.glob(f"{prefix}*"):
        with suppress(OSError):
            if not Run(left).locked:
                shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=base))
    with Run(new).owned():  # before others see it, and until it is gone; the lock of a run folder serves any folder
        folder = new.rename(base / new.name[1:])
        try:
            yield folder
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder into which processes that are about to end may still write a last word."""
    end = time.monotonic() + LAST_WORDS_SECONDS
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)
