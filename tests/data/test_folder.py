from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fittingroom.data.folder import read_folder, read_image
from fittingroom.errors import DataError, DataMissing, UsageError

from .made import made_images, write_pictures

NAMES = ("coat", "hat", "shoe")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "set", made_images(), NAMES)


def test_plain_class_folders(folder: Path) -> None:
    data = read_folder(folder)
    assert data.classes == NAMES
    assert data.train.checksum == made_images().checksum
    assert data.validation is None


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_split_folders(tmp_path: Path, validation: str) -> None:
    for number, part in enumerate(("train", validation, "test")):
        write_pictures(tmp_path / part, made_images(seed=number), NAMES)
    data = read_folder(tmp_path, with_test=True)
    parts = (data.train, data.validation, data.test)
    assert [part and part.checksum for part in parts] == [made_images(seed=number).checksum for number in range(3)]


def test_the_sealed_folder_is_not_looked_at(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", made_images(), NAMES)
    (tmp_path / "test" / "unheard of").mkdir(parents=True)
    (tmp_path / "test" / "unheard of" / "x.png").write_bytes(b"damaged")
    assert read_folder(tmp_path).test is None
    with pytest.raises(DataError):
        read_folder(tmp_path, with_test=True)


def test_a_class_may_be_missing_in_validation_but_none_may_be_new(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", made_images(), NAMES)
    write_pictures(tmp_path / "val", made_images(4, classes=2), NAMES)
    data = read_folder(tmp_path)
    assert data.validation is not None
    assert data.validation.labels.max() == 1
    write_pictures(tmp_path / "val", made_images(1), ("sock",))
    with pytest.raises(DataError, match="sock: no such class"):
        read_folder(tmp_path)


def test_what_is_passed_over(folder: Path, tmp_path: Path) -> None:
    (folder / "README.txt").write_text("about")
    (folder / "coat" / "notes.txt").write_text("about")
    (folder / "coat" / "._0001.png").write_bytes(b"left by a Mac")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.png").write_bytes(b"x")
    elsewhere = tmp_path / "secret.png"
    Image.new("L", (6, 6)).save(elsewhere)
    (folder / "coat" / "link.png").symlink_to(elsewhere)
    (folder / "linked").symlink_to(tmp_path)
    data = read_folder(folder)
    assert data.train.checksum == made_images().checksum
    assert len(data.notices) == 1
    assert "2 link(s) that lead out of the folder were not followed" in data.notices[0]


def test_links_and_folders_within_are_followed(folder: Path) -> None:
    (folder / "hat" / "z.png").symlink_to(folder / "hat" / "0004.png")
    (folder / "hat" / "deeper" / "still").mkdir(parents=True)
    Image.new("L", (6, 6)).save(folder / "hat" / "deeper" / "still" / "x.PNG")
    data = read_folder(folder)
    assert np.bincount(data.train.labels).tolist() == [4, 6, 4]
    assert data.notices == ()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no such folder"):
        read_folder(tmp_path / "absent")
    with pytest.raises(DataError, match="no class folders"):
        read_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="only one class, 'a'"):
        read_folder(tmp_path)
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="no pictures in its folders"):
        read_folder(tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "a" / "x.png")
    with pytest.raises(DataError, match="b: no pictures in it; put some there"):
        read_folder(tmp_path)


def test_folders_that_do_not_fit_together(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="has test/ but no train/"):
        read_folder(tmp_path)
    for name in ("train", "val", "valid"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="has both val/ and valid/"):
        read_folder(tmp_path)


def test_sizes_that_differ_need_a_size(folder: Path) -> None:
    Image.new("L", (30, 20)).save(folder / "hat" / "x.png")
    with pytest.raises(UsageError, match=r"differ in size, from 6×6 to 20×30; say to which size"):
        read_folder(folder)
    assert read_folder(folder, size=(16, 16)).train.pixels.shape == (13, 16, 16, 1)


