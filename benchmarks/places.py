"""Where a record lies whose figures depend on the instructions that our kernels use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fittingroom import native

__all__ = ["HIGHEST", "read_record", "record_of"]

RECORDS = Path(__file__).parent.parent / "records"

HIGHEST = native.LEVELS[-1]


def record_of(name: str, kernels: str) -> Path:
    """The file of a record made with these kernels: ``NAME.json`` for the highest of `native.LEVELS`, one of its own for others."""
    return RECORDS / (f"{name}.json" if kernels == HIGHEST else f"{name}-{kernels}.json")


def read_record(name: str, kernels: str = HIGHEST) -> dict[str, Any] | None:
    """What was measured with these kernels, if it was."""
    path = record_of(name, kernels)
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record
