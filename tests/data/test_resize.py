from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fittingroom.data.resize import fit_image, resized, with_channels
from fittingroom.errors import DataError

from .made import made_images


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    """A dark picture on a light border."""
    pixels = np.full((height, width, 3), (240, 230, 220), np.uint8)
    pixels[height // 4 : -height // 4, width // 4 : -width // 4] = 10
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("height", "width"), [(40, 40), (80, 20), (20, 80), (1, 300), (7, 5), (16, 24)])
def test_any_picture_comes_out_in_the_asked_size(fit: str, mode: str, height: int, width: int) -> None:
    result = fit_image(picture(height, width, mode), (16, 24), fit)  # type: ignore[arg-type]
    assert (result.height, result.width, result.mode) == (16, 24, mode)


def test_padding_has_the_colour_of_the_border_and_keeps_the_proportions() -> None:
    result = np.asarray(fit_image(picture(64, 32), (32, 32)))
    assert (result[:, :8] == (240, 230, 220)).all()
    assert (result[:, 24:] == (240, 230, 220)).all()
    dark = result[..., 0] < 100
    assert dark.any(1).sum() == 2 * dark.any(0).sum()


def test_cropping_takes_the_middle() -> None:
    pixels = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None], 20, 0)  # 20 high, 60 wide
    assert np.asarray(fit_image(Image.fromarray(pixels), (20, 20), "crop"))[0].tolist() == pixels[0, 20:40].tolist()


def test_channels_as_pillow_has_them() -> None:
    images = made_images(channels=3)
    gray = with_channels(images, 1)
    for rgb, luma in zip(images.pixels, gray.pixels, strict=True):
        assert np.array_equal(np.asarray(Image.fromarray(rgb).convert("L")), luma[..., 0])
    again = with_channels(gray, 3)
    assert (again.pixels == gray.pixels).all()
    assert with_channels(gray, 1) is gray


@pytest.mark.parametrize(("has", "wants"), [(1, 1), (1, 3), (3, 1), (3, 3), (1, None), (3, None)])
def test_arrays_of_images(has: int, wants: int | None) -> None:
    images = made_images(channels=has)
    result = resized(images, (9, 12), wants)
    assert result.pixels.shape == (12, 9, 12, wants or has)
    assert np.array_equal(result.labels, images.labels)


def test_nothing_asked_nothing_done() -> None:
    images = made_images()
    assert resized(images, None, None) is images
    assert resized(images, (6, 6), 1) is images


def test_channels_that_are_none() -> None:
    with pytest.raises(DataError, match="1 channel"):
        resized(made_images(), None, 2)
