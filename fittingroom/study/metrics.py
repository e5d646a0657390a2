"""What a claim may be about, by name; and figures as a report prints them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fittingroom.errors import UsageError, nearest

__all__ = [
    "COUNTED",
    "METRICS",
    "Claimed",
    "Metric",
    "metric_of",
    "metric_words",
    "parse_claimed",
    "pattern_of",
]


class Metric(NamedTuple):
    """What a metric is.

    Attributes:
        description: what it measures, in a line.
        unit: of its values; empty for a plain number.
        higher_is_better: None where neither is.
    """

    description: str
    unit: str
    higher_is_better: bool | None


_KEPT = "at the epoch whose weights were kept"
METRICS: Mapping[str, Metric] = {
    "test.accuracy": Metric("part of the test images classified right", "share", True),
    "test.loss": Metric("mean cross-entropy of the test images", "nats", False),
    "validation.accuracy": Metric(f"part of the validation images classified right, {_KEPT}", "share", True),
    "validation.loss": Metric(f"validation loss, {_KEPT}", "nats", False),
    "train.accuracy": Metric(f"training accuracy as the loop recorded it, {_KEPT}", "share", True),
    "train.loss": Metric(f"training loss as the loop recorded it, {_KEPT}", "nats", False),
    "validation.accuracy@EPOCH": Metric("validation accuracy after an epoch: its number from 1, `last` or `best`", "share", True),
    "validation.loss@EPOCH": Metric("validation loss after an epoch", "nats", False),
    "train.accuracy@EPOCH": Metric("training accuracy during an epoch", "share", True),
    "train.loss@EPOCH": Metric("training loss during an epoch", "nats", False),
    "f1": Metric("mean F1 over the classes, on the test images", "share", True),
    "f1:CLASS": Metric("F1 of one class, on the test images", "share", True),
    "precision:CLASS": Metric("precision of one class, on the test images", "share", True),
    "recall:CLASS": Metric("recall of one class, on the test images", "share", True),
    "confusion:TRUE>PREDICTED": Metric("test images of one class taken for another", "images", False),
    "confusion-rank:A|B": Metric("rank of a pair of classes among all pairs by mutual confusion on the test images; 1 is most", "", None),
    "erraticness.accuracy": Metric("how far an epoch's validation accuracy lies from the line between its neighbours", "share", False),
    "erraticness.loss": Metric("the same of the validation loss", "nats", False),
    "gap": Metric("training minus validation accuracy at the last epoch", "share", False),
    "distance": Metric("how far training and validation accuracy lie apart at the last epoch, whichever leads", "share", False),
    "gap_opens": Metric("epoch from which training accuracy stays over a point ahead of validation, two or more to the end", "epoch", None),
    "best_epoch": Metric("epoch of the highest validation accuracy, the first of them", "epoch", None),
    "best_epoch.loss": Metric("epoch of the lowest validation loss, the first of them", "epoch", None),
    "epochs": Metric("epochs trained", "epochs", None),
    "epochs_to_95": Metric("epochs until 95 % of the way from the first to the best validation accuracy", "epochs", False),
    "gain_after:EPOCH": Metric("best validation accuracy less that after an epoch", "share", None),
    "loss_rise": Metric("validation loss at the last epoch less its lowest", "nats", False),
    "seconds": Metric("training time in all, on the machine that ran it", "s", False),
    "max_loss_after:EPOCH": Metric("largest training or validation loss after an epoch", "nats", False),
    "parameters": Metric("trainable numbers", "", False),
    "multiply_adds": Metric("multiplications with addition for one image, in convolutions and dense layers", "", False),
}
"""What a claim may be about, by name. Capitals stand for what the claim fills in: an epoch, or classes by their names.

`EPOCH` after `@` is a number from 1, `last`, or `best`: the epoch of the highest validation accuracy (the first of them).
"""
COUNTED = ("parameters", "multiply_adds")
"""Metrics that follow from the architecture alone: no seed and no data change them."""
EPOCHS_OF = ("validation.accuracy", "validation.loss", "train.accuracy", "train.loss")
AFTER_EPOCHS = ("max_loss_after", "gain_after")
OF_CLASSES = {"f1": None, "precision": None, "recall": None, "confusion": ">", "confusion-rank": "|"}


def metric_of(metric: str) -> Metric:
    """What is known of a metric as a claim names it, such as ``f1:Shirt`` or ``validation.loss@3``.

    Raises:
        UsageError: there is none of that name, or what it fills in is missing or no epoch.
    """
    return METRICS[pattern_of(metric)]


def pattern_of(metric: str) -> str:
    """The key of `METRICS` that a metric is an instance of."""
    if metric in METRICS and not any(part.isupper() for part in re.split(r"\W", metric)):
        return metric
    name, at, epoch = metric.partition("@")
    if at and name in EPOCHS_OF:
        if epoch not in ("last", "best"):
            _epoch(metric, epoch)
        return f"{name}@EPOCH"
    name, colon, rest = metric.partition(":")
    if colon and name in AFTER_EPOCHS:
        _epoch(metric, rest)
        return f"{name}:EPOCH"
    if colon and name in OF_CLASSES:
        separator = OF_CLASSES[name]
        parts = rest.split(separator) if separator else [rest]
        if len(parts) != (2 if separator else 1) or not all(parts) or len(set(parts)) < len(parts):
            wanted = f"two different classes, such as {name}:Shirt{separator}Coat" if separator else f"a class, such as {name}:Shirt"
            raise UsageError(f"'{metric}' needs {wanted}")
        return next(key for key in METRICS if key.startswith(f"{name}:"))
    raise UsageError(f"unknown metric '{metric:.60}'{nearest(metric, METRICS) or '; known: ' + ', '.join(METRICS)}")


def _epoch(metric: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text[:9]) < 1:
        raise UsageError(f"'{metric}' needs an epoch, counted from 1")
    return int(text[:9])


def metric_words(metric: str) -> str:
    """Return a metric as a reader names it: ``validation loss at the last epoch``, ``F1 of Shirt``."""
    name, at, epoch = metric.partition("@")
    if at:
        when = {"last": "at the last epoch", "best": "at its best epoch"}.get(epoch, f"after epoch {epoch}")
        return f"{name.replace('.', ' ')} {when}"
    name, _, what = metric.partition(":")
    named = {
        "confusion": "images of {} taken for {}",
        "confusion-rank": "rank of the confusion of {} with {}",
        "max_loss_after": "largest loss after epoch {}",
        "gain_after": "gain of validation accuracy after epoch {}",
        "loss_rise": "rise of the validation loss to the end",
        "distance": "distance of training from validation accuracy at the end",
        "erraticness.accuracy": "erraticness of the validation accuracy",
        "erraticness.loss": "erraticness of the validation loss",
        "best_epoch": "epoch of the highest validation accuracy",
        "best_epoch.loss": "epoch of the lowest validation loss",
        "epochs": "epochs trained",
        "epochs_to_95": "epochs to 95 % of the gain in validation accuracy",
        "gap": "training ahead of validation accuracy at the end",
        "gap_opens": "epoch from which training stays ahead",
        "seconds": "seconds of training",
        "f1": "F1 of {}" if what else "mean F1 over classes",
    }
    if name not in named:
        return f"{name.replace('.', ' ').replace('_', '-')}{f' of {what}' if what else ''}"
    return named[name].format(*what.replace("|", ">").split(">"))


@dataclass(frozen=True)
class Claimed:
    """A figure as it was printed.

    Attributes:
        value: in plain units: a percentage is divided by 100, `121k` is 121,000.
        resolution: half a unit of the last digit printed, in the same units: values within it would be printed the same.
    """

    value: float
    resolution: float


NUMBER = re.compile(r"(?P<sign>-?)(?P<whole>[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.(?P<decimals>\d+))?\s*(?P<unit>%|k|M)?")
UNITS = {None: 1.0, "%": 0.01, "k": 1e3, "M": 1e6}


def parse_claimed(text: str) -> Claimed:
    """Read a figure: ``0.90``, ``91.98 %``, ``54,410``, ``121k``.

    Raises:
        UsageError: it is no number.
    """
    found = NUMBER.fullmatch(text.strip())
    if found is None:
        remedy = f"write {text.strip().replace(',', '.'):.40}" if re.fullmatch(r"\s*-?\d+,\d+\s*%?\s*", text) else ""
        raise UsageError(f"'{text:.40}' is no number; {remedy or 'write the figure as printed, such as 0.90, 91.98 % or 121k'}")
    decimals = found["decimals"] or ""
    unit = UNITS[found["unit"]]
    value = float(f"{found['sign']}{found['whole'].replace(',', '')}.{decimals or 0}") * unit
    if not math.isfinite(value):
        raise UsageError(f"'{text:.40}' is too large for a number")
    return Claimed(value, 0.5 * 10.0 ** -len(decimals) * unit)
