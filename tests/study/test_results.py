from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from fittingroom import experiment
from fittingroom.experiment import Setting
from fittingroom.runs import Run
from fittingroom.study.code import fingerprint
from fittingroom.study.file import load
from fittingroom.study.metrics import METRICS
from fittingroom.study.plan import Planned, plan
from fittingroom.study.results import Result, checksum, measure, read_records, read_results, write_record
from fittingroom.study.schema import Study
from tests.study.small import TEXT, write_study

SETTING = Setting(device="cpu", threads=1)


@pytest.fixture(scope="module")
def study(made_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    stop = ', stop = { monitor = "validation.accuracy", patience = 2 } }'
    text = TEXT.replace('precision = "fp32" }', f'precision = "fp32"{stop}').replace("lr = 0.003", "lr = 0.003, l2 = 0.001")
    return load(write_study(tmp_path_factory.mktemp("study"), made_set, epochs=5, text=text))


@pytest.fixture(scope="module")
def trained(study: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Planned, Run]]:
    """A network, one of fewer epochs, and a classical model."""
    folder = tmp_path_factory.mktemp("runs")
    chosen = {"whole": plan(study)[0], "reduced": plan(study, epochs=2)[0], "classical": plan(study, only=["bayes"])[0]}
    runs = {}
    for name, one in chosen.items():
        run = experiment.train(one.loaded, folder / name, setting=SETTING)
        experiment.evaluate(run, test=True, reason="the end", setting=SETTING)
        runs[name] = (one, run)
    return runs


@pytest.fixture
def records(trained: dict[str, tuple[Planned, Run]], tmp_path: Path) -> Path:
    for one, run in trained.values():
        write_record(tmp_path, one.key, run, "0123456789abcdef", one.full, one.reduced)
    return tmp_path


@pytest.fixture
def results(records: Path, study: Study) -> dict[str, Result]:
    plain, shared, classical = read_results(records, study)
    assert (shared.run, shared.cell, shared.recipe) == ("poolings", {"pooling": "average"}, plain.recipe)
    return {"whole": plain, "classical": classical}


def test_what_is_read_is_what_was_written(results: dict[str, Result], trained: dict[str, tuple[Planned, Run]]) -> None:
    for name, result in results.items():
        one, run = trained[name]
        assert (result.study, result.run, result.seed, result.code) == ("small", one.run, 0, "0123456789abcdef")
        assert result.recipe == run.recipe.values
        assert result.reduced == ()
        assert len(result.history) == len(run.history)
        for line, expected in zip(result.history, run.history, strict=True):
            assert line["validation"] == pytest.approx(dict(expected["validation"]), rel=1e-6)
        for split in ("validation", "test"):
            part = result.evaluation[split]
            expected = run.evaluation[split]
            assert part["accuracy"] == expected["accuracy"], "exact, whatever is rounded"
            assert part["loss"] == pytest.approx(expected["loss"], rel=1e-6)
            assert part["per_class"] == expected["per_class"]
            assert {key for key in part if part[key] != expected[key]} <= {"loss", "calibration"}
            predictions = run.read_predictions(split)
            assert result.correct[split].tolist() == (predictions.probabilities.argmax(1) == predictions.labels).tolist()


def test_a_record_is_small_and_names_no_place(records: Path, trained: dict[str, tuple[Planned, Run]], made_set: Path) -> None:
    path = records / "plain-seed0.json"
    values = json.loads(path.read_text())
    assert values["environment"]["data"]["identity"] is None
    assert not {"source", "notices"} & values["environment"]["data"].keys()
    assert values["recipe"]["data"].pop("name") == values["environment"]["data"].pop("name") == str(made_set), "as the study has it"
    assert str(made_set.parent) not in json.dumps(values)
    assert path.stat().st_size < 8_000
    assert [opening["reason"] for opening in values["openings"]] == ["the end"]


