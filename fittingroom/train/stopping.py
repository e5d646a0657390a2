"""Early stopping on any recorded quantity, with the semantics of Keras's callback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fittingroom.errors import UsageError
from fittingroom.recipe import Stop

__all__ = ["Stopping", "check_monitored"]


def check_monitored(settings: Stop | None, validation: bool) -> None:
    """Find out whether the monitored quantity will be recorded.

    Args:
        settings: the recipe's table.
        validation: whether there are validation images.

    Raises:
        UsageError: it is one of validation, and there are no validation images.
    """
    if settings is not None and settings.monitor.startswith("validation.") and not validation:
        raise UsageError(
            f"train.stop watches {settings.monitor}, but there are no validation images; raise data.validation, or leave out train.stop"
        )


@dataclass
class Stopping:
    """How training has gone by the monitored quantity; losses are to fall, accuracies to rise.

    Attributes:
        best: the best value so far, or None before the first epoch.
        best_epoch: its epoch, counted from 1.
        waited: epochs in a row without an improvement.
    """

    best: float | None = None
    best_epoch: int = 0
    waited: int = 0

    def improved(self, settings: Stop, epoch: int, record: Mapping[str, Any]) -> bool:
        """Take note of an epoch's record; return whether it is the best so far."""
        part, quantity = settings.monitor.split(".")
        value = float(record[part][quantity])
        sign = 1.0 if quantity == "accuracy" else -1.0
        if self.best is None or sign * (value - self.best) > settings.min_delta:
            self.best, self.best_epoch, self.waited = value, epoch, 0
            return True
        self.waited += 1
        return False

    def exhausted(self, settings: Stop) -> bool:
        """Whether patience is used up."""
        return self.waited >= settings.patience

    def to_json(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)