def test_one_colour_picture_makes_a_colour_set(folder: Path) -> None:
    Image.new("RGB", (6, 6), (1, 2, 3)).save(folder / "hat" / "x.png")
    assert read_folder(folder).train.pixels.shape == (13, 6, 6, 3)
    assert read_folder(folder, channels=1).train.pixels.shape == (13, 6, 6, 1)


def saved(folder: Path, image: Image.Image, name: str = "x.png", **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert (read_image(saved(tmp_path, clear)) == 255).all()
    assert (read_image(saved(tmp_path, clear.convert("LA"))) == 255).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert (read_image(saved(tmp_path, palette, transparency=1)) == 255).all()
    assert (read_image(saved(tmp_path, palette)) == 9).all()


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    pixels = np.array([[0, 257, 32_768, 65_535]], np.uint16)
    for name in ("x.png", "x.tif"):
        read = read_image(saved(tmp_path, Image.fromarray(pixels), name))
        assert read.ravel().tolist() == [0, 1, 128, 255]


def test_cmyk_and_black_and_white(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path, Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "x.jpg")).mean() > 250
    assert read_image(saved(tmp_path, Image.new("1", (4, 4), 1))).ravel().tolist() == [255] * 16


def test_fractions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fractions"):
        read_image(saved(tmp_path, Image.new("F", (4, 4)), "x.tif"))


@pytest.mark.parametrize("size", [None, (10, 20)])
def test_rotation_of_the_camera_is_honoured(tmp_path: Path, size: tuple[int, int] | None) -> None:
    upright = np.zeros((10, 20), np.uint8)
    upright[:, :10] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored picture is to be turned by 90° clockwise
    path = saved(tmp_path, Image.fromarray(np.rot90(upright)), "x.jpg", exif=exif, quality=100)
    read = read_image(path, size)[..., 0]
    assert read.shape == (10, 20)
    assert read[:, :8].min() > 200
    assert read[:, 12:].max() < 50


def test_rotation_counts_for_the_common_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        saved(tmp_path / name, Image.new("L", (10, 20)), "x.jpg", exif=exif)
        saved(tmp_path / name, Image.new("L", (20, 10)), "y.jpg")
    assert read_folder(tmp_path).train.pixels.shape == (4, 10, 20, 1)


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_an_unreadable_picture_is_named(folder: Path, content: bytes) -> None:
    (folder / "shoe" / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.png: cannot be read as a picture") as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)


def test_a_truncated_picture_is_named(folder: Path) -> None:
    path = saved(folder / "shoe", Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)), "bad.jpg")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"bad\.jpg: cannot be read as a picture .*truncated"):
        read_folder(folder, size=(8, 8))


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize(("width", "height"), [(9000, 8000), (10_000, 9000), (40_000, 40_000), (2**31 - 1, 2**31 - 1)])
def test_enormous_pictures_are_refused_by_their_header(folder: Path, width: int, height: int) -> None:
    (folder / "hat" / "huge.png").write_bytes(png_header(width, height))
    with pytest.raises(DataError, match=r"huge\.png.*enormous"):
        read_folder(folder, size=(8, 8))


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    images = made_images()
    for name in ("one", "two"):
        write_pictures(tmp_path / name, images, NAMES)
    for file in sorted((tmp_path / "two").rglob("*.png"), reverse=True):
        file.rename(file.with_suffix(".tmp"))
        Path(file.with_suffix(".tmp")).rename(file)
    assert read_folder(tmp_path / "one").train.checksum == read_folder(tmp_path / "two").train.checksum


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataMissing):
        read_image(tmp_path / "x.png")


@pytest.mark.skipif(not os.environ.get("FITTINGROOM_DATA"), reason="FITTINGROOM_DATA is not set: no photographs")
@pytest.mark.slow
def test_photographs() -> None:
    from fittingroom.data import catalog

    data = catalog.load("clothing-photos", size=(64, 64), with_test=True)
    assert (len(data.train), len(data.validation or ()), len(data.test or ())) == (3068, 341, 372)
    assert data.classes == ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")
    assert data.input_shape == (3, 64, 64)
