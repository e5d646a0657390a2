"""Compiling the kernels: at installation (setup.py runs this file alone) or at first use."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["Unavailable", "build", "compile_to", "find_compiler", "source_hash"]

HERE = Path(__file__).parent
SOURCES = (
    "kernels.c",
    "kernels.h",
    "level.c",
    "lanes.h",
    "avx512.h",
    "convolution.h",
    "convolution.c",
    "places.h",
    "dense.h",
    "winograd.h",
    "winograd.c",
)
FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-fvisibility=hidden")
AVX2 = ("-mavx2", "-mfma")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16")
INSTRUCTIONS = {"portable": (), **({"avx2": AVX2, "avx512": AVX512} if platform.machine().lower() in ("x86_64", "amd64") else {})}
"""By level, what tells the compiler to use its instructions; compilers may be too old for the last ones."""
COMPILERS = ("cc", "gcc", "clang")
COMPILE_SECONDS = 300


class Unavailable(Exception):
    """Why there are no kernels, in a few words for the record."""


def source_hash() -> str:
    """Twelve hexadecimal digits that stand for the kernels' source."""
    return hashlib.sha256(b"\0".join((HERE / name).read_bytes() for name in SOURCES)).hexdigest()[:12]


def find_compiler(environment: Mapping[str, str]) -> list[str]:
    """Return the C compiler's command: `CC` if set, else the first of cc, gcc, clang on `PATH`.

    Raises:
        Unavailable: there is none, or `CC` cannot be read.
    """
    try:
        named = shlex.split(environment.get("CC", ""))
    except ValueError as error:
        raise Unavailable(f"CC is no command: {str(error).lower()}") from None
    for candidate in [named] if named else [[name] for name in COMPILERS]:
        if (found := shutil.which(candidate[0], path=environment.get("PATH"))) is not None:
            return [found, *candidate[1:]]
    raise Unavailable("no compiler at installation, and none now")


def compile_to(to: Path, compiler: Sequence[str]) -> None:
    """Compile the kernels into the shared library ``to``, without the newest instructions where the compiler is too old for them.

    Raises:
        Unavailable: the compiler fails; with its first error.
    """
    levels = list(INSTRUCTIONS)
    first_error = ""
    while levels:
        if not (error := _compiled(to, compiler, levels)):
            return
        first_error = first_error or error
        levels.pop()
    raise Unavailable(f"{compiler[0]} cannot compile them ({first_error})")


def _compiled(to: Path, compiler: Sequence[str], levels: Sequence[str]) -> str:
    """Compile these levels, all at the same time, and link them; return the first error, or nothing."""
    units = {level: ["level.c", f"-DLEVEL={level}", *INSTRUCTIONS[level]] for level in reversed(levels)}  # the one that takes longest first
    units["kernels"] = ["kernels.c", f'-DSOURCE="{source_hash()}"', *(f"-DHAVE_{level.upper()}" for level in levels)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        objects = {name: str(Path(folder, f"{name}.o")) for name in units}
        commands = [
            [*compiler, *FLAGS, "-c", str(HERE / source), *flags, "-o", objects[name]] for name, (source, *flags) in units.items()
        ]
        results = [*pool.map(_run, commands)]
        if all(result.returncode == 0 for result in results):
            results = [_run([*compiler, "-shared", *objects.values(), "-o", str(to), "-lm"])]
    if all(result.returncode == 0 for result in results) and to.is_file():
        return ""
    errors = [line.strip() for result in results for line in result.stderr.splitlines() if "error" in line]
    return errors[0] if errors else f"exit codes {', '.join(str(result.returncode) for result in results)}"


def build(environment: Mapping[str, str], cache: Path) -> Path:
    """Return the compiled kernels in ``cache``, compiling them if they are not there.

    The name stands for source, compiler and flags. The file appears by renaming, so processes that build at once do not meet.

    Raises:
        Unavailable: no compiler, one that fails, or a folder that cannot be written or that others can write.
    """
    compiler = find_compiler(environment)
    key = repr((source_hash(), _run([*compiler, "--version"]).stdout, FLAGS, INSTRUCTIONS, platform.machine(), platform.libc_ver()))
    path = cache / f"kernels-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    try:
        if not path.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".build-", dir=cache) as folder:
                made = Path(folder) / path.name
                compile_to(made, compiler)
                made.chmod(0o755)
                os.replace(made, path)
        _refuse_if_foreign(path)
    except OSError as error:
        raise Unavailable(f"not built at installation, and the cache folder {cache} cannot be used ({error.strerror})") from None
    return path


def _refuse_if_foreign(path: Path) -> None:
    """Code that somebody else could have put there is not loaded."""
    for place in (path, path.parent):
        status = place.stat()
        if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o002:
            raise Unavailable(f"others can write {place}; delete it")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} does not run ({error})") from None
