"""``python -m fittingroom.workers``: the process that forks the workers; `fittingroom.workers.Crew` starts it."""

from __future__ import annotations

from fittingroom.workers.server import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
