"""Claims against results: a verdict for each, with its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fittingroom.study.file import AnyClaim, Study
from fittingroom.study.results import Result

__all__ = ["VERDICTS", "Verdict", "judge"]

VERDICTS = (
    "reproduced",
    "higher than claimed",
    "lower than claimed",
    "supported",
    "not supported",
    "undecided",
    "contradicted by the report itself",
    "not testable",
    "not yet run",
)


@dataclass(frozen=True)
class Verdict:
    """What was found of one claim.

    Attributes:
        claim: the claim.
        verdict: one of `VERDICTS`.
        measured: the measured figure in few words, `0.9021 ± 0.0012`; empty where nothing was.
        sentence: what was found, in plain words, one or two sentences.
        cautions: what weakens it: a single seed, a reduced budget, assumptions it hangs on.
        evidence: runs, seeds, estimates, interval or paired differences, test, findings: plain JSON values.
    """

    claim: AnyClaim
    verdict: str
    measured: str
    sentence: str
    cautions: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)


def judge(study: Study, results: Sequence[Result]) -> list[Verdict]:
    """Return a verdict for each claim of the study, in the order written."""
    raise NotImplementedError
