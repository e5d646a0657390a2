"""Draw docs/slip.svg, what a forgotten division by 255 does, from the records; ``make pages`` calls it, and a test keeps it up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fittingroom.evaluate.curves import curve
from fittingroom.files import write_text
from fittingroom.report.charts import nice_ticks
from fittingroom.study.file import load
from fittingroom.study.results import read_results

__all__ = ["text"]

PICTURE = Path(__file__).parent / "slip.svg"
RECORDS = Path(__file__).parent.parent / "records" / "studies" / "custom-cnn"

WIDTH, HEIGHT, TOP, BOTTOM = 760, 310, 84, 32
PANELS = (("accuracy", 56, 360), ("loss", 440, 744))
"""Quantities of the validation images, each with the left and the right edge of its panel."""
READINGS = {"as-written": 16, "as-intended": 130}
"""With where they stand in the legend."""
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 } .small { font-size: 11px; fill: #666 } .title { font-size: 15px; font-weight: 600 }
.grid { stroke: #ddd } path { fill: none; stroke-width: 2.5 } path.seed { stroke-width: 1; opacity: .45 } svg { background: #fff }
.as-written { stroke: #b14a12 } .as-intended { stroke: #2b6ca3 }
@media (prefers-color-scheme: dark) { svg { background: #1b1b1d } text { fill: #ddd } .small { fill: #aaa } .grid { stroke: #3a3a3d }
.as-written { stroke: #f09a63 } .as-intended { stroke: #7db8ea } }
"""


def text() -> str:
    """Return the picture: validation curves of the study's baseline in both readings, seeds thin and their mean bold."""
    baseline = [one for one in read_results(RECORDS, load("custom-cnn")) if one.run == "baseline"]
    runs = {reading: [one for one in baseline if one.cell["normalise"] == reading] for reading in READINGS}
    title = "The same network, its pixels normalised as the report wrote it and as it meant it"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{title}</title>\n<style>{STYLE}</style>",
        f'<text x="16" y="24" class="title">{title}</text>',
    ]
    for reading, x in READINGS.items():
        parts.append(f'<path class="{reading}" d="M{x} 42h20"/><text x="{x + 26}" y="46">{reading.replace("-", " ")}</text>')
    parts.append('<text x="256" y="46" class="small">bold: the mean over seeds</text>')
    for quantity, left, right in PANELS:
        lines = {reading: [curve(one.history, "validation", quantity) for one in found] for reading, found in runs.items()}
        parts += _panel(quantity, lines, left, right)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(quantity: str, lines: Mapping[str, Sequence[Sequence[float | None]]], left: int, right: int) -> list[str]:
    values = [value for seeds in lines.values() for seed in seeds for value in seed if value is not None]
    epochs = max(len(seed) for seeds in lines.values() for seed in seeds)
    ticks = nice_ticks(min(values), max(values))

    def x(epoch: float) -> float:
        return left + (right - left) * (epoch - 1) / max(epochs - 1, 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (ticks[-1] - value) / (ticks[-1] - ticks[0])

    parts = [f'<text x="{left}" y="{TOP - 12}">validation {quantity}</text>']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        written = f"{tick:.0%}" if quantity == "accuracy" else f"{tick:g}"
        parts.append(f'<text class="small" x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{written}</text>')
    for epoch, word in ((1, "epoch 1"), (epochs, str(epochs))):
        parts.append(f'<text class="small" x="{x(epoch):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{word}</text>')
    for reading, seeds in lines.items():
        parts += [f'<path class="{reading} seed" d="{_path(seed, x, y)}"/>' for seed in seeds]
        mean = [None if None in row else sum(row) / len(row) for row in zip(*seeds, strict=False)]
        parts.append(f'<path class="{reading}" d="{_path(mean, x, y)}"/>')
    return parts


def _path(line: Sequence[float | None], x: Callable[[float], float], y: Callable[[float], float]) -> str:
    points = [f"{x(epoch):.1f} {y(value):.1f}" for epoch, value in enumerate(line, 1) if value is not None]
    return f"M{'L'.join(points)}"


if __name__ == "__main__":
    write_text(PICTURE, text())
