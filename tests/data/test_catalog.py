from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import time
import zipfile
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from fittingroom.data import catalog, identity
from fittingroom.data.arrays import Images
from fittingroom.data.catalog import CATALOG
from fittingroom.data.identity import Part, identify, unordered_checksum
from fittingroom.data.named import RemoteFile
from fittingroom.errors import DataError, DataMissing, FittingRoomError, UsageError

from .made import csv_bytes, made_images, nowhere, npz_bytes, write_idx, write_pictures

TRAIN, TEST = made_images(20, classes=10), made_images(10, classes=10, seed=1)
OTHER = made_images(20, classes=10, seed=2)


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let made-up images stand for the published ones, so that what depends on their content can be tested without them."""
    parts = (
        ("fashion-mnist", "train", TRAIN),
        ("fashion-mnist", "test", TEST),
        ("mnist", "train", OTHER),
    )
    digits = tuple(part for part in identity.PUBLISHED if part.name == "digits")
    published = (*digits, *(Part(name, part, len(images), images.checksum, unordered_checksum(images)) for name, part, images in parts))
    monkeypatch.setattr(identity, "PUBLISHED", published)
    monkeypatch.setattr(catalog, "PUBLISHED", published)


def put(where: Path, train: Images = TRAIN, test: Images | None = TEST) -> Path:
    return write_idx(where, train, test)


PLACES = {
    "data_dir": "given/fashion-mnist",
    "data_dir itself": "given",
    "environment": "one/fashion-mnist",
    "environment, second": "two/fashion-mnist",
    "current folder": "cwd/data/fashion-mnist",
    "torchvision": "cwd/data/FashionMNIST/raw",
    "cache": "cache/fashion-mnist",
    "keras": "home/.keras/datasets/fashion-mnist",
}


def load(tmp_path: Path, name: str = "fashion-mnist", **options: object) -> catalog.DataSet:
    (tmp_path / "cwd").mkdir(exist_ok=True)
    surroundings = nowhere(tmp_path, FITTINGROOM_DATA=os.pathsep.join([str(tmp_path / "one"), "../two"]))
    return catalog.load(name, surroundings=surroundings, **({"download": False} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("place", PLACES)
def test_found_in_each_place(tmp_path: Path, place: str) -> None:
    (tmp_path / "given").mkdir()
    put(tmp_path / PLACES[place])
    data = load(tmp_path, data_dir=tmp_path / "given")
    assert data.train.checksum == TRAIN.checksum
    assert data.identity == "fashion-mnist"
    assert data.classes[9] == "Ankle boot"
    assert data.source == str(tmp_path / PLACES[place])
    assert data.notices == ()


def test_places_are_searched_in_order(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    order = list(PLACES.values())
    for place in order:
        put(tmp_path / place)
    for place in order:
        assert load(tmp_path, data_dir=tmp_path / "given").source == str(tmp_path / place)
        for file in (tmp_path / place).glob("*-ubyte.gz"):
            file.unlink()
    with pytest.raises(DataMissing):
        load(tmp_path)


@pytest.mark.parametrize("name", ["fashion-mnist.npz", "fashion-mnist/fashion-mnist.npz"])
def test_found_as_npz(tmp_path: Path, name: str) -> None:
    path = tmp_path / "one" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(npz_bytes(TRAIN, TEST))
    assert load(tmp_path).test is None
    data = load(tmp_path, with_test=True)
    assert (data.identity, data.classes[0], data.source) == ("fashion-mnist", "T-shirt/top", str(path))
    assert data.test is not None
    assert data.test.checksum == TEST.checksum


def test_found_as_tables(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for part, images in (("train", TRAIN), ("test", TEST)):
        (tmp_path / "one" / f"fashion-mnist_{part}.csv").write_bytes(csv_bytes(images))
    data = load(tmp_path, with_test=True)
    assert data.identity == "fashion-mnist"
    assert data.test is not None


@pytest.mark.parametrize("rename", [lambda name: name.replace("-idx", ".idx"), lambda name: name.removesuffix(".gz")])
def test_other_names_of_the_files(tmp_path: Path, rename: object) -> None:
    for file in put(tmp_path / "one").glob("*.gz"):
        new = file.with_name(rename(file.name))  # type: ignore[operator]
        new.write_bytes(file.read_bytes() if new.suffix == ".gz" else gzip.decompress(file.read_bytes()))
        file.unlink()
    assert load(tmp_path, with_test=True).identity == "fashion-mnist"


def test_the_test_files_are_not_opened(tmp_path: Path) -> None:
    folder = put(tmp_path / "one" / "fashion-mnist")
    for file in folder.glob("t10k*"):
        file.write_bytes(b"damaged")
    assert load(tmp_path).test is None
    with pytest.raises(DataError, match="t10k-images"):
        load(tmp_path, with_test=True)


def test_with_the_test_images_in_another_place(tmp_path: Path) -> None:
    put(tmp_path / "one" / "fashion-mnist", test=None)
    with pytest.raises(DataMissing):
        load(tmp_path, with_test=True)
    put(tmp_path / "two" / "fashion-mnist")
    assert load(tmp_path, with_test=True).test is not None


def test_warns_of_another_set_under_this_name(tmp_path: Path) -> None:
    put(tmp_path / "one" / "fashion-mnist", OTHER)
    lines: list[str] = []
    data = load(tmp_path, notify=lines.append)
    assert data.identity == "mnist"
    assert len(data.notices) == 1
    assert "is MNIST, not Fashion-MNIST" in data.notices[0]
    assert tuple(lines) == data.notices


def test_warns_of_content_that_nobody_published(tmp_path: Path) -> None:
    pixels = TRAIN.pixels.copy()
    pixels[3, 3, 3] ^= 1
    put(tmp_path / "one" / "fashion-mnist", Images(pixels, TRAIN.labels))
    data = load(tmp_path)
    assert data.identity is None
    assert "is not the published Fashion-MNIST" in data.notices[0]


def test_tells_a_set_in_another_order(tmp_path: Path) -> None:
    shuffled = TRAIN.take(np.random.default_rng(0).permutation(20))
    put(tmp_path / "one" / "fashion-mnist", shuffled)
    data = load(tmp_path)
    assert data.identity == "fashion-mnist"
    assert [line for line in data.notices if "in another order than published" in line] == list(data.notices)


def test_warns_of_training_on_the_test_images(tmp_path: Path) -> None:
    put(tmp_path / "one" / "fashion-mnist", TEST)
    data = load(tmp_path)
    assert data.identity is None
    assert "are the test images of Fashion-MNIST" in data.notices[0]


def test_warns_of_other_test_images(tmp_path: Path) -> None:
    put(tmp_path / "one" / "fashion-mnist", test=OTHER)
    assert "the test images of" in load(tmp_path, with_test=True).notices[0]
    assert load(tmp_path).notices == ()


def test_nameless_files_of_another_set_in_a_shared_folder_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "one", OTHER)
    lines: list[str] = []
    with pytest.raises(DataMissing):
        load(tmp_path, notify=lines.append)
    assert "passed over" in lines[0]
    assert "MNIST" in lines[0]
    put(tmp_path / "two" / "fashion-mnist")
    assert load(tmp_path).identity == "fashion-mnist"
    assert load(tmp_path, "mnist").identity == "mnist"


def test_a_path_gets_the_class_names_of_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(csv_bytes(TRAIN))
    data = load(tmp_path, str(tmp_path / "x.csv"))
    assert (data.identity, data.classes[8], data.notices) == ("fashion-mnist", "Bag", ())


def test_a_set_of_the_users_own_is_found_by_its_name(tmp_path: Path) -> None:
    write_pictures(tmp_path / "two" / "my shop", TRAIN)
    assert load(tmp_path, "my shop").train.checksum == TRAIN.checksum


def test_digits_need_nothing(tmp_path: Path) -> None:
    data = load(tmp_path, "digits", with_test=True)
    assert data.test is not None
    assert (len(data.train), len(data.test), data.input_shape) == (1438, 359, (1, 8, 8))
    assert (data.identity, data.notices) == ("digits", ())
    assert data.train.pixels.max() == 255
    assert np.abs(np.bincount(data.test.labels) - np.bincount(data.train.labels) / 4).max() < 2
    assert load(tmp_path, "digits").test is None


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'fashion-mnist'"):
        load(tmp_path, "fashion-mist")
    for name in ("x" * 5000, "\0", ""):
        with pytest.raises(FittingRoomError):
            load(tmp_path, name)
    with pytest.raises(UsageError, match="no such folder"):
        load(tmp_path, data_dir=tmp_path / "absent")
    with pytest.raises(UsageError, match="did you mean 'kmnist'"):
        catalog.fetch("kmist")


def test_one_idx_file_is_no_set(tmp_path: Path) -> None:
    put(tmp_path)
    with pytest.raises(UsageError, match="name the folder"):
        load(tmp_path, str(tmp_path / "train-images-idx3-ubyte.gz"))


def test_what_is_available(tmp_path: Path) -> None:
    (tmp_path / "cwd").mkdir()
    folder = put(tmp_path / "cache" / "mnist")
    found = {entry.name: entry.found for entry in catalog.available(surroundings=nowhere(tmp_path))}
    assert found == {"fashion-mnist": None, "mnist": str(folder), "kmnist": None, "emnist-letters": None, "digits": "scikit-learn"}


def letters(count: int, seed: int = 0) -> Images:
    return made_images(count, 28, classes=26, seed=seed)


def write_letters(folder: Path, train: Images, test: Images) -> Path:
    """As NIST has them: rows and columns exchanged, labels from 1, within a zip file of many."""
    turned = [Images(images.pixels.swapaxes(1, 2), images.labels) for images in (train, test)]
    write_idx(folder / "loose", turned[0], turned[1], offset=1)
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        archive.writestr("gzip/emnist-digits-train-images-idx3-ubyte.gz", b"")
        for file in (folder / "loose").iterdir():
            archive.write(file, f"gzip/emnist-letters-{file.name.replace('t10k', 'test')}")
    shutil.rmtree(folder / "loose")
    return folder / "gzip.zip"


def test_emnist_is_taken_out_of_its_zip_file_and_set_upright(tmp_path: Path) -> None:
    (tmp_path / "one" / "emnist").mkdir(parents=True)
    write_letters(tmp_path / "one" / "emnist", letters(52), letters(26, 1))
    data = load(tmp_path, "emnist-letters", with_test=True)
    assert data.train.checksum == letters(52).checksum
    assert data.test is not None
    assert data.test.checksum == letters(26, 1).checksum
    assert data.classes[0] == "A"
    assert sorted(file.name for file in (tmp_path / "cache" / "emnist-letters").iterdir()) == [
        f"emnist-letters-{part}-{kind}-ubyte.gz" for part in ("test", "train") for kind in ("images-idx3", "labels-idx1")
    ]
    (tmp_path / "one" / "emnist" / "gzip.zip").unlink()
    assert load(tmp_path, "emnist-letters").train.checksum == letters(52).checksum


def test_a_damaged_zip_file_leaves_nothing_that_could_be_taken_for_the_set(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    path = write_letters(tmp_path / "one", letters(52), letters(26, 1))
    content = path.read_bytes()
    for damaged in (content[:-30], content[: len(content) // 2], content[:5000] + b"\xff" * 500 + content[5500:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"gzip\.zip: (corrupt|does not hold)"):
            load(tmp_path, "emnist-letters")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A mirror of small sets on the loopback interface; the catalogue knows their files' checksums."""
    site = tmp_path / "site"
    put(site)
    write_letters(site, letters(52), letters(26, 1))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: SimpleHTTPRequestHandler(*a, directory=str(site)))
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    for name in ("fashion-mnist", "emnist-letters"):
        contents = {file.name: (site / file.name).read_bytes() for file in CATALOG[name].files}
        files = tuple(RemoteFile(file, len(content), hashlib.sha256(content).hexdigest()) for file, content in contents.items())
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setitem(CATALOG, name, replace(CATALOG[name], files=files, mirrors=(address,)))
    yield site
    server.shutdown()
    server.server_close()


