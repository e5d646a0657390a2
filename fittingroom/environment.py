"""Where a run took place: versions, processor, threads — all that the last bits of a result can depend on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["cores", "describe", "memory_peak"]

PACKAGES = ("fittingroom", "torch", "numpy", "scikit-learn", "safetensors", "pillow")


def describe() -> dict[str, Any]:
    """Return what is known of this machine and its software, as plain values."""
    import torch

    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_peak() -> int | None:
    """Return the largest memory this process has held so far, in bytes, where the system tells."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # only Linux has this file, and a sandbox may hide it: what Python knows must do
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout that the program runs from, with ``+`` where it was changed; None when installed."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5)
        changed = subprocess.run(["git", "-C", str(root), "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return f"{commit.stdout.strip()}{'+' if changed.stdout.strip() else ''}" if commit.returncode == 0 else None
