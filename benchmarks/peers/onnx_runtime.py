"""ONNX Runtime, predicting with the network that Fitting Room trained."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.peers.case import THREADS
from benchmarks.peers.inference import Predictor
from benchmarks.peers.protocol import serve


class OnnxRuntime(Predictor):
    """Predicting only, in float32."""

    def load(self, network: str, folder: str, variant: str) -> None:
        """Read ``model.onnx``."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ[THREADS])
        self.session = onnxruntime.InferenceSession(Path(folder) / "model.onnx", options, providers=["CPUExecutionProvider"])

    def probabilities(self, pixels: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
        """As `Predictor` has it."""
        images = pixels[:, None].astype(np.float32) / 255
        parts = [self.session.run(None, {"images": images[start : start + batch]})[0] for start in range(0, len(images), batch)]
        logits = np.concatenate(parts)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        found: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
        return found


if __name__ == "__main__":
    serve(OnnxRuntime())
