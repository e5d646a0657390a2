"""Bringing pictures to one size and number of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fittingroom.data.arrays import ImageArray, Images
from fittingroom.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Fit", "Size", "fit_image", "resized", "with_channels"]

Fit = Literal["pad", "crop", "stretch"]
Size = tuple[int, int]
"""Height and width, in pixels."""


def fit_image(image: Image, size: Size, fit: Fit = "pad") -> Image:
    """Bring an 8-bit gray or RGB picture to ``size``, (height, width).

    ``pad``, the default, keeps the whole picture in its proportions and fills the rest with the median colour of its own
    border. For pictures of products that is what a person would do: trousers stay long and shorts stay short, no sleeve
    is cut off, and on the usual plain background the seam cannot be seen. ``crop`` fills the frame and cuts off what
    stands out, evenly on both sides. ``stretch`` changes the proportions.
    """
    import PIL.Image
    import PIL.ImageOps

    height, width = size
    bicubic = PIL.Image.Resampling.BICUBIC
    if (image.width, image.height) == (width, height):
        return image
    if fit == "stretch":
        return image.resize((width, height), bicubic)
    if fit == "crop":
        return PIL.ImageOps.fit(image, (width, height), bicubic)
    scale = min(height / image.height, width / image.width)
    inner_height, inner_width = max(1, round(image.height * scale)), max(1, round(image.width * scale))
    inner = image.resize((inner_width, inner_height), bicubic)
    if (inner_width, inner_height) == (width, height):
        return inner
    frame = PIL.Image.new(image.mode, (width, height), _border_colour(np.asarray(inner)))
    frame.paste(inner, ((width - inner_width) // 2, (height - inner_height) // 2))
    return frame


def _border_colour(pixels: NDArray[np.uint8]) -> tuple[int, ...] | int:
    columns = pixels.reshape(*pixels.shape[:2], -1)
    border = np.concatenate([columns[0], columns[-1], columns[:, 0], columns[:, -1]])
    colour = tuple(int(value) for value in np.median(border, axis=0))
    return colour if len(colour) > 1 else colour[0]


def with_channels(images: Images, channels: int) -> Images:
    """Return gray images (1) or RGB images (3): gray is repeated, RGB weighted as ITU-R BT.601 luma (Pillow's rounding)."""
    has = images.pixels.shape[3]
    if has == channels:
        return images
    if has == 1:
        return Images(np.repeat(images.pixels, channels, axis=3), images.labels)
    gray = np.empty((*images.pixels.shape[:3], 1), np.uint8)
    for start in range(0, len(images), 1024):
        red, green, blue = np.moveaxis(images.pixels[start : start + 1024].astype(np.uint32), 3, 0)
        gray[start : start + 1024, ..., 0] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return Images(gray, images.labels)


def resized(images: Images, size: Size | None, channels: int | None, fit: Fit = "pad") -> Images:
    """Bring images to ``size`` (height, width) and ``channels`` (1 or 3); None keeps what they have.

    Raises:
        DataError: a number of channels other than 1 or 3.
    """
    import PIL.Image

    if channels not in (None, 1, 3):
        raise DataError(f"images have 1 channel (gray) or 3 (RGB), not {channels}")
    if channels == 1:  # first, and RGB last: then a third of the values is resized
        images = with_channels(images, 1)
    count, height, width, depth = images.pixels.shape
    if size is not None and size != (height, width):
        pixels: ImageArray = np.empty((count, *size, depth), np.uint8)
        for source, target in zip(images.pixels, pixels, strict=True):
            picture = PIL.Image.fromarray(source if depth == 3 else source[..., 0])
            target[:] = np.asarray(fit_image(picture, size, fit)).reshape(target.shape)
        images = Images(pixels, images.labels)
    return images if channels is None else with_channels(images, channels)
