"""Augmentation against NumPy: what each change does to a pixel, how often, how far, and from which random numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from fittingroom.data import augment as room
from fittingroom.data.augment import augment
from fittingroom.recipe import Augment

SHAPES = [(1, 28, 28), (3, 8, 8), (1, 12, 7), (3, 5, 16)]
EVERYTHING: list[dict[str, Any]] = [
    {"rotate": 180},
    {"rotate": 10, "shift": 0.1, "zoom": 0.1},
    {"shift": 0.99},
    {"zoom": 0.99, "stretch": 0.99},
    {"perspective": 0.2},
    {"perspective": 0.99, "rotate": 180, "zoom": 0.99, "flip": True},
    {"flip": True},
    {"crop": 4},
    {"crop": 64},
    {"erase": 1.0},
    {"flip": True, "crop": 2, "erase": 0.5, "rotate": 5},
]


def made(count: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def changed(images: Tensor, seed: int = 1, **settings: Any) -> Tensor:
    return augment(images, Augment(**settings), torch.Generator().manual_seed(seed))


def numpy(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.double().numpy()


def fixed(monkeypatch: pytest.MonkeyPatch, **ranges: float) -> None:
    """Let the random numbers of a warp be what a test says: the place in the range of each, from 0 (lowest) to 1 (highest)."""
    order = iter(("angle", "zoom", "stretch", "shift"))

    def uniform(shape: tuple[int, ...], low: float, high: float, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.full(shape, low + (high - low) * ranges.get(next(order), 0.5))

    monkeypatch.setattr(room, "_uniform", uniform)


def sampled(image: NDArray[np.float64], row: float, column: float) -> float:
    """The image between its pixels: bilinear, and the border repeated outside."""
    height, width = image.shape
    row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    top, left = int(row), int(column)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = row - top, column - left
    upper = image[top, left] * (1 - along) + image[top, right] * along
    lower = image[bottom, left] * (1 - along) + image[bottom, right] * along
    return float(upper * (1 - down) + lower * down)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", EVERYTHING, ids=str)
def test_keeps_shape_type_and_finiteness_and_what_was_handed_in(shape: tuple[int, int, int], settings: dict[str, Any]) -> None:
    images = made(40, shape)
    before = images.clone()
    for layout in (torch.contiguous_format, torch.channels_last):
        found = changed(images.contiguous(memory_format=layout), **settings)
        assert (found.shape, found.dtype) == (images.shape, torch.float32)
        assert found.isfinite().all()
        assert torch.equal(images, before)
        assert not torch.equal(found, images)


@pytest.mark.parametrize("settings", EVERYTHING, ids=str)
def test_follows_from_the_generator_alone(settings: dict[str, Any]) -> None:
    images = made(6, (1, 9, 9))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert torch.equal(changed(images, seed=5, **settings), changed(images, seed=5, **settings))
    assert not torch.equal(changed(images, seed=5, **settings), changed(images, seed=6, **settings))
    assert torch.equal(torch.get_rng_state(), state)


def test_all_off_is_the_identity() -> None:
    images = made(5, (3, 8, 8))
    assert augment(images, Augment(), torch.Generator()) is images
    assert not Augment().active
    assert Augment(crop=1).active


@pytest.mark.parametrize("shape", SHAPES)
def test_flips_are_exact_mirrors_of_half_the_images(shape: tuple[int, int, int]) -> None:
    images = made(1000, shape)
    found = changed(images, flip=True)
    mirrored = np.array([np.array_equal(new, old[..., ::-1]) for new, old in zip(numpy(found), numpy(images), strict=True)])
    same = np.array([np.array_equal(new, old) for new, old in zip(numpy(found), numpy(images), strict=True)])
    assert (mirrored ^ same).all()
    assert 430 < mirrored.sum() < 570  # four standard deviations


def test_flips_within_a_warp_are_mirrors_too() -> None:
    """A warp of all but nothing: what is not the image is its mirror image."""
    images = made(400, (1, 8, 8))
    found = changed(images, flip=True, rotate=1e-4)
    mirrored = (found - images.flip(3)).abs().amax((1, 2, 3)) < 1e-3
    same = (found - images).abs().amax((1, 2, 3)) < 1e-3
    assert (mirrored ^ same).all()
    assert 140 < int(mirrored.sum()) < 260


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 10, 5)])
@pytest.mark.parametrize("place", [0.0, 1.0])
def test_a_shift_by_whole_pixels_is_a_roll(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], place: float) -> None:
    fixed(monkeypatch, shift=place)
    images = made(2, shape)
    found = numpy(changed(images, shift=0.2 if shape[1] == 10 else 0.25))
    moves = [round(side * (0.2 if shape[1] == 10 else 0.25)) * (1 if place == 0 else -1) for side in shape[1:]]
    rolled = np.roll(numpy(images), moves, axis=(2, 3))
    inside = tuple(slice(max(move, 0), side + min(move, 0)) for move, side in zip(moves, shape[1:], strict=True))
    assert found[:, :, *inside] == pytest.approx(rolled[:, :, *inside], abs=1e-5)
    # What moves in repeats the border.
    edge = 0 if moves[0] > 0 else -1
    assert found[:, :, edge, inside[1]] == pytest.approx(np.roll(numpy(images), moves[1], axis=3)[:, :, edge, inside[1]], abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 9, 9), (1, 12, 7)])
@pytest.mark.parametrize(("angle", "zoom", "stretch"), [(30, 0, 0), (-90, 0, 0), (180, 0, 0), (0, 0.5, 0), (0, 0, 0.3), (25, 0.3, 0.2)])
def test_a_warp_is_bilinear_sampling_at_the_turned_place(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], angle: float, zoom: float, stretch: float
) -> None:
    """Each output pixel is looked up where rotating it about the centre, by the angle in pixels, and rescaling it lead."""
    fixed(monkeypatch, angle=1.0 if angle > 0 else 0.0, zoom=1.0, stretch=1.0)
    (image,) = numpy(made(1, shape)[:, 0])
    (found,) = numpy(changed(torch.tensor(image, dtype=torch.float32)[None, None], rotate=abs(angle), zoom=zoom, stretch=stretch)[:, 0])
    height, width = image.shape
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    factor = (1 + zoom) * (1 + stretch)
    for row in range(height):
        for column in range(width):
            y, x = row - (height - 1) / 2, column - (width - 1) / 2
            from_x, from_y = (cosine * x - sine * y) / factor, (sine * x + cosine * y) / factor
            expected = sampled(image, from_y + (height - 1) / 2, from_x + (width - 1) / 2)
            assert found[row, column] == pytest.approx(expected, abs=1e-4)


def test_a_quarter_turn_is_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch, angle=1.0)
    (image,) = made(1, (1, 8, 8))
    assert numpy(changed(image[None], rotate=90)[0, 0]) == pytest.approx(np.rot90(numpy(image[0]), 1), abs=1e-5)


@pytest.mark.parametrize("settings", [{"rotate": 30}, {"shift": 0.2}, {"zoom": 0.3}, {"stretch": 0.3}])
def test_how_far_is_within_bounds_and_reaches_them(settings: dict[str, float]) -> None:
    """Read back from what happens to a ramp in x and one in y, which a linear map turns into another linear function."""
    ((name, most),) = settings.items()
    side = 65
    x, y = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="xy")
    ramps = torch.stack([x, y])[None].repeat(2000, 1, 1, 1)
    found = changed(ramps, **settings)[:, :, side // 4 : -(side // 4), side // 4 : -(side // 4)]
    centre = found.shape[2] // 2
    step = float(x[0, 1] - x[0, 0])
    x_by_x = (found[:, 0, centre, centre + 1] - found[:, 0, centre, centre]) / step
    y_by_x = (found[:, 1, centre, centre + 1] - found[:, 1, centre, centre]) / step
    y_by_y = (found[:, 1, centre + 1, centre] - found[:, 1, centre, centre]) / step
    if name == "rotate":
        drawn = [torch.rad2deg(torch.atan2(y_by_x, x_by_x))]
        low, high = -most, most
    elif name == "shift":
        drawn = [found[:, 0, centre, centre] / 2, found[:, 1, centre, centre] / 2]  # of a side of length 2
        low, high = -most * (side / (side - 1)), most * (side / (side - 1))
    else:
        drawn = [1 / x_by_x, 1 / y_by_y]
        low, high = 1 - most, 1 + most
        assert torch.allclose(drawn[0], drawn[1], atol=1e-3) == (name == "zoom")
    for values in drawn:
        width = high - low
        assert low - 1e-3 <= float(values.min()) < low + 0.02 * width
        assert high + 1e-3 >= float(values.max()) > high - 0.02 * width
        quarters = torch.histc(values, 4, low, high) / len(values)
        assert (quarters - 0.25).abs().max() < 0.04, "not uniform"


def test_perspective_moves_each_corner_by_at_most_its_share() -> None:
    """Corners of the homography, by its own equations: it sends each corner where it was asked to."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]).expand(50, 4, 2)
    moved = corners + 0.4 * (2 * torch.rand(50, 4, 2, generator=generator) - 1)
    maps = room._homographies(corners, moved)
    images = (maps @ torch.cat([corners, torch.ones(50, 4, 1)], 2).transpose(1, 2)).transpose(1, 2)
    assert torch.allclose(images[..., :2] / images[..., 2:], moved, atol=1e-4)