def test_is_downloaded_once(tmp_path: Path, mirror: Path) -> None:
    lines: list[str] = []
    seen: list[tuple[int, int]] = []
    data = load(tmp_path, download=True, notify=lines.append, progress=lambda *state: seen.append(state))
    assert data.identity == "fashion-mnist"
    assert data.source == str(tmp_path / "cache" / "fashion-mnist")
    *absent, fetching = lines
    assert [line.startswith("$FITTINGROOM_DATA names ") for line in absent] == [True, True]
    assert "fetching Fashion-MNIST" in fetching
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] == CATALOG["fashion-mnist"].download_size
    shutil.rmtree(mirror)
    assert load(tmp_path, download=True, with_test=True).test is not None


def test_is_downloaded_to_where_the_user_says(tmp_path: Path, mirror: Path) -> None:
    (tmp_path / "given").mkdir()
    assert load(tmp_path, download=True, data_dir=tmp_path / "given").source == str(tmp_path / "given" / "fashion-mnist")
    assert catalog.fetch("fashion-mnist", tmp_path / "elsewhere") == tmp_path / "elsewhere" / "fashion-mnist"
    assert catalog.fetch("digits") is None


def test_a_damaged_download_is_mended_by_fetching_again(tmp_path: Path, mirror: Path) -> None:
    folder = catalog.fetch("fashion-mnist", tmp_path / "one")
    assert folder is not None
    (folder / "train-images-idx3-ubyte.gz").write_bytes((mirror / "train-images-idx3-ubyte.gz").read_bytes()[:-7])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: truncated.*fetch it again"):
        load(tmp_path)
    catalog.fetch("fashion-mnist", tmp_path / "one")
    assert load(tmp_path).identity == "fashion-mnist"


