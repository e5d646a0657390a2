"""The estimator against scikit-learn's own checks, and in the company of scikit-learn's tools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from fittingroom import FittingRoomClassifier

DIGITS = load_digits()
IMAGES, LABELS = DIGITS.images, DIGITS.target


# No check is expected to fail. Smaller and fewer than the defaults: the checks are on the estimator, not on the network.
@parametrize_with_checks([FittingRoomClassifier(epochs=25, batch_size=8, lr=0.005, random_state=0, overrides={"model.hidden": [32]})])
def test_scikit_learns_own_checks(estimator: FittingRoomClassifier, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def split() -> list[np.ndarray]:
    parts: list[np.ndarray] = train_test_split(IMAGES, LABELS, test_size=0.3, random_state=0, stratify=LABELS)
    return parts


@pytest.fixture(scope="module")
def fitted(split: list[np.ndarray]) -> FittingRoomClassifier:
    return FittingRoomClassifier(epochs=10, random_state=0).fit(split[0], split[2])


def test_learns_digits(fitted: FittingRoomClassifier, split: list[np.ndarray]) -> None:
    assert fitted.score(split[1], split[3]) > 0.95
    assert fitted.n_iter_ == len(fitted.history_) == 10
    assert fitted.history_[-1]["train"]["loss"] < fitted.history_[0]["train"]["loss"]
    assert fitted.image_shape_ == (1, 8, 8)


def test_probabilities(fitted: FittingRoomClassifier, split: list[np.ndarray]) -> None:
    probabilities = fitted.predict_proba(split[1])
    assert probabilities.shape == (len(split[1]), 10)
    assert probabilities.sum(1) == pytest.approx(np.ones(len(split[1])), abs=1e-5)
    assert np.array_equal(fitted.classes_[probabilities.argmax(1)], fitted.predict(split[1]))
    assert np.array_equal(probabilities, fitted.predict_proba(split[1])), "asking changes nothing"


def test_rows_images_and_images_with_a_channel_are_one(split: list[np.ndarray]) -> None:
    train, test, labels, _ = split

    def probabilities(shape: tuple[int, ...]) -> np.ndarray:
        found: np.ndarray = (
            FittingRoomClassifier("basic", epochs=1, random_state=3)
            .fit(train.reshape(-1, *shape), labels)
            .predict_proba(test.reshape(-1, *shape))
        )
        return found

    rows = probabilities((64,))
    assert np.array_equal(rows, probabilities((8, 8)))
    assert np.array_equal(rows, probabilities((8, 8, 1)))


def test_rgb_and_labels_that_are_texts() -> None:
    generator = np.random.default_rng(0)
    names = np.array(["bag", "boot"])[np.arange(40) % 2]
    images = generator.integers(0, 100, (40, 9, 12, 3)) + 100 * (names == "boot")[:, None, None, None]
    model = FittingRoomClassifier(epochs=20, random_state=0).fit(images, names)
    assert model.image_shape_ == (3, 9, 12)
    assert model.classes_.tolist() == ["bag", "boot"]
    assert model.score(images, names) == 1


def test_the_range_of_values_does_not_matter(split: list[np.ndarray]) -> None:
    train, test, labels, _ = split
    first, second = (
        FittingRoomClassifier(epochs=2, random_state=0).fit(train * factor, labels).predict(test * factor) for factor in (1, 4096)
    )
    assert np.array_equal(first, second)


def test_random_state(split: list[np.ndarray]) -> None:
    train, test, labels, _ = split

    def probabilities(random_state: Any) -> np.ndarray:
        found: np.ndarray = FittingRoomClassifier(epochs=1, random_state=random_state).fit(train[:200], labels[:200]).predict_proba(test)
        return found

    assert np.array_equal(probabilities(1), probabilities(1))
    assert np.array_equal(probabilities(np.random.RandomState(1)), probabilities(1))
    assert not np.array_equal(probabilities(1), probabilities(2))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    probabilities(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_clone_has_the_settings_and_not_the_weights(fitted: FittingRoomClassifier) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "network_")


def test_grid_search_and_pipeline() -> None:
    pipeline = make_pipeline(FunctionTransformer(lambda X: X / 16), FittingRoomClassifier(epochs=3, random_state=0))  # noqa: N803
    grid = {"fittingroomclassifier__lr": [1e-9, 0.01], "fittingroomclassifier__optimiser": ["adam", "muon"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(DIGITS.data[:400], LABELS[:400])
    assert search.best_params_["fittingroomclassifier__lr"] == 0.01
    assert search.best_score_ > 0.8
    assert cross_val_score(pipeline.set_params(fittingroomclassifier__lr=0.01), DIGITS.data[:400], LABELS[:400], cv=2).min() > 0.7


def test_overrides_reach_the_recipe(split: list[np.ndarray]) -> None:
    model = FittingRoomClassifier(
        epochs=20,
        random_state=0,
        overrides={"model.hidden": [16], "train.stop": {"monitor": "train.loss", "min_delta": 100.0, "patience": 2}},
    ).fit(split[0], split[2])
    assert model.n_iter_ == 3
    assert sum(parameter.numel() for parameter in model.network_.parameters()) == 64 * 16 + 16 + 16 * 10 + 10


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "lenet6"}, "did you mean 'lenet5'"),
        ({"model": "knn"}, "classical"),
        ({"optimiser": "adma"}, "did you mean 'adam'"),
        ({"lr": 0}, "greater than 0"),
        ({"epochs": 0}, "greater than 0"),
        ({"overrides": {"augment.flp": True}}, "did you mean 'augment.flip'"),
        ({"overrides": {"train.stop": {}}}, "there are no validation images"),
        ({"overrides": {"model.hidden": "wide"}}, "hidden"),
        ({"model": "alexnet"}, "needs images of at least"),
    ],
)
def test_mistakes_are_value_errors(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FittingRoomClassifier(**settings).fit(IMAGES[:20], LABELS[:20])


def test_images_of_another_size(fitted: FittingRoomClassifier) -> None:
    with pytest.raises(ValueError, match="features"):
        fitted.predict(np.zeros((2, 9, 9)))
    with pytest.raises(ValueError, match="fitted on"):
        fitted.predict(np.zeros((2, 8, 9)))
    with pytest.raises(ValueError, match="2, 3 or 4 dimensions"):
        FittingRoomClassifier().fit(np.zeros((4, 2, 2, 2, 2)), [0, 1, 0, 1])
