"""The pages whose tables are made from records: they say what the records say, and the records hold together."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest

from benchmarks import pages, runner, scale, searches

ROOT = Path(__file__).parent.parent
SCALE = ROOT / "records" / "scale.json"
SEARCHES = sorted((ROOT / "records" / "searches").glob("*.json"))


def test_the_pages_are_made_from_the_records() -> None:
    made = pages.documents()
    assert ROOT / "docs" / "speed.md" in made
    for page, text in made.items():
        assert page.read_text(encoding="utf-8") == text, "make pages"


@pytest.mark.skipif(not SCALE.exists(), reason="not measured yet: python -m benchmarks.scale run")
def test_what_was_predicted_is_near_what_was_measured() -> None:
    for row, seconds in scale.compared():
        middle = sorted(seconds)[len(seconds) // 2]
        assert row.wall == pytest.approx(middle, rel=0.25)
    assert len(json.loads(SCALE.read_text(encoding="utf-8"))["rounds"]) >= 2


def test_a_study_costs_little_beside_its_runs() -> None:
    for one in json.loads((ROOT / "records" / "runner.json").read_text(encoding="utf-8")).values():
        assert 0 < runner.overhead(one["seconds"], one["workers"], one["runs"]) < 0.05


def test_every_search_that_comes_with_the_program_has_its_row() -> None:
    assert set(searches.SEARCHES) == {path.stem for path in (ROOT / "fittingroom" / "spaces").glob("*.toml")}


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_a_recorded_search_is_whole(path: Path) -> None:
    search = json.loads(path.read_text(encoding="utf-8"))["search"]
    assert [trial["number"] for trial in search["trials"]] == list(range(len(search["trials"])))
    complete = [trial for trial in search["trials"] if trial["state"] == "complete"]
    assert search["best"]["value"] == max(trial["value"] for trial in complete)
    winner = max(search["finalists"], key=lambda one: fmean(one["scores"].values()))
    assert search["winner"] == winner["number"]
    assert search["optimism"]["value"] == pytest.approx(search["best"]["value"] - fmean(winner["scores"].values()))
