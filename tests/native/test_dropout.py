"""Native dropout: a mask that follows from seed, count and place, and looks like independent coin tosses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fittingroom import native
from fittingroom.models.layers import Dropout, seed_dropout

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no native kernels here ({native.description()})")


def seeded(rate: float, seed: int = 0) -> Dropout:
    layer = Dropout(rate).train()
    seed_dropout(layer, seed)
    return layer


def masks(count: int, size: int = 1 << 16, rate: float = 0.5, seed: int = 0) -> Tensor:
    """``[count, size]`` of 0 and 1, from successive calls."""
    layer, ones = seeded(rate, seed), torch.ones(size)
    return torch.stack([layer(ones) != 0 for _ in range(count)]).double()


def sigmas(mask: Tensor, probability: float) -> float:
    """How far the share of ones lies from ``probability``, in standard errors."""
    return abs(float(mask.mean()) - probability) / math.sqrt(probability * (1 - probability) / mask.numel())


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.2, 0.25, 0.5, 0.9])
def test_keeps_the_right_share(rate: float) -> None:
    mask = masks(16, rate=rate)
    assert sigmas(mask, 1 - rate) < 5
    assert all(sigmas(mask[:, lane::16], 1 - rate) < 5 for lane in range(16))


def test_places_calls_and_layers_are_independent() -> None:
    mask = masks(8)
    for distance in (1, 2, 3, 16, 64, 1024, 14 * 14 * 64 % 65536):
        assert sigmas((mask == mask.roll(distance, 1)).double(), 0.5) < 5, f"places {distance} apart"
    for first in range(8):
        for second in range(first):
            assert sigmas((mask[first] == mask[second]).double(), 0.5) < 5, "calls"
    for seed in (1, 2, 2**32, 2**62):
        assert sigmas((mask == masks(8, seed=seed)).double(), 0.5) < 5, "layers"


def test_windows_of_bits_are_uniform() -> None:
    """Words of eight neighbouring decisions: all 256 equally likely (χ², 255 degrees of freedom)."""
    words = (masks(32).reshape(-1, 8) @ (2.0 ** torch.arange(8, dtype=torch.double))).long()
    counts = words.bincount(minlength=256).double()
    expected = len(words) / 256
    assert abs(float(((counts - expected) ** 2 / expected).sum()) - 255) < 5 * (2 * 255) ** 0.5


def test_no_call_repeats_another_shifted() -> None:
    """The masks of two calls agree no more than by chance under any exclusive-or of the places with a power of two."""
    mask, places = masks(2), torch.arange(1 << 16)
    assert all(sigmas((mask[0] == mask[1][places ^ (1 << bit)]).double(), 0.5) < 5 for bit in range(16))


def test_expectation_is_kept_and_the_gradient_has_the_same_mask() -> None:
    for dtype, shape in ((torch.float32, (7, 1001)), (torch.bfloat16, (3, 5, 9, 9))):
        x = torch.ones(shape, dtype=dtype).requires_grad_()
        out = seeded(0.3)(x)
        out.sum().backward()
        assert x.grad is not None
        assert torch.equal(out.detach(), x.grad)
        assert float(out.detach().max()) == pytest.approx(1 / 0.7, rel=4e-3 if dtype == torch.bfloat16 else 1e-4)


def test_channels_last_gradient_in_another_layout() -> None:
    x = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    out = seeded(0.5)(x)
    out.backward(torch.ones(2, 3, 4, 5))
    assert x.grad is not None
    assert torch.equal(out.detach(), x.grad)


def test_seed_and_count_determine_the_mask(threads: None) -> None:
    assert torch.equal(masks(3, seed=4), masks(3, seed=4))
    layer, ones = seeded(0.5, 4), torch.ones(1 << 16)
    torch.set_num_threads(1)
    first = layer(ones)
    seed_dropout(layer, 4)
    torch.set_num_threads(2)
    assert torch.equal(layer(ones), first)
    assert not torch.equal(layer(ones), first)


def test_layers_of_a_model_differ() -> None:
    model = nn.Sequential(Dropout(0.5), Dropout(0.5)).train()
    seed_dropout(model, 1)
    ones = torch.ones(4096)
    assert not torch.equal(model[0](ones), model[1](ones))


def test_unseeded_layer_says_so() -> None:
    with pytest.raises(RuntimeError, match="seed_dropout"):
        Dropout(0.5).train()(torch.ones(4))


def test_plain_path_draws_from_its_generator() -> None:
    with native.enabled(False):
        first, second = (seeded(0.5, 4)(torch.ones(1000)) for _ in range(2))
    assert torch.equal(first, second)
    assert sigmas((first != 0).double(), 0.5) < 5
