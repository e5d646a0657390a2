"""The speed of training and predicting against what people use today, on the same machine, in turn, in one go: ``make bench``.

Each peer is a file here and a process of its own. `bench` starts them, times them round by round and keeps what it sees; `summary`
makes ratios of that, and `pages` the tables and the drawing of ``docs/speed.md``.
"""

from __future__ import annotations