def test_the_zip_file_is_downloaded_unpacked_and_removed(tmp_path: Path, mirror: Path) -> None:
    data = load(tmp_path, "emnist-letters", download=True)
    assert data.train.checksum == letters(52).checksum
    assert not (tmp_path / "cache" / "emnist-letters" / "gzip.zip").exists()
    shutil.rmtree(mirror)
    assert catalog.fetch("emnist-letters", tmp_path / "cache") == tmp_path / "cache" / "emnist-letters"


def test_without_network_says_where_files_may_be_put(tmp_path: Path, mirror: Path) -> None:
    shutil.rmtree(mirror)
    with pytest.raises(DataMissing) as caught:
        load(tmp_path, download=True)
    message = str(caught.value)
    assert message.startswith("fashion-mnist is not on this machine: train-images-idx3-ubyte.gz could not be downloaded")
    assert f"into {tmp_path / 'cache' / 'fashion-mnist'}, or name their folder with --data-dir or $FITTINGROOM_DATA" in message
    assert "\n" not in message
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_folder_of_the_environment_that_is_not_there_is_told_before_anything_is_fetched(tmp_path: Path, mirror: Path) -> None:
    lines: list[str] = []
    surroundings = nowhere(tmp_path, FITTINGROOM_DATA=os.pathsep.join([str(tmp_path), "../mistyped"]))
    catalog.load("fashion-mnist", notify=lines.append, surroundings=surroundings)
    assert lines[0] == f"$FITTINGROOM_DATA names {tmp_path / 'cwd' / '../mistyped'}, and there is no such folder"
    assert lines[1].startswith("fetching ")
    lines.clear()
    catalog.load("fashion-mnist", notify=lines.append, surroundings=surroundings)
    assert not lines  # what is found elsewhere needs no advice


def test_order_free_checksum() -> None:
    assert identify(TRAIN.take(np.arange(20)[::-1])) == identify(TRAIN)
    wrong_labels = Images(TRAIN.pixels, TRAIN.labels[::-1].copy())
    assert identify(wrong_labels) is None


def real(name: str) -> Path:
    for entry in os.environ.get("FITTINGROOM_DATA", "").split(os.pathsep):
        if entry and (Path(entry) / name).is_dir():
            return Path(entry).resolve()
    pytest.skip(f"FITTINGROOM_DATA names no folder with {name}")


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_the_published_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real checksums
    start = time.process_time()
    data = catalog.load(name, data_dir=real(name), with_test=True, surroundings=nowhere(tmp_path))
    assert time.process_time() - start < 1
    assert data.test is not None
    assert (len(data.train), len(data.test)) == CATALOG[name].counts
    assert (data.identity, data.notices) == (name, ())
    supports = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009] if name == "mnist" else [1000] * 10
    assert np.bincount(data.test.labels).tolist() == supports
