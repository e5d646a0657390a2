"""Augmentation of whole batches of tensors; every random number comes from the generator that is handed in.

Rotation, shift, zoom, stretch, perspective and flip are composed into one projective map per image and sampled once,
so that pixels are interpolated once however many of them are on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from fittingroom.recipe import Augment

__all__ = ["augment"]

ERASE_AREA = (0.02, 0.33)
ERASE_ASPECT = (0.3, 1 / 0.3)


def augment(images: Tensor, settings: Augment, generator: torch.Generator) -> Tensor:
    """Return randomly changed copies of ``images``.

    Args:
        images: float ``[N, C, H, W]``, normalised in any way; what moves in from outside repeats the border.
        settings: which changes, and how large.
        generator: on the device of the images.
    """
    if settings.rotate or settings.shift or settings.zoom or settings.stretch or settings.perspective:
        images = _warp(images, settings, generator)
    elif settings.flip:
        images = _flip(images, generator)
    if settings.crop:
        images = _crop(images, settings.crop, generator)
    if settings.erase:
        images = _erase(images, settings.erase, generator)
    return images


def _uniform(shape: tuple[int, ...], low: float, high: float, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty(shape, device=like.device).uniform_(low, high, generator=generator)


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    mirrored = torch.rand(len(images), device=images.device, generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def _warp(images: Tensor, settings: Augment, generator: torch.Generator) -> Tensor:
    """Sample each image at the places that its inverse map sends the output pixels to."""
    count, _, height, width = images.shape
    inverse = _inverse_maps(count, settings, images, generator, aspect=height / width)
    if settings.perspective:
        grid = _projective_grid(inverse, settings.perspective, height, width, generator)
    else:
        grid = functional.affine_grid(inverse, [count, 1, height, width], align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _inverse_maps(count: int, settings: Augment, images: Tensor, generator: torch.Generator, aspect: float) -> Tensor:
    """``[N, 2, 3]``: output coordinates to input coordinates, both in −1 … 1; ``aspect`` is height / width."""
    angle = _uniform((count,), -settings.rotate, settings.rotate, images, generator).mul_(math.pi / 180)
    zoom = _uniform((count, 1), 1 - settings.zoom, 1 + settings.zoom, images, generator)
    stretch = _uniform((count, 2), 1 - settings.stretch, 1 + settings.stretch, images, generator)
    scale = 1 / (zoom * stretch)
    if settings.flip:
        scale[:, 0] *= torch.randint(0, 2, (count,), device=images.device, generator=generator).mul_(2).sub_(1)
    shift = _uniform((count, 2), -2 * settings.shift, 2 * settings.shift, images, generator)
    cosine, sine = angle.cos(), angle.sin()
    # Angles are meant in pixels, so the sine terms carry the aspect of an image that is not square.
    rows = [scale[:, 0] * cosine, -scale[:, 0] * sine * aspect, shift[:, 0], scale[:, 1] * sine / aspect, scale[:, 1] * cosine, shift[:, 1]]
    return torch.stack(rows, dim=1).view(count, 2, 3)


def _projective_grid(inverse: Tensor, strength: float, height: int, width: int, generator: torch.Generator) -> Tensor:
    """``[N, H, W, 2]``: the affine map followed by one that moves each corner by at most ``strength`` of the side."""
    count = len(inverse)
    place = torch.arange(4, device=inverse.device)  # round the square; numbers from the host would have it wait for a GPU
    corners = torch.stack([(place == 1) | (place == 2), place > 1], dim=1).float().mul_(2).sub_(1).expand(count, 4, 2)
    moved = corners + _uniform((count, 4, 2), -2 * strength, 2 * strength, inverse, generator)
    homography = _homographies(corners, moved)
    bottom = torch.eye(3, device=inverse.device)[2].expand(count, 1, 3)
    whole = homography @ torch.cat([inverse, bottom], dim=1)
    base = functional.affine_grid(torch.eye(2, 3, device=inverse.device)[None], [1, 1, height, width], align_corners=False)
    points = torch.cat([base.view(1, -1, 2), base.new_ones(1, height * width, 1)], dim=2).expand(count, -1, -1)
    mapped = points @ whole.transpose(1, 2)
    return (mapped[..., :2] / mapped[..., 2:].clamp_min(1e-3)).view(count, height, width, 2)


def _homographies(source: Tensor, target: Tensor) -> Tensor:
    """``[N, 3, 3]`` maps that send four ``source`` points ``[N, 4, 2]`` to ``target``, by the direct linear transform."""
    x, y = source.unbind(2)
    u, v = target.unbind(2)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    equations = torch.cat(
        [
            torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=2),
            torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=2),
        ],
        dim=1,
    )
    solution, _ = torch.linalg.solve_ex(equations, torch.cat([u, v], dim=1))
    return torch.cat([solution, solution.new_ones(len(source), 1)], dim=1).view(-1, 3, 3)


def _crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad each side by repeating the border, then cut the original size at a random place."""
    count, channels, height, width = images.shape
    padded = functional.pad(images, (padding,) * 4, mode="replicate")
    offsets = torch.randint(0, 2 * padding + 1, (2, count), device=images.device, generator=generator)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = offsets[1][:, None] + torch.arange(width, device=images.device)
    batch = torch.arange(count, device=images.device)[:, None, None]
    cut = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2).contiguous() if channels > 1 else cut.view(count, 1, height, width)


def _erase(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Random erasing (Zhong et al., 2017): a rectangle of 2–33 % of the area, aspect 0.3–3.3, filled with normal noise."""
    count, _, height, width = images.shape
    area = _uniform((count,), *ERASE_AREA, images, generator) * height * width
    aspect = _uniform((count,), math.log(ERASE_ASPECT[0]), math.log(ERASE_ASPECT[1]), images, generator).exp()
    tall = (area * aspect).sqrt().round().clamp_(1, height)
    wide = (area / aspect).sqrt().round().clamp_(1, width)
    place = torch.rand(3, count, device=images.device, generator=generator)
    top, left = (place[0] * (height - tall + 1)).floor(), (place[1] * (width - wide + 1)).floor()
    chosen = place[2] < probability
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    inside_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    erased = (inside_rows[:, :, None] & inside_columns[:, None, :] & chosen[:, None, None])[:, None]
    noise = torch.randn(images.shape, device=images.device, generator=generator)
    return torch.where(erased, noise, images)
