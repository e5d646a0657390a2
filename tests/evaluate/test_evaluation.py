"""The evaluation as a whole: plain JSON there and back, and what it refuses."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import sklearn.metrics

from fittingroom.errors import DataError
from fittingroom.evaluate import Evaluation, evaluate_predictions
from tests.evaluate.test_metrics import made_up

CLASSES = ("Shirt", "Coat", "Bag", "<script>")


@pytest.fixture
def evaluation() -> Evaluation:
    return evaluate_predictions(*made_up(400, 4, seed=7), CLASSES)


def test_json_there_and_back(evaluation: Evaluation) -> None:
    text = json.dumps(evaluation.to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)) == evaluation


def test_json_spells_out_the_derived_figures(evaluation: Evaluation) -> None:
    probabilities, labels = made_up(400, 4, seed=7)
    value = evaluation.to_json()
    assert value["accuracy"] == sklearn.metrics.accuracy_score(labels, probabilities.argmax(1))
    assert value["errors"] == int((probabilities.argmax(1) != labels).sum()) == 400 - value["correct"]
    assert value["interval"]["low"] < value["accuracy"] < value["interval"]["high"]
    assert value["macro"]["f1"] == pytest.approx(sklearn.metrics.f1_score(labels, probabilities.argmax(1), average="macro"))
    assert [row["class"] for row in value["per_class"]] == list(CLASSES)
    assert value["calibration"]["expected_calibration_error"] >= abs(value["calibration"]["overconfidence"]) - 1e-12
    worst = value["mistakes"][0]
    assert worst["true"] == CLASSES[labels[worst["index"]]]
    assert worst["predicted"] == CLASSES[probabilities[worst["index"]].argmax()]


def test_report_is_scikit_learns(evaluation: Evaluation) -> None:
    probabilities, labels = made_up(400, 4, seed=7)
    expected = sklearn.metrics.classification_report(labels, probabilities.argmax(1), target_names=CLASSES, digits=4)
    assert evaluation.classification_report(digits=4) == expected


def test_shows_itself_in_a_notebook_with_names_escaped(evaluation: Evaluation) -> None:
    page = evaluation._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "a", "b", "c")])
def test_one_name_a_class_each_once(classes: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="4 different class names"):
        evaluate_predictions(*made_up(20, 4, seed=1), classes)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("confusion",), [[1, 2], [3]]),
        (("confusion",), [[1, 0, 0, 0]] * 3),
        (("confusion", 0, 0), -5),
        (("confusion", 0, 0), "many"),
        (("confusion", 0, 0), 2**80),
        (("loss",), float("nan")),
        (("loss",), None),
        (("accuracy",), 0.999),
        (("classes",), ["a", "b"]),
        (("calibration", "bins"), []),
        (("calibration", "bins", 0, "accuracy"), 7),
        (("mistakes", 0, "true"), "Hat"),
        (("mistakes",), 3),
    ],
)
def test_a_damaged_evaluation_is_refused_in_one_line(evaluation: Evaluation, path: tuple[str | int, ...], value: object) -> None:
    damaged = copy.deepcopy(evaluation.to_json())
    place = damaged
    for key in path[:-1]:
        place = place[key]  # type: ignore[index]
    place[path[-1]] = value  # type: ignore[index]
    with pytest.raises(DataError) as caught:
        Evaluation.from_json(damaged)
    assert "\n" not in str(caught.value)


def test_something_else_altogether_is_refused() -> None:
    with pytest.raises(DataError, match="not an evaluation"):
        Evaluation.from_json({})


def test_single_precision_probabilities_are_welcome() -> None:
    probabilities, labels = made_up(50, 3, seed=2)
    single = evaluate_predictions(probabilities.astype(np.float32), labels.astype(np.uint8), ("a", "b", "c"))
    assert single.count == 50


def test_importing_the_room_is_light() -> None:
    code = "import sys, fittingroom.evaluate; sys.exit(bool({'torch', 'sklearn', 'scipy', 'matplotlib', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
