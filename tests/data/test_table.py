from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from fittingroom.data import table
from fittingroom.data.table import read_table
from fittingroom.errors import DataError

from .made import csv_bytes, made_images


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "x.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("change", [lambda b: b, lambda b: b.replace(b"\n", b"\r\n"), lambda b: b[:-1], lambda b: b"\xef\xbb\xbf" + b,
                                    lambda b: b + b"\n\n", lambda b: b.replace(b",", b", ")])  # fmt: skip
def test_the_ways_in_which_tables_are_written(tmp_path: Path, header: bool, change: object) -> None:
    images = made_images()
    read = read_table(write(tmp_path, change(csv_bytes(images, header))))  # type: ignore[operator]
    assert read.checksum == images.checksum


def test_numbers_as_numpy_writes_them(tmp_path: Path) -> None:
    images = made_images()
    buffer = io.BytesIO()
    np.savetxt(buffer, np.column_stack([images.labels, images.pixels.reshape(12, -1)]), delimiter=",")
    assert read_table(write(tmp_path, buffer.getvalue())).checksum == images.checksum


def test_quoted_numbers(tmp_path: Path) -> None:
    read = read_table(write(tmp_path, '"1","2","3","4","5"\n"0","6","7","8","9"\n'))
    assert read.labels.tolist() == [1, 0]
    assert read.pixels.ravel().tolist() == [2, 3, 4, 5, 6, 7, 8, 9]


def test_blocks_are_joined_at_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = made_images(50)
    for size in (200, 333, 1000):
        monkeypatch.setattr(table, "BLOCK", size)
        assert read_table(write(tmp_path, csv_bytes(images))).checksum == images.checksum


def test_rgb_values_stand_side_by_side(tmp_path: Path) -> None:
    read = read_table(write(tmp_path, "0," + ",".join(map(str, range(12))) + "\n"))
    assert read.pixels[0, 0, 1].tolist() == [3, 4, 5]


GOOD = "label,a,b,c,d\n0,1,2,3,4\n1,5,6,7,8\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "1,2,3,4\n", "line 4: 4 columns where line 1 has 5"),
        (GOOD + "1,2,3,4,5,6\n", "line 4: 6 columns where line 1 has 5"),
        (GOOD + "1,2,x,4,5\n", "line 4, column 3: 'x' is not a pixel"),
        (GOOD + "1,2,,4,5\n", "line 4, column 3: '' is not a pixel"),
        (GOOD + "1,2,3,256,5\n", "line 4, column 4: '256' is not a pixel"),
        (GOOD + "1,2,3,-1,5\n", "line 4, column 4: '-1' is not a pixel"),
        (GOOD + "1,2,3,0.5,5\n", "line 4, column 4: '0.5' is not a pixel"),
        (GOOD + "1,2,3,nan,5\n", "line 4, column 4: 'nan' is not a pixel"),
        (GOOD + "1,2,3,inf,5\n", "line 4, column 4: 'inf' is not a pixel"),
        (GOOD + "1,2,3,99999999999999999999,5\n", "line 4, column 4"),
        (GOOD + "-1,2,3,4,5\n", "line 4, column 1: '-1' is not a label"),
        (GOOD + "1.5,2,3,4,5\n", "line 4, column 1: '1.5' is not a label"),
        (GOOD + "shirt,2,3,4,5\n", "line 4, column 1: 'shirt' is not a label"),
        (GOOD + "99999,2,3,4,5\n", "99999"),
        ("shirt,2,3,4,5\n", "line 1, column 1: 'shirt' is not a label"),
        ("0,x,3,4,5\n", "line 1, column 2: 'x'"),
        ("a,b,c,d,label\n1,2,3,4,5\n", "line 1, column 5: the column 'label' must be the first"),
        ("label,a,b\n0,1,2\n", "line 1 has 3 column.* is one missing"),
        ("label;a;b;c;d\n0;1;2;3;4\n", "line 1 has 1 column"),
        ("label,a,b,c,d\n", "holds no images"),
        ("", "holds no images"),
    ],
)
def test_faults_are_named_with_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, text))


def test_line_numbers_in_a_later_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "BLOCK", 64)
    with pytest.raises(DataError, match="line 41, column 3"):
        read_table(write(tmp_path, "label,a,b,c,d\n" + "0,1,2,3,4\n" * 39 + "0,1,oops,3,4\n"))


def test_a_line_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "BLOCK", 64)
    with pytest.raises(DataError, match="a line of more than"):
        read_table(write(tmp_path, "0," * 1000))


def test_labels_outside_the_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"label 1 of image 1 .* 0–0"):
        read_table(write(tmp_path, GOOD), classes=1)
