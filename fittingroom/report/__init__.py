"""From plain values to one self-contained page: `page.render` takes a `RunView` and returns HTML."""

from __future__ import annotations

from fittingroom.report.page import Picture, RunView, render

__all__ = ["Picture", "RunView", "render"]
