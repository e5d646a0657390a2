"""Fitting Room: try models on your images, and see which one fits.

The names below are loaded when they are first used, so that ``import fittingroom`` costs nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fittingroom.api import compare, compare_recipes, evaluate, load_run, train
    from fittingroom.errors import FittingRoomError
    from fittingroom.estimator import FittingRoomClassifier
    from fittingroom.recipe import Recipe

__all__ = ["FittingRoomClassifier", "FittingRoomError", "Recipe", "compare", "compare_recipes", "evaluate", "load_run", "train"]

_HOMES = {
    "FittingRoomClassifier": "fittingroom.estimator",
    "FittingRoomError": "fittingroom.errors",
    "Recipe": "fittingroom.recipe",
    "compare": "fittingroom.api",
    "compare_recipes": "fittingroom.api",
    "evaluate": "fittingroom.api",
    "load_run": "fittingroom.api",
    "train": "fittingroom.api",
}


class _Package(ModuleType):
    """This package. Two of its functions, `train` and `evaluate`, share their names with rooms; they keep them when a room is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fittingroom' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
