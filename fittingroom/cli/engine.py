"""``--engine`` and ``--address``: who trains the runs, this machine's cores or a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fittingroom.cli.output import note
from fittingroom.errors import UsageError, nearest

if TYPE_CHECKING:
    from fittingroom.cluster import AnyCrew

__all__ = ["Address", "Engine", "check_engine", "open_crew"]

ENGINES = ("local", "ray")

Engine = Annotated[str, typer.Option("--engine", help="local: the cores of this machine; ray: a cluster.")]
Address = Annotated[
    str | None, typer.Option("--address", metavar="HOST:PORT", help="The cluster's head; default: Ray on this machine.", show_default=False)
]


def check_engine(engine: str, address: str | None) -> None:
    """Refuse what is no engine, and an address without a cluster.

    Raises:
        UsageError: either.
    """
    if engine not in ENGINES:
        raise UsageError(f"unknown engine '{engine}'{nearest(engine, ENGINES)}; known: {', '.join(ENGINES)}")
    if address is not None and engine != "ray":
        raise UsageError("--address is a cluster's; write --engine ray too")


def open_crew(engine: str, address: str | None, workers: int | None, data_dir: Path | None, device: str) -> AnyCrew:
    """Return workers on this machine or on a cluster, to be used as a context.

    Raises:
        UsageError: as `check_engine` has it.
        ExtraMissing: Ray is not installed.
        RunError: no cluster answers at the address, or this system's processes cannot fork.
    """
    check_engine(engine, address)
    from fittingroom.cluster import RayCrew
    from fittingroom.workers import Crew

    return RayCrew(address, workers, data_dir, device, note) if engine == "ray" else Crew(workers, data_dir, device)
