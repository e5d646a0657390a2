"""Make the pages from the records: what stands between two marks, ``records: NAME`` and ``/records``, is written anew.

    python -m benchmarks.pages

Each script that measures has a ``TABLES``: what makes the text, by the name of its mark.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from fittingroom.files import write_text

__all__ = ["documents"]

ROOT = Path(__file__).parent.parent
SCRIPTS = ("accuracy", "cluster", "gpu", "measure", "peers.pages", "profiles", "runner", "scale", "searches", "sweep")
MARKED = re.compile(r"(<!-- records: ([a-z-]+) -->\n).*?(<!-- /records -->)", re.DOTALL)


def documents() -> dict[Path, str]:
    """Return the README and the pages, filled anew.

    Raises:
        KeyError: a mark that no script fills.
    """
    tables: dict[str, Callable[[], str]] = {}
    for script in SCRIPTS:
        tables |= import_module(f"benchmarks.{script}").TABLES
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {page: MARKED.sub(lambda match: match[1] + tables[match[2]]() + match[3], page.read_text(encoding="utf-8")) for page in pages}


def main() -> None:
    """Write them, and the drawing."""
    drawn = import_module("benchmarks.peers.pages").drawings()
    for path, text in (documents() | drawn).items():
        write_text(path, text)


if __name__ == "__main__":
    main()
