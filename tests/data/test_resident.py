"""Batches: every image once, normalised as the formula says, and nothing changed that was handed in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fittingroom.data.arrays import Images
from fittingroom.data.resident import CHUNK, Resident
from fittingroom.recipe import Augment

CPU = torch.device("cpu")


def numbered(count: int, channels: int = 1) -> Resident:
    """Images that tell their number: label i, and the pixel (i // 256, i % 256)."""
    labels = np.arange(count, dtype=np.int64)
    pixels = np.stack([labels // 256, labels % 256], axis=1).astype(np.uint8).reshape(count, 1, 2, 1).repeat(channels, 3)
    return Resident.of(Images(pixels, labels), np.ones(channels, np.float32), np.zeros(channels, np.float32), CPU)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_every_image_once_an_epoch_with_its_own_label(count: int, batch_size: int) -> None:
    resident = numbered(count)
    batches = list(resident.shuffled(batch_size, Augment(), generator()))
    sizes = [len(labels) for _, labels in batches]
    assert sizes == resident.sizes(batch_size)
    labels = torch.cat([labels for _, labels in batches])
    pixels = torch.cat([images for images, _ in batches]).long()
    assert torch.equal(pixels[:, 0, 0, 0] * 256 + pixels[:, 0, 0, 1], labels)
    assert sorted(labels.tolist()) == list(range(count))


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_batches_are_full_but_for_the_last(count: int, batch_size: int) -> None:
    sizes = numbered(count).sizes(batch_size)
    assert sum(sizes) == count
    assert all(size == batch_size for size in sizes[:-1])
    assert 1 <= sizes[-1] <= batch_size + 1
    if count > 1 and batch_size > 1:
        assert sizes[-1] > 1, "batch norm cannot learn from an image alone"


def test_the_last_partial_batch() -> None:
    assert numbered(10).sizes(4) == [4, 4, 2]
    assert numbered(9).sizes(4) == [4, 5]
    assert numbered(8).sizes(4) == [4, 4]
    assert numbered(3).sizes(4) == [3]
    assert numbered(1).sizes(4) == [1]
    assert numbered(3).sizes(1) == [1, 1, 1]


def test_order_follows_from_the_generator_alone() -> None:
    resident = numbered(100)

    def order(seed: int) -> list[int]:
        return [int(label) for _, labels in resident.shuffled(32, Augment(), generator(seed)) for label in labels]

    assert order(1) == order(1) == torch.randperm(100, generator=generator(1)).tolist()
    assert order(1) != order(2)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation_is_its_formula(channels: int) -> None:
    random = np.random.default_rng(0)
    images = Images(random.integers(0, 256, (7, 4, 5, channels), dtype=np.uint8), np.zeros(7, np.int64))
    scale, offset = random.random((2, channels)).astype(np.float32)
    resident = Resident.of(images, scale, offset, CPU)
    ((found, _),) = resident.in_order()
    expected = images.pixels.astype(np.float32) * scale + offset
    assert torch.equal(found, torch.from_numpy(expected.transpose(0, 3, 1, 2)))
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_what_is_resident_stays_as_it_was(dtype: torch.dtype) -> None:
    pixels = torch.randint(0, 256, (6, 1, 4, 4), generator=generator()).to(dtype)
    before = pixels.clone()
    resident = Resident(pixels, torch.zeros(6, dtype=torch.int64), np.array([2], np.float32), np.array([3], np.float32))
    for _ in range(2):
        for (images, _), part in zip(resident.in_order(4), before.split(4), strict=True):
            assert torch.equal(images, part.float() * 2 + 3)
        list(resident.shuffled(4, Augment(flip=True, erase=1.0, crop=1), generator()))
        assert torch.equal(resident.pixels, before)


def test_in_order_is_all_in_order() -> None:
    labels = [labels for _, labels in numbered(1001).in_order(500)]
    assert [len(part) for part in labels] == [500, 500, 1]
    assert torch.equal(torch.cat(labels), torch.arange(1001))


def test_arrays_from_outside_may_be_read_only() -> None:
    pixels = np.zeros((2, 3, 3, 1), np.uint8)
    pixels.flags.writeable = False
    assert len(Resident.of(Images(pixels, np.zeros(2, np.int64)), np.ones(1, np.float32), np.zeros(1, np.float32), CPU)) == 2


def test_augmentation_differs_between_images_and_epochs_and_repeats_with_its_seed() -> None:
    pixels = np.broadcast_to(np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), dtype=np.uint8), (CHUNK + 50, 8, 8, 1))
    images = Images(pixels, np.zeros(CHUNK + 50, np.int64))
    resident = Resident.of(images, np.ones(1, np.float32), np.zeros(1, np.float32), CPU)

    def epoch(seed: int) -> torch.Tensor:
        return torch.cat([batch for batch, _ in resident.shuffled(100, Augment(rotate=20, shift=0.2), generator(seed))])

    first = epoch(1)
    assert torch.equal(first, epoch(1))
    assert not torch.equal(first, epoch(2))
    assert len(first.flatten(1).unique(dim=0)) == CHUNK + 50
