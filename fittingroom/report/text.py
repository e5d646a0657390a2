"""Numbers as a reader wants them: percentages, durations, counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["compact", "duration", "flatten", "moment", "percent", "plural", "points", "sureness", "value"]

SPACE = "\u202f"  # narrow and unbreakable: the number and its sign stay together


def percent(share: float, digits: int = 1) -> str:
    """Return ``92.4 %`` for 0.924."""
    return f"{share * 100:.{digits}f}{SPACE}%".replace("-", "−")


def points(share: float, digits: int = 1) -> str:
    """Return ``2.1 points`` for a difference of 0.021 between two percentages."""
    return f"{share * 100:.{digits}f}{SPACE}points".replace("-", "−")


def sureness(probability: float) -> str:
    """Return a probability as a percentage that never rounds up to certainty."""
    return f"over 99.9{SPACE}%" if 0.9995 <= probability < 1 else percent(probability)


def moment(written: str) -> str:
    """Return an ISO 8601 time as ``20 November 2026, 14:32 UTC``; anything else as it stands."""
    try:
        time = datetime.fromisoformat(written)
    except ValueError:
        return written
    if time.tzinfo is None:
        return f"{time.day} {time:%B %Y, %H:%M}"
    time = time.astimezone(UTC)
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def plural(count: float, noun: str, many: str | None = None) -> str:
    """Return ``1 epoch``, ``2 epochs``, ``2 classes``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def compact(count: float) -> str:
    """Return a count in three figures or so: ``842``, ``61.7 k``, ``4.21 M``, ``11.2 G``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= size:
            return f"{count / size:.3g}{SPACE}{unit}" if abs(count) < 999.5 * size else f"{count / size:,.0f}{SPACE}{unit}"
    return f"{count:,.0f}"


def duration(seconds: float) -> str:
    """Return ``3.2 s``, ``1 min 42 s`` or ``2 h 5 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f}{SPACE}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{SPACE}min\u00a0{whole % 60}{SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,}{SPACE}h\u00a0{minutes % 60}{SPACE}min"


def value(item: Any) -> str:
    """Return a recipe's or a record's value as a person would write it."""
    if item is None:
        return "—"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return f"{item}" if abs(item) < 10_000 else f"{item:,}"
    if isinstance(item, float):
        return f"{item:g}" if math.isfinite(item) else str(item)
    if isinstance(item, list | tuple):
        return ", ".join(map(value, item)) or "—"
    return str(item) or "—"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys, in their order."""
    flat: dict[str, Any] = {}
    for key, item in values.items():
        if isinstance(item, Mapping) and item:
            flat |= flatten(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat
