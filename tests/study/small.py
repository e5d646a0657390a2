"""A small study: seven runs of a second or less, two of them the same as two others."""

from __future__ import annotations

from pathlib import Path

TEXT = """
title = "Which of these?"
source = "made up"
seeds = [0, 1]

[base]
model = { name = "lenet5", dropout = 0.2, pooling = "average" }
data = { name = "DATA", validation = 0.2 }
optim = { lr = 0.003 }
train = { epochs = EPOCHS, precision = "fp32" }

[factors]
pooling = "model.pooling"

[runs.plain]
about = "as it is"

[runs.poolings]
about = "both ways of pooling"
grid = { pooling = ["average", "max"] }

[runs.bayes]
about = "naive Bayes"
base = "gaussian-nb"
set = { "data.name" = "DATA", "data.validation" = 0.2 }
seeds = [0]

[[claims]]
id = "plain-accuracy"
kind = "number"
text = "It is right nine times out of ten."
source = "table 1"
of = { run = "plain" }
metric = "test.accuracy"
claimed = "0.90"

[[claims]]
id = "max-beats-average"
kind = "order"
text = "Max-pooling is better."
source = "table 2"
metric = "test.accuracy"
above = { run = "poolings", where = { pooling = "max" } }
below = [{ run = "poolings", where = { pooling = "average" } }]
"""


def write_study(folder: Path, data: Path | str, epochs: int = 2, text: str = TEXT) -> Path:
    """Write the study into a folder and return its file."""
    path = folder / "small.toml"
    path.write_text(text.replace("DATA", str(data)).replace("EPOCHS", str(epochs)), encoding="utf-8")
    return path