def test_a_reduced_run_never_stands_for_a_whole_one(records: Path, study: Study) -> None:
    assert len(list(records.glob("*.json"))) == 3
    assert not any(result.reduced for result in read_results(records, study))
    (records / "plain-seed0.json").unlink()
    reduced = read_results(records, study)[0]
    assert reduced.reduced == ("epochs 2 of 5",)
    assert len(reduced.history) == 2


def test_of_two_records_the_present_code_s_counts(records: Path, trained: dict[str, tuple[Planned, Run]], study: Study) -> None:
    """As when a run of the study has another name now: the old file is still there, and first by name."""
    one, run = trained["whole"]
    write_record(records, "z-renamed", run, fingerprint("lenet5"), one.full)
    assert read_results(records, study)[0].code == fingerprint("lenet5")


def test_of_two_reduced_records_the_longer_counts(records: Path, trained: dict[str, tuple[Planned, Run]], study: Study) -> None:
    (records / "plain-seed0.json").unlink()
    short = plan(study, epochs=1)[0]
    run = experiment.train(short.loaded, records / "run", setting=SETTING)
    write_record(records, short.key, run, "0123456789abcdef", short.full, short.reduced)
    assert read_results(records, study)[0].reduced == ("epochs 2 of 5",)


def test_a_record_of_a_model_that_is_no_more_is_named_and_left_out(records: Path, study: Study) -> None:
    path = records / "plain-seed0.json"
    values = json.loads(path.read_text())
    values["recipe"]["model"]["name"] = "lenet-of-old"
    values["sha256"] = checksum({key: value for key, value in values.items() if key != "sha256"})
    path.write_text(json.dumps(values))
    said: list[str] = []
    assert len(read_results(records, study, said.append)) == 3
    (line,) = said
    assert line.startswith(f"{path}: not a sound record (")
    assert "lenet-of-old" in line


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content.replace('"accuracy":0.', '"accuracy":1.', 1),
        lambda content: "[]",
        lambda content: "null",
        lambda content: "",
        lambda content: "{}",
        lambda content: content.replace('"lenet5"', '"alexnet"'),
        lambda content: content.replace('"sha256"', '"sha"'),
    ],
)
def test_damaged_records_are_named_and_left_out(records: Path, study: Study, damage: Callable[[str], str]) -> None:
    path = records / "plain-seed0.json"
    path.write_text(damage(path.read_text()))
    said: list[str] = []
    assert [result.reduced for result in read_results(records, study, said.append)] == [("epochs 2 of 5",)] * 2 + [()]
    (line,) = said
    assert line.startswith(f"{path}: not a sound record")
    assert len(line.splitlines()) == 1


def test_records_of_something_else(records: Path, study: Study, tmp_path: Path) -> None:
    other = study.model_copy(update={"runs": {"plain": study.runs["plain"]}, "name": "other"})
    said: list[str] = []
    assert len(read_results(records, other, said.append)) == 1
    assert said == [f"{records}: 1 record is of no run of other: bayes-seed0.json"]
    assert read_records(tmp_path / "none") == []


def test_a_new_key_of_recipes_with_a_default_leaves_records_valid(records: Path, study: Study) -> None:
    """What a record does not say of a recipe, because the key is younger, has its default."""
    import hashlib

    path = records / "plain-seed0.json"
    values = json.loads(path.read_text())
    del values["recipe"]["augment"]["perspective"], values["sha256"]
    values["sha256"] = hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    path.write_text(json.dumps(values))
    assert [result.reduced for result in read_results(records, study)] == [()] * 3


