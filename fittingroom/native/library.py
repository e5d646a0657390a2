"""Finding and opening the compiled kernels: built at installation, or compiled at first use into the user's cache folder.

Nothing here raises: where the kernels cannot be had, the reason is kept for the record and the plain path is taken.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fittingroom.native.build import HERE, Unavailable, build, source_hash

__all__ = ["LEVELS", "Library", "load"]

LEVELS = ("portable", "avx2", "avx512-bf16")
"""Instruction sets from the lowest to the highest."""

_CALLS = ("forward", "backward", "dropout", "convolve", "convolve_back", "dense", "dense_back", "winograd", "winograd_back", "program")
_THREAD_FUNCTIONS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")


@dataclass
class Library:
    """The opened kernels, or why there are none.

    Attributes:
        call: the library; None where there is none.
        description: a name of `LEVELS`, or ``none: `` and the reason.
        level: the name of the level in use; empty where there is none.
    """

    call: ctypes.CDLL | None
    description: str
    level: str = ""

    def use(self, level: str) -> None:
        """Use ``level``, or the highest below it that this processor and this build have."""
        if self.call is not None:
            self.level = self.description = LEVELS[self.call.fittingroom_level(LEVELS.index(level))]


def load(environment: Mapping[str, str], cache: Path | None = None, installed: Path = HERE) -> Library:
    """Find, or build, and open the kernels.

    Args:
        environment: `FITTINGROOM_NATIVE`, `CC` and `PATH` are looked at.
        cache: folder for what is compiled; None takes the user's cache folder.
        installed: folder in which a build from the installation would be.
    """
    wish = environment.get("FITTINGROOM_NATIVE", "")
    if wish == "0":
        return Library(None, "none: switched off by FITTINGROOM_NATIVE=0")
    if wish and wish not in LEVELS:
        return Library(None, f"none: FITTINGROOM_NATIVE is '{wish}'; it can be 0, {', '.join(LEVELS)}")
    if os.name == "nt":
        return Library(None, "none: not built for Windows")
    try:
        opened = _installed(installed) or _built(environment, _cache_folder() if cache is None else cache)
    except Unavailable as reason:
        return Library(None, f"none: {reason}")
    library = Library(opened, "")
    library.use(wish or LEVELS[-1])
    return library


def _installed(folder: Path) -> ctypes.CDLL | None:
    paths = (folder / f"_kernels{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES)
    return next((library for path in paths if path.is_file() and (library := _open(path)) is not None), None)


def _built(environment: Mapping[str, str], cache: Path) -> ctypes.CDLL:
    for _ in range(2):
        path = build(environment, cache)
        if (library := _open(path)) is not None:
            return library
        try:
            path.unlink(missing_ok=True)  # damaged by a fault: once more
        except OSError as error:
            raise Unavailable(f"the compiled kernels are damaged, and cannot be replaced: {error.strerror}") from None
    raise Unavailable("the compiled kernels cannot be opened")


def _cache_folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("fittingroom") / "native"


def _open(path: Path) -> ctypes.CDLL | None:
    """Open a build of the present source; None if it is of another source, or damaged."""
    try:
        library = ctypes.CDLL(str(path))
        library.fittingroom_source.restype = ctypes.c_char_p
        if library.fittingroom_source() != source_hash().encode():
            return None
        for name in _CALLS:
            function = getattr(library, f"fittingroom_{name}")
            function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_int64
        library.fittingroom_level.argtypes, library.fittingroom_level.restype = [ctypes.c_int64], ctypes.c_int64
        library.fittingroom_threads.argtypes, library.fittingroom_threads.restype = [ctypes.c_void_p] * 3, None
    except (OSError, AttributeError):
        return None
    _share_threads(library)
    return library


def _share_threads(library: ctypes.CDLL) -> None:
    """Hand in the OpenMP runtime that PyTorch uses: its symbols are found through PyTorch's own library, so no second one is loaded.

    Where PyTorch has no such runtime, the kernels run in the calling thread.
    """
    import torch

    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        try:
            runtime = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name))
            functions = [ctypes.cast(getattr(runtime, symbol), ctypes.c_void_p) for symbol in _THREAD_FUNCTIONS]
        except (OSError, AttributeError):
            continue
        library.fittingroom_threads(*functions)
        return
