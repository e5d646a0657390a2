"""Clusters: the runs of a study, a comparison or a search on the nodes of a Ray cluster, each brought back to the caller's folder; and
a team of workers for one run (`fittingroom.cluster.team`)."""

from __future__ import annotations

from fittingroom.cluster.crew import RayCrew
from fittingroom.workers import Crew

__all__ = ["AnyCrew", "RayCrew"]

AnyCrew = Crew | RayCrew
"""Who carries out jobs: workers on this machine, or a cluster."""
