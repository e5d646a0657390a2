"""Native kernels for the layers that take the time on a CPU: what they are on this machine, and the switch to do without them.

The plain PyTorch path computes the same (dropout masks differ, their distribution does not) and is taken wherever the kernels
cannot be had. The environment variable ``FITTINGROOM_NATIVE`` says `0` to do without, or names a level: `portable`, `avx2`,
`avx512-bf16`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from fittingroom.native.library import LEVELS, Library, load

__all__ = ["LEVELS", "active", "available", "description", "enabled", "keep_freed_memory", "kernels"]

_enabled = True
_library: Library | None = None


def kernels() -> Library:
    """Load the kernels, once in a process; building them may take some seconds the very first time on a machine."""
    global _library
    if _library is None:
        _library = load(os.environ)
    return _library


def available() -> bool:
    """Whether the kernels can be used on this machine."""
    return kernels().call is not None


def active() -> bool:
    """Whether the kernels are to be used now."""
    return _enabled and kernels().call is not None


def description() -> str:
    """Say for the record which kernels are used: a name of `LEVELS`, or ``none: `` and why."""
    return kernels().description if _enabled else "none: switched off by the program"


@contextmanager
def enabled(on: bool = True, level: str | None = None) -> Iterator[None]:
    """Switch the kernels on or off within a block, for the whole process; ``level``, a name of `LEVELS`, lowers the instruction set."""
    global _enabled
    before, before_level = _enabled, kernels().level
    _enabled = on
    if level is not None:
        kernels().use(level)
    try:
        yield
    finally:
        _enabled = before
        if level is not None:
            kernels().use(before_level)


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory for the next step instead of handing it back to the system; whether it could be told.

    Each training step frees and asks again for the same tens of megabytes. Handed back in between, every page has to be cleared and
    mapped anew, which took 4 to 10 % of a step of `three-block`. It holds for the whole process, so call it where a process
    that trains begins; the peak of memory stays as it was.
    """
    trim_threshold, mmap_threshold = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # another C library
        return False
    # Older ones accept at most 32 MiB for the second.
    return bool(set_option(trim_threshold, 2**31 - 1) and (set_option(mmap_threshold, 2**30) or set_option(mmap_threshold, 2**25)))
