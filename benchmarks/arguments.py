"""What the benchmarks' command lines take."""

from __future__ import annotations

import argparse
import math

__all__ = ["count", "counts", "seconds"]


def count(text: str) -> int:
    """A whole number from 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1")
    return int(text)


def counts(text: str) -> list[int]:
    """Whole numbers from 1, with commas between them.

    Raises:
        argparse.ArgumentTypeError: one of them is none.
    """
    return [count(part) for part in text.split(",")]


def seconds(text: str) -> float:
    """A number above 0 that has an end.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
    return value
