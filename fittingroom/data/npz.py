"""NumPy's `.npz` archives: Keras-style (`x_train`, `y_train`, …), MedMNIST-style (`train_images`, …) or one plain pair.

An archive is a zip file of `.npy` files. Each header is read and checked before the data behind it, and nothing
pickled is ever loaded: unpickling runs code of the file's maker.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fittingroom.data.arrays import DataSet, ImageArray, Images
from fittingroom.data.reading import MAX_BYTES, check_labels, check_shape, read_at_most
from fittingroom.errors import DataError, DataMissing, FittingRoomError

__all__ = ["read_npz"]

NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("x", "y"), ("X", "y")),
    "validation": (("x_val", "y_val"), ("x_validation", "y_validation"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}
"""For each part of a set, the pairs of array names under which it is looked for, in this order."""


def read_npz(path: Path, *, classes: int | None = None, with_test: bool = False) -> DataSet:
    """Read an archive of images and labels.

    Args:
        path: the archive. Images are whole numbers 0–255, ``[count, height, width]`` or with 1 or 3 channels last;
            labels whole numbers, ``[count]`` or ``[count, 1]``.
        classes: number of classes; None takes the highest training label.
        with_test: also read the test images; without it their bytes are not touched.

    Raises:
        DataMissing: there is no such file.
        DataError: not a zip file, damaged, needs pickle, holds no pair of arrays by a known name, or one of them is not
            of that form.
    """
    with _archive(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        train = _part(archive, members, "train", path, classes)
        if train is None:
            raise DataError(f"{path}: holds no training images; expected arrays x_train and y_train, or images and labels, "
                            f"found {', '.join(sorted(members)[:8])[:200] or 'none'}")
        count = int(train.labels.max()) + 1 if classes is None else classes
        validation = _part(archive, members, "validation", path, count)
        test = _part(archive, members, "test", path, count) if with_test else None
    return DataSet(path.stem, tuple(map(str, range(count))), train, validation, test, source=str(path))


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file, and turn whatever its damage brings about into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of old headers, zipfile of double names
            with zipfile.ZipFile(path) as archive:
                yield archive
    except FittingRoomError:
        raise
    except FileNotFoundError:
        raise DataMissing(f"{path}: no such file") from None
    except Exception as error:  # zlib, lzma, struct, RuntimeError (encrypted), …: a damaged archive can raise anything
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: cannot be read as an npz archive ({reason or type(error).__name__}); is it damaged?") from None


def _part(archive: zipfile.ZipFile, members: dict[str, str], part: str, path: Path, classes: int | None) -> Images | None:
    for images, labels in NAMES[part]:
        if images in members and labels in members:
            pixels = _pixels(_array(archive, members[images], f"{path}: array '{images}'"), f"{path}: array '{images}'")
            checked = check_labels(_array(archive, members[labels], f"{path}: array '{labels}'"), f"{path}: array '{labels}'", classes)
            if len(pixels) != len(checked):
                raise DataError(f"{path}: '{images}' holds {len(pixels):,} images but '{labels}' {len(checked):,} labels")
            return Images(pixels, checked)
    return None


def _pixels(array: NDArray[Any], where: str) -> ImageArray:
    shape = check_shape(array.shape, where)
    if array.dtype.kind not in "iu":
        remedy = "; multiply by 255 and round" if array.dtype.kind == "f" else ""
        raise DataError(f"{where}: pixels must be whole numbers 0–255 (uint8), not {array.dtype}{remedy}")
    if array.dtype != np.uint8 and (array.min() < 0 or array.max() > 255):
        raise DataError(f"{where}: pixels must lie in 0–255, found {array.min()} to {array.max()}")
    return np.ascontiguousarray(array.reshape(shape), dtype=np.uint8)


def _array(archive: zipfile.ZipFile, member: str, where: str) -> NDArray[Any]:
    with archive.open(member) as stream:
        shape, fortran, dtype = _header(stream)
        if dtype.hasobject:
            raise DataError(f"{where}: is pickled (Python objects), which is never loaded; save it as a plain array of whole numbers")
        if dtype.kind not in "biufc" or len(shape) > 4:
            raise DataError(f"{where}: {dtype} {list(shape)} is neither images nor labels")
        size = math.prod(shape) * dtype.itemsize
        if size > MAX_BYTES:
            raise DataError(f"{where}: its header promises {size:,} bytes, more than this program reads; is it damaged?")
        content = read_at_most(stream, size + 1)
    if len(content) != size:
        held = f"{len(content):,}" if len(content) < size else "more"
        raise DataError(f"{where}: its header promises {size:,} bytes but it holds {held}")
    array = np.frombuffer(content, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)
