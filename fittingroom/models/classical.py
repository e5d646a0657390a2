"""Classical models. Scikit-learn fits them; what it learned is kept as plain arrays, and the answers are computed from those.

So a saved model is a safetensors file that holds numbers alone: loading it runs no code, and asking a loaded model is the same
as asking the one that was fitted.
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save as to_safetensors

from fittingroom.errors import DataError, RunError
from fittingroom.files import write_bytes
from fittingroom.models.arguments import Count, NotNegative, Positive

__all__ = [
    "ClassicalModel",
    "decision_tree",
    "extra_trees",
    "gaussian_nb",
    "knn",
    "logistic_regression",
    "random_forest",
    "svc_linear",
    "svc_rbf",
]

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]

# Images are judged this many at a time, so that kernel matrices stay small.
CHUNK = 1000


def svc_rbf(classes: int, seed: int, *, c: Positive = 10.0, gamma: NotNegative = 0.0) -> ClassicalModel:
    """Return a support-vector machine with a radial kernel, one class against one (Cortes and Vapnik, 1995).

    Args:
        c: weight of misclassified images against a wide margin.
        gamma: of the kernel exp(-gamma · distance²); 0 takes 1 / (features × variance of all pixels).
    """
    from sklearn.svm import SVC

    # break_ties: where classes have equally many votes, the decision values choose, as predict_probabilities does.
    machine = SVC(C=c, kernel="rbf", gamma=gamma or "scale", break_ties=True, cache_size=500, random_state=_numpy_seed(seed))
    return _RadialMachine(classes, machine)


def svc_linear(classes: int, seed: int, *, c: Positive = 0.001) -> ClassicalModel:
    """Return a linear support-vector machine, one class against the rest (Fan et al., 2008).

    Args:
        c: weight of misclassified images against a wide margin.
    """
    from sklearn.svm import LinearSVC

    # The primal problem, since images outnumber pixels. The tighter default tolerance takes twice as long and changes nothing.
    return _Linear(classes, LinearSVC(C=c, dual=False, tol=1e-2, random_state=_numpy_seed(seed)))


def logistic_regression(classes: int, seed: int, *, c: Positive = 1.0, iterations: Count = 200) -> ClassicalModel:
    """Return multinomial logistic regression.

    Args:
        c: inverse of the weight of the L2 penalty.
        iterations: most steps of L-BFGS; it stops there, converged or not.
    """
    from sklearn.linear_model import LogisticRegression

    return _Linear(classes, LogisticRegression(C=c, max_iter=iterations))


def random_forest(classes: int, seed: int, *, trees: Count = 100, depth: Count = 100) -> ClassicalModel:
    """Return a random forest (Breiman, 2001).

    Args:
        trees: how many trees vote.
        depth: greatest depth of a tree.
    """
    from sklearn.ensemble import RandomForestClassifier

    return _Forest(classes, RandomForestClassifier(trees, max_depth=depth, n_jobs=-1, random_state=_numpy_seed(seed)))


def extra_trees(classes: int, seed: int, *, trees: Count = 100, depth: Count = 100) -> ClassicalModel:
    """Return a forest of extremely randomised trees (Geurts et al., 2006).

    Args:
        trees: how many trees vote.
        depth: greatest depth of a tree.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    return _Forest(classes, ExtraTreesClassifier(trees, max_depth=depth, n_jobs=-1, random_state=_numpy_seed(seed)))


def decision_tree(classes: int, seed: int, *, depth: Count = 10) -> ClassicalModel:
    """Return a decision tree (Breiman et al., 1984).

    Args:
        depth: greatest depth.
    """
    from sklearn.tree import DecisionTreeClassifier

    return _Forest(classes, DecisionTreeClassifier(max_depth=depth, random_state=_numpy_seed(seed)))


def gaussian_nb(classes: int, seed: int, *, smoothing: Positive = 1e-9) -> ClassicalModel:
    """Return Gaussian naive Bayes.

    Args:
        smoothing: part of the largest variance that is added to all variances.
    """
    from sklearn.naive_bayes import GaussianNB

    return _GaussianBayes(classes, GaussianNB(var_smoothing=smoothing))


def knn(classes: int, seed: int, *, neighbours: Count = 5) -> ClassicalModel:
    """Return a vote of the nearest training images by Euclidean distance (Cover and Hart, 1967).

    Args:
        neighbours: how many vote.
    """
    from sklearn.neighbors import KNeighborsClassifier

    return _Neighbours(classes, KNeighborsClassifier(neighbours, algorithm="brute"))


