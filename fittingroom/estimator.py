"""Fitting Room's networks as a scikit-learn classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from fittingroom import models, recipe
from fittingroom.data.resident import Resident
from fittingroom.errors import UsageError
from fittingroom.seeds import derive
from fittingroom.train.loop import fit, predict
from fittingroom.train.precision import choose_device, choose_precision, settle

__all__ = ["FittingRoomClassifier"]


class FittingRoomClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Train one of the networks on arrays, the scikit-learn way.

    ``X`` is ``[n, height, width]``, ``[n, height, width, channels]``, or ``[n, features]``; a row of features is taken for a
    square gray image where its length is a square of at least 8, and for an image one pixel high otherwise. Values may have
    any range: they are brought to mean 0 and standard deviation 1.

    Parameters:
        model: a network's name (`fittingroom models`).
        epochs: passes over the training data; with a fraction, the last is cut short.
        batch_size: images a step.
        lr: learning rate.
        optimiser: `sgd`, `adam`, `adamw`, `rmsprop` or `muon`.
        random_state: seed, generator or None, as everywhere in scikit-learn.
        overrides: further recipe values by dotted key, for example ``{"augment.flip": True, "model.dropout": 0.5}``.

    Attributes:
        classes_: the labels seen, sorted.
        n_features_in_: values an image.
        network_: the trained ``nn.Module``.
        history_: the record of each epoch.
    """

    def __init__(
        self,
        model: str = "mlp",
        *,
        epochs: float = 30,
        batch_size: int = 32,
        lr: float = 1e-3,
        optimiser: str = "adam",
        random_state: Any = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimiser = optimiser
        self.random_state = random_state
        self.overrides = overrides

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803 - scikit-learn's name
        """Train on images ``X`` with labels ``y`` (numbers or texts)."""
        values: NDArray[np.float32]
        values, y = validate_data(self, X, y, allow_nd=True, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"classification needs at least 2 classes; the labels hold 1 class, {self.classes_[0]!r}")
        pixels = _as_images(values)
        self.image_shape_ = tuple(pixels.shape[1:])
        try:
            settings, device = self._recipe(), choose_device("auto")
            settle(device)
            self.network_ = models.build(
                settings.model.name,
                input_shape=self.image_shape_,
                classes=len(self.classes_),
                generator=torch.Generator().manual_seed(derive(settings.seed, "weights")),
                defaults=settings.defaults,
                arguments=settings.model.arguments,
            )
        except UsageError as error:
            raise ValueError(str(error)) from None
        self.network_.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)) or 1.0
        channels = self.image_shape_[0]
        self.scale_ = np.full(channels, 1 / std, np.float32)
        self.offset_ = np.full(channels, -mean / std, np.float32)
        training = self._resident(pixels, labels.astype(np.int64), device)
        self.precision_ = choose_precision(settings.train.precision, device)
        try:
            epochs = fit(self.network_, training, None, settings, len(self.classes_), self.precision_)
            self.history_ = [epoch.record for epoch in epochs]
        except UsageError as error:
            raise ValueError(str(error)) from None
        self.n_iter_ = len(self.history_)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:  # noqa: N803
        """Return class probabilities ``[n, classes]`` in the order of ``classes_``."""
        check_is_fitted(self)
        values: NDArray[np.float32] = validate_data(self, X, allow_nd=True, dtype=np.float32, reset=False)
        pixels = _as_images(values)
        if tuple(pixels.shape[1:]) != self.image_shape_:
            raise ValueError(f"images of shape {tuple(pixels.shape[1:])}, but this was fitted on {self.image_shape_}")
        device = next(self.network_.parameters()).device
        images = self._resident(pixels, np.zeros(len(pixels), np.int64), device)
        probabilities: NDArray[np.float32] = predict(self.network_, images, self.precision_).softmax(1).cpu().numpy()
        return probabilities

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """Return the most probable label of each image."""
        chosen: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(1)] if hasattr(self, "classes_") else self.predict_proba(X)
        return chosen

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _recipe(self) -> recipe.Recipe:
        seed = int(check_random_state(self.random_state).randint(2**31))
        values = {
            "seed": seed,
            "optim.name": self.optimiser,
            "optim.lr": self.lr,
            "train.epochs": self.epochs,
            "train.batch_size": self.batch_size,
            **(self.overrides or {}),
        }
        return recipe.load({"model": self.model}, values).recipe

    def _resident(self, pixels: NDArray[np.float32], labels: NDArray[np.int64], device: torch.device) -> Resident:
        return Resident(torch.tensor(pixels, device=device), torch.tensor(labels, device=device), self.scale_, self.offset_)


def _as_images(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 ``[n, channels, height, width]``."""
    if values.ndim == 4:
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
    if values.ndim == 3:
        return values[:, None]
    if values.ndim != 2:
        raise ValueError(f"X must have 2, 3 or 4 dimensions, not {values.ndim}")
    features = values.shape[1]
    side = math.isqrt(features)
    return values.reshape(len(values), 1, side, side) if side * side == features and side >= 8 else values[:, None, None]
