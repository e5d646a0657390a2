"""The page on scale: its example and its table are what the records say, and what was predicted is near what was measured."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "records" / "scale.json"


def test_the_page_is_made_from_the_records() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "scale.py"))
    assert (ROOT / "docs" / "scale.md").read_text(encoding="utf-8") == script["page"](), "run python benchmarks/scale.py tables"


@pytest.mark.skipif(not RECORD.exists(), reason="not measured yet: python benchmarks/scale.py run")
def test_what_was_predicted_is_near_what_was_measured() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "scale.py"))
    for row, seconds in script["compared"]():
        middle = sorted(seconds)[len(seconds) // 2]
        assert row.wall == pytest.approx(middle, rel=0.25)
    assert len(json.loads(RECORD.read_text(encoding="utf-8"))["rounds"]) >= 2
