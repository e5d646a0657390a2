"""``fittingroom data``: which sets there are, what is in one, and fetching it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fittingroom.cli.options import DataDir, Json
from fittingroom.cli.output import download_progress, note, print_json, print_line, print_table

__all__ = ["app"]

app = typer.Typer(help="Data sets: list, describe, fetch.", no_args_is_help=True)


@app.command("list")
def list_sets(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the named sets and where each was found."""
    from fittingroom.data import catalog

    found = catalog.available(data_dir=data_dir)
    if as_json:
        print_json([{"name": entry.name, "found": entry.found, "classes": entry.classes, "source": entry.source} for entry in found])
        return
    columns = [("name", "left"), ("classes", "right"), ("found", "left")]
    rows = [[entry.name, str(entry.classes), entry.found or f"not here; get it: fittingroom data fetch {entry.name}"] for entry in found]
    print_table(columns, rows)


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(help="A named set, or the path of an image folder, a CSV or an npz file.")],
    size: Annotated[int | None, typer.Option(help="Side to which images of a folder are brought.", min=1, max=1024)] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Describe a set: counts, classes, image size, identity, checksum. The test images stay sealed."""
    from fittingroom.data import catalog

    with download_progress() as downloaded:
        data = catalog.load(name, data_dir=data_dir, size=(size, size) if size else None, notify=note, progress=downloaded)
    channels, height, width = data.input_shape
    counts = [int(count) for count in _counts(data.train.labels, len(data.classes))]
    value = {
        "name": data.name,
        "identity": data.identity,
        "source": data.source,
        "classes": list(data.classes),
        "image": {"height": height, "width": width, "channels": channels},
        "train": len(data.train),
        "validation": len(data.validation) if data.validation is not None else 0,
        "train_per_class": counts,
        "train_sha256": data.train.checksum,
        "notices": list(data.notices),
    }
    if as_json:
        print_json(value)
        return
    rows = [
        ["name", data.name],
        ["identity", data.identity or "no known set"],
        ["source", data.source],
        ["images", f"{height} × {width}, {'gray' if channels == 1 else 'RGB'}"],
        ["train", f"{len(data.train):,}"],
        ["validation", f"{len(data.validation):,}" if data.validation is not None else "none of its own"],
        ["SHA-256", data.train.checksum[:16] + "…"],
    ]
    print_table([("", "left"), ("", "left")], rows)
    print_line("")
    print_table([("class", "left"), ("train", "right")], [[name, f"{count:,}"] for name, count in zip(data.classes, counts, strict=True)])


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="A named set.")],
    into: Annotated[Path | None, typer.Option(help="Where to put it (default: the user's cache folder).", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Download a set from its publishers' mirrors and verify it."""
    from fittingroom.data import catalog

    with download_progress() as downloaded:
        folder = catalog.fetch(name, into=into, progress=downloaded, notify=note)
    if as_json:
        print_json({"name": name, "folder": None if folder is None else str(folder)})
    elif folder is not None:
        print_line(str(folder))


def _counts(labels: object, classes: int) -> list[int]:
    import numpy as np

    return list(np.bincount(np.asarray(labels), minlength=classes))
