"""The networks in Keras."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from keras import layers

from benchmarks.peers.case import CLASSES, DROPOUT, ROTATE, SHIFT, ZOOM

__all__ = ["augmentation", "network"]


def network(name: str, augmented: bool = False) -> keras.Model:
    """Return an untrained network that maps float32 ``[N, 28, 28, 1]`` to logits; ``augmented`` puts the random changes into it."""
    body = {"lenet5": lenet5, "standard": standard, "three-block": three_block, "resnet20": resnet20}[name]
    images = keras.Input((28, 28, 1))
    x = body(augmentation()(images) if augmented else images)
    return keras.Model(images, layers.Activation("linear", dtype="float32")(layers.Dense(CLASSES)(x)))


def augmentation() -> keras.Sequential:
    """Rotation, shift and zoom by Keras's own layers."""
    return keras.Sequential(
        [
            layers.RandomRotation(ROTATE / 360, fill_mode="nearest"),
            layers.RandomTranslation(SHIFT, SHIFT, fill_mode="nearest"),
            layers.RandomZoom(ZOOM, fill_mode="nearest"),
        ]
    )


def lenet5(x: Any) -> Any:
    """LeNet-5 with tanh and average pooling."""
    x = layers.AveragePooling2D(2)(layers.Conv2D(6, 5, padding="same", activation="tanh")(x))
    x = layers.AveragePooling2D(2)(layers.Conv2D(16, 5, activation="tanh")(x))
    return layers.Dense(84, activation="tanh")(layers.Dense(120, activation="tanh")(layers.Flatten()(x)))


def standard(x: Any) -> Any:
    """Two convolutions and a dense layer of 64."""
    x = layers.MaxPooling2D(2)(layers.Conv2D(32, 3, activation="relu")(x))
    x = layers.MaxPooling2D(2)(layers.Conv2D(64, 3, activation="relu")(x))
    return layers.Dense(64, activation="relu")(layers.Flatten()(x))


def three_block(x: Any) -> Any:
    """Three blocks of convolution, ReLU, batch norm, max-pool and dropout, then a dense layer."""
    for filters, rate in zip((64, 128, 256), DROPOUT[:3], strict=True):
        x = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
        x = layers.Dropout(rate)(layers.MaxPooling2D(2)(x))
    x = layers.BatchNormalization()(layers.Dense(128, activation="relu")(layers.Flatten()(x)))
    return layers.Dropout(DROPOUT[3])(x)


def resnet20(x: Any) -> Any:
    """The ResNet of 20 layers; its strided convolutions are padded on both sides, as PyTorch does it."""
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(x)))
    for filters in (16, 32, 64):
        for index in range(3):
            shortcut = x
            if index == 0 and filters > 16:
                shortcut = keras.ops.pad(x[:, ::2, ::2, :], ((0, 0), (0, 0), (0, 0), (0, filters // 2)))
                x = layers.Conv2D(filters, 3, 2, use_bias=False)(layers.ZeroPadding2D(1)(x))
            else:
                x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
            x = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", use_bias=False)(x))
            x = layers.ReLU()(layers.Add()([x, shortcut]))
    return layers.GlobalAveragePooling2D()(x)
