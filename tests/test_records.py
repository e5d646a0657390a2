"""What the docs say of speed and accuracy is what the records hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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
