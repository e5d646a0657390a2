"""What an audit says: findings, each a check with its verdict, a sentence, and evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Audit", "Finding", "Verdict"]

Verdict = Literal["holds", "fails", "cannot tell"]


@dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
        check: its short name, such as ``supports`` or ``figures``.
        verdict: whether what it checks holds.
        sentence: what was found, for a reader who has not seen the evidence.
        evidence: JSON values.
    """

    check: str
    verdict: Verdict
    sentence: str
    evidence: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return {"check": self.check, "verdict": self.verdict, "sentence": self.sentence, "evidence": self.evidence}


@dataclass(frozen=True)
class Audit:
    """All findings about one thing.

    Attributes:
        subject: the caption of a table, or the name of a data set.
        line: where the table begins, from 1; 0 for a data set.
        findings: in the order of the checks.
    """

    subject: str
    line: int
    findings: Sequence[Finding]

    @property
    def verdict(self) -> Verdict:
        """``fails`` where a check fails; ``holds`` where every one holds."""
        verdicts = {finding.verdict for finding in self.findings}
        return "fails" if "fails" in verdicts else "cannot tell" if "cannot tell" in verdicts else "holds"

    def to_json(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return {
            "subject": self.subject,
            "line": self.line,
            "verdict": self.verdict,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def text(self) -> str:
        """The audit as lines of text."""
        title = self.subject + (f" (line {self.line})" if self.line else "")
        return "\n".join([title, *(f"  {finding.verdict:<11}  {finding.check}: {finding.sentence}" for finding in self.findings)])
