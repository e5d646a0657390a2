"""Classical models answer as scikit-learn's own estimators do, before and after a trip through a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from fittingroom import models
from fittingroom.errors import DataError, RunError, UsageError
from fittingroom.models.classical import ClassicalModel

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

SEED = 2**40 + 3
REFERENCES: dict[str, Callable[[], Any]] = {
    "svc-rbf": lambda: SVC(C=10, break_ties=True),
    "svc-linear": lambda: LinearSVC(C=0.001, dual=False, tol=1e-2, random_state=3),
    "random-forest": lambda: RandomForestClassifier(100, max_depth=100, random_state=3),
    "extra-trees": lambda: ExtraTreesClassifier(100, max_depth=100, random_state=3),
    "decision-tree": lambda: DecisionTreeClassifier(max_depth=10, random_state=3),
    "logistic-regression": lambda: LogisticRegression(max_iter=200),
    "gaussian-nb": GaussianNB,
    "knn": lambda: KNeighborsClassifier(5),
}
# Two-class problems take other formulas than many-class ones.
PROBLEMS = {"ten classes": range(10), "two classes": (3, 8), "three classes": (1, 7, 9)}

every_model = pytest.mark.parametrize("name", REFERENCES)
every_problem = pytest.mark.parametrize("problem", PROBLEMS)


@cache
def digits(problem: str = "ten classes") -> tuple[Images, Labels, Images]:
    pixels, labels = load_digits(return_X_y=True)
    chosen = np.isin(labels, list(PROBLEMS[problem]))
    pixels = (pixels[chosen] / 16 - 0.3).astype(np.float32)
    return pixels[:600], labels[chosen][:600].astype(np.int64), pixels[100:900]


@cache
def fitted(name: str, problem: str = "ten classes") -> ClassicalModel:
    images, labels, _ = digits(problem)
    arguments = {"trees": 30} if name in ("random-forest", "extra-trees") else {}
    return models.build_classical(name, classes=10, seed=SEED, arguments=arguments).fit(images, labels)


@cache
def reference(name: str, problem: str) -> Any:
    images, labels, _ = digits(problem)
    estimator = REFERENCES[name]()
    if name in ("random-forest", "extra-trees"):
        estimator.set_params(n_estimators=30)
    # Naive Bayes in single precision loses the variances of nearly constant pixels, in scikit-learn as well.
    return estimator.fit(images.astype(np.float64) if name == "gaussian-nb" else images, labels)


def test_every_classical_model_is_tested() -> None:
    assert set(REFERENCES) == {name for name in models.names() if models.entry(name).kind == "classical"}


@every_model
@every_problem
def test_classes_are_those_that_scikit_learn_predicts(name: str, problem: str) -> None:
    images, _, others = digits(problem)
    for x in (images, others):
        assert np.array_equal(fitted(name, problem).predict(x), reference(name, problem).predict(x))


@every_model
@every_problem
def test_probabilities_are_scikit_learns_where_it_has_them(name: str, problem: str) -> None:
    _, _, others = digits(problem)
    probabilities = fitted(name, problem).predict_probabilities(others)
    assert probabilities.shape == (len(others), 10)
    assert probabilities.dtype == np.float64
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-12)
    absent = [label for label in range(10) if label not in PROBLEMS[problem]]
    assert not probabilities[:, absent].any()
    if not name.startswith("svc"):
        expected = reference(name, problem).predict_proba(others)
        # Logistic regression is fitted in single precision, and scikit-learn stays there.
        tolerance = 1e-5 if name == "logistic-regression" else 1e-12
        np.testing.assert_allclose(probabilities[:, list(PROBLEMS[problem])], expected, atol=tolerance)


@every_problem
def test_support_vector_decisions_are_scikit_learns(problem: str) -> None:
    """The softmax keeps differences: log-probabilities differ between classes as the decision values do."""
    _, _, others = digits(problem)
    for name in ("svc-rbf", "svc-linear"):
        logs = np.log(fitted(name, problem).predict_probabilities(others)[:, list(PROBLEMS[problem])])
        decisions = reference(name, problem).decision_function(others)
        if decisions.ndim == 1:
            np.testing.assert_allclose(logs[:, 1] - logs[:, 0], decisions, atol=1e-6)
        else:
            np.testing.assert_allclose(logs - logs[:, :1], decisions - decisions[:, :1], atol=1e-6)


@every_model
@every_problem
def test_a_loaded_model_answers_to_the_bit(name: str, problem: str, tmp_path: Path) -> None:
    _, _, others = digits(problem)
    path = tmp_path / "weights.safetensors"
    fitted(name, problem).save(path)
    loaded = models.build_classical(name, classes=10, seed=0).load(path)
    assert np.array_equal(loaded.predict_probabilities(others), fitted(name, problem).predict_probabilities(others))
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@every_model
def test_equal_seeds_give_equal_models(name: str) -> None:
    images, labels, others = digits()
    arguments = {"trees": 30} if name in ("random-forest", "extra-trees") else {}
    before = repr(np.random.get_state())  # type: ignore[no-untyped-call]
    again = models.build_classical(name, classes=10, seed=SEED, arguments=arguments).fit(images, labels)
    assert repr(np.random.get_state()) == before, "numbers were drawn from the global generator"  # type: ignore[no-untyped-call]
    assert np.array_equal(again.predict_probabilities(others), fitted(name).predict_probabilities(others))


@every_model
def test_the_order_of_images_and_their_number_do_not_matter(name: str) -> None:
    _, _, others = digits()
    whole = fitted(name).predict_probabilities(others)
    np.testing.assert_allclose(fitted(name).predict_probabilities(others[::-1])[::-1], whole, atol=1e-9)
    np.testing.assert_allclose(fitted(name).predict_probabilities(others[5:6]), whole[5:6], atol=1e-9)


@every_model
def test_bad_images_and_labels_are_refused(name: str) -> None:
    images, labels, _ = digits()
    model = models.build_classical(name, classes=10, seed=0)
    with pytest.raises(RunError, match="has not been fitted"):
        model.predict_probabilities(images)
    with pytest.raises(RunError, match="has not been fitted"):
        model.save(Path("nowhere"))
    with pytest.raises(DataError, match="one for each"):
        model.fit(images, labels[:-1])
    with pytest.raises(DataError, match="from 0 to 9"):
        model.fit(images, labels + 5)
    with pytest.raises(DataError, match="at least two classes"):
        model.fit(images, np.zeros_like(labels))
    with pytest.raises(DataError, match="count, features"):
        model.fit(images.reshape(-1, 8, 8), labels)
    with pytest.raises(DataError, match="infinity"):
        model.fit(np.where(images > 0.5, np.float32(np.nan), images), labels)
    with pytest.raises(DataError, match="fitted to images of 64 numbers, and these have 63"):
        fitted(name).predict_probabilities(images[:, 1:])


def test_more_neighbours_than_images_are_refused() -> None:
    images, labels, _ = digits()
    with pytest.raises(DataError, match="at least 700 training images"):
        models.build_classical("knn", classes=10, seed=0, arguments={"neighbours": 700}).fit(images, labels)


def test_arguments_reach_the_estimator() -> None:
    images, labels, others = digits()
    model = models.build_classical("svc-rbf", classes=10, seed=0, arguments={"c": 0.5, "gamma": 0.02}).fit(images, labels)
    assert np.array_equal(model.predict(others), SVC(C=0.5, gamma=0.02, break_ties=True).fit(images, labels).predict(others))
    model = models.build_classical("random-forest", classes=10, seed=3, arguments={"trees": 5, "depth": 3}).fit(images, labels)
    assert np.array_equal(model.predict(others), RandomForestClassifier(5, max_depth=3, random_state=3).fit(images, labels).predict(others))
    with pytest.raises(UsageError, match="did you mean 'trees'"):
        models.build_classical("random-forest", classes=10, seed=0, arguments={"tres": 5})


def test_a_missing_foreign_or_torn_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    model = models.build_classical("knn", classes=10, seed=0)
    with pytest.raises(RunError, match="missing"):
        model.load(path)
    fitted("gaussian-nb").save(path)
    with pytest.raises(RunError, match="does not hold a nearest-neighbour model of 10 classes"):
        model.load(path)
    with pytest.raises(RunError, match="does not hold"):
        models.build_classical("gaussian-nb", classes=9, seed=0).load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match="cannot be read"):
        models.build_classical("gaussian-nb", classes=10, seed=0).load(path)
    path.write_bytes(b"\x80\x04no pickle here")
    with pytest.raises(RunError, match="cannot be read"):
        model.load(path)
    with pytest.raises(RunError, match="cannot be read"):
        model.load(tmp_path)
    save_torch({"images": torch.zeros(3, dtype=torch.bfloat16)}, path)
    with pytest.raises(RunError, match="cannot be read"):
        model.load(path)


def _set(key: str, index: int, value: Any) -> Callable[[dict[str, NDArray[Any]]], None]:
    def change(arrays: dict[str, NDArray[Any]]) -> None:
        arrays[key].flat[index] = value

    return change


DAMAGES: list[tuple[str, Callable[[dict[str, NDArray[Any]]], Any]]] = [
    ("random-forest", _set("left", 0, 0)),
    ("random-forest", _set("left", 3, 10**9)),
    ("random-forest", _set("right", 3, 1)),
    ("random-forest", _set("right", 3, -1)),
    ("random-forest", _set("feature", 3, 64)),
    ("random-forest", _set("feature", 3, -1)),
    ("random-forest", _set("roots", 1, -5)),
    ("random-forest", _set("value", 1, np.nan)),
    ("random-forest", lambda arrays: arrays.update(roots=np.zeros(0, np.int64))),
    ("random-forest", lambda arrays: arrays.update(left=arrays["left"].astype(np.float64))),
    ("svc-rbf", _set("vectors_of_class", 0, 10**12)),
    ("svc-rbf", _set("vectors_of_class", 0, -1)),
    ("svc-rbf", _set("gamma", 0, np.inf)),
    ("svc-rbf", lambda arrays: arrays.update(coefficients=arrays["coefficients"][:-1])),
    ("logistic-regression", lambda arrays: arrays.update(weights=arrays["weights"][:, :-1])),
    ("logistic-regression", lambda arrays: arrays.pop("biases")),
    ("gaussian-nb", _set("variance", 3, 0)),
    ("gaussian-nb", _set("prior", 3, -0.1)),
    ("knn", _set("labels", 3, 11)),
    ("knn", _set("neighbours", 0, 0)),
    ("knn", _set("neighbours", 0, 601)),
    ("knn", lambda arrays: arrays.update(labels=arrays["labels"][:-1])),
    ("knn", _set("classes", 0, -1)),
    ("knn", _set("classes", 9, 10)),
    ("knn", _set("features", 0, 65)),
    ("knn", lambda arrays: arrays.update(classes=arrays["classes"][:, None])),
    ("knn", lambda arrays: arrays.update(classes=np.array(3))),
    ("knn", lambda arrays: arrays.clear()),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES, ids=[f"{index}-{name}" for index, (name, _) in enumerate(DAMAGES)])
def test_arrays_that_cannot_have_been_learned_are_refused(name: str, damage: Callable[[Any], Any], tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    fitted(name).save(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    damage(arrays)
    save_file(arrays, path, metadata)
    with pytest.raises(RunError, match="damaged") as caught:
        models.build_classical(name, classes=10, seed=0).load(path)
    assert "\n" not in str(caught.value)
