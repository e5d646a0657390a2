"""Lightning, as its starting page has it: a `LightningModule` and a `Trainer` over the tutorials' `DataLoader`.

Progress bar, logger and checkpoints are off, and only the epochs are timed, not what `fit` does before them.
"""

from __future__ import annotations

import logging
import random
import time
import warnings
from functools import lru_cache

import lightning
import torch
from torch import Tensor, nn

from benchmarks.peers.case import AUGMENTED, EPSILON, RATE
from benchmarks.peers.dataloader import WORKERS, loader
from benchmarks.peers.protocol import serve
from benchmarks.peers.torch_networks import TorchPeer


class Classifier(lightning.LightningModule):
    """A network, its loss and its optimiser."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seconds = 0.0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.model(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=RATE, eps=EPSILON)

    def on_train_start(self) -> None:
        """Begin to count."""
        self.began = time.perf_counter()

    def on_train_end(self) -> None:
        """Count."""
        self.seconds = time.perf_counter() - self.began


class Lightning(TorchPeer):
    """Training by a `Trainer`."""

    def variants(self, network: str) -> list[str]:
        """Without workers, and with two."""
        return list(WORKERS)

    def build(self, network: str, batch: int, seed: int, variant: str) -> int:
        """As `Peer` has it."""
        random.seed(seed)
        warnings.filterwarnings("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        self.loader = lru_cache(1)(lambda images: loader(self.training, images, batch, network in AUGMENTED, WORKERS[variant]))
        return super().build(network, batch, seed, variant)

    def train(self, images: int, epochs: int) -> float:
        """As `Peer` has it."""
        module = Classifier(self.model)
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, self.loader(images))
        return module.seconds


if __name__ == "__main__":
    serve(Lightning())
