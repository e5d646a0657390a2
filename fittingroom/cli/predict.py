"""``fittingroom predict``: what a trained model sees in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fittingroom.cli.options import Device, Json, RunName, RunsDir, Threads
from fittingroom.cli.output import note, print_json, print_table

__all__ = ["predict"]


def predict(
    run: RunName,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Picture files.")],
    invert: Annotated[bool, typer.Option("--invert", help="Swap dark and light first (Fashion-MNIST is light on black).")] = False,
    top: Annotated[int, typer.Option(min=1, max=100, help="How many classes to name for each picture.")] = 3,
    runs_dir: RunsDir = Path("runs"),
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Name the class of pictures, most probable first."""
    from fittingroom import experiment, runs
    from fittingroom.ship.predict import predict_files

    setting = experiment.Setting(device=device, threads=threads, notify=note)
    named = predict_files(runs.find(run, runs_dir), images, top=top, invert=invert, setting=setting)
    if as_json:
        listed = [
            {"image": str(item.path), "classes": [{"name": name, "probability": value} for name, value in item.classes]} for item in named
        ]
        print_json(listed)
        return
    rows = [[str(item.path), ", ".join(f"{name} {_percent(value)}" for name, value in item.classes)] for item in named]
    print_table([("image", "left"), ("classes", "left")], rows)


def _percent(probability: float) -> str:
    """A percentage that never rounds up to certainty."""
    return "over 99.9%" if 0.9995 <= probability < 1 else f"{probability:.1%}"
