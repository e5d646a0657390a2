"""Whether two machines would compute the same: the software that a run's bits depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

__all__ = ["difference", "software"]

PACKAGE = Path(__file__).parent.parent
# What a run passes through. Pages, commands and studies may differ: they stay with the caller.
ROOMS = (
    "seeds.py",
    "recipe.py",
    "experiment.py",
    "runs.py",
    "files.py",
    "data",
    "models",
    "native",
    "train",
    "evaluate",
    "workers",
    "cluster",
)
PACKAGES = ("fittingroom", "torch", "scikit-learn")
SUFFIXES = (".py", ".c", ".h")


@cache
def software() -> Mapping[str, str]:
    """Return the versions here, by name; ``code`` stands for the program's own files."""
    return {**{name: _version(name) for name in PACKAGES}, "code": _code()}


def difference(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Say in what a node's software differs from the caller's, or ``""``."""
    different = [name for name in here if there.get(name) != here[name]]
    return ", ".join(f"{name} {there.get(name, 'none')} there, {here[name]} here" for name in different)


def _version(package: str) -> str:
    """Its release; builds of one release for different processors, such as 2.10.0+cpu, are told apart in each run's own record."""
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "none"


def _code() -> str:
    digest = hashlib.sha256()
    for room in ROOMS:
        place = PACKAGE / room
        for file in sorted(place.rglob("*") if place.is_dir() else [place]):
            if file.suffix in SUFFIXES:
                digest.update(f"{file.relative_to(PACKAGE).as_posix()}\n{file.read_text(encoding='utf-8')}\n".encode())
    return digest.hexdigest()[:12]
