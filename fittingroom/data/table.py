"""Images as a table of text: one image a line, the label first and then its pixels (785 columns for 28×28)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from fittingroom.data.arrays import ImageArray, Images
from fittingroom.data.reading import MAX_BYTES, MAX_CLASSES, check_labels, opened
from fittingroom.errors import DataError

__all__ = ["read_table"]

BLOCK = 2**24
MAX_TABLE_SIDE = 1024


def read_table(path: Path, *, classes: int | None = None) -> Images:
    """Read a CSV file, plain or gzip-compressed, with or without a line of column names.

    The first column is the label, a whole number from 0. The others are the pixels, whole numbers 0–255, row by row;
    their number gives the shape: n² columns are gray images n × n, 3·n² are RGB images n × n with the three values of
    each pixel side by side.

    Args:
        path: the file; `.gz` is told from the content.
        classes: number of classes, where it is known.

    Raises:
        DataMissing: there is no such file.
        DataError: damaged, not of that form, a missing column, text or a value outside 0–255 in a pixel, a bad label;
            the message names line and column, both counted from 1.
    """
    pixels: list[ImageArray] = []
    labels: list[NDArray[np.int32]] = []
    columns, line, size = 0, 1, 0
    with opened(path) as stream:
        for lines in _blocks(stream, path):
            first = line
            line += len(lines)
            if not columns:
                columns = _columns(lines[0], path)
                if _is_header(lines[0], path):
                    lines, first = lines[1:], first + 1
            block = _parse_quickly(lines, columns)
            if block is None:
                block = _parse_carefully(lines, columns, first, path)
            labels.append(block[:, 0])
            pixels.append(block[:, 1:].astype(np.uint8))
            size += pixels[-1].size
            if size > MAX_BYTES:
                raise DataError(f"{path}: holds more than {MAX_BYTES >> 30} GiB of pixels, more than this program reads")
    if not size:
        raise DataError(f"{path}: holds no images")
    height, width, channels = _image_shape(columns, path)
    shaped = np.concatenate(pixels).reshape(-1, height, width, channels)
    return Images(shaped, check_labels(np.concatenate(labels), str(path), classes))


def _blocks(stream: IO[bytes], path: Path) -> Iterator[list[str]]:
    """Yield the lines of ``stream`` in blocks of about 16 MiB."""
    rest, first = b"", True
    while piece := stream.read(BLOCK):
        block = rest + piece
        cut = block.rfind(b"\n") + 1
        if not cut and len(block) > BLOCK:
            raise DataError(f"{path}: a line of more than {BLOCK >> 20} MiB; this is not a CSV file of small images")
        if cut:
            yield _lines(block[:cut], first)
            first = False
        rest = block[cut:]
    if rest:
        yield _lines(rest, first)


def _lines(block: bytes, first: bool) -> list[str]:
    text = block.decode("utf-8-sig" if first else "utf-8", errors="replace")
    return text.removesuffix("\n").replace("\r\n", "\n").removesuffix("\r").split("\n")


def _columns(line: str, path: Path) -> int:
    columns = line.count(",") + 1
    _image_shape(columns, path)
    return columns


def _image_shape(columns: int, path: Path) -> tuple[int, int, int]:
    for channels in (1, 3):
        side = math.isqrt((columns - 1) // channels)
        if 1 <= side <= MAX_TABLE_SIDE and channels * side * side == columns - 1:
            return side, side, channels
    expected = "a label and the pixels of a square image (785 columns for gray 28×28, 3,073 for RGB 32×32)"
    raise DataError(f"{path}: line 1 has {columns:,} column(s), which is not {expected}: is one missing, or is it not separated by commas?")


def _is_header(line: str, path: Path) -> bool:
    names = [_unquoted(name).lower() for name in line.split(",", MAX_CLASSES)]
    if _whole_number(names[0]) is not None or not names[0]:
        return False
    for column, name in enumerate(names[1:], 2):
        if name in ("label", "class", "target"):
            raise DataError(f"{path}: line 1, column {column}: the column '{name}' must be the first, before the pixels")
    # A header names columns throughout; numbers after a first text are a damaged image.
    if all(_whole_number(name) is not None for name in names[1:]):
        raise DataError(f"{path}: line 1, column 1: '{names[0][:20]}' is not a label; labels are whole numbers from 0")
    return True


def _parse_quickly(lines: list[str], columns: int) -> NDArray[np.int32] | None:
    """Parse lines in which everything is as it should be, or return None."""
    for dtype in (np.int32, np.float64):  # whole numbers may be written as 12.0, which takes longer
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                block = np.loadtxt(lines, dtype=dtype, delimiter=",", comments=None, ndmin=2)
        except (ValueError, OverflowError, Warning):
            continue
        pixels, labels = block[:, 1:], block[:, 0]
        if block.shape[1] == columns and pixels.min() >= 0 and pixels.max() <= 255 and labels.min() >= 0 and labels.max() < MAX_CLASSES:
            whole = block.astype(np.int32)
            return whole if dtype == np.int32 or np.array_equal(whole, block) else None
    return None


def _parse_carefully(lines: list[str], columns: int, first: int, path: Path) -> NDArray[np.int32]:
    """Parse lines one by one, to accept numbers in quotes, and to say where the first fault is."""
    rows = [_row(line, columns, f"{path}: line {number}") for number, line in enumerate(lines, first) if line.strip()]
    return np.array(rows, np.int32).reshape(-1, columns)


def _row(line: str, columns: int, where: str) -> list[int]:
    fields = [_unquoted(field) for field in line.split(",", columns)]
    if len(fields) != columns:
        raise DataError(f"{where}: {line.count(',') + 1:,} columns where line 1 has {columns:,}; mend or remove the line")
    values = [_whole_number(field) for field in fields]
    for column, (field, value) in enumerate(zip(fields, values, strict=True), 1):
        if column == 1:
            if value is None or not 0 <= value < MAX_CLASSES:
                raise DataError(f"{where}, column 1: '{field[:20]}' is not a label; labels are whole numbers from 0 to {MAX_CLASSES - 1}")
        elif value is None or not 0 <= value <= 255:
            raise DataError(f"{where}, column {column}: '{field[:20]}' is not a pixel; pixels are whole numbers from 0 to 255")
    return [value for value in values if value is not None]


def _unquoted(field: str) -> str:
    return field.strip().strip('"').strip()


def _whole_number(field: str) -> int | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None
