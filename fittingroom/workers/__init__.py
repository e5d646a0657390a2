"""Workers: many runs on the cores of this machine, each a process of its own, none lost whatever is killed."""

from __future__ import annotations

from fittingroom.workers.crew import Crew, Event, Job

__all__ = ["Crew", "Event", "Job"]
