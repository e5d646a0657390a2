"""Small images as PNG inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

from fittingroom.errors import DataError

__all__ = ["data_uri"]

LARGEST = 64
"""Longer sides are scaled down to this many pixels: the page shows thumbnails, and stays small enough to be mailed."""
LOSSLESS = 1600
"""RGB images of more pixels than this are reduced to 256 colours, which on a thumbnail no one sees, at a third of the size."""


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """Return an image as a ``data:image/png`` address.

    Args:
        pixels: uint8 ``[height, width, channels]``, channels 1 (gray) or 3 (RGB).

    Raises:
        DataError: it is not that.
    """
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise DataError(f"a picture must be uint8 [height, width, 1 or 3], not {pixels.dtype} {list(pixels.shape)}")
    gray = pixels.shape[2] == 1
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if gray else pixels))
    if max(image.size) > LARGEST:
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
    if not gray and image.width * image.height > LOSSLESS:
        image = image.quantize(256)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")
