from __future__ import annotations

import numpy as np
import pytest

from fittingroom.audit.identity import KNOWN, KnownPart, known_parts, supports_finding
from fittingroom.data import catalog
from fittingroom.data.named import CATALOG

MNIST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)


def test_known_supports_add_up_to_the_published_counts() -> None:
    for part in KNOWN:
        if part.name in CATALOG and part.part != "whole":
            known = CATALOG[part.name]
            assert sum(part.supports) == known.counts[part.part == "test"], part.words
            assert len(part.supports) == len(known.classes)
        assert part.source


def test_the_digits_are_counted_as_they_are_loaded() -> None:
    data = catalog.load("digits", with_test=True)
    assert data.test is not None
    for name, images in (("train", data.train), ("test", data.test)):
        (part,) = (part for part in KNOWN if (part.name, part.part) == ("digits", name))
        assert tuple(np.bincount(images.labels).tolist()) == part.supports


def test_equal_supports_name_every_set() -> None:
    assert [part.name for part in known_parts([1000] * 10)] == ["fashion-mnist", "kmnist", "cifar-10"]
    assert [part.name for part in known_parts(sorted(MNIST))] == ["mnist"]
    assert known_parts([3, 4]) == ()


@pytest.mark.parametrize(
    ("supports", "data", "verdict", "words"),
    [
        (MNIST, None, "holds", "these are the supports of MNIST's test set"),
        (MNIST, "mnist", "holds", "these are the supports of MNIST's test set"),
        (sorted(MNIST), "mnist", "holds", "in another order of the classes"),
        (MNIST, "fashion-mnist", "fails", "these are the supports of MNIST's test set, not of Fashion-MNIST's test set"),
        ([1000] * 10, "fashion-mnist", "holds", "and of KMNIST's test set and CIFAR-10's test set"),
        ([1000] * 10, "mnist", "fails", "not of MNIST's test set"),
        ([6000] * 10, "fashion-mnist", "holds", "Fashion-MNIST's train set"),
        ([1200] * 10, "fashion-mnist", "cannot tell", "split from its training images"),
        ([1000] * 9 + [999], "fashion-mnist", "cannot tell", "split from its training images"),
        ([1001, 999] + [1000] * 8, "fashion-mnist", "fails", "class 0 has 1,001 images where 1,000 are expected"),
        ([7000] * 10, "fashion-mnist", "fails", "not the supports"),
        ([500] * 20, "fashion-mnist", "fails", "20 classes, Fashion-MNIST has 10"),
        ([3, 4], None, "cannot tell", "no published set known here"),
        ([3, 4], "wardrobe", "cannot tell", "not known here"),
    ],
)
def test_supports(supports: list[int], data: str | None, verdict: str, words: str) -> None:
    finding = supports_finding(supports, data)
    assert finding.verdict == verdict
    assert words in finding.sentence
    assert finding.evidence["images"] == sum(supports)


def test_supports_that_were_counted() -> None:
    own = [KnownPart("wardrobe", "wardrobe", "test", (3, 4), "counted"), KnownPart("wardrobe", "wardrobe", "train", (30, 40), "counted")]
    assert supports_finding([3, 4], "wardrobe", own).verdict == "holds"
    assert supports_finding([4, 4], "wardrobe", own).verdict == "cannot tell"
    assert supports_finding([300, 4], "wardrobe", own).verdict == "fails"
