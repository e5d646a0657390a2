"""What every reader must do, whatever its format."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fittingroom.data import catalog
from fittingroom.data.arrays import DataSet, Images
from fittingroom.errors import DataError, DataMissing, FittingRoomError, UsageError

from .made import csv_bytes, idx_bytes, idx_image_bytes, made_images, nowhere, npz_bytes, write_idx, write_pictures

Write = Callable[[Path, Images, Images | None], Path]


def write_csv(folder: Path, train: Images, test: Images | None, compressed: bool = False) -> Path:
    for name, images in (("train", train), ("test", test)):
        if images is not None:
            content = csv_bytes(images)
            (folder / f"made_{name}.csv").write_bytes(gzip.compress(content, mtime=0) if compressed else content)
    return folder / "made_train.csv"


def write_npz(folder: Path, train: Images, test: Images | None) -> Path:
    (folder / "made.npz").write_bytes(npz_bytes(train, test))
    return folder / "made.npz"


def write_split_folder(folder: Path, train: Images, test: Images | None) -> Path:
    write_pictures(folder / "pictures" / "train", train)
    if test is not None:
        write_pictures(folder / "pictures" / "test", test)
    return folder / "pictures"


FORMATS: dict[str, Write] = {
    "idx": lambda folder, train, test: write_idx(folder / "set", train, test, compressed=False),
    "idx.gz": lambda folder, train, test: write_idx(folder / "set", train, test),
    "csv": write_csv,
    "csv.gz": lambda folder, train, test: write_csv(folder, train, test, compressed=True),
    "npz": write_npz,
    "pictures": write_split_folder,
}


@pytest.fixture(params=list(FORMATS))
def write(request: pytest.FixtureRequest) -> Write:
    return FORMATS[request.param]


def load(path: Path, **options: object) -> DataSet:
    return catalog.load(str(path), surroundings=nowhere(path.parent), **options)  # type: ignore[arg-type]


def same(one: Images | None, other: Images) -> bool:
    return one is not None and np.array_equal(one.pixels, other.pixels) and np.array_equal(one.labels, other.labels)


@pytest.mark.parametrize("channels", [1, 3])
def test_gives_back_what_was_written(write: Write, tmp_path: Path, channels: int) -> None:
    train, test = made_images(channels=channels), made_images(6, channels=channels, seed=1)
    data = load(write(tmp_path, train, test), with_test=True)
    assert same(data.train, train)
    assert same(data.test, test)
    assert data.train.checksum == train.checksum
    assert data.train.pixels.dtype == np.uint8
    assert data.train.pixels.flags.writeable  # torch warns of arrays that are not
    assert data.train.labels.dtype == np.int64
    assert data.classes == ("0", "1", "2")
    assert data.input_shape == (channels, 6, 6)
    assert data.identity is None
    assert data.notices == ()


def test_keeps_the_test_set_sealed(write: Write, tmp_path: Path) -> None:
    assert load(write(tmp_path, made_images(), made_images(6, seed=1))).test is None


def test_has_no_test_set_where_there_is_none(write: Write, tmp_path: Path) -> None:
    assert load(write(tmp_path, made_images(), None), with_test=True).test is None


def test_brings_images_to_a_size_and_channels(write: Write, tmp_path: Path) -> None:
    data = load(write(tmp_path, made_images(), made_images(6, seed=1)), size=(8, 10), channels=3, with_test=True)
    assert data.train.pixels.shape == (12, 8, 10, 3)
    assert data.test is not None
    assert data.test.pixels.shape == (6, 8, 10, 3)


def test_refuses_one_class(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one class"):
        load(write(tmp_path, made_images(classes=1), None))


def test_refuses_test_images_of_another_size(write: Write, tmp_path: Path) -> None:
    path = write(tmp_path, made_images(), made_images(6, side=5, seed=1))
    with pytest.raises((DataError, UsageError), match=r"images are|differ in size"):
        load(path, with_test=True)


def test_refuses_test_labels_outside_the_classes(write: Write, tmp_path: Path) -> None:
    path = write(tmp_path, made_images(), made_images(6, classes=4, seed=1))
    with pytest.raises(DataError, match=r"outside|no such class"):
        load(path, with_test=True)


def test_says_that_a_path_is_missing(tmp_path: Path) -> None:
    for name in ("no/such/folder", "absent.csv", "absent.npz"):
        with pytest.raises(DataMissing, match="no such file or folder"):
            catalog.load(name, surroundings=nowhere(tmp_path))


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 100, b"<html>not found</html>", b"PK\x03\x04", b"\x1f\x8b\x08", bytes(range(256))])
def test_refuses_files_that_are_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(FittingRoomError) as caught:
        load(tmp_path / "x.csv")
    assert "\n" not in str(caught.value)
    assert "x.csv" in str(caught.value)


def files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def loads_equal_or_is_refused(path: Path, train: Images, *, may_differ: bool) -> None:
    try:
        data = load(path)
    except FittingRoomError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert len(str(error)) < 600  # noqa: PT017
    else:
        assert may_differ or same(data.train, train)


def test_truncated_anywhere_is_refused(write: Write, tmp_path: Path) -> None:
    train = made_images(6, side=3)
    path = write(tmp_path, train, None)
    plain_text = path.suffix == ".csv" and path.read_bytes()[:1] == b"l"  # nothing in it says how many lines there are
    for file in files_of(path)[:2]:
        content = file.read_bytes()
        for end in range(len(content)):
            file.write_bytes(content[:end])
            loads_equal_or_is_refused(path, train, may_differ=plain_text)
        file.write_bytes(content)


def test_one_changed_byte_is_refused_or_does_no_harm(write: Write, tmp_path: Path) -> None:
    train = made_images(6, side=3)
    path = write(tmp_path, train, None)
    checked = path.suffix == ".npz" or files_of(path)[0].read_bytes()[:2] == b"\x1f\x8b"
    generator = np.random.default_rng(0)
    for file in files_of(path)[:2]:
        content = bytearray(file.read_bytes())
        for position in range(len(content)):
            flip = int(generator.integers(1, 256))
            content[position] ^= flip
            file.write_bytes(content)
            loads_equal_or_is_refused(path, train, may_differ=not checked)
            content[position] ^= flip
        file.write_bytes(content)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 9), st.integers(1, 5), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
def test_round_trip_of_any_images(write: Write, tmp_path: Path, count: int, side: int, channels: int, seed: int) -> None:
    folder = tmp_path / f"{count}-{side}-{channels}-{seed}"
    folder.mkdir(exist_ok=True)
    images = made_images(count, side, channels, classes=2, seed=seed)
    assert same(load(write(folder, images, None)).train, images)


def test_counts_must_agree(tmp_path: Path) -> None:
    train = made_images()
    folder = write_idx(tmp_path / "set", train, compressed=False)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(train.labels[:-1]))
    with pytest.raises(DataError, match=r"12 images but .* 11 labels: the two do not belong together"):
        load(folder)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(train.labels))
    (folder / "train-images-idx3-ubyte").write_bytes(idx_image_bytes(train))
    assert same(load(folder).train, train)
