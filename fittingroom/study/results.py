"""What is kept of a study's runs, and what can be measured of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Result", "measure"]


@dataclass(frozen=True)
class Result:
    """One finished run of a study, as its record has it; no weights, no run folder needed.

    Attributes:
        study: name of the study.
        run: name of the variation or grid.
        cell: the factors' values, for a cell of a grid; empty otherwise.
        seed: the run's seed.
        recipe: all values of the recipe.
        history: the lines of ``metrics.jsonl``.
        evaluation: by split, the evaluation as ``evaluation.json`` has it, without pictures of mistakes.
        correct: by split, for each image whether it was classified right (bool ``[N]``, in the order of ``indices``).
        environment: where it ran.
        code: fingerprint of the code that the result depends on.
        reduced: in what the run falls short of the study's protocol (`epochs 2 of 50`); empty for a full run.
    """

    study: str
    run: str
    cell: Mapping[str, Any]
    seed: int
    recipe: Mapping[str, Any]
    history: list[dict[str, Any]]
    evaluation: Mapping[str, Any]
    correct: Mapping[str, Any]
    environment: Mapping[str, Any]
    code: str
    reduced: tuple[str, ...] = ()


def measure(result: Result, metric: str) -> float | None:
    """Return a metric of a run, or None where the run cannot tell it."""
    raise NotImplementedError
