from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from fittingroom.audit import Audit, audit_data
from fittingroom.audit.finding import Finding
from fittingroom.data import catalog
from fittingroom.data.arrays import DataSet, Images

GENERATOR = np.random.default_rng(0)


def images(count: int) -> Images:
    pixels = GENERATOR.integers(0, 256, (count, 5, 4, 1)).astype(np.uint8)
    return Images(pixels, np.arange(count, dtype=np.int64) % 3)


CLEAN = DataSet("made", ("a", "b", "c"), images(30), images(9), images(12))


def finding(audit: Audit, check: str) -> Finding:
    json.dumps(audit.to_json())
    return next(found for found in audit.findings if found.check == check)


def changed(part: Images, pixels: np.ndarray | None = None, labels: list[int] | None = None) -> Images:
    return Images(part.pixels if pixels is None else pixels, part.labels if labels is None else np.array(labels, np.int64))


def copied(part: Images, source: Images, pairs: list[tuple[int, int]]) -> Images:
    """The part with some of its images replaced by images of another."""
    pixels = part.pixels.copy()
    for into, out_of in pairs:
        pixels[into] = source.pixels[out_of]
    return changed(part, pixels)


def test_a_clean_set() -> None:
    audit = audit_data(CLEAN)
    assert {found.verdict for found in audit.findings if found.check != "identity"} == {"holds"}
    assert finding(audit, "identity").verdict == "cannot tell"
    assert len(audit.findings) == 1 + 3 + 3 + 3 + 2


def test_a_sealed_test_set_stays_out() -> None:
    audit = audit_data(replace(CLEAN, test=None, validation=None))
    assert [found.check for found in audit.findings] == ["identity", "balance of train", "copies within train", "labels", "constant images"]


def test_copies_within_and_between() -> None:
    train = copied(CLEAN.train, CLEAN.train, [(3, 0), (6, 0)])  # the same class
    audit = audit_data(replace(CLEAN, train=train, test=copied(images(12), train, [(0, 9), (3, 9), (4, 10)])))
    within = finding(audit, "copies within train")
    assert (within.verdict, within.evidence["copies"], within.evidence["examples"]) == ("fails", 2, [[0, 3, 6]])
    between = finding(audit, "copies between train and test")
    assert (between.verdict, between.evidence["copies"]) == ("fails", 3)
    assert between.evidence["examples"] == [{"train": [9], "test": [0, 3]}, {"train": [10], "test": [4]}]
    assert finding(audit, "copies within test").evidence["copies"] == 1
    assert finding(audit, "copies between train and validation").verdict == "holds"
    assert finding(audit, "labels").verdict == "holds"


def test_one_image_under_two_labels() -> None:
    audit = audit_data(replace(CLEAN, validation=copied(CLEAN.validation or images(9), CLEAN.train, [(0, 1)])))
    labels = finding(audit, "labels")
    assert labels.verdict == "fails"
    expected = [{"part": "train", "index": 1, "class": "b"}, {"part": "validation", "index": 0, "class": "a"}]
    assert labels.evidence == {"images": 1, "examples": [expected]}


def test_constant_images() -> None:
    pixels = CLEAN.train.pixels.copy()
    pixels[4], pixels[8] = 0, 255
    audit = audit_data(replace(CLEAN, train=changed(CLEAN.train, pixels)))
    assert finding(audit, "constant images").evidence == {
        "images": 2, "examples": [{"part": "train", "index": 4}, {"part": "train", "index": 8}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "verdict", "words"),
    [
        ([0] * 10 + [1] * 10 + [2] * 10, "holds", "10 of each of 3 classes"),
        ([0] * 9 + [1] * 10 + [2] * 11, "holds", "nearly balanced: 9 (a) to 11 (c)"),
        ([0] * 4 + [1] * 10 + [2] * 16, "holds", "class c has 4.0 times the images of a"),
        ([0] * 2 + [1] * 4 + [2] * 24, "fails", "class c has 12.0 times the images of a"),
        ([0] * 15 + [1] * 15, "fails", "class c has no train image"),
    ],
)
def test_balance(labels: list[int], verdict: str, words: str) -> None:
    balance = finding(audit_data(replace(CLEAN, train=changed(CLEAN.train, labels=labels))), "balance of train")
    assert balance.verdict == verdict
    assert words in balance.sentence


def test_digits_are_themselves_whatever_they_are_called() -> None:
    data = catalog.load("digits", with_test=True)
    assert "as published" in finding(audit_data(data), "identity").sentence
    assert "whatever it is called" in finding(audit_data(replace(data, name="eights")), "identity").sentence
    swapped = replace(data, train=data.test or data.train, test=None)
    assert finding(audit_data(swapped), "identity").verdict == "fails"
    altered = finding(audit_data(replace(data, train=copied(data.train, data.train, [(0, 1)]))), "identity")
    assert altered.verdict == "cannot tell"
    assert altered.sentence.endswith("; its train images are those of no published set known here")


@pytest.mark.skipif("FITTINGROOM_DATA" not in os.environ, reason="needs Fashion-MNIST: set FITTINGROOM_DATA")
def test_fashion_mnist_is_clean() -> None:
    assert audit_data(catalog.load("fashion-mnist", download=False)).verdict == "holds"
