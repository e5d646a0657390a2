"""What the docs say of speed and accuracy is what the records hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import profiles  # noqa: E402
from measure import README, readme_tables  # noqa: E402


def test_the_tables_of_the_readme_are_made_from_the_records() -> None:
    assert README.read_text(encoding="utf-8") == readme_tables(), "run python benchmarks/measure.py tables"


def test_the_table_of_profiles_is_made_from_the_record() -> None:
    assert profiles.PAGE.read_text(encoding="utf-8") == profiles.page(), "run python benchmarks/profiles.py tables"


@pytest.mark.parametrize("path", sorted((ROOT / "records").rglob("*.json")), ids=lambda path: path.stem)
def test_records_hold_no_path_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)
    assert not any(word in text for word in ("/home/", "/root/", "/work/", "/tmp/", "/Users/"))


@pytest.mark.parametrize("path", sorted((ROOT / "records" / "protocols").glob("*.json")), ids=lambda path: path.stem)
def test_a_protocols_accuracy_follows_from_its_confusion_matrix(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    for part in record["evaluation"].values():
        confusion = part["confusion"]
        correct = sum(row[label] for label, row in enumerate(confusion))
        total = sum(map(sum, confusion))
        assert part["accuracy"] == pytest.approx(correct / total, abs=1e-12)
    assert [epoch["epoch"] for epoch in record["history"]] == list(range(1, len(record["history"]) + 1))
    assert len(record["openings"]) >= 1
