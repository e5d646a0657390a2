"""Seeds for every purpose of a run, derived from its one seed, so that nothing depends on what was drawn before.

An epoch's order, augmentation and dropout follow from (seed, purpose, epoch) alone. A resumed run therefore needs
no generator states: it repeats the epoch from its start and gets the same bits.
"""

from __future__ import annotations

import hashlib

__all__ = ["derive"]


def derive(seed: int, purpose: str, *numbers: int) -> int:
    """Return a seed in ``0 … 2**63 - 1`` that is a fixed, well-mixed function of its arguments."""
    text = ":".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
