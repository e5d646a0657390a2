"""The page on tuning: what it says of the searches that come with the program is what the records say."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from statistics import fmean

import pytest

ROOT = Path(__file__).parent.parent
RECORDS = sorted((ROOT / "records" / "searches").glob("*.json"))


def test_the_page_is_made_from_the_records() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "searches.py"))
    assert (ROOT / "docs" / "tuning.md").read_text(encoding="utf-8") == script["page"](), "run python benchmarks/searches.py tables"
    assert set(script["SEARCHES"]) == {path.stem for path in (ROOT / "fittingroom" / "spaces").glob("*.toml")}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_recorded_search_is_whole(path: Path) -> None:
    search = json.loads(path.read_text(encoding="utf-8"))["search"]
    assert [trial["number"] for trial in search["trials"]] == list(range(len(search["trials"])))
    complete = [trial for trial in search["trials"] if trial["state"] == "complete"]
    assert search["best"]["value"] == max(trial["value"] for trial in complete)
    winner = max(search["finalists"], key=lambda one: fmean(one["scores"].values()))
    assert search["winner"] == winner["number"]
    assert search["optimism"]["value"] == pytest.approx(search["best"]["value"] - fmean(winner["scores"].values()))