def test_measures(results: dict[str, Result], trained: dict[str, tuple[Planned, Run]]) -> None:
    """Each metric against scikit-learn or a plain loop over what the run folder holds."""
    result, (_, run) = results["whole"], trained["whole"]
    history, test = run.history, run.read_predictions("test")
    predicted = test.probabilities.argmax(1)
    kept = history[-1]["best_epoch"]
    accuracies = [line["validation"]["accuracy"] for line in history]
    losses = [line["validation"]["loss"] for line in history]
    counts = confusion_matrix(test.labels, predicted, labels=range(4))
    precision, recall, f1, _ = precision_recall_fscore_support(test.labels, predicted, labels=range(4))
    mutual = sorted((int(counts[a, b] + counts[b, a]) for a in range(4) for b in range(a)), reverse=True)
    rank = 1 + mutual.index(int(counts[1, 3] + counts[3, 1]))
    expected: dict[str, Any] = {
        "test.accuracy": (predicted == test.labels).mean(),
        "test.loss": -np.log(test.probabilities[range(len(predicted)), test.labels]).mean(),
        "validation.accuracy": accuracies[kept - 1],
        "validation.loss": losses[kept - 1],
        "train.loss": history[kept - 1]["train"]["loss"],
        "train.accuracy@1": history[0]["train"]["accuracy"],
        "train.loss@last": history[-1]["train"]["loss"],
        "validation.loss@2": losses[1],
        "validation.accuracy@best": max(accuracies),
        "validation.loss@best": losses[int(np.argmax(accuracies))],
        "test.accuracy@1": None,
        "validation.loss@99": None,
        "f1": f1.mean(),
        "f1:2": f1[2],
        "precision:1": precision[1],
        "recall:3": recall[3],
        "recall:9": None,
        "confusion:1>3": counts[1, 3],
        "confusion:1>9": None,
        "confusion-rank:1|3": rank,
        "confusion-rank:3|1": rank,
        "gap": history[-1]["train"]["accuracy"] - accuracies[-1],
        "distance": abs(history[-1]["train"]["accuracy"] - accuracies[-1]),
        "gain_after:2": max(accuracies) - accuracies[1],
        "gain_after:99": None,
        "loss_rise": losses[-1] - min(losses),
        "best_epoch": 1 + accuracies.index(max(accuracies)),
        "best_epoch.loss": 1 + losses.index(min(losses)),
        "epochs": len(history),
        "seconds": sum(line["train"]["seconds"] for line in history),
        "max_loss_after:1": max(max(line["train"]["loss"], line["validation"]["loss"]) for line in history[1:]),
        "max_loss_after:99": None,
        "parameters": run.environment["model"]["parameters"],
        "multiply_adds": run.environment["model"]["multiply_adds"],
        "nonsense": None,
    }
    if len(accuracies) >= 3:
        bends = [abs(b - (a + c) / 2) for a, b, c in zip(accuracies, accuracies[1:], accuracies[2:], strict=False)]
        expected["erraticness.accuracy"] = sum(bends) / len(bends)
    for metric, value in expected.items():
        assert measure(result, metric) == (None if value is None else pytest.approx(float(value), rel=1e-5)), metric


def test_every_known_metric_can_be_asked_for(results: dict[str, Result]) -> None:
    filled = {"EPOCH": "1", "CLASS": "1", "TRUE>PREDICTED": "1>2", "A|B": "1|2"}
    for result in results.values():
        for metric in METRICS:
            for pattern, value in filled.items():
                metric = metric.replace(pattern, value)
            value_ = measure(result, metric)
            assert value_ is None or isinstance(value_, float), metric
    assert measure(results["classical"], "parameters") is None
    assert measure(results["classical"], "validation.accuracy") == results["classical"].evaluation["validation"]["accuracy"]


def test_the_test_images_after_an_epoch(results: dict[str, Result]) -> None:
    """They are known where the study validates on them, and nowhere else."""
    recipe = {**results["whole"].recipe, "data": {**results["whole"].recipe["data"], "validation": "test"}}
    on_test = Result(**{**vars(results["whole"]), "recipe": recipe})
    assert measure(on_test, "test.accuracy@1") == measure(on_test, "validation.accuracy@1") is not None
