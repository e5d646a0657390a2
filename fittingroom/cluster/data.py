"""Data on a node: its own where it has the same, else the caller's, handed out from memory as if they had been found there.

Either way a run sees the caller's set: the same images under the same name, classes and source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from fittingroom.cluster.transfer import Parcel
from fittingroom.data import catalog
from fittingroom.data.arrays import DataSet, Images
from fittingroom.errors import DataError, FittingRoomError, RunError
from fittingroom.recipe import Data

__all__ = ["describe", "hand_out", "load", "pack", "unpack"]

PARTS = ("train", "validation", "test")
FILE = "images.safetensors"


def load(settings: Data, data_dir: Path | None, download: bool = True) -> DataSet:
    """Load the set of a recipe, with its test images where it has some that can be read.

    Raises:
        FittingRoomError: as `catalog.load` has it.
    """

    def loaded(with_test: bool, download: bool) -> DataSet:
        return catalog.load(
            settings.name, data_dir=data_dir, size=settings.size, channels=settings.channels, with_test=with_test, download=download
        )

    try:
        return loaded(True, download)
    except FittingRoomError as error:  # of the test images alone, perhaps: a run that never opens them does without
        try:
            return loaded(False, False)
        except FittingRoomError:
            raise error from None


def describe(data: DataSet) -> dict[str, Any]:
    """Return all of a set but its images, and what tells whether another set has the same ones, as plain values."""
    return {
        "name": data.name,
        "classes": list(data.classes),
        "source": data.source,
        "identity": data.identity,
        "notices": list(data.notices),
        "checksums": {part: images.checksum for part, images in _parts(data).items()},
    }


def pack(data: DataSet) -> bytes:
    """Return a set as bytes."""
    arrays = {f"{part}.{what}": getattr(images, what) for part, images in _parts(data).items() for what in ("pixels", "labels")}
    return Parcel(describe(data), {FILE: save_arrays(arrays)}).to_bytes()


def unpack(content: bytes) -> DataSet:
    """Undo `pack`.

    Raises:
        RunError: it is damaged, or not what it says of itself.
    """
    parcel = Parcel.from_bytes(content)
    try:
        arrays = load_arrays(parcel.files[FILE])
        parts = {part: Images(arrays[f"{part}.pixels"], arrays[f"{part}.labels"]) for part in parcel.message["checksums"]}
        data = _as_described(parcel.message, parts)
    except (SafetensorError, DataError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"the data that were sent to this node are damaged ({error}); repeat the command") from None
    if describe(data) != parcel.message:
        raise RunError("the data that were sent to this node are not those that were meant; repeat the command")
    return data


def hand_out(settings: Data, about: Mapping[str, Any], data_dir: Path | None, sent: Callable[[], bytes]) -> None:
    """Have `catalog.load` give out the caller's set in this process: from a copy of the node's own where it has the same images.

    Args:
        settings: what the recipe says of its data.
        about: what `describe` says of the caller's set.
        data_dir: where the runs of this process look for data first.
        sent: fetches the caller's set, packed; called only where it is needed.

    Raises:
        RunError: what was sent is damaged.
    """
    named: dict[str, Any] = {"data_dir": data_dir, "size": settings.size, "channels": settings.channels}
    if (kept := catalog.kept(settings.name, **named)) is not None and describe(kept) == about:
        return
    catalog.forget()  # a node need not hold what it worked on before
    catalog.keep(settings.name, **named, dataset=_own(settings, about, data_dir) or unpack(sent()))


def _own(settings: Data, about: Mapping[str, Any], data_dir: Path | None) -> DataSet | None:
    """The set as the caller has it, with the images that are found here; None where there are none or others."""
    with suppress(FittingRoomError):
        found = load(settings, data_dir, download=False)
        if describe(found)["checksums"] == about["checksums"]:
            return _as_described(about, _parts(found))
    return None


def _parts(data: DataSet) -> dict[str, Images]:
    return {part: images for part in PARTS if (images := getattr(data, part)) is not None}


def _as_described(about: Mapping[str, Any], parts: Mapping[str, Images]) -> DataSet:
    return DataSet(
        about["name"],
        tuple(about["classes"]),
        parts["train"],
        validation=parts.get("validation"),
        test=parts.get("test"),
        source=about["source"],
        identity=about["identity"],
        notices=tuple(about["notices"]),
    )
