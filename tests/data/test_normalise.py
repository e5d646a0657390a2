from __future__ import annotations

import numpy as np
import pytest

from fittingroom.data.arrays import Images
from fittingroom.data.normalise import mean_and_std, scale_and_offset
from fittingroom.errors import DataError, UsageError
from fittingroom.recipe import Normalise

from .made import made_images


def applied(normalise: Normalise, images: Images) -> np.ndarray:
    scale, offset = scale_and_offset(normalise, images)
    assert scale.dtype == offset.dtype == np.float32
    assert scale.shape == offset.shape == (images.pixels.shape[3],)
    return np.asarray(images.pixels * scale.astype(np.float64) + offset)


@pytest.mark.parametrize("channels", [1, 3])
def test_unit(channels: int) -> None:
    images = made_images(channels=channels)
    assert np.allclose(applied(Normalise(kind="unit"), images), images.pixels / 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_std_of_the_images(channels: int) -> None:
    images = made_images(9000, channels=channels)  # more than one chunk
    mean, std = mean_and_std(images)
    assert np.allclose(mean, (images.pixels / 255).mean((0, 1, 2)), rtol=1e-12)
    assert np.allclose(std, (images.pixels / 255).std((0, 1, 2)), rtol=1e-12)
    result = applied(Normalise(kind="mean-std"), images)
    assert np.allclose(result.mean((0, 1, 2)), 0, atol=1e-5)
    assert np.allclose(result.std((0, 1, 2)), 1, atol=1e-5)


def test_a_spread_that_is_tiny_beside_the_mean_is_exact() -> None:
    pixels = np.full((1000, 8, 8, 1), 250, np.uint8)
    pixels[0, 0, 0] = 251
    count = 64_000
    expected = (count - 1) ** 0.5 / count / 255
    assert mean_and_std(Images(pixels, np.zeros(1000, np.int64)))[1][0] == pytest.approx(expected, rel=1e-14)


def test_given() -> None:
    images = made_images(channels=3)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    assert np.allclose(applied(Normalise(kind="given", mean=mean, std=std), images), (images.pixels / 255 - mean) / std, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_as_the_report_wrote_it(channels: int) -> None:
    images = made_images(channels=channels)
    assert np.allclose(applied(Normalise(kind="raw-mean-std"), images), (images.pixels - 0.2860) / 0.3530, rtol=1e-6, atol=1e-4)


def test_numbers_for_other_channels_are_refused() -> None:
    with pytest.raises(UsageError, match=r"gives 1 mean.* 3 channel"):
        scale_and_offset(Normalise(kind="given", mean=(0.5,), std=(0.5,)), made_images(channels=3))


def test_images_without_spread_are_refused() -> None:
    pixels = made_images(channels=3).pixels.copy()
    pixels[..., 1] = 7
    with pytest.raises(DataError, match=r"channel 1 .* same everywhere"):
        scale_and_offset(Normalise(kind="mean-std"), Images(pixels, np.zeros(len(pixels), np.int64)))