class ClassicalModel(ABC):
    """A classical model behind the calls that all of them share.

    Probabilities are scikit-learn's own where it has them. Support-vector machines have none: theirs are the softmax of the
    decision values, right in order and not calibrated, since Platt scaling would mean fitting the machine five times more.

    Args:
        classes: how many there are, whether or not all occur in the training images.
        estimator: the scikit-learn estimator that fits.
    """

    family: ClassVar[str]

    def __init__(self, classes: int, estimator: Any) -> None:
        self.classes = classes
        self.estimator = estimator
        self.arrays: Arrays = {}

    def fit(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> Self:
        """Fit to normalised pixels, float32 ``[N, features]``, and labels in ``0 … classes - 1``, ``[N]``.

        Raises:
            DataError: the arrays are no such images and labels, or the labels are all the same.
        """
        from sklearn.exceptions import ConvergenceWarning

        images = _checked_images(images)
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise DataError(f"labels must be whole numbers, one for each of {len(images):,} images, not {labels.dtype} {labels.shape}")
        present = np.unique(labels)
        if len(present) < 2:
            raise DataError(f"a classical model needs training images of at least two classes, and these have {len(present)}")
        if present[0] < 0 or present[-1] >= self.classes:
            raise DataError(f"labels must be from 0 to {self.classes - 1}, and these go from {present[0]} to {present[-1]}")
        with warnings.catch_warnings():
            # Stopping at the given number of iterations is what the argument says.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._fit(images, labels)
        learned = {"classes": present.astype(np.int64), "features": np.array([images.shape[1]], dtype=np.int64), **self._learned()}
        # In the memory order of a loaded file, so that sums come out the same to the last bit.
        self.arrays = {key: np.ascontiguousarray(value) for key, value in learned.items()}
        return self

    def predict_probabilities(self, images: NDArray[np.float32]) -> Floats:
        """Return float64 ``[N, classes]``, rows that sum to 1, for normalised pixels ``[N, features]``.

        Raises:
            DataError: the images are not such an array, or not of the size that the model was fitted to.
            RunError: the model has been neither fitted nor loaded.
        """
        if not self.arrays:
            raise RunError(f"this {self.family} has not been fitted; call fit or load first")
        images = _checked_images(images)
        features = int(self.arrays["features"][0])
        if images.shape[1] != features:
            raise DataError(f"the model was fitted to images of {features:,} numbers, and these have {images.shape[1]:,}")
        probabilities = np.zeros((len(images), self.classes))
        for rows in _chunks(len(images)):
            probabilities[rows, self.arrays["classes"]] = self._probabilities(images[rows])
        return probabilities

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the most probable class of each image, int64 ``[N]``."""
        chosen: NDArray[np.int64] = self.predict_probabilities(images).argmax(1)
        return chosen

    def save(self, path: Path) -> None:
        """Write what was learned to a safetensors file.

        Raises:
            RunError: the model has been neither fitted nor loaded.
            FittingRoomError: the file cannot be written.
        """
        if not self.arrays:
            raise RunError(f"this {self.family} has not been fitted; call fit first")
        write_bytes(path, to_safetensors(self.arrays, self._metadata()))

    def load(self, path: Path) -> Self:
        """Take over what `save` wrote, after checking that it can be what this model learned.

        Raises:
            RunError: the file is missing, damaged, or of another model.
        """
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                written = file.metadata() or {}
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise RunError(f"{path} is missing") from None
        except (OSError, safetensors.SafetensorError, TypeError) as error:  # TypeError: a number format that numpy lacks
            raise RunError(f"{path} cannot be read as safetensors ({error})") from None
        if written != self._metadata():
            raise RunError(f"{path} does not hold a {self.family} of {self.classes} classes")
        try:
            self._check(arrays)
        except KeyError as error:
            raise RunError(f"{path} is damaged: {error} is not in it") from None
        except (_UnfitError, ValueError, IndexError, TypeError) as error:
            raise RunError(f"{path} is damaged: {error}") from None
        self.arrays = arrays
        return self

    def _metadata(self) -> dict[str, str]:
        # One entry: several would be written in random order.
        return {"model": json.dumps({"family": self.family, "classes": self.classes})}

    def _check(self, arrays: Arrays) -> None:
        present, features = arrays["classes"], arrays["features"]
        _require(present.dtype == np.int64 and present.ndim == 1 and len(present) > 1, "classes are not a list of whole numbers")
        _require(bool((np.diff(present) > 0).all()) and present[0] >= 0 and present[-1] < self.classes, "classes are out of order or range")
        _require(features.dtype == np.int64 and features.shape == (1,) and features[0] > 0, "there is no number of features")
        self._check_learned(arrays, len(present), int(features[0]))

    def _fit(self, images: NDArray[Any], labels: NDArray[np.int64]) -> None:
        self.estimator.fit(images, labels)

    @abstractmethod
    def _learned(self) -> Arrays:
        """Return what the estimator learned."""

    @abstractmethod
    def _check_learned(self, arrays: Arrays, classes: int, features: int) -> None:
        """Raise `_UnfitError` unless the arrays can be those of `_learned` for so many present classes and features."""

    @abstractmethod
    def _probabilities(self, images: NDArray[np.float32]) -> Floats:
        """Return the probabilities of the classes that occurred in training, ``[N, present]``."""


class _Linear(ClassicalModel):
    """One scalar product per class, or one in all for two classes."""

    family = "linear model"

    def _learned(self) -> Arrays:
        return {"weights": self.estimator.coef_.astype(np.float64), "biases": self.estimator.intercept_.astype(np.float64)}

    def _check_learned(self, arrays: Arrays, classes: int, features: int) -> None:
        outputs = 1 if classes == 2 else classes
        _require_floats(arrays, "weights", (outputs, features))
        _require_floats(arrays, "biases", (outputs,))

    def _probabilities(self, images: NDArray[np.float32]) -> Floats:
        return _softmax(_two_columns(images.astype(np.float64) @ self.arrays["weights"].T + self.arrays["biases"]))


class _RadialMachine(ClassicalModel):
    """One machine for each pair of classes; each votes for one of the two."""

    family = "support-vector machine with a radial kernel"

    def _fit(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        if self.estimator.gamma == "scale":
            variance = float(images.var(dtype=np.float64))
            self.estimator.set_params(gamma=1 / (images.shape[1] * variance) if variance else 1.0)
        super()._fit(images, labels)

    def _learned(self) -> Arrays:
        machine = self.estimator
        return {
            "vectors": machine.support_vectors_.astype(np.float32),  # the training images themselves, hence exact
            "coefficients": machine.dual_coef_.astype(np.float64),
            "vectors_of_class": machine.n_support_.astype(np.int64),
            "biases": machine.intercept_.astype(np.float64),
            "gamma": np.array([machine.gamma], dtype=np.float64),
        }

    def _check_learned(self, arrays: Arrays, classes: int, features: int) -> None:
        counts = arrays["vectors_of_class"]
        _require(counts.dtype == np.int64 and counts.shape == (classes,) and bool((counts >= 0).all()), "vectors_of_class is wrong")
        vectors = int(counts.sum())
        _require_floats(arrays, "vectors", (vectors, features), np.float32)
        _require_floats(arrays, "coefficients", (classes - 1, vectors))
        _require_floats(arrays, "biases", (classes * (classes - 1) // 2,))
        _require_floats(arrays, "gamma", (1,))

    def _probabilities(self, images: NDArray[np.float32]) -> Floats:
        decisions = self._kernel(images) @ self._pair_coefficients() + self.arrays["biases"]
        if decisions.shape[1] == 1:
            return _softmax(_two_columns(decisions))
        return _softmax(_votes(decisions, len(self.arrays["classes"])))

    def _kernel(self, images: NDArray[np.float32]) -> Floats:
        """Return exp(-gamma · distance²) between images and support vectors, ``[N, vectors]``."""
        vectors = self.arrays["vectors"].astype(np.float64)
        rows = images.astype(np.float64)
        squares = (rows**2).sum(1)[:, None] + (vectors**2).sum(1) - 2 * rows @ vectors.T
        kernel: Floats = np.exp(-self.arrays["gamma"][0] * np.maximum(squares, 0))
        return kernel

    def _pair_coefficients(self) -> Floats:
        """Return the weight of each vector in the decision of each pair of classes, ``[vectors, pairs]``.

        Vectors lie sorted by class; row k of the coefficients belongs to a class's decision against the k-th other class.
        """
        ends = self.arrays["vectors_of_class"].cumsum()
        part = [slice(end - count, end) for end, count in zip(ends, self.arrays["vectors_of_class"], strict=True)]
        pairs = list(combinations(range(len(part)), 2))
        weights = np.zeros((ends[-1], len(pairs)))
        for column, (i, j) in enumerate(pairs):
            weights[part[i], column] = self.arrays["coefficients"][j - 1, part[i]]
            weights[part[j], column] = self.arrays["coefficients"][i, part[j]]
        return weights


class _Forest(ClassicalModel):
    """Decision trees, all in one list of nodes; an image's probabilities are the mean over the leaves that it falls into."""

    family = "forest of decision trees"

    def _learned(self) -> Arrays:
        trees = [member.tree_ for member in getattr(self.estimator, "estimators_", [self.estimator])]
        roots = np.cumsum([0] + [tree.node_count for tree in trees[:-1]])
        own = np.arange(sum(tree.node_count for tree in trees))
        left, right = (
            np.concatenate([np.where(side >= 0, side + root, -1) for side, root in zip(sides, roots, strict=True)])
            for sides in ([tree.children_left for tree in trees], [tree.children_right for tree in trees])
        )
        leaf = left < 0
        return {
            "roots": roots.astype(np.int64),
            # A leaf is its own child, so that a descent may go on until every image has arrived.
            "left": np.where(leaf, own, left).astype(np.int64),
            "right": np.where(leaf, own, right).astype(np.int64),
            "feature": np.where(leaf, 0, np.concatenate([tree.feature for tree in trees])).astype(np.int64),
            "threshold": np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
            "value": np.concatenate([tree.value[:, 0] for tree in trees]).astype(np.float64),
        }

    def _check_learned(self, arrays: Arrays, classes: int, features: int) -> None:
        nodes = len(arrays["value"])
        _require_floats(arrays, "value", (nodes, classes))
        _require_floats(arrays, "threshold", (nodes,))
        for key in ("left", "right", "feature", "roots"):
            _require(arrays[key].dtype == np.int64 and arrays[key].ndim == 1, f"{key} is not a list of whole numbers")
            _require(key == "roots" or len(arrays[key]) == nodes, f"{key} has a wrong length")
        own = np.arange(nodes)
        left, right = arrays["left"], arrays["right"]
        # Children come after their parents, so that every descent ends.
        _require(bool(((left > own) & (right > own) | (left == own) & (right == own)).all()), "a node is its own ancestor")
        _require(bool((left < nodes).all() and (right < nodes).all()), "a node has a child that does not exist")
        _require(bool(((arrays["feature"] >= 0) & (arrays["feature"] < features)).all()), "a node asks for a pixel that does not exist")
        roots = arrays["roots"]
        _require(len(roots) > 0 and bool(((roots >= 0) & (roots < nodes)).all()), "a tree begins at a node that does not exist")

    def _probabilities(self, images: NDArray[np.float32]) -> Floats:
        # Summed tree by tree in their order, as scikit-learn does it: where classes are equal, rounding decides.
        total = np.zeros((len(images), len(self.arrays["classes"])))
        for root in self.arrays["roots"]:
            total += self.arrays["value"][self._leaves(images, root)]
        return total / len(self.arrays["roots"])

    def _leaves(self, images: NDArray[np.float32], root: np.int64) -> NDArray[np.int64]:
        """Return the node that each image ends at, ``[N]``."""
        rows = np.arange(len(images))
        node = np.full(len(images), root)
        while True:
            goes_left = images[rows, self.arrays["feature"][node]] <= self.arrays["threshold"][node]
            following = np.where(goes_left, self.arrays["left"][node], self.arrays["right"][node])
            if (following == node).all():
                return node
            node = following


class _GaussianBayes(ClassicalModel):
    """A mean and a variance for each class and pixel."""

    family = "Gaussian naive Bayes model"

    def _fit(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        # In single precision the variances of nearly constant pixels are lost.
        super()._fit(images.astype(np.float64), labels)

    def _learned(self) -> Arrays:
        bayes = self.estimator
        learned = {"prior": bayes.class_prior_, "mean": bayes.theta_, "variance": bayes.var_}
        return {key: value.astype(np.float64) for key, value in learned.items()}

    def _check_learned(self, arrays: Arrays, classes: int, features: int) -> None:
        _require_floats(arrays, "prior", (classes,))
        _require_floats(arrays, "mean", (classes, features))
        _require_floats(arrays, "variance", (classes, features))
        _require(bool((arrays["prior"] > 0).all() and (arrays["variance"] > 0).all()), "priors and variances must be above zero")

    def _probabilities(self, images: NDArray[np.float32]) -> Floats:
        scores = [
            np.log(prior) - 0.5 * np.log(2 * np.pi * variance).sum() - 0.5 * ((images - mean) ** 2 / variance).sum(1)
            for prior, mean, variance in zip(self.arrays["prior"], self.arrays["mean"], self.arrays["variance"], strict=True)
        ]
        return _softmax(np.stack(scores, 1))


class _Neighbours(ClassicalModel):
    """The training images themselves."""

    family = "nearest-neighbour model"

    def _fit(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        needed = self.estimator.n_neighbors
        if len(images) < needed:
            raise DataError(f"{needed} neighbours need at least {needed} training images, and there are {len(images)}")
        super()._fit(images, labels)
        self._images, self._labels = images, labels

    def _learned(self) -> Arrays:
        neighbours = np.array([self.estimator.n_neighbors], dtype=np.int64)
        return {"images": self._images, "labels": self._labels.astype(np.int64), "neighbours": neighbours}

    def _check_learned(self, arrays: Arrays, classes: int, features: int) -> None:
        count = len(arrays["images"])
        _require_floats(arrays, "images", (count, features), np.float32)
        labels, neighbours = arrays["labels"], arrays["neighbours"]
        _require(labels.dtype == np.int64 and labels.shape == (count,), "there is not one label for each image")
        _require(np.array_equal(np.unique(labels), arrays["classes"]), "the labels are not the classes")
        _require(neighbours.dtype == np.int64 and neighbours.shape == (1,) and 1 <= neighbours[0] <= count, "too many neighbours")

    def _probabilities(self, images: NDArray[np.float32]) -> Floats:
        self.estimator.set_params(n_neighbors=int(self.arrays["neighbours"][0]))
        # Fitting by brute force only puts the images aside.
        self.estimator.fit(self.arrays["images"], self.arrays["labels"])
        probabilities: Floats = self.estimator.predict_proba(images).astype(np.float64)
        return probabilities


class _UnfitError(Exception):
    """Arrays of a file are not what the model can have learned."""


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _UnfitError(otherwise)


def _require_floats(arrays: Arrays, key: str, shape: tuple[int, ...], dtype: type[np.floating[Any]] = np.float64) -> None:
    array = arrays[key]
    _require(array.dtype == dtype and array.shape == shape, f"{key} is {array.dtype} {array.shape}, not {dtype.__name__} {shape}")
    _require(bool(np.isfinite(array).all()), f"{key} holds infinity or not-a-number")


def _checked_images(images: NDArray[np.float32]) -> NDArray[np.float32]:
    if images.ndim != 2 or not images.size or images.dtype.kind != "f":
        raise DataError(f"images must be numbers [count, features], at least one of each, not {images.dtype} {images.shape}")
    images = np.ascontiguousarray(images, dtype=np.float32)
    if not np.isfinite(images).all():
        raise DataError("images hold infinity or not-a-number")
    return images


def _numpy_seed(seed: int) -> int:
    """Fold a seed of up to 63 bits into the 32 that numpy's legacy generator takes."""
    return seed % 2**32


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    probabilities: Floats = powers / powers.sum(1, keepdims=True)
    return probabilities


def _two_columns(scores: Floats) -> Floats:
    """Turn a lone score, which speaks for the second of two classes, into one score for each; leave others as they are."""
    return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores


def _votes(decisions: Floats, classes: int) -> Floats:
    """Turn decisions of pairs of classes into a score per class: its votes, and a third of one at most by how clear they were."""
    votes = np.zeros((len(decisions), classes))
    clearness = np.zeros((len(decisions), classes))
    for (first, second), decision in zip(combinations(range(classes), 2), decisions.T, strict=True):
        votes[:, first] += decision >= 0
        votes[:, second] += decision < 0
        clearness[:, first] += decision
        clearness[:, second] -= decision
    scores: Floats = votes + clearness / (3 * (np.abs(clearness) + 1))
    return scores
