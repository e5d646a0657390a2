"""The entry point: commands by name, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any

import typer

from fittingroom.cli import audit, compare, data, evaluate, models, predict, quickstart, report, runs, study, train, tune
from fittingroom.cli.output import note
from fittingroom.errors import FittingRoomError, out_of_memory

__all__ = ["app", "main"]

app = typer.Typer(
    help="Try models on your images, and see which one fits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("quickstart")(quickstart.quickstart)
app.add_typer(data.app, name="data")
app.command("models")(models.models)
app.command("train")(train.train)
app.add_typer(runs.app, name="runs")
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.add_typer(study.app, name="study")
app.command("tune")(tune.tune)
app.add_typer(audit.app, name="audit")
app.command("predict")(predict.predict)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fittingroom {version('fittingroom')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Try models on your images, and see which one fits."""


def main() -> None:
    """Run the command line and exit with its code."""
    # Before torch loads its OpenMP: beside one busy process, a thread that spins while it waits for the other one takes the core that
    # the other one needs, and an epoch of `lenet5` took 170 s instead of 4. See docs/speed-log.md.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        """Treat SIGTERM as Ctrl-C is treated, but for the exit code."""
        received.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name or a sign that the terminal's encoding lacks must not end a command
            stream.reconfigure(errors="backslashreplace")
    try:
        # Without typer's own handling: a KeyboardInterrupt reaches the lines below, and the run has been marked stopped.
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except FittingRoomError as error:
        note(f"fittingroom: {error}")
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of a pipe went away: nothing to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1  # as typer has it, where it notices this itself
    except OSError as error:  # above all: the disk to which the output goes is full
        note(f"fittingroom: {error.filename or 'the output'}: {error.strerror or error}")
        code = 1
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # of the command line itself
            code = _usage_error(error)
        elif out_of_memory(error):
            note("fittingroom: not enough memory; try a smaller train.batch_size, data.size or data.limit")
            code = 1
        else:
            raise
    sys.exit(128 + received[0] if received else code if isinstance(code, int) else 0)


def _usage_error(error: Any) -> int:
    """Say in one line what is wrong with the command line; where no command is named, the help is the answer."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        message = error.format_message().rstrip(".").replace(". Did you mean", " — did you mean").replace("Input should be", "must be")
        note(f"fittingroom: {message[:1].lower()}{message[1:]}" + (f"; see {context.command_path} --help" if context else ""))
    return int(error.exit_code)
