"""The IDX format of MNIST and its relatives, plain or gzip-compressed.

A header of big-endian numbers — two zero bytes, the type, the number of dimensions, each dimension in four bytes —
and then the values, row by row.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fittingroom.data.arrays import Images
from fittingroom.data.reading import MAX_BYTES, check_labels, check_shape, opened, read_at_most
from fittingroom.errors import DataError

__all__ = ["read_idx", "read_idx_pair"]

UNSIGNED_BYTE = 8


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Args:
        path: plain or gzip-compressed; which of the two is told from the content.

    Returns:
        uint8, writable, of the shape that the header gives (one to four dimensions).

    Raises:
        DataMissing: there is no such file.
        DataError: truncated or corrupt gzip, wrong magic number, more promised than held, or bytes after the end.
    """
    with opened(path) as stream:
        magic = bytes(read_at_most(stream, 4))
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != UNSIGNED_BYTE or not 1 <= magic[3] <= 4:
            shown = f"its magic number is 0x{magic.hex()}" if magic else "it is empty"
            expected = "expected 0x00000801 for labels, 0x00000803 for images"
            raise DataError(f"{path}: not an IDX file of bytes: {shown}, {expected}; fetch it again")
        dimensions = bytes(read_at_most(stream, 4 * magic[3]))
        if len(dimensions) < 4 * magic[3]:
            raise DataError(f"{path}: truncated, the IDX header is incomplete; fetch it again")
        shape = tuple(int.from_bytes(dimensions[i : i + 4], "big") for i in range(0, len(dimensions), 4))
        size = math.prod(shape)
        if size > MAX_BYTES:
            promised = " × ".join(map(str, shape))
            raise DataError(f"{path}: its header promises {promised} values, more than this program reads; fetch it again")
        content = read_at_most(stream, size + 1)
    if len(content) != size:
        held = f"{len(content):,}" if len(content) < size else "more"
        raise DataError(f"{path}: its header promises {size:,} values but it holds {held}; fetch it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_idx_pair(images_path: Path, labels_path: Path, *, classes: int | None = None, first_label: int = 0) -> Images:
    """Read a file of images and the file of their labels.

    Args:
        images_path: IDX of ``[count, height, width]``, or with a last dimension of 1 or 3 channels.
        labels_path: IDX of ``[count]``.
        classes: number of classes, where it is known.
        first_label: the number by which the file calls the first class (1 in EMNIST's letters).

    Raises:
        DataMissing: one of the files is missing.
        DataError: as `read_idx`; also different counts, or labels outside the classes.
    """
    pixels, labels = read_idx(images_path), read_idx(labels_path)
    shape = check_shape(pixels.shape, str(images_path))
    checked = check_labels(labels.astype(np.int64) - first_label, str(labels_path), classes)
    if len(checked) != shape[0]:
        counts = f"{images_path} holds {shape[0]:,} images but {labels_path} {len(checked):,} labels"
        raise DataError(f"{counts}: the two do not belong together; fetch both again")
    return Images(pixels.reshape(shape), checked)
