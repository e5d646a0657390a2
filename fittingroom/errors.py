"""The one family of errors that a person can mend.

Each is raised where the cause is known and carries one line that says what is wrong, where, and what to
do about it. The command line prints that line and exits with the class's ``exit_code``; anything that is
not a ``FittingRoomError`` is a defect of the program.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "DataError",
    "DataMissing",
    "ExtraMissing",
    "FittingRoomError",
    "RunError",
    "UsageError",
    "nearest",
    "out_of_memory",
]


class FittingRoomError(Exception):
    """Something went wrong that the user can mend; the message says how."""

    exit_code = 1


class UsageError(FittingRoomError):
    """A recipe, option or argument that cannot be accepted as written."""

    exit_code = 2


class DataMissing(FittingRoomError):
    """The data set is not on this machine and could not be fetched."""

    exit_code = 4


class ExtraMissing(FittingRoomError):
    """An optional dependency is needed; the message says how it is installed.

    Args:
        missing: what is not there, as the beginning of the message.
        extra: name of the extra that brings it.
        instead: what the user can do without it, where there is something.
    """

    exit_code = 5

    def __init__(self, missing: str, extra: str, instead: str = "") -> None:
        # From the checkout, as the README has it: no index is known to hold this program under its name.
        otherwise = f", or {instead}" if instead else ""
        super().__init__(f"{missing}; in the checkout of this program: pip install '.[{extra}]'{otherwise}")


class DataError(FittingRoomError):
    """A data file is damaged, or is not what its format promises."""


class RunError(FittingRoomError):
    """A run folder is missing, damaged, in use, or its training failed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` — did you mean 'x'?`` for the known word closest to ``word``, or ``""`` if none is close."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" — did you mean '{matches[0]}'?" if matches else ""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's own error, or torch's, which is not imported to find out."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
