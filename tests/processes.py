"""Real processes for the tests: forks of this one, so that each starts with torch loaded, in an instant."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from fittingroom.errors import FittingRoomError

NOBODY = 65534
# Seconds: more than anything here takes on a slow and busy machine with one core, and less than pytest's own limit.
PATIENCE = 200.0


class Child:
    """A fork that carries out ``work`` and ends: with 0, with a `FittingRoomError`'s exit code, or as ``work`` itself says.

    Torch runs with one thread in the tests, so that a fork is safe.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._folder = Path(mkdtemp(prefix="child-"))
        self._said: dict[str, str] = {}
        self._returned: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._live(work)

    def _live(self, work: Callable[[], object]) -> None:
        code = 70
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number, name in ((1, "out"), (2, "errors")):
                os.dup2(os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
            work()
            code = 0
        except FittingRoomError as error:
            print(error, file=sys.stderr)
            code = error.exit_code
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    @property
    def out(self) -> str:
        return self._read("out")

    @property
    def errors(self) -> str:
        return self._read("errors")

    def _read(self, name: str) -> str:
        path = self._folder / name
        return self._said[name] if name in self._said else path.read_text() if path.exists() else ""

    def send(self, number: signal.Signals) -> None:
        if self._returned is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float | None = None) -> int | None:
        """Return the exit code, a signal as its negative number; None if ``seconds`` pass before the end."""
        end = None if seconds is None else time.monotonic() + seconds
        while self._returned is None:
            pid, status = os.waitpid(self.pid, 0 if end is None else os.WNOHANG)
            if pid:
                self._returned = os.waitstatus_to_exitcode(status)
                self._said = {name: self._read(name) for name in ("out", "errors")}
                rmtree(self._folder)
            elif end is not None and time.monotonic() >= end:
                return None
            else:
                time.sleep(0.002)
        return self._returned


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until ``condition`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def may_write_everywhere() -> bool:
    return os.geteuid() == 0


def as_someone_else() -> None:
    """Give up the rights of root, in a child."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
