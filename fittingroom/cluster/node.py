"""What a node is asked to do: a Ray task that checks whether it would compute what the caller would, and carries a run out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fittingroom.cluster.software import difference, software
from fittingroom.cluster.transfer import Parcel

__all__ = ["carry_out"]


def carry_out(sent: bytes, data: Sequence[Any]) -> Iterator[bytes]:
    """Carry out a job; yield what happens, each time with the files that changed.

    Args:
        sent: a `Parcel`: the order, and the files that the caller has of the run.
        data: Ray's reference to the caller's set; fetched only where this node has no copy of its own.
    """
    parcel = Parcel.from_bytes(sent)
    if different := difference(software(), parcel.message["software"]):
        yield Parcel({"event": "refused", "reason": different}).to_bytes()
        return
    import ray

    from fittingroom.cluster import training  # only now: without the software it could not be

    for told in training.carry_out(parcel, lambda: ray.get(data[0])):
        yield told.to_bytes()
