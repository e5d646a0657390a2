"""The benchmark as a drawing: a row for each network and batch size, our speed over each peer's on a logarithmic axis."""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.peers.summary import ratios, rivals, spread

__all__ = ["drawing"]

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 760, 150, 24, 64, 56, 40
TICKS = (0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 } .small { font-size: 11px; fill: #666 } .title { font-size: 15px; font-weight: 600 }
.grid { stroke: #ddd } .one { stroke: #333 } .range { stroke-width: 2; opacity: .45 } .row { fill: #f6f6f4 }
.keras { fill: #a23b52; stroke: #a23b52 } .dataloader { fill: #2b6ca3; stroke: #2b6ca3 } .tensors { fill: #3b7d4f; stroke: #3b7d4f }
.lightning { fill: #8a5a00; stroke: #8a5a00 } svg { background: #fff }
@media (prefers-color-scheme: dark) { svg { background: #1b1b1d } text { fill: #ddd } .small { fill: #aaa } .grid { stroke: #3a3a3d }
.one { stroke: #ddd } .row { fill: #232326 } .keras { fill: #e98ca0; stroke: #e98ca0 } .dataloader { fill: #7db8ea; stroke: #7db8ea }
.tensors { fill: #83c99a; stroke: #83c99a } .lightning { fill: #dcb060; stroke: #dcb060 } }
"""
NAMES = {"keras": "Keras", "dataloader": "DataLoader", "tensors": "tensors", "lightning": "Lightning"}


def drawing(record: dict[str, Any]) -> str:
    """Return the drawing as SVG."""
    cells = record["cells"]
    values = {index: {kind(peer): ratios(cell, peer) for peer in rivals(cell)} for index, cell in enumerate(cells)}
    everything = [value for by_peer in values.values() for some in by_peer.values() for value in some]
    low, high = math.log(min(0.8, 0.9 * min(everything))), math.log(1.1 * max(everything))
    height = TOP + ROW * len(cells) + BOTTOM

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(value) - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        "<title>Our training speed over each peer's</title>",
        f"<style>{STYLE}</style>",
        '<text x="16" y="24" class="title">Our training speed over each peer’s: the further right, the faster ours</text>',
        *legend(),
        *(row(index, cell) for index, cell in enumerate(cells)),
        *(tick(value, x(value), height) for value in TICKS if low <= math.log(value) <= high),
        *(mark(index, place, name, some, x) for index, cell in values.items() for place, (name, some) in enumerate(cell.items())),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def kind(peer: str) -> str:
    """`keras` for both its number formats."""
    return peer.partition("-")[0]


def legend() -> list[str]:
    """Shape, colour and name of each peer."""
    parts = []
    for place, (name, shown) in enumerate(NAMES.items()):
        left = LEFT + 110 * place
        parts.append(shape(name, left, 44) + f'<text x="{left + 10}" y="48">{shown}</text>')
    return parts


def row(index: int, cell: dict[str, Any]) -> str:
    """The name of a row, on every second a shade."""
    y = TOP + ROW * index
    shade = f'<rect class="row" x="0" y="{y}" width="{WIDTH}" height="{ROW}"/>' if index % 2 == 0 else ""
    name = f'<text x="16" y="{y + ROW / 2 - 2:.0f}">{escape(cell["network"])}</text>'
    return f'{shade}{name}<text x="16" y="{y + ROW / 2 + 14:.0f}" class="small">batch {cell["batch"]}</text>'


def tick(value: float, x: float, height: int) -> str:
    """A line of the grid with its label."""
    line = f'<line class="{"one" if value == 1 else "grid"}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
    return f'{line}<text x="{x:.1f}" y="{height - BOTTOM + 18}" text-anchor="middle" class="small">{value:g} ×</text>'


def mark(index: int, place: int, name: str, values: list[float], x: Any) -> str:
    """A peer in a row: smallest to largest as a line, the median as a shape with its number."""
    y = TOP + ROW * index + ROW * (place + 1) / (len(NAMES) + 1)
    seen = spread(values)
    line = f'<line class="{name} range" x1="{x(seen.low):.1f}" x2="{x(seen.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    said = f"<title>{NAMES[name]}: {seen.middle:.2f} × ({seen.low:.2f} … {seen.high:.2f})</title>"
    return f"<g>{said}{line}{shape(name, x(seen.middle), y)}</g>"


def shape(name: str, x: float, y: float) -> str:
    """A different one for each peer, so that colour is not all that tells them apart."""
    if name == "keras":
        return f'<rect class="{name}" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    if name == "tensors":
        return f'<path class="{name}" d="M{x:.1f} {y - 5:.1f} l5 9 h-10 z"/>'
    if name == "lightning":
        return f'<path class="{name}" d="M{x:.1f} {y - 5:.1f} l5 5 l-5 5 l-5 -5 z"/>'
    return f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
