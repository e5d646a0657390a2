from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fittingroom.data.idx import read_idx, read_idx_pair
from fittingroom.errors import DataError, DataMissing

from .made import idx_bytes, idx_image_bytes, made_images, write_idx


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 3, 4, 3), (0,), (0, 28, 28)])
@pytest.mark.parametrize("compressed", [False, True])
def test_any_shape(tmp_path: Path, shape: tuple[int, ...], compressed: bool) -> None:
    values = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    content = idx_bytes(values)
    path = tmp_path / "misleading.txt"
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert np.array_equal(read_idx(path), values)


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    content = idx_bytes(np.arange(9))
    (tmp_path / "x").write_bytes(gzip.compress(content[:7]) + gzip.compress(content[7:]))
    assert read_idx(tmp_path / "x").tolist() == list(range(9))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\0\0", "magic number is 0x0000"),
        (b"\0\0\x0d\x01\0\0\0\0", "magic number is 0x00000d01"),
        (b"\0\0\x08\0", "magic number"),
        (b"\0\0\x08\x05" + bytes(20), "magic number"),
        (b"\0\0\x08\x03\0\0\0", "header is incomplete"),
        (idx_bytes(np.arange(5))[:-1], "promises 5 values but it holds 4"),
        (idx_bytes(np.arange(5)) + b"x", "promises 5 values but it holds more"),
        (gzip.compress(idx_bytes(np.arange(5)) + b"x"), "holds more"),
        (gzip.compress(idx_bytes(np.arange(5)))[:-9], "truncated"),
        (gzip.compress(idx_bytes(np.arange(5)))[:-4], "truncated"),
        (gzip.compress(idx_bytes(np.arange(5)))[:-8] + bytes(8), "corrupt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "x")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no such file"):
        read_idx(tmp_path / "x")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (60_000, 28, 28), (2**31,)])
def test_memory_follows_what_is_there_and_not_the_promise(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "x").write_bytes(struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + b"few")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="promises"):
            read_idx(tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_a_compression_bomb_is_not_inflated_beyond_the_promise(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(idx_bytes(np.arange(5)) + bytes(50_000_000), 1))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="holds more"):
            read_idx(tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_labels_outside_the_classes(tmp_path: Path) -> None:
    images = made_images(classes=5)
    write_idx(tmp_path, images, compressed=False)
    paths = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    with pytest.raises(DataError, match=r"label 4 of image 10 .* outside the classes 0–3"):
        read_idx_pair(*paths, classes=4)
    with pytest.raises(DataError, match=r"label -1 of image 0"):
        read_idx_pair(*paths, first_label=1)


def test_labels_in_place_of_images(tmp_path: Path) -> None:
    write_idx(tmp_path, made_images(), compressed=False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    with pytest.raises(DataError, match="not that of images"):
        read_idx_pair(labels, labels)


@pytest.mark.parametrize("shape", [(0, 28, 28), (3, 0, 28), (3, 5000, 1), (2, 3, 3, 4)])
def test_shapes_that_are_no_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "images").write_bytes(idx_bytes(np.zeros(shape)))
    (tmp_path / "labels").write_bytes(idx_bytes(np.zeros(shape[0])))
    with pytest.raises(DataError, match=r"no images|beyond|not that of images"):
        read_idx_pair(tmp_path / "images", tmp_path / "labels")


def test_images_are_writable(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(idx_image_bytes(made_images()))
    read_idx(tmp_path / "x")[0] = 1
