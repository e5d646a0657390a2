"""What only a real process shows: terminals, pipes, signals, encodings, full disks and folders that are closed."""

from __future__ import annotations

import os
import pty
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fittingroom.cli.main import main
from tests.cli.running import command, fittingroom, own_environ, process, snapshot
from tests.processes import PATIENCE, Child, as_someone_else, may_write_everywhere, until

TRAIN = ("train", "mlp", "--data", "digits", "--threads", 1, "--run-dir", "run")


def on_a_terminal(*arguments: object, columns: int = 80, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command in a pseudo-terminal of ``columns``; return the exit code and all that it wrote there."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: value for key, value in own_environ(environ or {}).items() if key not in ("COLUMNS", "LINES")}
    child = subprocess.Popen(command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "xterm", **environment})
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side has closed
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    return child.wait(PATIENCE), written.decode()


def without_control(text: str) -> list[str]:
    """The lines of a terminal's text, without what moves the cursor and colours."""
    return [re.split("\r", line)[-1] for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).split("\r\n")]


@pytest.mark.slow
def test_a_terminal_has_a_bar() -> None:
    code, text = on_a_terminal(*TRAIN, "--epochs", 2, environ={"TERM": "xterm-256color"})
    assert code == 0, text
    assert "━" in text
    assert "\x1b[?25l" in text, "the cursor is hidden"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "and comes back"
    told = without_control(text)
    assert any(line.startswith("epoch 2/2  train 0.") for line in told)
    assert told[-2:] == ["run", ""]


def test_no_colour() -> None:
    code, text = on_a_terminal("train", "lenet5", "--show", environ={"NO_COLOR": "1"})
    assert code == 0
    assert not re.search(r"\x1b\[[0-9;]*(3[0-9]|4[0-9]|9[0-7])m", text), "a colour"
    assert max(len(line) for line in without_control(text)) <= 80


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_at_once_and_how_to_go_on(trained: Path, number: signal.Signals, code: int) -> None:
    child = Child(lambda: fittingroom_here(*TRAIN, "--epochs", 100_000))
    until(lambda: "epoch" in child.errors)
    child.send(number)
    assert child.wait(PATIENCE) == code
    assert child.out == ""
    assert child.errors.splitlines()[-1] == "stopped; go on with: fittingroom train --resume run"
    assert "Traceback" not in child.errors


@pytest.mark.parametrize("arguments", ["train lenet5 --show", "train lenet5 --show --json", "models --help"])
def test_a_reader_that_goes_away(arguments: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = process(*arguments.split(), capture_output=False, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    assert (done.code, done.err) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_to_a_full_disk() -> None:
    with open("/dev/full", "w") as full:
        done = process("train", "lenet5", "--show", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.code, done.err) == (1, "fittingroom: the output: No space left on device\n")


def test_a_plain_encoding() -> None:
    done = process("train", "mlp", "--show", environ={"PYTHONIOENCODING": "ascii"})
    assert (done.code, done.err) == (0, "")
    assert re.search(r"data\.size +\\u2014 +default", done.out)


def with_files_up_to(most: int, *arguments: object) -> Child:
    """Run a command that may write no file larger than ``most`` bytes: as on a full disk, but for this one process."""

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        fittingroom_here(*arguments)

    return Child(work)


def test_a_full_disk_leaves_nothing_behind(trained: Path) -> None:
    before = snapshot(Path())
    child = with_files_up_to(200, *TRAIN)
    assert child.wait(PATIENCE) == 1
    assert re.fullmatch(r"fittingroom: cannot write run/[^ ]+: File too large\n", child.errors)
    assert snapshot(Path()) == before


def test_a_disk_that_fills_while_training(trained: Path) -> None:
    child = with_files_up_to(20_000, *TRAIN, "--epochs", 2, "-q")
    assert child.wait(PATIENCE) == 1
    assert re.fullmatch(r"fittingroom: cannot write run/[^ ]+: File too large\n", child.errors)
    assert not [path for path in Path("run").rglob("*") if "temporary" in path.name]
    gone_on = fittingroom("train", "--resume", "run", "-q")
    assert gone_on.code == 0, gone_on.err


def test_a_read_only_folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as closed:
        Path(closed).chmod(0o555)
        monkeypatch.chdir(closed)

        def work() -> None:
            if may_write_everywhere():
                as_someone_else()
            fittingroom_here("train", "gaussian-nb", "--data", "digits")

        child = Child(work)
        assert child.wait(PATIENCE) == 1
        assert re.fullmatch(r"fittingroom: cannot write runs/\S+: permission denied; choose a folder that you may write to\n", child.errors)
        assert list(Path(closed).iterdir()) == []
        monkeypatch.undo()


def fittingroom_here(*arguments: object) -> None:
    """Be the command, within a child."""
    sys.argv = ["fittingroom", *map(str, arguments)]
    main()
