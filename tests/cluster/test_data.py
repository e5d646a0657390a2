"""A node trains on the caller's images: its own copy where they are the same, what was sent where not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fittingroom.cluster import data
from fittingroom.data import catalog
from fittingroom.data.arrays import DataSet
from fittingroom.errors import DataError, RunError
from fittingroom.recipe import Data
from tests.conftest import made_set_of
from tests.data.made import npz_bytes, write_idx


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """What a node keeps in memory is no other test's business."""
    before = dict(catalog._kept)
    catalog._kept.clear()
    yield
    catalog._kept.clear()
    catalog._kept.update(before)


def never() -> bytes:
    raise AssertionError("the caller's data were fetched though the node has them")


def assert_same(one: DataSet, other: DataSet) -> None:
    assert data.describe(one) == data.describe(other)
    assert one.classes == other.classes


@pytest.fixture(scope="module")
def caller(made_set: Path) -> DataSet:
    return data.load(Data(name=str(made_set)), None)


@pytest.mark.parametrize("name", ["digits", "made"])
def test_a_set_travels(name: str, made_set: Path) -> None:
    found = data.load(Data(name=str(made_set) if name == "made" else name), None)
    assert found.test is not None
    arrived = data.unpack(data.pack(found))
    assert_same(arrived, found)
    assert arrived.test is not None
    assert (arrived.train.pixels == found.train.pixels).all()
    assert (arrived.test.labels == found.test.labels).all()


def test_a_set_of_its_own_validation_images_and_no_test_images(caller: DataSet) -> None:
    found = replace(caller, validation=made_set_of(40, seed=3), test=None, notices=("one",), identity="digits")
    arrived = data.unpack(data.pack(found))
    assert_same(arrived, found)
    assert arrived.validation is not None
    assert arrived.test is None


def test_what_was_damaged_on_the_way_is_not_used(caller: DataSet) -> None:
    whole = data.pack(caller)
    with pytest.raises(RunError, match="cannot be read"):
        data.unpack(whole[:-1])
    turned = bytearray(whole)
    turned[-1] ^= 1
    with pytest.raises(RunError, match="not those that were meant"):
        data.unpack(bytes(turned))


def test_a_node_takes_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caller: DataSet) -> None:
    """The same images under the same name in another place; the run is told of the caller's source."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set.npz").write_bytes(npz_bytes(made_set_of(500, seed=1), made_set_of(100, seed=2)))
    about = {**data.describe(caller), "name": "set.npz", "source": "the caller's"}
    data.hand_out(Data(name="set.npz"), about, None, never)
    given = catalog.load("set.npz", with_test=True)
    assert data.describe(given) == about
    assert given.source == "the caller's"
    assert catalog.load("set.npz").test is None, "the test set is sealed as it was"
    data.hand_out(Data(name="set.npz"), about, None, never)


def test_a_node_without_the_data_or_with_others_takes_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caller: DataSet) -> None:
    monkeypatch.chdir(tmp_path)
    about = {**data.describe(caller), "name": "set.npz"}
    packed = data.pack(replace(caller, name="set.npz"))
    for seed in (None, 5):
        catalog._kept.clear()
        if seed is not None:
            (tmp_path / "set.npz").write_bytes(npz_bytes(made_set_of(500, seed=seed), made_set_of(100, seed=2)))
        fetched = [0]

        def sent(fetched: list[int] = fetched) -> bytes:
            fetched[0] += 1
            return packed

        data.hand_out(Data(name="set.npz"), about, None, sent)
        data.hand_out(Data(name="set.npz"), about, None, sent)
        assert fetched == [1], "once"
        assert_same(catalog.load("set.npz", with_test=True), replace(caller, name="set.npz"))


def test_another_set_takes_the_place_of_the_one_before(caller: DataSet) -> None:
    for name in ("one", "other"):
        named = replace(caller, name=name, train=made_set_of(20, seed=1))
        data.hand_out(Data(name=name), data.describe(named), None, lambda named=named: data.pack(named))  # type: ignore[misc]
    assert [key[0] for key in catalog._kept] == ["other"]


def test_a_set_whose_test_images_cannot_be_read(tmp_path: Path) -> None:
    """A run that never asks for them is trained; one that does says itself what is wrong."""
    folder = write_idx(tmp_path / "set", made_set_of(20, seed=1), made_set_of(8, seed=2), compressed=False)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"damaged")
    found = data.load(Data(name=str(folder)), None)
    assert (len(found.train), found.test) == (20, None)
    (folder / "train-labels-idx1-ubyte").write_bytes(b"damaged")
    with pytest.raises(DataError, match="train-labels"):
        data.load(Data(name=str(folder)), None)