def test_perspective_keeps_straight_lines_and_a_flat_image() -> None:
    assert torch.allclose(changed(torch.full((8, 1, 9, 9), 3.0), perspective=0.3), torch.full((8, 1, 9, 9), 3.0))
    images = made(50, (1, 16, 16))
    little = changed(images, perspective=1e-5)
    assert torch.allclose(little, images, atol=1e-2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [1, 3])
def test_a_crop_is_a_window_of_the_padded_image(shape: tuple[int, int, int], padding: int) -> None:
    images = made(300, shape)
    found = numpy(changed(images, crop=padding))
    _, height, width = shape
    seen: set[tuple[int, int]] = set()
    for image, cut in zip(numpy(images), found, strict=True):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)), mode="edge")
        places = [
            (top, left)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            if np.array_equal(padded[:, top : top + height, left : left + width], cut)
        ]
        assert places
        seen.update(places)
    assert len(seen) == (2 * padding + 1) ** 2


def test_erasing_rate_area_aspect_and_noise() -> None:
    count, side = 4000, 32
    found = numpy(changed(torch.full((count, 1, side, side), 7.0), erase=0.4))[:, 0]
    areas, aspects = [], []
    edges: set[tuple[int, int]] = set()
    noise: list[float] = []
    for image in found:
        rows, columns = np.nonzero((image != 7).any(1))[0], np.nonzero((image != 7).any(0))[0]
        if len(rows):
            inside = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert (inside != 7).all(), "one whole rectangle"
            if max(len(rows), len(columns)) < side // 2:
                edges |= {(0, int(rows[0])), (1, int(rows[-1])), (2, int(columns[0])), (3, int(columns[-1]))}
            areas.append(inside.size / side**2)
            aspects.append(inside.shape[0] / inside.shape[1])
            noise += inside.ravel().tolist()
    assert abs(len(areas) / count - 0.4) < 4 * math.sqrt(0.4 * 0.6 / count)
    assert {(0, 0), (1, side - 1), (2, 0), (3, side - 1)} <= edges, "each edge can be reached"
    assert 0.01 < min(areas) < 0.04
    assert 0.28 < max(areas) < 0.36
    assert np.mean(areas) == pytest.approx((0.02 + 0.33) / 2, abs=0.01)
    assert 0.2 < min(aspects) < 0.4
    assert 2.5 < max(aspects) < 4.5
    assert np.median(aspects) == pytest.approx(1, abs=0.15)
    assert np.mean(noise) == pytest.approx(0, abs=0.01)
    assert np.std(noise) == pytest.approx(1, abs=0.01)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_erasing_stays_inside_small_images(height: int, width: int, seed: int) -> None:
    found = changed(torch.full((3, 2, height, width), 7.0), seed=seed, erase=1.0)
    erased = found != 7
    assert erased.flatten(1).any(1).all()
    assert torch.equal(erased[:, 0], erased[:, 1]), "all channels in the same place"
