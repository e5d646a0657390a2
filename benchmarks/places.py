"""Where a record lies whose figures depend on the instructions that our kernels use."""

from __future__ import annotations

from pathlib import Path

from fittingroom import native

__all__ = ["HIGHEST", "record_of"]

HIGHEST = native.LEVELS[-1]


def record_of(folder: Path, name: str, kernels: str) -> Path:
    """The file of a record made with these kernels: ``NAME.json`` for the highest of `native.LEVELS`, one of its own for others."""
    return folder / (f"{name}.json" if kernels == HIGHEST else f"{name}-{kernels}.json")
