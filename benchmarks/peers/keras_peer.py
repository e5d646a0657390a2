"""Keras on TensorFlow: compiled, `fit` on arrays, and where images are changed at random on a `tf.data.Dataset` if that is faster."""

from __future__ import annotations

import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.case import AUGMENTED, EPSILON, RATE, THREADS, split
from benchmarks.peers.inference import Predictor
from benchmarks.peers.keras_networks import augmentation
from benchmarks.peers.keras_networks import network as make
from benchmarks.peers.protocol import serve

import keras  # isort: skip  (after keras_networks, which chooses the backend)
import tensorflow as tf  # isort: skip

__all__ = ["Keras"]

PLAIN = ("no XLA",)
SMALL = ("no XLA", "XLA")
"""What XLA is tried on: it compiles `resnet20` for half a minute, to be no faster."""
CHANGING = ("changed in the model", "changed in the data")
"""Where images are changed: in the model, which XLA then cannot compile, or before it, in the data.

The latter has been tried with XLA, too: its convolutions of `three-block` are several times slower than TensorFlow's own.
"""


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Counts the seconds of the epochs alone: what `fit` does before them, a user meets once in a training, not every two seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin to count."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Count."""
        self.seconds += time.perf_counter() - self.began


class Keras(Predictor):
    """Training and predicting.

    Args:
        precision: `fp32` or `bf16`.
    """

    def __init__(self, precision: str) -> None:
        threads = int(os.environ[THREADS])
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        keras.config.set_dtype_policy({"fp32": "float32", "bf16": "mixed_bfloat16"}[precision])
        training = split("training")
        self.images, self.labels = as_floats(training.pixels), training.labels

    def variants(self, network: str) -> list[str]:
        """With XLA, which is Keras's own choice where it can, and without; or random changes in the model or before it."""
        return list(CHANGING if network in AUGMENTED else SMALL if network in ("lenet5", "standard") else PLAIN)

    def build(self, network: str, batch: int, seed: int, variant: str) -> int:
        """As `Peer` has it."""
        keras.utils.set_random_seed(seed)
        self.batch, self.variant = batch, variant
        self.model = make(network, variant == CHANGING[0])
        self.model.compile(
            optimizer=keras.optimizers.Adam(RATE, epsilon=EPSILON),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=variant == "XLA",
        )
        self.data = lru_cache(1)(self._changed)
        return sum(int(np.prod(weight.shape)) for weight in self.model.trainable_weights)

    def _changed(self, images: int) -> Any:
        """One epoch of changed batches."""
        change = augmentation()
        data = tf.data.Dataset.from_tensor_slices((self.images[:images], self.labels[:images])).shuffle(images).batch(self.batch)
        return data.map(lambda x, y: (change(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def train(self, images: int, epochs: int) -> float:
        """As `Peer` has it."""
        data = {"x": self.images[:images], "y": self.labels[:images], "batch_size": self.batch}
        if self.variant == CHANGING[1]:
            data = {"x": self.data(images), "shuffle": False}
        clock = Clock()
        self.model.fit(**data, epochs=epochs, verbose=0, callbacks=[clock])
        return clock.seconds

    def accuracy(self, by_batch: bool = False) -> float:
        """As `Peer` has it; for networks without dropout or random changes, which Keras would carry out as well."""
        validation = split("validation")
        images = as_floats(validation.pixels)
        if by_batch:
            parts = [self.model(images[start : start + 500], training=True).numpy() for start in range(0, len(images), 500)]
            found = np.concatenate(parts).argmax(1)
        else:
            found = self.model.predict(images, batch_size=500, verbose=0).argmax(1)
        return float((found == validation.labels).mean())

    def load(self, network: str, folder: str, variant: str) -> None:
        """Make the network with the weights that Fitting Room trained; ``variant`` is `predict` or `predict_on_batch`."""
        self.variant = variant
        inner = make(network, False)
        self.model = keras.Sequential([inner, keras.layers.Softmax(dtype="float32")])
        self.model.build((None, 28, 28, 1))
        with np.load(Path(folder) / "weights.npz") as arrays:
            inner.set_weights([arrays[name] for name in sorted(arrays)])

    def probabilities(self, pixels: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
        """As `Predictor` has it."""
        images = as_floats(pixels)
        if self.variant == "predict_on_batch":
            found = np.concatenate([self.model.predict_on_batch(images[start : start + batch]) for start in range(0, len(images), batch)])
        else:
            found = self.model.predict(images, batch_size=batch, verbose=0)
        result: NDArray[np.float32] = found
        return result


def as_floats(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Float32 ``[N, 28, 28, 1]`` in 0 … 1."""
    return pixels[..., None].astype(np.float32) / np.float32(255)


if __name__ == "__main__":
    serve(Keras(sys.argv[1]))
