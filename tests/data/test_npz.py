from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fittingroom.data.npz import read_npz
from fittingroom.errors import DataError, DataMissing

from .made import made_images, npz_bytes

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
LABELS = np.array([0, 1])


def save(folder: Path, **arrays: object) -> Path:
    np.savez(folder / "x.npz", **arrays)  # type: ignore[arg-type]
    return folder / "x.npz"


@pytest.mark.parametrize("names", [("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("x", "y"), ("X", "y")])
def test_names_of_arrays(tmp_path: Path, names: tuple[str, str]) -> None:
    data = read_npz(save(tmp_path, **{names[0]: PIXELS, names[1]: LABELS}))
    assert np.array_equal(data.train.pixels[..., 0], PIXELS)
    assert data.validation is None


def test_medmnist_style(tmp_path: Path) -> None:
    parts = ("train", "val", "test")
    arrays = {f"{part}_images": PIXELS for part in parts} | {f"{part}_labels": LABELS[:, None] for part in parts}
    data = read_npz(save(tmp_path, **arrays), with_test=True)
    assert data.validation is not None
    assert data.test is not None
    assert data.validation.labels.tolist() == [0, 1]


@pytest.mark.parametrize("pixels", [PIXELS.astype(np.int64), PIXELS.astype(">i2"), np.asfortranarray(PIXELS), PIXELS[..., None]])
def test_other_layouts_of_the_same_pixels(tmp_path: Path, pixels: np.ndarray) -> None:
    data = read_npz(save(tmp_path, images=pixels, labels=LABELS.astype(">u2")))
    assert np.array_equal(data.train.pixels[..., 0], PIXELS)
    assert data.train.pixels.flags.c_contiguous


def test_pickled_arrays_are_refused_and_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (ran,)

    np.savez(tmp_path / "x.npz", images=np.array([Evil()], dtype=object), labels=LABELS, allow_pickle=True)
    with pytest.raises(DataError, match="pickled"):
        read_npz(tmp_path / "x.npz")
    assert not ran.exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": PIXELS}, "no training images; expected arrays"),
        ({"images": PIXELS / 255, "labels": LABELS}, "not float64; multiply by 255"),
        ({"images": PIXELS.astype(np.int16) - 1, "labels": LABELS}, "found -1 to 16"),
        ({"images": PIXELS.astype(np.int16) + 255, "labels": LABELS}, "found 255 to 272"),
        ({"images": PIXELS, "labels": LABELS / 1}, "whole numbers, not float64"),
        ({"images": PIXELS, "labels": LABELS - 1}, "label -1 of image 0"),
        ({"images": PIXELS, "labels": np.eye(2, dtype=int)}, "one whole number per image"),
        ({"images": PIXELS, "labels": LABELS[:1]}, "2 images but 'labels' 1 labels"),
        ({"images": PIXELS, "labels": np.array([0, 2**40])}, "outside the classes 0–9999"),
        ({"images": PIXELS.reshape(2, 9), "labels": LABELS}, "not that of images"),
        ({"images": PIXELS[:0], "labels": LABELS[:0]}, "no images"),
        ({"images": np.array(["a", "b"]), "labels": LABELS}, "neither images nor labels"),
    ],
)
def test_arrays_that_are_something_else(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_npz(save(tmp_path, **arrays))


def test_sealed_test_images_are_not_read(tmp_path: Path) -> None:
    train = made_images()
    content = npz_bytes(train, made_images(6, seed=1))
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("x_test.npy")
        extra = struct.unpack_from("<H", content, info.header_offset + 28)[0]  # length of a field of the member's own header
        start = info.header_offset + 30 + len(info.filename) + extra
    path.write_bytes(content[:start] + b"\xff" * info.compress_size + content[start + info.compress_size :])
    assert read_npz(path).train.checksum == train.checksum
    with pytest.raises(DataError, match="cannot be read as an npz"):
        read_npz(path, with_test=True)


def npy(shape: tuple[int, ...], data: bytes) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


@pytest.mark.parametrize(("shape", "data"), [((2**31, 28, 28), b"few"), ((60_000, 28, 28), b"few"), ((2, 3, 3), bytes(50_000_000))])
def test_memory_follows_the_header_and_what_is_there(tmp_path: Path, shape: tuple[int, ...], data: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("images.npy", npy(shape, data))
        archive.writestr("labels.npy", npy((2,), b"\0\1"))
    del data
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="header promises"):
            read_npz(tmp_path / "x.npz")
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataMissing):
        read_npz(tmp_path / "x.npz")
