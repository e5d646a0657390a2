from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fittingroom.data.split import stratified_split, stratified_subset
from fittingroom.errors import UsageError


def test_the_split_of_fashion_mnist_is_balanced() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 6000))
    train, validation = stratified_split(labels, 0.2, seed=0)
    assert np.bincount(labels[train]).tolist() == [4800] * 10
    assert np.bincount(labels[validation]).tolist() == [1200] * 10


@given(st.lists(st.integers(0, 5), min_size=2, max_size=80), st.floats(0, 0.95), st.integers(0, 2**63 - 1))
def test_each_image_once_and_each_class_its_share(values: list[int], fraction: float, seed: int) -> None:
    labels = np.array(values, np.int64)
    held_back = int(len(labels) * fraction + 0.5)
    if held_back >= len(labels) or (fraction > 0 and held_back == 0):
        with pytest.raises(UsageError, match="leaves an empty part"):
            stratified_split(labels, fraction, seed)
        return
    train, validation = stratified_split(labels, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert len(validation) == held_back
    for part in (train, validation):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    exact = np.bincount(labels) * held_back / len(labels)
    taken = np.bincount(labels[validation], minlength=len(exact))
    assert (np.abs(taken - exact) < 1).all()  # the quota rule, which largest remainders keep
    rounded_up = taken > exact
    if rounded_up.any() and (taken < exact).any():
        assert (exact % 1)[rounded_up].min() >= (exact % 1)[taken < exact].max() - 1e-9


def test_the_seed_decides() -> None:
    labels = np.arange(1000) % 7
    first, again, other = (stratified_split(labels, 0.3, seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_split_stays_what_it_was() -> None:
    """Recorded runs depend on it: this may only change with a new major version."""
    assert stratified_split(np.arange(20) % 2, 0.3, seed=0)[1].tolist() == [4, 5, 7, 8, 12, 19]


def test_no_validation() -> None:
    train, validation = stratified_split(np.arange(5), 0, seed=0)
    assert len(train) == 5
    assert validation.dtype == np.int64
    assert len(validation) == 0


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fractions_out_of_range(fraction: float) -> None:
    with pytest.raises(UsageError, match="at least 0 and below 1"):
        stratified_split(np.arange(5), fraction, seed=0)


def test_subsets() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    chosen = stratified_subset(labels, 20, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [12, 6, 2]
    assert stratified_subset(labels, 100, seed=0).tolist() == list(range(100))
    assert stratified_subset(labels, 1000, seed=0).tolist() == list(range(100))
    assert len(stratified_subset(labels, 0, seed=0)) == 0
    with pytest.raises(UsageError, match="negative"):
        stratified_subset(labels, -1, seed=0)
