"""The pages whose tables are made from records: they say what the records say, and the records hold together."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest
from scipy import stats

from benchmarks import pages, runner, scale, searches
from fittingroom.runs import Run
from fittingroom.study.file import load, shipped

ROOT = Path(__file__).parent.parent
SCALE = ROOT / "records" / "scale.json"
SEARCHES = sorted([*(ROOT / "records" / "searches").glob("*.json"), *(ROOT / "records" / "studies").glob("*/searches/*.json")])


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
    of_studies = {runs.search for name in shipped() for runs in load(name).runs.values() if runs.search is not None}
    assert set(searches.SEARCHES) | of_studies == {path.stem for path in (ROOT / "fittingroom" / "spaces").glob("*.toml")}


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_a_recorded_search_is_whole(path: Path) -> None:
    search = json.loads(path.read_text(encoding="utf-8"))["search"]
    assert [trial["number"] for trial in search["trials"]] == list(range(len(search["trials"])))
    complete = [trial for trial in search["trials"] if trial["state"] == "complete"]
    assert search["best"]["value"] == max(trial["value"] for trial in complete)
    winner = max(search["finalists"], key=lambda one: fmean(one["scores"].values()))
    assert search["winner"] == winner["number"]
    best = next(one for one in search["finalists"] if one["number"] == search["best"]["number"])
    value, low, high = searches.luck(search)
    assert value == pytest.approx(search["best"]["value"] - fmean(best["scores"].values()))
    half = stats.t.interval(0.95, len(best["scores"]) - 1, scale=stats.sem(list(best["scores"].values())))[1]
    assert (low, high) == pytest.approx((value - half, value + half))
    assert searches.luck({**search, "winner": -1}) == (value, low, high), "whoever wins"


def test_a_comparison_says_which_seeds_picked_the_winner() -> None:
    pair = {"seeds": [1000, 1001], "sentence": "mlp (b) is better than mlp (a)."}
    comparison = {"standings": [{"recipe": "mlp (a)"}, {"recipe": "mlp (b)"}], "pairs": [pair]}
    said = searches._compared("custom-cnn-half-hour", {"finalists": [{"scores": {"101": 0.9, "102": 0.8}}]}, comparison)
    assert said.startswith("On seeds 1000 to 1001, which neither the search nor its finalists had: the winner is better")
    said = searches._compared("custom-cnn-half-hour", {"finalists": [{"scores": {"1000": 0.9, "1001": 0.8}}]}, comparison)
    assert "2 of which had picked it" in said


@pytest.mark.slow
def test_a_comparison_is_made_anew(made_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains what is not there, goes on with what is, and replaces nothing else in the record."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"ROOT": tmp_path, "RECORDS": tmp_path, "SEARCHES": {"mine.toml": "base.toml"}, "SEEDS": range(1000, 1002)}.items():
        monkeypatch.setattr(searches, name, value)
    Path("base.toml").write_text(f'model = {{ name = "mlp", hidden = [8] }}\ndata.name = "{made_set}"\ntrain.epochs = 1\n')
    Path("mine.toml").write_text('base = "base.toml"\nsampler = "grid"\n[space]\noptim.lr = [0.01, 0.03]\n')
    search = {"winner": 1, "trials": [{"number": number, "params": {"optim.lr": rate}} for number, rate in enumerate((0.01, 0.03))]}
    Path("mine.toml.json").write_text(json.dumps({"seconds": 1.5, "search": search, "comparison": "old"}))
    written = []
    for _ in range(2):
        searches.compare(["mine.toml"], 1)
        record = json.loads(Path("mine.toml.json").read_text())
        assert {**record, "comparison": "old"} == {"seconds": 1.5, "search": search, "comparison": "old"}
        assert record["comparison"]["pairs"][0]["seeds"] == [1000, 1001]
        assert [one["runs"][0] for one in record["comparison"]["standings"]] == ["base-1000", "winner-1000"]
        written.append({path: path.stat().st_mtime_ns for path in Path("runs/compared/mine.toml").glob("*/weights.safetensors")})
    assert len(written[0]) == 4
    assert written[0] == written[1], "nothing was trained again"
    assert Run(Path("runs/compared/mine.toml/winner-1001")).recipe.optim.lr == 0.03
