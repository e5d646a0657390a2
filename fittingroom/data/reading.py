"""What all readers share: opening plain or gzip-compressed files, reading no more than was promised, checking labels.

Files come from outside and are never believed: what a header promises is compared with these limits before
anything is read, and memory grows with the bytes that are really there.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from fittingroom.data.arrays import LabelArray
from fittingroom.errors import DataError, DataMissing

__all__ = ["MAX_BYTES", "MAX_CLASSES", "MAX_SIDE", "check_labels", "check_shape", "opened", "read_at_most"]

MAX_BYTES = 2**33
"""Pixels of one part of a set, in bytes; more would not fit in the memory of the machines that this program is for."""
MAX_SIDE = 4096
"""Height or width of a stored image, in pixels."""
MAX_CLASSES = 10_000
"""Number of classes; a label above it is damage or a column that holds no labels."""

CHUNK = 2**20
GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressing it where its content (whatever its name) is gzip.

    Raises:
        DataMissing: there is no such file.
        DataError: it cannot be opened, or, while the caller reads, turns out to be truncated or corrupt.
    """
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            if compressed:
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield cast(IO[bytes], stream)
            else:
                yield raw
    except FileNotFoundError:
        raise DataMissing(f"{path}: no such file") from None
    except EOFError:
        raise DataError(f"{path}: truncated, its compressed data ends too early; fetch it again") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: corrupt, it cannot be decompressed ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_at_most(stream: IO[bytes], size: int) -> bytearray:
    """Read up to ``size`` bytes; memory grows with what arrives, not with ``size``."""
    content = bytearray()
    while len(content) < size and (piece := stream.read(min(CHUNK, size - len(content)))):
        content += piece
    return content


def check_shape(shape: tuple[int, ...], where: str) -> tuple[int, int, int, int]:
    """Check the shape of stored images and return it as ``(count, height, width, channels)``.

    Raises:
        DataError: neither ``[count, height, width]`` nor ``[count, height, width, 1 or 3]``, empty, or beyond the limits.
    """
    full = (*shape, 1) if len(shape) == 3 else shape
    if len(full) != 4 or full[3] not in (1, 3):
        raise DataError(f"{where}: shape {list(shape)} is not that of images: [count, height, width] or [count, height, width, 1 or 3]")
    count, height, width, channels = full
    if count < 1:
        raise DataError(f"{where}: holds no images")
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE) or count * height * width * channels > MAX_BYTES:
        limits = f"sides up to {MAX_SIDE}, {MAX_BYTES >> 30} GiB in all"
        what = f"{count:,} images of {height}×{width}×{channels}"
        raise DataError(f"{where}: {what} are beyond what this program reads ({limits}); is it damaged?")
    return count, height, width, channels


def check_labels(labels: NDArray[Any], where: str, classes: int | None = None) -> LabelArray:
    """Return ``labels`` as int64 ``[count]``, each checked to lie in ``0 … classes - 1``.

    Args:
        labels: whole numbers of any type, ``[count]`` or ``[count, 1]``.
        where: what a message should call the place they come from.
        classes: number of classes; None where it is not known and only the limit of `MAX_CLASSES` holds.

    Raises:
        DataError: not whole numbers, not one per image, or outside the classes; the message names the first bad one.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{where}: labels must be one whole number per image, not an array of shape {list(labels.shape)}")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{where}: labels must be whole numbers, not {labels.dtype}")
    last = (MAX_CLASSES if classes is None else classes) - 1
    bad = np.flatnonzero((labels < 0) | (labels > last))
    if len(bad):
        which = f"label {labels[bad[0]]} of image {bad[0]:,} (counted from 0)"
        raise DataError(f"{where}: {which} is outside the classes 0–{last}; correct or remove it")
    return labels.astype(np.int64)
