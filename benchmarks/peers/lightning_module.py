"""Lightning, as its starting page has it: a `LightningModule` and a `Trainer` over the tutorials' `DataLoader`.

Progress bar, logger and checkpoints are off, and only the epochs are timed, not what `fit` does before them.
A `Trainer` ends a `DataLoader`'s workers at the end of each `fit`; handed in as any other iterable, it keeps them.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.peers.case import EPSILON, RATE
from benchmarks.peers.dataloader import Loaded
from benchmarks.peers.protocol import serve


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


class Kept:
    """Batches that a `Trainer` goes through and does not end."""

    def __init__(self, batches: DataLoader[tuple[Tensor, int]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Tensor]]:
        return iter(self.batches)


class Lightning(Loaded):
    """Training by a `Trainer`."""

    def __init__(self) -> None:
        super().__init__()
        warnings.filterwarnings("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

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
        trainer.fit(module, Kept(self.batches(images)))
        return module.seconds


if __name__ == "__main__":
    serve(Lightning())
