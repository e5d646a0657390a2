"""Running the command line in a test: in this process, where it is quick, and as a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fittingroom.cli.main import app, main

__all__ = ["Done", "command", "every_command", "fittingroom", "own_environ", "process", "snapshot"]


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, stdout, stderr, and, where it ran in this process, both as they came."""

    code: int
    out: str
    err: str
    both: str = ""

    @property
    def json(self) -> Any:
        """The value on stdout, which holds nothing else."""
        return json.loads(self.out)

    def refused(self, code: int, *words: str) -> None:
        """Assert the manner in which every mistake is answered: the exit code, nothing on stdout, one last line on stderr."""
        assert self.code == code, (self.code, self.err)
        assert self.out == ""
        *_, line = self.err.splitlines()
        assert line.startswith("fittingroom: ")
        assert self.err.count("fittingroom: ") == 1, "one line says what is wrong"
        assert "Traceback" not in self.err
        for word in words:
            assert word in line, f"{word!r} is not in: {line}"


def fittingroom(*arguments: object) -> Done:
    """Run a command in this process, from argument list to exit code."""
    both = io.StringIO()
    out, err = _Copied(both), _Copied(both)
    code = 0
    with _arguments(*arguments), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ending:
            code = int(ending.code or 0)
    return Done(code, out.getvalue(), err.getvalue(), both.getvalue())


def process(*arguments: object, environ: Mapping[str, str] | None = None, **options: Any) -> Done:
    """Run a command as a user's shell would, in a home of its own."""
    options = {"capture_output": True, "timeout": 240, "encoding": "utf-8", **options}
    done = subprocess.run(command(*arguments), env=own_environ(environ or {}, options.get("cwd")), **options)
    return Done(done.returncode, done.stdout or "", done.stderr or "")


def every_command() -> list[str]:
    """The commands as a user types them: ``train``, ``data list`` …"""
    single = [str(known.name) for known in app.registered_commands]
    groups = [(group.name, group.typer_instance) for group in app.registered_groups if group.typer_instance is not None]
    grouped = [f"{name} {known.name}" for name, group in groups for known in group.registered_commands]
    return single + grouped


def command(*arguments: object) -> list[str]:
    """The command line of a process."""
    return [sys.executable, "-m", "fittingroom", *map(str, arguments)]


def own_environ(changes: Mapping[str, str], cwd: Path | None = None) -> dict[str, str]:
    """The environment of a process in ``cwd``: an empty home there, and no kernels, which would be compiled anew in it."""
    return {**os.environ, "HOME": str((cwd or Path()).absolute() / "home"), "FITTINGROOM_NATIVE": "0", **changes}


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its content, and every folder; a lock, which stays behind empty-handed, aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"folder"
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


class _Copied(io.StringIO):
    """A stream that another one gets a copy of."""

    def __init__(self, copy: io.StringIO) -> None:
        super().__init__()
        self._copy = copy

    def write(self, text: str) -> int:
        self._copy.write(text)
        return super().write(text)


@contextlib.contextmanager
def _arguments(*arguments: object) -> Iterator[None]:
    before, handler = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["fittingroom", *map(str, arguments)]
    try:
        yield
    finally:
        sys.argv = before
        signal.signal(signal.SIGTERM, handler)
